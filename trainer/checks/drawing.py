"""The panes and watchers of a run in its rehearsal: all is drawn and encoded by the same code, and nothing is sent."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from configs import COMPONENTS, Config
from trainer.checks.found import Found
from trainer.watchers.closing import ClosingViews
from trainer.watchers.inspector import Inspector
from trainer.watchers.pictures import Pictures
from trainer.watchers.predictions import Predictions
from trainer.watchers.watcher import Run, Watcher
from utils.blame import code_error, place_of_call
from utils.errors import CodeError, ConfigError, UserError
from utils.optional import installed
from utils.sinks.logger import Sink
from utils.sinks.visdom_sender import nothing_sent

__all__ = ["drawn_for_nobody", "sinks_of", "watchers_of"]


def drawn_for_nobody(found: Found) -> AbstractContextManager[set[str]]:
    """Send no pane to a server meanwhile, and note the windows that cannot be shown.

    Yields the names of those that can.
    """
    return nothing_sent(partial(_note, found))


def sinks_of(cfg: Config, place: Path, found: Found) -> Iterator[Sink]:
    """Yield the views that the config asks for, as far as their packages are installed."""
    if cfg.log.tensorboard and installed("tensorboardX"):
        from utils.sinks.tensorboard import DryTensorBoard

        yield DryTensorBoard(place / "tensorboard", None, partial(_note, found))
    if cfg.log.visdom and installed("visdom"):
        from utils.sinks.visdom_board import VisdomBoard
        from utils.visualize import Visualizer

        yield VisdomBoard(Visualizer("rehearsal"))


def _note(found: Found, sentence: str) -> None:
    """Note an output that cannot be shown, behind the place in the user's code that asks for it."""
    place = place_of_call()
    found.note(f"{place}: {sentence}" if place else sentence, CodeError if place else ConfigError)


def watchers_of(cfg: Config, found: Found) -> Iterator[Watcher]:
    """Yield new ones of the watchers that the config asks for."""
    if cfg.log.pictures:
        yield from (Pictures(), Predictions())
    if cfg.log.histograms:
        yield _Tried(Inspector(1), found)
    if cfg.log.tensorboard:
        yield _Tried(ClosingViews(), found)
    for i, spec in enumerate(cfg.log.watchers):
        yield _Tried(COMPONENTS["watcher"].build(spec, f"log.watchers[{i}]"), found)


class _Tried(Watcher):
    """Passes on to a watcher all that it would hear of; notes its first error, and drops its words."""

    def __init__(self, watcher: Watcher, found: Found):
        self.watcher, self.found, self.failed = watcher, found, False

    def begin(self, run: Run) -> None:
        self._pass_on(run, "begin", self.watcher.begin)

    def after_step(self, run: Run, batch: Any, scalars: Mapping[str, Tensor]) -> bool | None:
        return self._pass_on(run, "after_step", self.watcher.after_step, batch, scalars)

    def after_validation(self, run: Run, numbers: Mapping[str, float], extras: Mapping[str, Any]) -> None:
        self._pass_on(run, "after_validation", self.watcher.after_validation, numbers, extras)

    def end(self, run: Run) -> None:
        self._pass_on(run, "end", self.watcher.end)

    def close(self) -> None:
        self._guarded("close", self.watcher.close)

    def _pass_on(self, run: Run, verb: str, method: Callable[..., Any], *heard: Any) -> Any:
        return None if self.failed else self._guarded(verb, method, replace(run, say=lambda text: None), *heard)

    def _guarded(self, verb: str, method: Callable[..., Any], *heard: Any) -> Any:
        try:
            return method(*heard)
        except Exception as error:
            if not self.failed:
                name = type(self.watcher).__name__
                self.found.odd.append(_told(error, f"the watcher {name} will be left out: {verb}"))
            self.failed = True
            return None


def _told(error: Exception, about: str) -> UserError:
    """Return the error behind the place in the user's code, if one is in it."""
    if not isinstance(error, UserError) and (own := code_error(error, about)) is not None:
        return own
    name = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return ConfigError(f"{about}: {name}{error}")
