"""Child processes, a few at a time, that end with their parent: each watches a pipe that only the parent holds."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Protocol

__all__ = ["Pool", "Process", "end_with_parent", "visible_gpus"]

WATCHED = "DEEPTRAIN_PARENT"  # set for a process whose stdin ends with its parent
PERIOD = 0.05  # s between two looks at the children
MAIN = Path(__file__).parent.parent.parent / "main.py"


def end_with_parent() -> None:
    """Ask this process to stop, as SIGTERM does, once its parent is gone; called in a child."""
    if not os.environ.pop(WATCHED, ""):
        return

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 1024):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="watch parent", daemon=True).start()


class Process:
    """A child process; its output goes to a file."""

    def __init__(self, arguments: Sequence[str], output: Path, environment: Mapping[str, str]):
        """Start `python main.py …`, in a session of its own, so that a terminal's Ctrl-C reaches the parent alone."""
        read, self._write = os.pipe()
        try:
            with open(output, "ab") as file:
                self.process = subprocess.Popen(
                    [sys.executable, str(MAIN), *arguments],
                    stdin=read,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **environment, WATCHED: "1"},
                    start_new_session=True,
                )
        finally:
            os.close(read)

    def send(self, number: int) -> None:
        """Send a signal, if the process still runs."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def poll(self) -> int | None:
        """Return the exit code, 128 + the signal's number for a killed process; None while it runs."""
        code = self.process.poll()
        if code is not None and self._write >= 0:
            os.close(self._write)
            self._write = -1
        return code if code is None or code >= 0 else 128 - code


class Running(Protocol):
    """A child that was started, here or on another machine."""

    def send(self, number: int) -> None:
        """Send a signal, if the process still runs."""

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""


class Pool:
    """At most `jobs` children at a time, which share the processors and the GPUs; signals are passed on to them."""

    def __init__(self, jobs: int, begin: Callable[[Sequence[str], Path, Mapping[str, str]], Running] = Process):
        """Make an empty pool; `begin` starts a child, by default on this machine."""
        self.jobs, self.running, self.stopped = jobs, dict[int, tuple[str, Running]](), 0
        self.begin, self.gpus = begin, visible_gpus() if jobs > 1 else []

    def free(self) -> bool:
        """Return whether another child may start."""
        return len(self.running) < self.jobs and not self.stopped

    def start(self, name: str, arguments: Sequence[str], output: Path) -> None:
        """Start a child in a free place."""
        place = next(place for place in range(self.jobs) if place not in self.running)
        self.running[place] = name, self.begin(arguments, output, self._share(place))

    def ended(self) -> Iterator[tuple[str, int]]:
        """Yield the name and the exit code of each child that has ended; waits a moment."""
        time.sleep(PERIOD)
        for place, (name, process) in list(self.running.items()):
            if (code := process.poll()) is not None:
                del self.running[place]
                yield name, code

    def stop(self, name: str) -> None:
        """Ask one child to save and stop."""
        for other, process in self.running.values():
            if other == name:
                process.send(signal.SIGTERM)

    @contextmanager
    def passing_signals_on(self, say: Callable[[str], None]) -> Iterator[None]:
        """Pass SIGINT, SIGTERM and SIGHUP on to the children, each of which saves and stops; a second one ends them."""

        def note(number: int, frame: FrameType | None) -> None:
            if not self.stopped and self.running:
                say(f"stopping: {len(self.running)} running save and end")
            self.stopped = self.stopped or number
            for _, process in self.running.values():
                process.send(number)

        numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
        numbers = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _share(self, place: int) -> dict[str, str]:
        """Return the environment of a child: its share of the threads, and its GPU where there are several."""
        share: dict[str, str] = {}
        if self.jobs > 1 and "OMP_NUM_THREADS" not in os.environ:
            share["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // self.jobs))
        if len(self.gpus) > 1:
            share["CUDA_VISIBLE_DEVICES"] = self.gpus[place % len(self.gpus)]
        return share


def visible_gpus() -> list[str]:
    """Return the numbers of the GPUs that this process may use, without importing torch."""
    if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in chosen.split(",") if name]
    with suppress(OSError):
        return list(map(str, range(len(os.listdir("/proc/driver/nvidia/gpus")))))
    return []
