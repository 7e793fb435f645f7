"""Trainings as processes of their own, forked from one that has read torch already: a third of a second each."""

import contextlib
import io
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.faults import campaign
from tests.faults.campaign import Violation, require

HANG = 120.0  # s: nothing here takes more than a few
POLL = 0.002  # s

Hook = Callable[[], object]  # what is done in the child before it begins


class Child:
    """`python main.py …` in a folder, in a session of its own, so that what it leaves behind can be found."""

    def __init__(self, folder: Path, arguments: Sequence[str], hooks: Sequence[Hook] = ()):
        self.folder, self.code = folder, None
        folder.mkdir(parents=True, exist_ok=True)
        self.words = {1: "", 2: ""}  # what was read of its stdout and stderr
        pipes = {number: os.pipe() for number in self.words}  # not files: some trials fill the disk
        self.pid = os.fork()
        if self.pid == 0:
            _be_child(folder, [pipes[number][1] for number in (1, 2)], arguments, hooks)
        self.ends = {number: reading for number, (reading, _) in pipes.items()}
        for reading, writing in pipes.values():
            os.close(writing)
            os.set_blocking(reading, False)

    def poll(self) -> int | None:
        """The exit code as subprocess gives it, None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def wait(self, seconds: float = HANG) -> int:
        """Its exit code. Raises Violation when it hangs."""
        end = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > end:
                self.kill()
                raise Violation(f"it hung for {seconds:.0f} s: {self.out()[-300:]}")
            time.sleep(POLL)
        return self.code  # type: ignore[return-value]

    def send(self, number: int, group: bool = False) -> None:
        """A signal, if it still runs; to every process of the session as a terminal does, or to it alone."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is dead."""
        self.send(signal.SIGKILL)
        while self.poll() is None:
            time.sleep(POLL)

    def out(self) -> str:
        return self._read(1)

    def err(self) -> str:
        return self._read(2)

    def _read(self, number: int) -> str:
        """All it has written so far; far less than what a pipe holds."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.ends[number], 1 << 16):
                self.words[number] += data.decode(errors="replace")
        return self.words[number]

    def __del__(self):
        for reading in getattr(self, "ends", {}).values():
            os.close(reading)

    def others(self) -> list[int]:
        """The processes of its session besides itself: what it started."""
        return [pid for pid, session, state in processes() if session == self.pid != pid and state != "Z"]

    def check_orphans(self, seconds: float = 60) -> None:
        """Raises Violation when processes that it started outlive it for long."""
        end = time.monotonic() + seconds
        while left := self.others():
            if time.monotonic() > end:
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
                raise Violation(f"processes that it started outlived it: {left}")
            time.sleep(0.02)


def processes() -> list[tuple[int, int, str]]:
    """(pid, session, state) of every process there is."""
    found = []
    for pid in (name for name in os.listdir("/proc") if name.isdecimal()):
        with contextlib.suppress(OSError):
            fields = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()
            found.append((int(pid), int(fields[3]), fields[0]))
    return found


def run(folder: Path, arguments: Sequence[str], hooks: Sequence[Hook] = ()) -> Child:
    """A child that has come to its end."""
    child = Child(folder, arguments, hooks)
    child.wait()
    return child


def check_sentence(child: Child, code: int, *parts: str, lines: int = 1) -> None:
    """Raises Violation unless the child ended with this code and said why in so many lines, with these parts."""
    err = child.err()
    require(child.code == code, f"exit code {child.code}, not {code}: {(err or child.out())[-400:]}")
    require("Traceback" not in err + child.out(), f"a traceback: {err[-400:]}")
    require(len(err.strip().splitlines()) == lines, f"not {lines} line on stderr: {err[-400:]!r}")
    for part in parts:
        require(part in err, f"'{part}' is not in: {err}")


def forked(work: Callable[[], object], words: Path | None = None) -> int:
    """Do some work in a forked process; its pid. After an exception it ends with 1 and a traceback on stderr.

    `words`: the file that gets what it says.
    """
    pid = os.fork()
    if pid == 0:
        try:
            if words:
                sys.stdout = sys.stderr = os.fdopen(os.open(words, os.O_WRONLY | os.O_CREAT), "w")
            work()
        except BaseException:
            traceback.print_exc()
            _leave(1)
        finally:
            _leave(0)
    return pid


def reap(pid: int) -> int:
    """Wait for the end of such a process; its exit code as subprocess gives it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def warm(folder: Path, *arguments: str) -> None:
    """Run a command in this very process, so that those forked from it find all modules read and all caches filled.

    Only modules are read where a GPU may be used: torch looks for it when it first trains, and not again after a fork.
    """
    import main

    if campaign.DEVICE:
        import trainer.run.session  # noqa: F401

        return
    before, out, err = os.getcwd(), io.StringIO(), io.StringIO()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main.main(list(arguments))
    finally:
        os.chdir(before)
    if code:
        raise RuntimeError(f"{' '.join(arguments)}: exit code {code}: {err.getvalue()}")
    end = time.monotonic() + 5  # a thread that has ended may be there for a moment
    while (threads := len(os.listdir("/proc/self/task"))) > 1 and time.monotonic() < end:
        time.sleep(0.01)
    if threads > 1:
        raise RuntimeError(f"{threads} threads: a process with threads cannot be forked safely")


def _be_child(folder: Path, ends: Sequence[int], arguments: Sequence[str], hooks: Sequence[Hook]) -> None:
    """What a fresh interpreter would do from here on; never returns."""
    code: object = 1
    try:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it would be deaf to it
        os.chdir(folder)
        for number, end in enumerate([os.open(os.devnull, os.O_RDONLY), *ends]):
            os.dup2(end, number)
        sys.stdin, sys.stdout, sys.stderr = map(os.fdopen, range(3), "rww")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        import main

        for hook in hooks:
            hook()
        code = main.main(list(arguments))
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:  # a second Ctrl-C may come within these lines, and must not get to the parent's code
        _leave(code)


def _leave(code: object) -> None:
    """Without what the interpreter does at its end: the objects of the parent are not this process's to tidy."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code if isinstance(code, int) else 1)
