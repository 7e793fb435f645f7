"""Whole processes: run, timed from outside, looked at while they run."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from benchmarks.rows import Row, Sample
from utils.sinks.journal import Journal

__all__ = ["ROOT", "Running", "answer", "ask", "python", "run", "started", "train_command"]

ROOT = Path(__file__).resolve().parent.parent
POLL = 0.005  # s between two looks
PATIENCE = 900  # s, for a process that measures


def python() -> str:
    """The interpreter of the project's own environment, if there is one: peers make imports slower for all."""
    own = ROOT / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def train_command(*flags: str) -> list[str]:
    """`python main.py train …` on the CPU, without pictures, and without curves unless a flag is about them."""
    quiet = [] if any("visdom" in flag for flag in flags) else ["--log.visdom=false"]
    return [python(), str(ROOT / "main.py"), "train", "--use-gpu=false", "--log.pictures=false", *quiet, *flags]


def ask(module: str, *arguments: str) -> list[Row]:
    """The rows that `python -m module FILE arguments…` writes into the file: measured in a process of its own.

    Raises RuntimeError, with its last words, when it fails.
    """
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "rows.json"
        command = [sys.executable, "-m", module, str(file), *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, cwd=ROOT
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"it took longer than {PATIENCE} s") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
            raise RuntimeError(f"it ended with code {done.returncode}: {last[:200]}")
        return [Row(**row) for row in json.loads(file.read_text())]


def answer(file: str, rows: Sequence[Row]) -> None:
    """Write what `ask` reads."""
    Path(file).write_text(json.dumps([asdict(row) for row in rows]))


def run(command: Sequence[str], folder: Path | None = None) -> Sample:
    """What the process and its children cost from start to end; raises RuntimeError when it fails."""
    with started(command, folder) as running:
        status, usage = os.wait4(running.process.pid, 0)[1:]
        running.process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - running.begin
        if running.process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {running.process.returncode}: {running.said()}")
        return Sample(usage.ru_utime + usage.ru_stime, wall)


class Running:
    """A process in a folder; how far its journal is, what it costs, what it holds (Linux's /proc)."""

    def __init__(self, process: subprocess.Popen, folder: Path, begin: float) -> None:
        self.process, self.folder, self.begin = process, folder, begin
        self.proc = Path("/proc") / str(process.pid)

    def said(self) -> str:
        """The last line on its stderr."""
        return ((self.folder / "stderr").read_text(errors="replace").strip().splitlines() or ["nothing said"])[-1]

    def cost(self) -> Sample:
        """Seconds since its start."""
        fields = (self.proc / "stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])  # user and system, of all threads
        return Sample(ticks / os.sysconf("SC_CLK_TCK"), time.perf_counter() - self.begin)

    def megabytes(self) -> float:
        """Memory that is resident now."""
        found = re.search(r"VmRSS:\s+(\d+) kB", (self.proc / "status").read_text())
        return int(found[1]) / 1024 if found else 0.0

    def open_files(self) -> int:
        """File descriptors, sockets included."""
        return len(os.listdir(self.proc / "fd"))

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Raises RuntimeError when the process ends first."""
        while not condition():
            if self.process.poll() is not None:
                raise RuntimeError(f"ended with {self.process.returncode}: {self.said()}")
            time.sleep(POLL)

    def journal(self) -> Path | None:
        """The journal of its run, once there is one with a row."""
        return next((p for p in self.folder.glob("checkpoints/*/log.jsonl") if p.stat().st_size), None)

    def last_step(self) -> int:
        """The step of its journal's last row."""
        path = self.journal()
        rows = Journal.read(path) if path else []
        return rows[-1]["step"] if rows else 0


@contextmanager
def started(command: Sequence[str], folder: Path | None = None) -> Iterator[Running]:
    """Run a process on one thread in an empty folder, or in the one that is given; it does not outlive the block."""
    with tempfile.TemporaryDirectory() as empty:
        place = folder or Path(empty)
        with open(place / "stderr", "wb") as errors:
            process = subprocess.Popen(
                command,
                cwd=place,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        try:
            yield Running(process, place, time.perf_counter())
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
