"""Ctrl-C and its kin: noted when they come, acted on at the next step."""

import os
import signal
import sys
import threading
import time
from types import FrameType

from utils import dist

__all__ = ["Signals", "Stopped"]

HANGUP = getattr(signal, "SIGHUP", None)  # the terminal is gone; Windows has none
AGREE = 3.0  # s between two agreements of ranks
TWICE = 2.0  # s in which a second signal is the same one for several ranks
STOPPING = (signal.SIGINT, signal.SIGTERM, HANGUP)


class Stopped(Exception):
    """The run was asked to stop and has saved; `exit_code` is 128 + the signal's number."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class Pace:
    """The steps after which ranks agree, a few seconds apart: a message each step would cost too much."""

    def __init__(self) -> None:
        self.agreed, self.since, self.next = -1, 0.0, 0  # step and time of the last agreement, the next step

    def agree(self, step: int, *flags: int) -> list[int]:
        """Return the largest value of each flag on any rank. All ranks call it after the same step."""
        now = time.monotonic()
        taken = step - self.agreed  # a resumed run has no pace yet: its steps were taken by another process
        steps = 1 if self.agreed < 0 else min(int(taken / max(now - self.since, 1e-3) * AGREE), 8 * taken)
        *found, slowest = dist.largest(*flags, -max(1, steps))
        self.agreed, self.since, self.next = step, now, step - slowest
        return found


class Signals:
    """SIGINT, SIGTERM and SIGHUP stop after the next save, SIGUSR1 only saves; a second one ends the process at once.

    In an interactive session it raises KeyboardInterrupt. A second SIGHUP does not count, as system and shell may both
    send it; under nohup it means nothing.
    """

    def __init__(self) -> None:
        self.steps, self.batches = Pace(), Pace()  # of the training, of validations
        self.batch = 0  # of all validations
        self.stop = 0  # the number of the signal that asks to stop
        self.save = 0  # whether SIGUSR1 came
        self.noted = 0.0  # when it came
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Signals":
        self.stop = self.save = 0
        if threading.current_thread() is threading.main_thread():
            for number in (*STOPPING, getattr(signal, "SIGUSR1", None)):
                if number is not None and (number != HANGUP or signal.getsignal(number) != signal.SIG_IGN):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        ending = self.stop and dist.world_size() > 1  # its launcher ends the others as soon as one has ended
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if ending else handler)  # type: ignore[arg-type]
        if ending and kind is not None and not issubclass(kind, Stopped):
            signal.signal(self.stop, signal.SIG_DFL)
            os.kill(os.getpid(), self.stop)  # another one was lost, and tells it: no rank is left to save with

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number not in STOPPING:
            self.save = 1
        elif self.stop and dist.world_size() > 1 and time.monotonic() - self.noted < TWICE:
            return  # from the launcher and from the system, as when a job is cancelled
        elif self.stop and number != HANGUP:
            if hasattr(sys, "ps1") or "ipykernel" in sys.modules:  # a notebook would lose everything in its memory
                raise KeyboardInterrupt
            os._exit(128 + number)  # the files on disk are whole at any moment, and nothing more needs an orderly end
        else:
            self.stop, self.noted = self.stop or number, time.monotonic()

    def raise_if_stopping(self) -> None:
        """Raises Stopped, if asked to stop, within work that can be repeated; ranks call it equally often and agree."""
        self.batch += 1
        stop = self.stop
        if dist.world_size() > 1:
            stop = self.batches.agree(self.batch, stop)[0] if self.batch >= self.batches.next else 0
        if stop:
            raise Stopped(stop)

    def due(self, step: int) -> bool:
        """Return whether ranks agree after this step; one process always does, and several every few seconds."""
        return dist.world_size() == 1 or step >= self.steps.next

    def across_ranks(self, step: int) -> tuple[int, int]:
        """Return the stop signal that any rank has had (0: none), and whether any was asked to save since last time."""
        save, self.save = self.save, 0
        if dist.world_size() == 1:
            return self.stop, save
        stop, save = self.steps.agree(step, self.stop, save)
        return stop, save
