"""Where a run stands: position, best score, patience, and the numbers of a row that is not yet written."""

import math
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from torch import Tensor

from configs import direction_fault
from configs.schema import Train
from utils import dist
from utils.errors import CheckpointError, ConfigError, DataError

__all__ = ["Monitor", "Progress", "RowMeans", "name_fault", "scalar_fault"]

OF_ROWS = ("time", "phase", "epoch", "step")  # keys of every row of the journal
RENAMED = {"left_out": "skipped"}  # fields, in checkpoints of before
ADDED = {"validation_seconds": 0.0, "interventions": 0}  # fields that checkpoints of before lack


@dataclass
class Progress:
    """Everything countable that decides the future of a run."""

    epoch: int = 0  # the epoch in progress, from 0
    batch: int = 0  # batches of it that are done; the epoch's length: its validation is due
    samples: int = 0  # of the epoch's order that are done, by all processes together
    step: int = 0  # training steps of the whole run
    validated: int = -1  # the step after which was validated last
    score: float | None = None  # of the last validation: the monitored metric, negative where more is better
    best: float | None = None  # the smallest score
    best_epoch: int = -1
    waited: int = 0  # validations since the best one
    stopped: bool = False  # whether early stop has ended the run
    seconds: float = 0.0  # spent in training
    journal: int = 0  # bytes of log.jsonl that belong to this state
    validation_seconds: float = 0.0  # that the last validation took
    skipped: list[list[int]] = field(default_factory=list)  # [epoch, batch] whose loss or gradient was not finite
    interventions: int = 0  # requests of ctl that changed the run so far
    kept: list[list[float]] = field(default_factory=list)  # [score, epoch] of the checkpoints kept as the top ones

    def __post_init__(self) -> None:
        self.saved = self.seconds  # when the last save was made; no field, as a resumed run begins with one

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Progress":
        """Raises CheckpointError unless the state has every field, each of its type, and no other."""
        state = ADDED | {RENAMED.get(name, name): value for name, value in state.items()}
        kinds: dict[str, Any] = {f.name: list if typing.get_origin(f.type) is list else f.type for f in fields(cls)}
        wrong = kinds.keys() ^ state.keys() or {k for k, v in state.items() if not isinstance(v, kinds[k])}
        if wrong:
            names = ", ".join(sorted(wrong))
            raise CheckpointError(f"the checkpoint's progress is not whole ({names}); take another one")
        return cls(**state)

    def finished(self, train: Train) -> bool:
        """Return whether the run has reached an end that its config sets."""
        return self.epoch >= train.max_epoch or self.ended(train)

    def ended(self, train: Train) -> bool:
        """Return whether early stop, max_steps or max_minutes ends the run, also within an epoch.

        The minutes hold the last validation, too, which takes about as long as the one before it.
        """
        out_of_steps = train.max_steps is not None and self.step >= train.max_steps
        needed = self.validation_seconds if self.validated < self.step else 0.0
        out_of_time = train.max_minutes is not None and self.seconds + needed >= 60 * train.max_minutes
        return self.stopped or out_of_steps or out_of_time

    def limits(self, train: Train) -> tuple[float, float]:
        """Return the steps and the seconds that max_steps and max_minutes leave; inf without such a limit."""
        steps = math.inf if train.max_steps is None else train.max_steps - self.step
        return steps, math.inf if train.max_minutes is None else 60 * train.max_minutes - self.seconds

    def continued_by(self, train: Train) -> str:
        """Return in words how a finished run can go on."""
        if self.stopped:
            return "early stop has ended it: more epochs would be another run"
        if self.epoch >= train.max_epoch:
            return "--max-epoch=… continues it"
        ended_by = "max_steps" if train.max_steps is not None and self.step >= train.max_steps else "max_minutes"
        return f"--train.{ended_by}=… continues it"

    def validation_due(self, train: Train) -> bool:
        """Return whether to validate within the epoch, by `train.val_steps`."""
        every = train.val_steps
        return every is not None and self.step > 0 and self.step % every == 0 and self.validated < self.step

    def save_due(self, train: Train) -> bool:
        """Return whether to save within the epoch, by `train.save_steps` or `train.save_minutes`."""
        by_steps = train.save_steps is not None and self.step % train.save_steps == 0
        return by_steps or (train.save_minutes is not None and self.seconds - self.saved >= 60 * train.save_minutes)

    def skips(self) -> bool:
        """Return whether the next batch is left out: its loss or gradient was not finite."""
        return [self.epoch, self.batch] in self.skipped

    def update_best(self, score: float, train: Train) -> bool:
        """Take in a validation's score. Returns whether it is the best."""
        is_best = math.isfinite(score) and (self.best is None or score < self.best)
        if is_best:
            # a validation behind the last epoch measures what that epoch learned
            self.best, self.best_epoch = score, self.epoch - (self.batch == 0 and self.epoch > 0)
        self.score, self.validated = score, self.step
        self.waited = 0 if is_best else self.waited + 1
        self.stopped = train.early_stop is not None and self.waited >= train.early_stop
        return is_best

    def choose_kept(self, train: Train) -> tuple[list[str], list[str]]:
        """Return the names under which this epoch's checkpoint stays, and those that drop out of the best ones."""
        name = f"epoch-{self.epoch + 1:03d}.pth"
        before, window = {epoch for _, epoch in self.kept}, self.epoch + 1 - (train.average_last or 0)
        if train.keep_top and self.score is not None and math.isfinite(self.score):
            self.kept = sorted([*self.kept, [self.score, self.epoch + 1]])[: train.keep_top]
        top = {epoch for _, epoch in self.kept}
        regular = train.keep_every is not None and (self.epoch + 1) % train.keep_every == 0
        gone = {epoch for epoch in before if not train.average_last or epoch <= window}
        gone |= {window} if train.average_last and window > 0 else set()
        dropped = [e for e in gone - top if train.keep_every is None or e % train.keep_every]
        stays = regular or self.epoch + 1 in top or train.average_last is not None
        return [name] if stays else [], [f"epoch-{int(epoch):03d}.pth" for epoch in sorted(dropped)]


