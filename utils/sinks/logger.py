"""Logger: passes rows, pictures and texts to every sink; the journal is the truth, the others are views of it."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = ["Logger", "MemoryJournal", "Sink"]


class Sink:
    """A view of the run; a method that it does not override shows nothing.

    `shows` names outputs that are costly to make.
    """

    shows: frozenset[str] = frozenset()  # any of "histograms", "pictures" (files) and "events" (of TensorBoard)

    def scalars(self, phase: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Show a row: the values of a phase (train, val or test) after `step` training steps."""

    def images(self, name: str, step: int, images: "Tensor") -> None:
        """Show pictures [N, C, H, W] or [C, H, W], values in [0, 1]."""

    def text(self, name: str, step: int, text: str) -> None:
        """Show a text."""

    def matrix(self, name: str, step: int, matrix: Any, labels: Sequence[str]) -> None:
        """Show a confusion matrix [C, C]: rows are the truth."""

    def histograms(self, name: str, step: int, values: "Mapping[str, np.ndarray]") -> None:
        """Show the values of each tensor; they must not change afterwards."""

    def picture(self, name: str, file: Path) -> None:
        """Show the picture in a PNG file, if it is there."""

    def event(self, write: Callable[[Any], object]) -> None:
        """Call `write` with a tensorboardX.SummaryWriter, later and in another thread."""

    def close(self) -> None:
        """Show the rest, and end."""


class MemoryJournal(Sink):
    """The rows of a run without a folder, in a list."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.epoch = 0  # the epoch of the next texts

    def scalars(self, phase: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        self._add({"phase": phase, "epoch": epoch, "step": step, **values})

    def text(self, name: str, step: int, text: str) -> None:
        self._add({"phase": "show", "epoch": self.epoch, "step": step, "name": name, "text": text})

    def _add(self, row: dict[str, Any]) -> None:
        self.rows.append({"time": round(time.time(), 3), **row})

    def size(self) -> int:
        """Return the size, in the journal's own unit."""
        return len(self.rows)

    def cut(self, keep: int) -> None:
        """Remove everything after a size."""
        del self.rows[keep:]


class Logger(Sink):
    """Passes everything to its sinks, the journal first; has none on ranks other than 0."""

    def __init__(self, sinks: Sequence[Sink] = (), journal: MemoryJournal | None = None):
        self.journal = journal
        self.sinks: list[Sink] = [*sinks] if journal is None else [journal, *sinks]

    def size(self) -> int:
        """Return the journal's size, in its own unit."""
        return self.journal.size() if self.journal is not None else 0

    def cut(self, keep: int) -> None:
        """Have the journal remove everything after a size."""
        if self.journal is not None:
            self.journal.cut(keep)

    def history(self) -> list[dict[str, Any]]:
        """Return the rows of a journal in memory; none for one on disk, which has a file for them."""
        return self.journal.rows if self.journal is not None else []

    def validation(
        self, epoch: int, step: int, numbers: Mapping[str, float], extras: Mapping[str, Any], labels: Sequence[str]
    ) -> None:
        """Show a validation: its row, if it has numbers, and matrices."""
        if self.journal is not None:
            self.journal.epoch = epoch  # of pictures and texts that follow
        if numbers:
            self.scalars("val", epoch, step, numbers)
        for name, matrix in extras.items():
            self.matrix(name, step, matrix, labels)

    def note(self, epoch: int, step: int, name: str, text: str) -> None:
        """Show a text that came after a step."""
        if self.journal is not None:
            self.journal.epoch = epoch
        self.text(name, step, text)

    def shown(self, kind: str) -> bool:
        """Return whether any sink shows this costly kind of output."""
        return any(kind in sink.shows for sink in self.sinks)

    def scalars(self, phase: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        for sink in self.sinks:
            sink.scalars(phase, epoch, step, values)

    def images(self, name: str, step: int, images: "Tensor") -> None:
        for sink in self.sinks:
            sink.images(name, step, images)

    def text(self, name: str, step: int, text: str) -> None:
        for sink in self.sinks:
            sink.text(name, step, text)

    def matrix(self, name: str, step: int, matrix: Any, labels: Sequence[str]) -> None:
        for sink in self.sinks:
            sink.matrix(name, step, matrix, labels)

    def histograms(self, name: str, step: int, values: "Mapping[str, np.ndarray]") -> None:
        for sink in self.sinks:
            sink.histograms(name, step, values)

    def picture(self, name: str, file: Path) -> None:
        for sink in self.sinks:
            sink.picture(name, file)

    def event(self, write: Callable[[Any], object]) -> None:
        for sink in self.sinks:
            sink.event(write)

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()
