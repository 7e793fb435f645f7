"""The processes that load data, and the guards against processes that die or hang.

A worker process may die (killed, out of memory) or hang (a dead disk). The training process must then get an error at
once, must keep its state intact, and must never wait for ever. The cases, and the answer to each:

- A process dies. Torch's handler of SIGCHLD would raise anywhere, even in the middle of an optimizer's step. `_Watch`
  takes its place and raises only while the program waits for a batch.
- A process hangs. `_Watch` also sets a timer (SIGALRM), because torch's own timeout does not cover every wait.
- A process dies with a lock. `_LockFreeEvent` is an Event without a lock, so that nobody waits for that lock.
- A batch cannot be sent, for example because shared memory is full. `_Queue` sends the error in its place.
- A process dies in half a message. Torch's pinning thread may wait for the rest; `_bound_pinning` limits that wait.
- The training process dies. Its worker processes are killed too (`_start_worker`).
"""

import copy
import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from multiprocessing.sharedctypes import RawValue
from types import FrameType
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from utils.torch_private import (
    ExceptionWrapper,
    keep_sigchld_handler,
    let_iterator_go,
    pinning_thread,
    worker_processes,
)

__all__ = ["Workers", "release_frames"]

PR_SET_PDEATHSIG = 1  # of Linux' prctl: the signal that a process gets when its parent dies
WAITING_MODULES = ("multiprocessing.connection", "selectors")
# hands a tensor over; interrupted here, a live process would report an error
RESOURCE_SHARER = "multiprocessing.resource_sharer"
RETRY_INTERVAL = 0.01  # s between two looks whether the program waits
ADVICE = "This DataLoader will create"  # of torch, about more processes than cores
PIN_TIMEOUT = 10.0  # s to wait for torch's pinning thread, which may hang in half a message


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keep back torch's advice, two raw lines for each split: a config may ask for more processes than cores."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=ADVICE)
        yield


class Workers:
    """A DataLoader and its worker processes, from their start to their end."""

    def __init__(self, samples: Dataset, count: int, ahead: int, timeout: float, pin: bool):
        """Prepare the loader. `samples[keys]` is a whole batch, and each process reads `ahead` of them.

        `timeout`: seconds without a batch after which the processes count as frozen; 0: never.
        """
        self.count, self.order = count, _Order()
        context = copy.copy(multiprocessing.get_context("fork" if sys.platform == "linux" else None))
        context.Event = _LockFreeEvent  # type: ignore[method-assign, assignment]
        context.Queue = partial(_Queue, ctx=context)  # type: ignore[method-assign, assignment]
        with _without_advice():
            self.loader = DataLoader(
                samples,
                batch_sampler=self.order,
                num_workers=count,
                multiprocessing_context=context,
                collate_fn=_identity,
                pin_memory=pin,
                timeout=timeout,
                worker_init_fn=partial(_start_worker, os.getpid()),
                persistent_workers=True,
                prefetch_factor=ahead,
                generator=torch.Generator(),  # otherwise the workers' seed comes from the run's random numbers
            )
        self.processes: Sequence[BaseProcess] = ()

    def batches(self, wanted: Iterator[tuple[Any, ...]]) -> Iterator[Any]:
        """Yield the batches of these epochs and samples, in order; the first call starts the processes."""
        self.order.wanted = wanted
        with _Watch.installed().watching(self.processes, self.loader.timeout), _without_advice():
            iterator = iter(self.loader)
            self.processes = worker_processes(self.loader)  # also those that are already dead
        return self._watched(iterator)

    def _watched(self, iterator: Iterator[Any]) -> Iterator[Any]:
        watch, end = _Watch.installed(), object()
        while True:
            with watch.watching(self.processes, self.loader.timeout):
                batch = next(iterator, end)
            if batch is end:
                return
            yield batch

    def kill(self) -> str:
        """Kill the processes: torch would wait for ever for a frozen one. Returns how one died before, if one did."""
        dead = _describe_death(self.processes)
        self._bound_pinning()
        for process in self.processes:
            process.kill()
        return dead

    def close(self) -> None:
        """Let the processes end in order, and kill those that torch could not end."""
        processes, self.processes = self.processes, ()
        self._bound_pinning()
        let_iterator_go(self.loader)  # the last reference to it, except after an error
        for process in processes:
            process.kill()

    def _bound_pinning(self) -> None:
        """Limit the join of torch's pinning thread, which may hang in half a message of a killed process."""
        if pinning := pinning_thread(self.loader):
            pinning.join = partial(pinning.join, PIN_TIMEOUT)


