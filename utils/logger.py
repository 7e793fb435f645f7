"""Logger: scalars, pictures and text to every backend; the run folder's journal is the truth, the others are views."""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from utils.errors import StorageError
from utils.images import write_image
from utils.pictures import picture_grid

__all__ = ["Backend", "Journal", "Logger", "TensorBoard", "VisdomBoard"]


class Backend(Protocol):
    """A view of the run; what it does not draw it leaves out."""

    def scalars(self, phase: str, epoch: int, step: int, values: Mapping[str, float]) -> None: ...
    def images(self, name: str, step: int, images: Tensor) -> None: ...
    def text(self, name: str, step: int, text: str) -> None: ...
    def matrix(self, name: str, step: int, matrix: Any, labels: Sequence[str]) -> None: ...
    def close(self) -> None: ...


class Logger:
    """Hands everything on to its backends; has none on ranks other than 0."""

    def __init__(self, backends: Sequence[Backend] = ()):
        self.backends = list(backends)

    def scalars(self, phase: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """One row: the values of a phase (train, val or test) after `step` training steps."""
        for backend in self.backends:
            backend.scalars(phase, epoch, step, values)

    def images(self, name: str, step: int, images: Tensor) -> None:
        """Pictures [N, C, H, W] or [C, H, W], values in [0, 1]."""
        for backend in self.backends:
            backend.images(name, step, images)

    def text(self, name: str, step: int, text: str) -> None:
        for backend in self.backends:
            backend.text(name, step, text)

    def matrix(self, name: str, step: int, matrix: Any, labels: Sequence[str]) -> None:
        """A confusion matrix [C, C]: rows are the truth."""
        for backend in self.backends:
            backend.matrix(name, step, matrix, labels)

    def close(self) -> None:
        for backend in self.backends:
            backend.close()


class Journal:
    """log.jsonl, one JSON object a line, written before any other backend sees the row."""

    def __init__(self, path: Path, keep: int = 0):
        """`keep`: how many bytes belong to the state that is resumed; rows after it are cut off."""
        self.path, self.start = path, time.time()
        self.epoch = 0  # of pictures and texts to come
        try:
            self.stream = open(path, "ab", buffering=0)  # noqa: SIM115 - open as long as the run
        except OSError as error:
            raise self._failure(error) from error
        self.cut(keep)

    def cut(self, keep: int) -> None:
        """Forget what was written after the first `keep` bytes."""
        try:
            if self.stream.seek(0, os.SEEK_END) > keep:
                self.stream.truncate(keep)
                self.stream.seek(keep)
        except OSError as error:
            raise self._failure(error) from error

    def scalars(self, phase: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        self._write({"phase": phase, "epoch": epoch, "step": step, **values})

    def _write(self, row: dict[str, Any]) -> None:
        row = {"time": round(time.time(), 3), **row}
        # JSON has no word for a value that is not finite; null keeps the line readable for every reader.
        row = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        try:
            self.stream.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
        except OSError as error:
            raise self._failure(error) from error

    @staticmethod
    def rows(path: Path) -> list[dict[str, Any]]:
        """The rows of a journal, without a last one that was cut off; none where there is no journal."""
        rows = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def sync(self) -> int:
        """Make sure that the rows are on disk; how many bytes there are."""
        try:
            os.fsync(self.stream.fileno())
            return self.stream.seek(0, os.SEEK_END)
        except OSError as error:
            raise self._failure(error) from error

    def images(self, name: str, step: int, images: Tensor) -> None:
        """A file beside the journal, and its name in it."""
        stem = "samples" if name == "samples" else f"samples_{name}"
        file = f"{stem}_{step:06d}.png"
        write_image(self.path.with_name(file), picture_grid(images.detach().float().cpu().numpy()))
        self._write({"phase": "show", "epoch": self.epoch, "step": step, "name": name, "picture": file})

    def text(self, name: str, step: int, text: str) -> None:
        self._write({"phase": "show", "epoch": self.epoch, "step": step, "name": name, "text": text})

    def matrix(self, name: str, step: int, matrix: Any, labels: Sequence[str]) -> None:
        """Drawn at the end."""

    def close(self) -> None:
        self.stream.close()

    def _failure(self, error: OSError) -> StorageError:
        reason = error.strerror or str(error)
        return StorageError(
            f"{self.path}: cannot be written: {reason}; make room or check its permissions, then --resume"
        )


class TensorBoard:
    """Event files for TensorBoard, through tensorboardX."""

    def __init__(self, folder: Path, purge_step: int | None = None):
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=purge_step)

    def scalars(self, phase: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(f"{name}/{phase}", value, step)

    def images(self, name: str, step: int, images: Tensor) -> None:
        pictures = images if images.ndim == 4 else images[None]
        self.writer.add_images(name, pictures.detach().float().cpu().numpy(), step)

    def text(self, name: str, step: int, text: str) -> None:
        self.writer.add_text(name, text, step)

    def matrix(self, name: str, step: int, matrix: Any, labels: Sequence[str]) -> None:
        """A picture of it lies in the run folder."""

    def close(self) -> None:
        self.writer.close()


class VisdomBoard:
    """Live curves in a browser: train and val of a metric in one window."""

    def __init__(self, visualizer: Any):
        self.visualizer = visualizer

    def scalars(self, phase: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.visualizer.curve(name, phase, step, value)

    def images(self, name: str, step: int, images: Tensor) -> None:
        self.visualizer.images(name, images)

    def text(self, name: str, step: int, text: str) -> None:
        self.visualizer.log(text, win=name)

    def matrix(self, name: str, step: int, matrix: Any, labels: Sequence[str]) -> None:
        self.visualizer.heatmap(name, matrix, labels)

    def close(self) -> None:
        self.visualizer.close()
