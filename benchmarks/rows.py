"""One comparison as a row: two sides measured in turn, and the ratio of each pair."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

__all__ = ["Options", "Row", "Sample", "alternate", "fact", "missing", "paired", "stamp", "timed"]


class Sample(NamedTuple):
    """What something cost: seconds of CPU, of all threads of the process, and of the clock on the wall."""

    cpu: float
    wall: float

    def __sub__(self, other: "Sample") -> "Sample":
        return Sample(self.cpu - other.cpu, self.wall - other.wall)


@dataclass(frozen=True)
class Options:
    """How much is measured, and on what."""

    quick: bool = False  # a look whether everything works; its numbers say nothing
    photos: Path = Path("data/dogcat/train")  # of dogs and cats, named as Kaggle names them

    def times(self, count: int, quick: int = 2) -> int:
        """Repetitions: `count`, or a few."""
        return quick if self.quick else count


@dataclass(frozen=True)
class Row:
    """Medians of both sides in `unit`; `ratio` is ours over the peer's of each pair, measured one after the other."""

    group: str
    name: str
    unit: str
    ours: float | None = None
    peer: float | None = None
    ratio_median: float | None = None
    ratio_min: float | None = None
    ratio_max: float | None = None
    wall_ratio: float | None = None  # the median where the others are of CPU time
    n: int = 0
    better: str = field(default="less", kw_only=True)  # or more
    note: str = field(default="", kw_only=True)

    def __str__(self) -> str:
        sides = " against ".join(f"{side:,.4g}" for side in (self.ours, self.peer) if side is not None)
        text = f"{self.group}: {self.name}: {sides} {self.unit}" if sides else f"{self.group}: {self.name}"
        if self.ratio_median is not None:
            text += f"; {self.ratio_median:.2f}x ({self.ratio_min:.2f} to {self.ratio_max:.2f}, n = {self.n})"
        return text + (f"; {self.note}" if self.note else "")


def stamp() -> Sample:
    """Now, on both clocks."""
    return Sample(time.process_time(), time.perf_counter())


def timed(call: Callable[[], object]) -> Sample:
    """What one call costs."""
    begin = stamp()
    call()
    return stamp() - begin


def alternate(sides: Sequence[Callable[[], Sample]], times: int) -> list[list[Sample]]:
    """The samples of each side, which take turns; every round begins with another one, a first round does not count."""
    samples: list[list[Sample]] = [[] for _ in sides]
    for turn in range(times + 1):
        for k in range(len(sides)):
            number = (turn + k) % len(sides)
            gc.collect()
            sample = sides[number]()
            if turn:
                samples[number].append(sample)
    return samples


def paired(
    group: str,
    name: str,
    unit: str,
    sides: Sequence[Sequence[Sample]],
    scale: float,
    clock: str = "cpu",
    better: str = "less",
    note: str = "",
) -> Row:
    """The row of two sides' samples: (ours, the peer's).

    `scale` turns seconds into `unit`; where more is better, it is what was done, and the unit is that a second.
    """

    def told(seconds: float) -> float:
        return scale / seconds if better == "more" else scale * seconds

    def ratios(of: str) -> list[float]:
        pairs = zip(*([told(getattr(sample, of)) for sample in side] for side in sides), strict=True)
        return [one / other for one, other in pairs if other]

    ours, peer = (told(statistics.median(getattr(sample, clock) for sample in side)) for side in sides)
    found = ratios(clock) or [float("nan")]
    wall = statistics.median(ratios("wall")) if clock == "cpu" else None
    median, n = statistics.median(found), len(sides[0])
    return Row(group, name, unit, ours, peer, median, min(found), max(found), wall, n, better=better, note=note)


def fact(group: str, name: str, unit: str, value: float, note: str = "", n: int = 1) -> Row:
    """A row without another side."""
    return Row(group, name, unit, value, n=n, note=note)


def missing(group: str, name: str, why: str) -> Row:
    """A row that says why there is none."""
    return Row(group, name, "", note=f"not measured: {why}")
