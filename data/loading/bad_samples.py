"""Samples that cannot be read, for each split: counted, told, listed in bad_samples.csv, and held to a budget."""

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

from configs.schema import Data
from data._broken import by_reason
from data.protocol import ids_of
from utils import dist
from utils.errors import ConfigError, DataError, PictureError
from utils.files import content, write_atomic

__all__ = ["FILE", "Bad", "BadSamples"]

FILE = "bad_samples.csv"
HEADER = ["id", "file", "reason", "done", "split", "sample"]
DONE = {"replace": "replaced", "quarantine": "replaced", "skip": "left out"}
OFTEN = 1000  # samples up to which each new one is written at once; of more each hundredth, and all at an epoch's end


class Bad(NamedTuple):
    """A sample that cannot be read: its number in the split, its file (empty if it tells none), and the reason."""

    number: int
    file: str
    reason: str


class BadSamples:
    """The bad samples of a split so far, each once."""

    def __init__(self, dataset: Any, cfg: Data, training: bool, population: int, say: Callable[[str], None]):
        """`population`: the samples of the split that an epoch may draw, of which `max_bad` may be a share."""
        self.dataset, self.cfg, self.say, self.population = dataset, cfg, say, population
        self.split = "train" if training else "val"
        # outside the training nothing takes a sample's place: the same pictures would be scored twice
        self.action = cfg.on_bad_sample if training or cfg.on_bad_sample == "raise" else "skip"
        self.found: dict[int, Bad] = {}
        self.path: Path | None = None
        self.looks_only = False
        if isinstance(cfg.max_bad, float) and cfg.max_bad > 1:
            raise ConfigError(
                f"data.max_bad: {cfg.max_bad:g} is neither a number of samples, as 10, nor a share, as 0.05"
            )

    def silent(self) -> "BadSamples":
        """Return a copy that counts, tells and writes nothing, for a look that is no part of the run."""
        looking = copy(self)
        looking.looks_only, looking.found, looking.path = True, dict(self.found), None
        return looking

    def keep_in(self, path: Path, resumed: bool) -> None:
        """Write the list into this file from now on. A resumed run takes up the samples that stand there."""
        if self.action == "raise":
            return
        self.path = path
        for row in _rows(path) if resumed else ():
            if row[4] == self.split:
                self.found.setdefault(int(row[5]), Bad(int(row[5]), row[1], row[2]))

    def unread(self) -> tuple[int, ...]:
        """Return the numbers of the samples that are not read again."""
        return tuple(self.found) if self.cfg.on_bad_sample == "quarantine" else ()

    def add(self, bad: Sequence[Bad], check: bool = True) -> None:
        """Count samples. Raises DataError where there are more than `data.max_bad` allows, unless told not to."""
        new = [one for one in bad if one.number not in self.found]
        if not new or self.looks_only:
            return
        if not self.found:
            self.say(f"note: bad {self.split} samples are {self._done()}; the first: {self._told(new[0])}")
        self.found |= {one.number: one for one in new}
        if len(self.found) <= OFTEN or len(self.found) % 100 == 0:
            self.write()
        if check:
            self._check()

    def share(self, check: bool = True) -> None:
        """Take in the samples that the other ranks have found. Raises DataError as `add` does."""
        if dist.world_size() > 1 and self.action != "raise" and not self.looks_only:
            for found in dist.gather(list(self.found.values())):
                self.add(found, check)

    def write(self) -> None:
        """Write the list, beside those of other splits. A folder that is gone stays away."""
        if self.path is None or not self.path.parent.is_dir():
            return
        ids, done = ids_of(self.dataset), self._done()
        others = [row for row in _rows(self.path) if row[4] != self.split]
        own = [[str(ids[b.number]), b.file, b.reason, done, self.split, str(b.number)] for b in self.found.values()]
        if others or own:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([HEADER, *others, *own])
            write_atomic(self.path, text.getvalue().encode("utf-8", "backslashreplace"))

    def summary(self) -> str:
        """Return in words how many there were; empty if there were none."""
        if not self.found:
            return ""
        of = f"{len(self.found):,} of {self.population:,} {self.split} samples"
        return f"{of} could not be read and were {self._done()}"

    def by_reason(self) -> str:
        """Return a sample of each reason, and how many more have the same."""
        return by_reason([PictureError(bad.file or self._name(bad), bad.reason) for bad in self.found.values()])

    def _done(self) -> str:
        return DONE[self.action] + " and not read again" * (self.cfg.on_bad_sample == "quarantine")

    def _told(self, bad: Bad) -> str:
        return f"{self._name(bad)} ({bad.reason})"

    def _name(self, bad: Bad) -> str:
        return bad.file or str(ids_of(self.dataset)[bad.number])

    def _check(self) -> None:
        most = self.cfg.max_bad
        allowed = most if isinstance(most, int) else math.floor(most * self.population + 1e-9)
        if len(self.found) > allowed:
            share = "" if isinstance(most, int) else f" ({most:g} of {self.population:,})"
            self.write()
            raise DataError(
                f"data.max_bad: {len(self.found):,} {self.split} samples cannot be read, and {allowed:,}{share} may be "
                f"bad: {self.by_reason()}; remove or replace them, or raise data.max_bad"
            )


def _rows(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a list; those that it did not write are passed over."""
    try:
        lines = content(path).decode("utf-8", "replace").splitlines(keepends=True)
    except OSError:  # there is none
        return
    yield from (row for row in csv.reader(lines) if len(row) == len(HEADER) and row[5].isdecimal())
