"""The processes and threads that load data; a process's death is noticed while a batch of it is awaited, only then."""

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
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing.pool import ThreadPool
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from multiprocessing.sharedctypes import RawValue
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from utils.errors import WorkerError
from utils.torch_private import (
    ExceptionWrapper,
    keep_sigchld_handler,
    let_iterator_go,
    pinning_thread,
    worker_processes,
)

__all__ = ["Threads", "Workers", "let_go"]

PR_SET_PDEATHSIG = 1  # of Linux' prctl: the signal that a process gets when its parent dies
WAITING = ("multiprocessing.connection", "selectors")
HANDING_OVER = "multiprocessing.resource_sharer"  # of a tensor: who interrupts it has a process complain that lives
AGAIN = 0.01  # s until it is looked again whether the program waits
PINNED = 10.0  # s until torch's thread that pins is taken to hang in half a message


class Threads:
    """Threads that read ahead, a batch each, in the training process; nothing is copied from one to the other."""

    def __init__(self, count: int, timeout: float):
        """`timeout`: seconds without a batch until they count as frozen; 0: never."""
        self.pool, self.ahead, self.timeout = ThreadPool(count), 2 * count, timeout or None
        self._use_one_core_each(count)

    def batches(self, read: Callable[[Any], Any], wanted: Iterator[Any]) -> Iterator[Any]:
        """What `read` gives for what is wanted, in that order.

        Raises what `read` raised, and WorkerError when no batch came in time.
        """
        waiting = deque(self.pool.apply_async(read, (key,)) for key in islice(wanted, self.ahead))
        while waiting:
            try:
                batch = waiting.popleft().get(self.timeout)
            except multiprocessing.TimeoutError as error:
                raise WorkerError(
                    "no batch came from the threads that load data within data.worker_timeout; is the disk there? "
                    "what was saved is intact, --resume goes on"
                ) from error
            waiting.extend(self.pool.apply_async(read, (key,)) for key in islice(wanted, 1))
            yield batch

    def _use_one_core_each(self, count: int) -> None:
        """Else each would call up a team of torch's threads of its own, as many as there are cores."""
        before, together = torch.get_num_threads(), threading.Barrier(count)

        def limit() -> None:
            torch.get_num_threads()  # a thread's first call of torch takes over what was set last
            torch.set_num_threads(1)
            together.wait()  # else one of them would take two of these calls

        for done in [self.pool.apply_async(limit) for _ in range(count)]:
            done.get()
        torch.set_num_threads(before)

    def close(self) -> None:
        """Let them go; a frozen one is not waited for."""
        self.pool.terminate()


class Workers:
    """A DataLoader and its processes, from their start to their end."""

    def __init__(self, samples: Dataset, count: int, ahead: int, timeout: float, pin: bool):
        """`samples[keys]` is a whole batch; each process reads `ahead` of them; `timeout`: seconds, as of threads."""
        self.count, self.order = count, _Order()
        context = copy.copy(multiprocessing.get_context("fork" if sys.platform == "linux" else None))
        context.Event = _Flag  # type: ignore[method-assign, assignment]
        context.Queue = partial(_Queue, ctx=context)  # type: ignore[method-assign, assignment]
        self.loader = DataLoader(
            samples,
            batch_sampler=self.order,
            num_workers=count,
            multiprocessing_context=context,
            collate_fn=_as_it_is,
            pin_memory=pin,
            timeout=timeout,
            worker_init_fn=partial(_start_worker, os.getpid()),
            persistent_workers=True,
            prefetch_factor=ahead,
            generator=torch.Generator(),  # else a loader draws its workers' seed from the run's random numbers
        )
        self.processes: Sequence[BaseProcess] = ()

    def batches(self, wanted: Iterator[tuple[int, Tensor]]) -> Iterator[Any]:
        """The batches of these epochs and samples, in that order; the processes are started by the first call."""
        self.order.wanted = wanted
        with _Watch.installed().over(self.processes, self.loader.timeout):
            iterator = iter(self.loader)
            self.processes = worker_processes(self.loader)  # those too that are dead already
        return self._watched(iterator)

    def _watched(self, iterator: Iterator[Any]) -> Iterator[Any]:
        watch, end = _Watch.installed(), object()
        while True:
            with watch.over(self.processes, self.loader.timeout):
                batch = next(iterator, end)
            if batch is end:
                return
            yield batch

    def kill(self) -> str:
        """End the processes, also a frozen one, for which torch would wait for ever; tell of one that was dead."""
        dead = _dead(self.processes)
        self._bound_pinning()
        for process in self.processes:
            process.kill()
        return dead

    def close(self) -> None:
        """Let the processes end in order; those that do not, as torch found, are ended."""
        processes, self.processes = self.processes, ()
        self._bound_pinning()
        let_iterator_go(self.loader)  # the last reference to it, except after an error
        for process in processes:
            process.kill()

    def _bound_pinning(self) -> None:
        """Torch's thread that pins may hang in half a message of a process that was killed, and torch joins it."""
        if pinning := pinning_thread(self.loader):
            pinning.join = partial(pinning.join, PINNED)


