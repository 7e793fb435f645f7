"""Saving beside the training: a copy of the state is written by a thread while the next steps are taken."""

import functools
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from trainer.checkpoint import Store

__all__ = ["Saver"]

WRITING = threading.Lock()  # held while a thread writes: a process forked then could wait for ever for its locks


class Saver:
    """A run's checkpoints, one at a time: in the background, or each before `save` returns."""

    def __init__(self, store: Store, background: bool, before: Callable[[], object] = lambda: None):
        """`before` is called ahead of each save, by whoever does it: it makes the journal durable."""
        self.store, self.background, self.before = store, background, before
        self.copy: Any = None  # of the last state; its tensors are used again
        self.thread: threading.Thread | None = None
        self.error: Exception | None = None
        _guard_forks()

    def save(
        self, state: dict[str, Any], copies: Iterable[str] = (), last: bool = True, drop: Sequence[str] = ()
    ) -> None:
        """Store.save, and then the removal of the checkpoints in `drop`; waits for the save before this one.

        Raises what that one raised, and without `background` what this one raises.
        """
        self.wait()
        if not self.background:
            self._save(state, copies, last, drop)
            return
        self.copy = snapshot(state, self.copy)
        self.thread = threading.Thread(target=self._work, args=(self.copy, list(copies), last, drop), name="saver")
        self.thread.start()

    def check(self) -> None:
        """Raises what the last save has raised."""
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    def wait(self) -> None:
        """Until everything is on the disk. Raises what the last save has raised."""
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        self.check()

    def _work(self, *arguments: Any) -> None:
        try:
            with WRITING:
                self._save(*arguments)
        except Exception as error:
            self.error = error  # raised by the training thread, in its own time

    def _save(self, state: dict[str, Any], copies: Iterable[str], last: bool, drop: Sequence[str]) -> None:
        self.before()
        self.store.save(state, copies, last)
        self.store.remove(drop)


@torch.no_grad()
def snapshot(value: Any, old: Any = None) -> Any:
    """A copy of a state in main memory, put into the tensors of an old copy where these fit."""
    found = _copied(value, old)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.current_stream().synchronize()  # copies to pinned memory do not wait for themselves
    return found


def _copied(value: Any, old: Any) -> Any:
    if isinstance(value, Tensor):
        fits = isinstance(old, Tensor) and old.shape == value.shape and old.dtype == value.dtype
        target = old if fits else torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
        return target.copy_(value, non_blocking=True)
    if isinstance(value, dict):
        kept = old if isinstance(old, dict) else {}
        return {key: _copied(item, kept.get(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        before = old if isinstance(old, (list, tuple)) and len(old) == len(value) else [None] * len(value)
        return type(value)(map(_copied, value, before))
    return value


@functools.cache
def _guard_forks() -> None:
    """A fork waits until nothing is being written."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=WRITING.acquire, after_in_parent=WRITING.release, after_in_child=WRITING.release)
