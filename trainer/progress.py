"""Where a run stands: position, best score, patience, and the numbers of a row not yet written."""

import math
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from torch import Tensor

from configs import COMPONENTS, Config
from configs.schema import Train
from utils import dist
from utils.errors import CheckpointError

__all__ = ["Progress", "Window", "monitored"]


@dataclass
class Progress:
    """Everything countable that decides the future of a run."""

    epoch: int = 0  # the epoch in progress, from 0
    batch: int = 0  # batches of it that are done; the epoch's length: its validation is due
    step: int = 0  # training steps of the whole run
    validated: int = -1  # the step after which was validated last
    score: float | None = None  # of the last validation: the monitored metric, negative where more is better
    best: float | None = None  # the smallest score
    best_epoch: int = -1
    waited: int = 0  # validations since the best one
    stopped: bool = False  # whether early stop has ended the run
    seconds: float = 0.0  # spent in training
    journal: int = 0  # bytes of log.jsonl that belong to this state
    left_out: list[list[int]] = field(default_factory=list)  # [epoch, batch] whose loss or gradient was not finite
    kept: list[list[float]] = field(default_factory=list)  # [score, epoch] of the checkpoints kept as the top ones

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Progress":
        """Raises CheckpointError unless the state has every field, each of its type, and no other."""
        kinds: dict[str, Any] = {f.name: list if typing.get_origin(f.type) is list else f.type for f in fields(cls)}
        wrong = kinds.keys() ^ state.keys() or {k for k, v in state.items() if not isinstance(v, kinds[k])}
        if wrong:
            names = ", ".join(sorted(wrong))
            raise CheckpointError(f"the checkpoint's progress is not whole ({names}); take another one")
        return cls(**state)

    def finished(self, train: Train) -> bool:
        """Whether the run has reached an end that its config sets."""
        return self.epoch >= train.max_epoch or self.ended(train)

    def ended(self, train: Train) -> bool:
        """Whether early stop, max_steps or max_minutes ends it, be it within an epoch."""
        out_of_steps = train.max_steps is not None and self.step >= train.max_steps
        out_of_time = train.max_minutes is not None and self.seconds >= 60 * train.max_minutes
        return self.stopped or out_of_steps or out_of_time

    def continued_by(self, train: Train) -> str:
        """What makes a finished run go on, in words."""
        if self.stopped:
            return "early stop has ended it: more epochs would be another run"
        if self.epoch >= train.max_epoch:
            return "--max-epoch=… continues it"
        ended_by = "max_steps" if train.max_steps is not None and self.step >= train.max_steps else "max_minutes"
        return f"--train.{ended_by}=… continues it"

    def note(self, score: float, train: Train) -> bool:
        """Note a validation's score; whether it is the best."""
        is_best = math.isfinite(score) and (self.best is None or score < self.best)
        if is_best:
            self.best, self.best_epoch = score, self.epoch
        self.score, self.validated = score, self.step
        self.waited = 0 if is_best else self.waited + 1
        self.stopped = train.early_stop is not None and self.waited >= train.early_stop
        return is_best

    def choose_kept(self, train: Train) -> tuple[list[str], list[str]]:
        """The names under which this epoch's checkpoint stays, and those that it drives out of the top ones."""
        name = f"epoch-{self.epoch + 1:03d}.pth"
        before = {epoch for _, epoch in self.kept}
        if train.keep_top and self.score is not None and math.isfinite(self.score):
            self.kept = sorted([*self.kept, [self.score, self.epoch + 1]])[: train.keep_top]
        top = {epoch for _, epoch in self.kept}
        regular = train.keep_every is not None and (self.epoch + 1) % train.keep_every == 0
        dropped = [e for e in before - top if train.keep_every is None or e % train.keep_every]
        stays = regular or self.epoch + 1 in top
        return [name] if stays else [], [f"epoch-{int(epoch):03d}.pth" for epoch in dropped]


class Window:
    """The scalars of the steps since the last train row; they stay on their device until the row is written."""

    def __init__(self) -> None:
        self.scalars: dict[str, list[tuple[int, Tensor | float]]] = {}

    def add(self, samples: int, scalars: Mapping[str, Tensor]) -> None:
        for name, value in scalars.items():
            self.scalars.setdefault(name, []).append((samples, value.detach()))

    def means(self) -> dict[str, float]:
        """Means over samples, over all ranks; the window is empty afterwards."""
        sums = {k: [sum(n * float(v) for n, v in rows), sum(n for n, _ in rows)] for k, rows in self.scalars.items()}
        self.scalars = {}
        parts = dist.gather(sums)
        names = dict.fromkeys(name for part in parts for name in part)
        totals = {k: [sum(p[k][i] for p in parts if k in p) for i in (0, 1)] for k in names}
        return {name: total / count for name, (total, count) in totals.items() if count}

    def state_dict(self) -> dict[str, Any]:
        return {k: [[n, float(v)] for n, v in rows] for k, rows in self.scalars.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.scalars = {k: [(n, v) for n, v in rows] for k, rows in state.items()}


def monitored(cfg: Config) -> tuple[str | None, bool]:
    """The metric that picks the best checkpoint, None where nothing is measured; and whether smaller is better."""
    metrics = COMPONENTS["task"].get(cfg.task.name).metrics
    name = cfg.train.monitor or next(iter(metrics), None)
    return name, metrics.get(name) == "min"
