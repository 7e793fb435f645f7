"""The table of a training on a terminal: a row for each epoch."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from utils.terminal import columns, head, padded

__all__ = []

COLUMN = 8  # characters of a number in the table
Pair = tuple[float, float]  # steps and seconds
NO_LIMITS: Pair = (math.inf, math.inf)


class Epoch:
    """An epoch in progress: its batches, and the means of its train rows.

    `limits` are the steps and the seconds that the run may still take from here; inf without a limit. `before` are the
    steps and seconds of the epochs before it, as far as this process trained them.
    """

    def __init__(
        self, number: int, of: int, total: int, done: int, limits: Pair = NO_LIMITS, before: Pair = (0.0, 0.0)
    ):
        self.number, self.of, self.total, self.done, self.first = number, of, total, done, done
        self.limits, self.before = limits, before
        self.start = time.monotonic()
        self.step = 0  # of the last row
        self.sums: dict[str, list[float]] = {}  # name: sum over steps, steps
        self.unwritten: list[Mapping[str, Any]] = []  # losses of the steps before the first row
        self.rates: dict[str, float] = {}
        self.measured: dict[str, float] = {}  # by the last validation
        self.reported = False

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add a train row, which is the mean of the steps since the previous row, or since the epoch began."""
        steps = step - self.step if self.step else self.done - self.first or 1
        self.step, self.unwritten = step, []
        for name, value in values.items():
            if is_rate(name):
                self.rates[name] = value
            else:
                old = self.sums.setdefault(name, [0.0, 0.0])
                self.sums[name] = [old[0] + steps * value, old[1] + steps]

    def position(self) -> str:
        """Return the finished epochs of all: 3/10, or 2.50/10 in the middle of the third."""
        if self.done >= self.total:
            return f"{self.number + 1}/{self.of}"
        return f"{self.number + self.done / self.total:.2f}/{self.of}"

    def columns(self) -> dict[str, str]:
        """Return means of training, metrics of validation and learning rates; a metric of both names its phase."""
        train = {name: total / steps for name, (total, steps) in self.sums.items()} or self._means()
        measured = {name: value for name, value in self.measured.items() if not self._repeats(name, value)}
        both = train.keys() & measured.keys()
        named = {f"train {name}" if name in both else name: value for name, value in train.items()}
        named |= {f"val {name}" if name in both else name: value for name, value in measured.items()}
        return {name: number(value) for name, value in named.items()} | {k: f"{v:.3g}" for k, v in self.rates.items()}

    def _means(self) -> dict[str, float]:
        """Return the means over the steps of an epoch that has no row."""
        values: dict[str, list[float]] = {}
        for scalars in self.unwritten:
            for name, value in scalars.items():
                values.setdefault(name, []).append(float(value))
        return {name: sum(each) / len(each) for name, each in values.items()}

    def _repeats(self, name: str, value: float) -> bool:
        """Return whether a metric says nothing new beside others: a class's own IoU, log_loss without smoothing."""
        return name.startswith("iou_") or (name == "log_loss" and value == self.measured.get("loss"))

    def progress(self) -> str:
        """Return the progress, the speed and the remaining time."""
        taken, seconds = self.spent()
        rate = taken / seconds if seconds > 0 else 0.0
        place = f"epoch {self.number + 1}/{self.of}  {self.done:,}/{self.total:,}"
        return f"{place}  {rate:.4g} steps/s  {self.left()}"

    def spent(self) -> Pair:
        """Return the steps that were taken of it, and the seconds."""
        return self.done - self.first, time.monotonic() - self.start

    def left(self) -> str:
        """Return the time left of the epoch and, where it is longer, that of the run, by steps and minutes allowed."""
        taken, seconds = self.spent()
        if not taken or seconds <= 0:
            return "? left"
        steps, allowed = self.limits[0] - taken, max(0.0, self.limits[1] - seconds)
        of_epoch = min(self.total - self.done, steps)
        of_run = min(self.total - self.done + max(0, self.of - self.number - 1) * self.total, steps)
        whole = (self.before[1] + seconds) / (self.before[0] + taken)  # s a step, with validations and saves
        epoch, run = min(of_epoch * seconds / taken, allowed), min(of_run * whole, allowed)
        if of_run <= of_epoch or run <= epoch:
            return f"{clock(epoch)} left"
        return f"{clock(epoch)} left of epoch, {clock(run)} of run"


class Table:
    """Rows of one width. The head is repeated when the columns change, or after another line was printed."""

    def __init__(self) -> None:
        self.shown: list[str] = []  # the columns under the last head

    def lines(self, row: Mapping[str, str], width: int) -> tuple[str, str]:
        """Return the head (empty if the last one is still valid) and the row, with the columns that fit."""
        if self.shown and row.keys() <= {*self.shown}:  # a row with less to tell stays under the same head
            row = {name: row.get(name, "") for name in self.shown}
        heads = {name: head(name) for name in row}
        least = {name: COLUMN if name != "best" else 0 for name in row}
        widths = {name: max(columns(heads[name]), len(text), least[name]) for name, text in row.items()}
        names = list(row)
        while sum(widths[name] + 2 for name in names) - 2 >= width and (spare := _spare(names)):
            names.remove(spare)
        above = "" if names == self.shown else "  ".join(padded(heads[name], widths[name]) for name in names)
        self.shown = names
        return above, "  ".join(f"{row[name]:>{widths[name]}}" for name in names).rstrip()


def _spare(names: Sequence[str]) -> str:
    """Return the least important column: the last number, then a rate; empty if few are left."""
    numbers = [name for name in names[1:-2] if not is_rate(name)]
    return numbers[-1] if len(numbers) > 2 else next((name for name in names if is_rate(name)), "")


def is_rate(name: str) -> bool:
    """Return whether a number is a learning rate."""
    return name.partition(".")[0].partition("_")[0] == "lr"


def clock(seconds: float) -> str:
    """Return seconds below a minute, otherwise minutes:seconds or hours:minutes:seconds."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def number(value: float) -> str:
    """Return a number in at most `COLUMN` characters."""
    size = abs(value)
    if not math.isfinite(value) or (size and size < 1e-3) or size >= 1e6:
        return f"{value:.2g}"
    return f"{value:.{4 if size < 10 else 3 if size < 100 else 2 if size < 1000 else 0}f}"