class _LockFreeEvent:
    """The part of an Event that torch uses, without its lock.

    A process that is killed in `is_set` would keep the lock, and `set` would wait for ever.
    """

    def __init__(self) -> None:
        self.raised = RawValue("b", 0)

    def set(self) -> None:
        self.raised.value = 1

    def is_set(self) -> bool:
        return bool(self.raised.value)


class _Queue(Queue):
    """A queue that sends the error if a batch cannot be sent; otherwise the training process would wait for ever."""

    def _on_queue_feeder_error(self, error: Exception, item: Any) -> None:
        if multiprocessing.parent_process() and isinstance(item, tuple):
            fault = ExceptionWrapper((type(error), error, error.__traceback__), "in a data process, as it sent a batch")
            self.put((item[0], fault))
        else:
            super()._on_queue_feeder_error(error, item)  # type: ignore[misc]


class _Order(Sampler):
    """The batches to read next."""

    wanted: Iterator[tuple[Any, ...]] = iter(())

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        # a tensor would go by shared memory
        return ((epoch, chosen.tolist(), *rest) for epoch, chosen, *rest in self.wanted)


def _identity(batch: Any) -> Any:
    return batch


def _start_worker(parent: int, number: int) -> None:
    """Ignore Ctrl-C, which reaches every process of the terminal: the training process alone decides how to end.

    The worker is killed when the training process dies. Torch's own check starts too late for a training process that
    is killed right after the start.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for name in ("SIGINT", "SIGUSR1", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def release_frames(error: BaseException | None) -> None:
    """Clear the frames that an error holds: an old loader in them must end before a new one starts."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()


class _Watch:
    """A signal handler that raises for a dead process (SIGCHLD) or a silent one (SIGALRM), only during a wait.

    Torch's own handler raises for a dead process at any place of the program. In the middle of an optimizer's step,
    half of the weights would have changed; within a lock, the lock would stay taken for ever. Torch's own timeout does
    not cover the time in which a tensor is handed over.
    """

    def __init__(self) -> None:
        self.processes: Sequence[BaseProcess] = ()
        self.deadline = float("inf")
        self.in_place = False

    @classmethod
    def installed(cls) -> "_Watch":
        """Return the current handler, installed if necessary.

        Outside the main thread, which gets no signals, return a new one.
        """
        if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
            return cls()
        current: Any = signal.getsignal(signal.SIGCHLD)
        if not isinstance(current, cls):
            current = cls()
            signal.signal(signal.SIGCHLD, current)
            keep_sigchld_handler()
            current.in_place = True
        signal.signal(signal.SIGALRM, current)  # another handler may have come meanwhile; its default would end us
        return current

    def __call__(self, number: int, frame: FrameType | None) -> None:
        late = bool(self.processes) and time.monotonic() >= self.deadline
        reason = _describe_death(self.processes) or late * "no batch came within data.worker_timeout"
        if reason and frame is not None and not _is_waiting(frame, late):
            signal.setitimer(signal.ITIMER_REAL, RETRY_INTERVAL)
        elif reason:
            raise RuntimeError(reason)

    @contextmanager
    def watching(self, processes: Sequence[BaseProcess], timeout: float) -> Iterator[None]:
        """Raise RuntimeError if a process dies or has died before, or after `timeout` seconds unless that is 0."""
        self.processes, self.deadline = processes, time.monotonic() + (timeout or float("inf"))
        try:
            self(signal.SIGCHLD, None)
            if timeout and self.in_place:
                signal.setitimer(signal.ITIMER_REAL, timeout + 1)  # torch's own timeout comes first, where it works
            yield
        finally:
            self.processes = ()
            if self.in_place:
                signal.setitimer(signal.ITIMER_REAL, 0)


def _is_waiting(frame: FrameType, late: bool) -> bool:
    """Return whether the program waits for another process at this frame, so that an error leaves no lock taken."""
    module, callers, place = frame.f_globals.get("__name__"), [], frame.f_back
    while place is not None and place.f_globals is not globals():
        callers.append(place.f_globals.get("__name__"))
        place = place.f_back
    if RESOURCE_SHARER in (module, *callers):
        return late
    return module in WAITING_MODULES or (module == "threading" and frame.f_code.co_name == "wait")


def _describe_death(processes: Sequence[BaseProcess]) -> str:
    """Return how the first dead process ended; empty if all live."""
    for process in processes:
        if not process.is_alive():
            code = process.exitcode or 0
            return f"process {process.pid} ended with {signal.Signals(-code).name if code < 0 else f'code {code}'}"
    return ""
