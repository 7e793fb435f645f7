"""The book's look into a running training: touch a file, and it stops in a debugger."""

import bdb
import getpass
import os
import signal
import sys
from pathlib import Path
from typing import Any

from utils import dist
from utils.optional import debugger

__all__ = ["Debugger"]

OWN = "debug"  # the file in the run folder


class Debugger:
    """Opens ipdb, or pdb, while one of its files is there: `debug` in the run folder, and the book's /tmp/debug.

    Only on a terminal, and only for a file of this user's: in /tmp anybody can make one. Of several processes the first
    one stops, and the others wait.
    """

    def __init__(self, folder: Path | None, file: str):
        self.own = None if folder is None else str(folder / OWN)
        self.shared = (f"{file}-{_user()}", file)
        self.terminal = False
        self.told: set[str] = set()  # sentences that were said; each is said once
        self.opened = 0

    def begin(self) -> None:
        """See whether there is a terminal: the first process has it, and all must know."""
        self.terminal = dist.broadcast(sys.stdin is not None and sys.stdin.isatty())

    def look(self, trainer: Any) -> None:
        """Open the debugger if it is asked for: `c` goes on, `q` saves and ends. Every rank must call it."""
        if not self.terminal:
            if self.own is not None and os.path.exists(self.own):
                self._tell(trainer, f"{self.own} is there, but a debugger needs a terminal, which this run has not")
            return
        if file := dist.broadcast(dist.on_main(self._file, trainer)):
            self.opened += 1
            with dist.others_wait(f"debugger {self.opened}"):
                dist.on_main(self._open, trainer, file)
            if trainer.control.signals.stop or dist.world_size() > 1:
                trainer.handle_signals()

    def _open(self, trainer: Any, file: str) -> None:
        trainer.console.end()
        trainer.console.say(
            f"{file} is there: a debugger; `trainer.state.task` is the task, c continues, q saves and ends"
        )
        try:
            debugger().set_trace()
            trainer.console.say("the training goes on")
        except (bdb.BdbQuit, SystemExit):  # newer versions of pdb end the program
            sys.settrace(None)
            trainer.control.signals.stop = signal.SIGINT

    def _file(self, trainer: Any) -> str:
        """Return the file that asks for the debugger; empty if none does."""
        for file in filter(None, (self.own, *self.shared)):
            owner = _owner(file)
            if owner is not None and owner == _me():
                return file
            if owner is not None:
                advice = f"touch {self.own or self.shared[0]}"
                self._tell(trainer, f"{file} belongs to another user, and opens no debugger here; {advice}")
        return ""

    def _tell(self, trainer: Any, sentence: str) -> None:
        if sentence not in self.told:
            self.told.add(sentence)
            trainer.console.say(sentence)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        return str(_me())


def _me() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _owner(file: str) -> int | None:
    """Return the number of the user that a file belongs to, 0 where files have no owner; None if it is not there."""
    try:
        found = os.stat(file).st_uid
    except OSError:
        return None
    return found if hasattr(os, "getuid") else 0
