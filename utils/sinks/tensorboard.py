"""Event files for TensorBoard, written by tensorboardX in a separate thread."""

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.figures.grid import picture_grid
from utils.runs.reading import NO_METRICS, PHASES, read_last_rows
from utils.sinks.logger import Sink
from utils.terminal import show

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DryTensorBoard", "TensorBoard"]

PERIOD = 0.5  # s between two passes that write
FLUSH_PERIOD = 5.0  # s until TensorBoard can see a written row
MAX_WAIT = 60.0  # s, at most, that a save and the end of a run wait for the thread

Write = Callable[[Any], object]  # adds to a tensorboardX.SummaryWriter
WRONG = (ValueError, TypeError, AssertionError, RuntimeError, ImportError)  # of a value; the disk has others


class TensorBoard(Sink):
    """A sink that queues its output for a thread, because tensorboardX takes 35 µs a scalar.

    An output that cannot be written costs one warning line. If the files cannot be written any more, the run goes on
    without them.
    """

    shows = frozenset({"histograms", "events", "pictures"})

    def __init__(self, folder: Path, purge_step: int | None = None, warn: Callable[[str], None] = show):
        """Prepare the thread. `purge_step`: TensorBoard hides this step and later ones in earlier files."""
        self._folder, self._purge_step, self._warn = folder, purge_step, warn
        self._pending: deque[Write] = deque()
        self._stopping, self._due = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._owner = os.getpid()
        self._warned = False
        self._step = 0  # of the last row: that of a picture

    def scalars(self, phase: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        self._step = step
        self.event(_Row(time.time(), phase, step, values))

    def replay(self, journal: Path, step: int) -> None:
        """Write a journal's rows from that step on once more, because they were purged."""
        for row in read_last_rows(journal, step, (*PHASES, "show")):
            if "picture" in row:
                self.event(partial(_add_picture, row["name"], journal.with_name(row["picture"]), row["step"]))
            elif "text" in row:
                self.text(row["name"], row["step"], row["text"])
            elif row["phase"] != "show":
                values = {name: value for name, value in row.items() if name not in NO_METRICS}
                self.scalars(row["phase"], row["epoch"], row["step"], values)

    def images(self, name: str, step: int, images: "Tensor") -> None:
        pictures = images.detach().float().cpu().numpy().copy()
        self.event(lambda writer: writer.add_image(name, picture_grid(pictures), step))

    def picture(self, name: str, file: Path) -> None:
        self.event(partial(_add_picture, name, file, self._step))

    def text(self, name: str, step: int, text: str) -> None:
        self.event(lambda writer: writer.add_text(name, text.replace("\n", "  \n"), step))  # Markdown's end of line

    def histograms(self, name: str, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Write a histogram for each array; the arrays must not change afterwards."""
        for tag, array in values.items():
            finite = array[np.isfinite(array)]
            if finite.size:
                self.event(methodcaller("add_histogram", f"{name}/{tag}", finite, step))

    def event(self, write: Write) -> None:
        """Have the thread call `write` with a tensorboardX.SummaryWriter."""
        if os.getpid() != self._owner or self._stopping.is_set():
            return
        self._pending.append(write)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tensorboard", daemon=True)
            self._thread.start()

    def sync(self) -> None:
        """Wait until everything queued so far is on the disk, before the run is saved."""
        written = threading.Event()
        self.event(methodcaller("flush"))
        self.event(lambda writer: written.set())
        self._due.set()
        end = time.monotonic() + MAX_WAIT
        while not written.wait(0.05) and not self._stopping.is_set() and time.monotonic() < end:
            pass

    def close(self) -> None:
        """Write the rest, and end the thread."""
        self._stopping.set()
        self._due.set()
        if self._thread is not None and os.getpid() == self._owner:
            self._thread.join(MAX_WAIT)

    def _run(self) -> None:
        self._due.wait(PERIOD)  # the run has just begun, and has other work
        try:
            writer = _open(self._folder, self._purge_step)
            flushed = time.monotonic()
            while not self._stopping.is_set():
                self._due.wait(PERIOD)
                self._due.clear()
                self._write(writer)
                if time.monotonic() > flushed + FLUSH_PERIOD:
                    writer.flush()
                    flushed = time.monotonic()
            self._write(writer)
            writer.close()
        except Exception as error:  # the journal has it all
            self._stopping.set()
            self._pending.clear()
            self._warn(f"{self._folder}: no more event files for TensorBoard: {' '.join(str(error).split())}")

    def _write(self, writer: Any) -> None:
        for _ in range(len(self._pending)):
            write = self._pending.popleft()
            try:
                write(writer)
            except WRONG as error:
                if not self._warned:
                    self._warned = True
                    self._warn(f"tensorboard: not everything is shown: {' '.join(str(error).split())}")


class DryTensorBoard(TensorBoard):
    """Writes each output at once, so that an error is told while the code that asked for the output still runs."""

    _writer: Any = None

    def event(self, write: Write) -> None:
        """Call `write`, and tell its error."""
        self._writer = self._writer or _open(self._folder, None)
        try:
            write(self._writer)
        except WRONG as error:
            self._warn(f"tensorboard: not everything is shown: {' '.join(str(error).split())}")

    def sync(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


class _Row:
    """The scalars of a row in one event, instead of one event each."""

    __slots__ = ("phase", "step", "time", "values")

    def __init__(self, when: float, phase: str, step: int, values: Mapping[str, float]):
        self.time, self.phase, self.step, self.values = when, phase, step, values

    def __call__(self, writer: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        event = Event(wall_time=self.time, step=self.step)
        for name, value in self.values.items():
            event.summary.value.add(tag=f"{name}/{self.phase}", simple_value=math.nan if value is None else value)
        writer.file_writer.event_writer.add_event(event)


def _add_picture(name: str, file: Path, step: int, writer: Any) -> None:
    from PIL import Image

    if file.is_file():
        with Image.open(file, formats=["PNG"]) as image:
            writer.add_image(name, np.asarray(image.convert("RGB")).transpose(2, 0, 1), step)


def _open(folder: Path, purge_step: int | None) -> Any:
    """Return a SummaryWriter without tensorboardX's own queue and thread; its `flush` would not wait for that queue."""
    from tensorboardX import SummaryWriter
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.writer import FileWriter

    class Events(EventsWriter):
        add_event = EventsWriter.write_event

        def get_logdir(self) -> str:
            return str(folder)

    class Files(FileWriter):
        def __init__(self, **options: Any) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            # Names hold only the second. A run that is resumed at once needs another name, which sorts behind the
            # first.
            suffix = f".{purge_step or 0:09d}.{os.getpid()}"
            self.event_writer = Events(str(folder / "events"), suffix)
            self._default_metadata: dict[str, Any] = {}

    class Writer(SummaryWriter):
        file_writer: Any
        all_writers: Any

        def _get_file_writer(self) -> Any:
            if self.file_writer is None:
                self.file_writer = Files()
                self.all_writers = {str(folder): self.file_writer}
            return self.file_writer

    writer = Writer(str(folder))
    if purge_step is not None:
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        start = SessionLog(status=SessionLog.START)
        writer.file_writer.add_event(Event(step=purge_step, file_version="brain.Event:2"))
        writer.file_writer.add_event(Event(step=purge_step, session_log=start))
    return writer
