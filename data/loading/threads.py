"""Threads that load data in the training process."""

import multiprocessing
import threading
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from multiprocessing.pool import ThreadPool
from typing import Any

import torch

from utils.errors import WorkerError

__all__ = ["Threads"]


class Threads:
    """Threads that read ahead in the training process, one batch each; no data is copied between processes."""

    def __init__(self, count: int, timeout: float):
        """Start the threads. `timeout`: seconds without a batch after which they count as frozen; 0: never."""
        self.pool, self.ahead, self.timeout = ThreadPool(count), 2 * count, timeout or None
        self._use_one_core_each(count)

    def batches(self, read: Callable[[Any], Any], wanted: Iterator[Any]) -> Iterator[Any]:
        """Yield `read(key)` for each wanted key, in order.

        Raises the errors of `read`, and WorkerError when no batch came in time.
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
        """Let each thread use one core; otherwise each starts as many of torch's own threads as there are cores."""
        before, together = torch.get_num_threads(), threading.Barrier(count)

        def limit() -> None:
            torch.get_num_threads()  # a thread's first call of torch copies the last setting
            torch.set_num_threads(1)
            together.wait()  # otherwise one thread could take two of these calls

        for done in [self.pool.apply_async(limit) for _ in range(count)]:
            done.get()
        torch.set_num_threads(before)

    def close(self) -> None:
        """End the threads, without waiting for a frozen one."""
        self.pool.terminate()