class _Flag:
    """What torch needs of an Event, without its lock: a process killed in `is_set` keeps that, and `set` never ends."""

    def __init__(self) -> None:
        self.raised = RawValue("b", 0)

    def set(self) -> None:
        self.raised.value = 1

    def is_set(self) -> bool:
        return bool(self.raised.value)


class _Queue(Queue):
    """A batch that cannot be sent, for want of shared memory say, is told of; else it would be awaited in vain."""

    def _on_queue_feeder_error(self, error: Exception, item: Any) -> None:
        if multiprocessing.parent_process() and isinstance(item, tuple):
            told = ExceptionWrapper((type(error), error, error.__traceback__), "in a data process, as it sent a batch")
            self.put((item[0], told))
        else:
            super()._on_queue_feeder_error(error, item)  # type: ignore[misc]


class _Order(Sampler):
    """The batches to read next."""

    wanted: Iterator[tuple[int, Tensor]] = iter(())

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        return ((epoch, chosen.tolist()) for epoch, chosen in self.wanted)  # a tensor would go by shared memory


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(parent: int, number: int) -> None:
    """Ctrl-C goes to every process of the terminal; the training process alone decides what follows.

    It ends with the training process: torch's own watch begins too late for one that is killed right after the start.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for name in ("SIGINT", "SIGUSR1", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def let_go(error: BaseException | None) -> None:
    """Empty the frames that an error holds: a loader in them must end before others take its place."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()


class _Watch:
    """A handler that raises for processes which are dead (SIGCHLD) or silent (SIGALRM), only while they are waited for.

    Torch's own raises for a dead one wherever the program happens to be: in the middle of an optimizer's step, say,
    which then has changed half of the weights; or within a lock, which then is taken for ever. Its own timeout does
    not hold while a tensor is handed over.
    """

    def __init__(self) -> None:
        self.processes: Sequence[BaseProcess] = ()
        self.deadline = float("inf")
        self.in_place = False

    @classmethod
    def installed(cls) -> "_Watch":
        """The one that is in place, put there if it is not; signals reach the main thread only."""
        if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
            return cls()
        current: Any = signal.getsignal(signal.SIGCHLD)
        if not isinstance(current, cls):
            current = cls()
            signal.signal(signal.SIGCHLD, current)
            signal.signal(signal.SIGALRM, current)
            keep_sigchld_handler()
            current.in_place = True
        return current

    def __call__(self, number: int, frame: FrameType | None) -> None:
        late = bool(self.processes) and time.monotonic() >= self.deadline
        reason = _dead(self.processes) or late * "no batch came within data.worker_timeout"
        if reason and frame is not None and not _waits(frame, late):
            signal.setitimer(signal.ITIMER_REAL, AGAIN)
        elif reason:
            raise RuntimeError(reason)

    @contextmanager
    def over(self, processes: Sequence[BaseProcess], timeout: float) -> Iterator[None]:
        """Raise RuntimeError if one of them dies, or has died before; or after `timeout` seconds, if that is not 0."""
        self.processes, self.deadline = processes, time.monotonic() + (timeout or float("inf"))
        try:
            self(signal.SIGCHLD, None)
            if timeout and self.in_place:
                signal.setitimer(signal.ITIMER_REAL, timeout + 1)  # torch's own comes first, where it comes
            yield
        finally:
            self.processes = ()
            if self.in_place:
                signal.setitimer(signal.ITIMER_REAL, 0)


def _waits(frame: FrameType, late: bool) -> bool:
    """Whether the program waits for another process there, and may be interrupted: no lock would stay taken."""
    module, callers, place = frame.f_globals.get("__name__"), [], frame.f_back
    while place is not None and place.f_globals is not globals():
        callers.append(place.f_globals.get("__name__"))
        place = place.f_back
    if HANDING_OVER in (module, *callers):
        return late
    return module in WAITING or (module == "threading" and frame.f_code.co_name == "wait")


def _dead(processes: Sequence[BaseProcess]) -> str:
    """What became of the first one that is no more; empty when all live."""
    for process in processes:
        if not process.is_alive():
            code = process.exitcode or 0
            return f"process {process.pid} ended with {signal.Signals(-code).name if code < 0 else f'code {code}'}"
    return ""
