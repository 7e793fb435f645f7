"""Watcher: it looks at a run while it trains, and never touches it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs import Config
from data.loading.loader import Loader
from trainer.build import Parts
from trainer.checkpointing.saver import NoSaver, Saver
from trainer.evaluate import evaluating, unchanged
from trainer.optim.update import Updates
from trainer.progress import Progress
from trainer.state import RunState
from trainer.task import Task
from utils import dist
from utils.sinks.console import Console
from utils.sinks.logger import Logger, MemoryJournal

__all__ = ["Watcher"]


@dataclass
class Outlets:
    """The outlets of a run: words, rows, checkpoints and watchers; a console and a journal in memory by default."""

    console: Console = field(default_factory=lambda: Console(dist.of_main("text") or "quiet"))
    logger: Logger = None  # type: ignore[assignment]
    saver: Saver = field(default_factory=NoSaver)
    watchers: Sequence["Watcher"] = ()

    def __post_init__(self) -> None:
        if self.logger is None:
            self.logger = dist.on_main(Logger, [self.console], MemoryJournal()) or Logger()


@dataclass(frozen=True)
class Run:
    """A run as a watcher sees it; nothing here is to be changed."""

    cfg: Config
    device: torch.device
    train_loader: Loader
    val_loader: Loader | None
    logger: Logger
    say: Callable[[str], None]
    folder: Path | None  # None for a run without one
    _state: RunState

    @classmethod
    def of(cls, parts: Parts, outlets: Outlets) -> "Run":
        """Return the view of a run that is made of these."""
        loaders, folder = (parts.train_loader, parts.val_loader), outlets.saver.folder
        return cls(parts.cfg, parts.device, *loaders, outlets.logger, outlets.console.say, folder, parts.state)

    @property
    def task(self) -> Task:
        """The networks that learn."""
        return self._state.task

    @property
    def updates(self) -> Updates:
        """The optimizers, one a network."""
        return self._state.update

    @property
    def eval_task(self) -> Task:
        """The networks that validation uses: the averaged weights, if there are any."""
        return self._state.eval_task

    @property
    def meta(self) -> Mapping[str, Any]:
        """The training set's own facts: classes, channels, size."""
        return self._state.meta

    @property
    def progress(self) -> Progress:
        """Where the run stands."""
        return self._state.progress


class Watcher:
    """Hears of a run; a subclass takes the methods that it needs.

    It may register hooks that read in the next step, and removes them in `close`. It changes no weight, no batch and no
    random number: with it a run ends with the same bits as without.
    """

    def begin(self, run: Run) -> None:
        """Hear that the run begins, or goes on."""

    def after_step(self, run: Run, batch: Any, scalars: Mapping[str, Tensor]) -> bool | None:
        """Hear of a training step; False if no further step is of interest."""

    def after_validation(self, run: Run, numbers: Mapping[str, float], extras: Mapping[str, Any]) -> None:
        """Hear of a validation: metrics, and `extras` that are no number, such as a confusion matrix."""

    def end(self, run: Run) -> None:
        """Hear that the run is finished; not of one that was stopped or failed."""

    def close(self) -> None:
        """Let go of hooks and files, however the run ended."""


class Watchers:
    """The watchers of a run. One that fails costs a sentence and hears nothing more."""

    def __init__(self, watchers: Sequence[Watcher], run: Run):
        self.watchers, self.run = list(watchers), run
        self.of_steps = [watcher for watcher in watchers if type(watcher).after_step is not Watcher.after_step]

    def begin(self) -> None:
        self._tell("begin")

    def after_step(self, batch: Any, scalars: Mapping[str, Tensor]) -> None:
        for watcher in list(self.of_steps):
            with unchanged(self.run.task), unchanged(self.run.eval_task):
                if self._call(watcher, "after_step", batch, scalars) is False and watcher in self.of_steps:
                    self.of_steps.remove(watcher)

    def after_validation(self, numbers: Mapping[str, float], extras: Mapping[str, Any]) -> None:
        self._tell("after_validation", numbers, extras)

    def end(self) -> None:
        self._tell("end")

    def close(self) -> None:
        for watcher in self.watchers:
            self._call(watcher, "close", alone=True)

    def _tell(self, verb: str, *what: Any) -> None:
        for watcher in list(self.watchers):
            with evaluating(self.run.task), evaluating(self.run.eval_task):
                self._call(watcher, verb, *what)

    def _call(self, watcher: Watcher, verb: str, *what: Any, alone: bool = False) -> Any:
        try:
            return getattr(watcher, verb)(*(what if alone else (self.run, *what)))
        except Exception as error:  # a run that has trained for days must not fail by it
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            self.run.say(f"the watcher {type(watcher).__name__} is left out from here on: {verb}: {reason}")
            self.watchers = [other for other in self.watchers if other is not watcher]
            self.of_steps = [other for other in self.of_steps if other is not watcher]
            with suppress(Exception):  # its hooks must not stay
                watcher.close()
            return None