class Monitor:
    """The validation metric that picks best.pth, and whether the weights of now are the best by it."""

    def __init__(self, train: Train, metrics: Mapping[str, str]):
        """`metrics`: those of the task; for one that measures nothing the name is None.

        Raises ConfigError for a direction that is neither min nor max.
        """
        if fault := direction_fault(metrics):
            raise ConfigError(f"task: {fault}")
        self.name: str | None = train.monitor or next(iter(metrics), None)
        self.mode = "min" if self.name is not None and metrics.get(self.name) == "min" else "max"
        self.is_best = False  # since the last save
        self.earlier_best: Progress | None = None  # of a best.pth that was measured where a longer run does not look

    def update(self, numbers: Mapping[str, float], progress: "Progress", train: Train) -> float:
        """Take in a validation's numbers and return its score, of which smaller is better.

        Raises DataError when the metric is not among them.
        """
        self.check(numbers)
        assert self.name is not None
        score = numbers[self.name] if self.mode == "min" else -numbers[self.name]
        earlier = self.earlier_best
        if progress.update_best(score, train) and not (earlier and earlier.best <= score):  # type: ignore[operator]
            self.is_best, self.earlier_best = True, None
        return score

    def check(self, names: Iterable[str]) -> None:
        """Raises DataError when the metric is not among the names that a validation gives."""
        if self.name is None or self.name not in names:
            given = ", ".join(names) or "nothing: the task's meters() returns none"
            raise DataError(f"validation gives no '{self.name}' here (it gives {given}); see train.monitor")

    def best(self, progress: "Progress") -> tuple[float | None, int]:
        """Return the metric's value in best.pth, None without one, and the epoch, from 1."""
        p = self.earlier_best or progress
        # 0 - 0 is 0, and -0.0 nobody wants to read
        return p.best if p.best is None or self.mode == "min" else 0 - p.best, p.best_epoch + 1


class RowMeans:
    """The means of a train row: scalars of the steps since the last one, on their device until the row is written."""

    def __init__(self) -> None:
        self.scalars: dict[str, list[tuple[int, Tensor | float]]] = {}

    def add(self, samples: int, scalars: Mapping[str, Tensor]) -> None:
        """Add the scalars of a step.

        Raises AttributeError or TypeError for anything but tensors of one number, by names that a row has room for.
        """
        for name, value in scalars.items():
            if value.numel() != 1 or name_fault(name):
                raise TypeError
            self.scalars.setdefault(name, []).append((samples, value.detach()))

    def means(self) -> dict[str, float]:
        """Return the means over samples, over all ranks, and begin the next row."""
        sums = {k: [sum(n * float(v) for n, v in rows), sum(n for n, _ in rows)] for k, rows in self.scalars.items()}
        self.scalars = {}
        parts = dist.gather(sums)
        names = dict.fromkeys(name for part in parts for name in part)
        totals = {k: [sum(p[k][i] for p in parts if k in p) for i in (0, 1)] for k in names}
        return {name: total / count for name, (total, count) in totals.items() if count}

    def state_dict(self) -> dict[str, Any]:
        return {k: [[n, float(v)] for n, v in rows] for k, rows in self.scalars.items()}

    def load_state_dict(self, *states: Mapping[str, Any]) -> None:
        """Take the scalars of one rank, or of several whose rows become one."""
        self.scalars = {}
        for state in states:
            for k, rows in state.items():
                self.scalars.setdefault(k, []).extend((n, v) for n, v in rows)


def name_fault(name: Any) -> str:
    """Return in words why a scalar or a metric cannot have this name; empty if it can."""
    if not isinstance(name, str):
        return f"a name that is no text, {name!r}"
    return f"the name {name!r}, by which each row of the journal has its own" if name in OF_ROWS else ""


def scalar_fault(scalars: Any) -> str:
    """Return in words what a step gave instead of a dict of tensors of one number each."""
    if not isinstance(scalars, Mapping):
        return "nothing" if scalars is None else f"a {type(scalars).__name__}"
    for name, value in scalars.items():
        if not isinstance(value, Tensor):
            return f"a {type(value).__name__} as {name!r}"
        if value.numel() != 1:
            return f"{list(value.shape)} numbers as {name!r}"
        if fault := name_fault(name):
            return fault
    return "wrong scalars"
