"""Saving beside the training: a copy of the state is written by a thread while the next steps are taken."""

import functools
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.checkpointing.store import Store

__all__ = ["NoSaver", "Saver"]

WRITING = threading.Lock()  # held while a thread writes: a process forked then could wait for ever for its locks


class Saver:
    """A run's checkpoints, one at a time: in the background, or each before `save` returns."""

    def __init__(self, store: Store, background: bool, before: Callable[[], object] = lambda: None):
        """`before` is called ahead of each save, in the same thread: it makes the journal durable."""
        self.store, self.background, self.before = store, background, before
        self.thread: threading.Thread | None = None
        self.error: Exception | None = None
        _guard_forks()

    def save(
        self, state: dict[str, Any], copies: Iterable[str] = (), last: bool = True, drop: Sequence[str] = ()
    ) -> None:
        """Store.save; waits for the save before this one.

        Without `background`, `state` is empty afterwards. Raises the error of the save before, if it failed; without
        `background` also its own.
        """
        self.wait()
        if not self.background:
            self._save(state, copies, last, drop)
            return
        arguments = (snapshot(state), list(copies), last, drop)
        self.thread = threading.Thread(target=self._work, args=arguments, name="saver")
        self.thread.start()

    @property
    def folder(self) -> Path | None:
        """Where the checkpoints are; None where nothing is saved."""
        return self.store.folder if self.store is not None else None

    def check(self) -> None:
        """Raises the error of the last save, if it failed."""
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    def wait(self) -> None:
        """Wait until everything is on the disk. Raises the error of the last save, if it failed."""
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        self.check()

    def close(self) -> None:
        """Wait, and raise nothing: what ended the run is told already, and a save that mattered was waited for."""
        with suppress(Exception):
            self.wait()

    def _work(self, *arguments: Any) -> None:
        try:
            with WRITING:
                self._save(*arguments)
        except Exception as error:
            self.error = error  # raised by the training thread, in its own time

    def _save(self, state: dict[str, Any], copies: Iterable[str], last: bool, drop: Sequence[str]) -> None:
        self.before()
        self.store.save(state, copies, last, drop)


class NoSaver(Saver):
    """Saves nothing: a run without a folder, and every process except the first."""

    def __init__(self) -> None:
        self.store = None  # type: ignore[assignment]

    def save(
        self, state: dict[str, Any], copies: Iterable[str] = (), last: bool = True, drop: Sequence[str] = ()
    ) -> None:
        return

    def check(self) -> None:
        return

    def wait(self) -> None:
        return


@torch.no_grad()
def snapshot(state: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a state in main memory.

    It is made anew each time: with train.keep_memory it lies where the activations of the last step were, and is gone
    before those of the next ones need the place.
    """
    copied = _copied(state)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.current_stream().synchronize()  # copies to pinned memory do not wait for themselves
    return copied


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.empty_like(value, device="cpu", pin_memory=value.is_cuda).copy_(value, non_blocking=True)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_copied, value))
    return value


@functools.cache
def _guard_forks() -> None:
    """Have a fork wait until nothing is being written."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=WRITING.acquire, after_in_parent=WRITING.release, after_in_child=WRITING.release)
