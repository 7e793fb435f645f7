"""The result of a training, for Python."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trainer.checkpointing.store import BEST, LAST, read_newest
from trainer.checkpointing.weights import load_network_state
from trainer.task import Task
from utils.randomness import same_random_state
from utils.runs.reading import NO_METRICS, read_rows

__all__ = ["Result"]


@dataclass(frozen=True)
class Result:
    """A run that `fit` has trained, to its end or until it was asked to stop."""

    folder: Path  # checkpoints/<run>
    best: float | None  # the best value of the monitored metric
    load_task: Callable[[], Task]
    stopped: int = 0  # the exit code of the signal that stopped it; 0 for a finished run

    @cached_property
    def task(self) -> Task:
        """The trained networks in evaluation mode, with averaged weights if the config asks for them."""
        with same_random_state():
            return self.load_task().eval()

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows of the journal: phase, epoch, step and numbers of each train and val row."""
        return list(read_rows(self.folder / "log.jsonl"))

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers of the last validation."""
        rows = [row for row in self.history if row["phase"] == "val"]
        return {name: value for name, value in rows[-1].items() if name not in NO_METRICS} if rows else {}

    def best_task(self) -> Task:
        """Return a copy of the task with the weights of best.pth, or of last.pth where nothing was measured.

        Raises CheckpointError when neither can be read.
        """
        state, source, _ = read_newest(self.folder, (BEST, LAST))
        task = copy.deepcopy(self.task)
        load_network_state(task, state["ema"] or state["model"], state["buffers"], str(source))
        return task
