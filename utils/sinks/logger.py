"""Logger: scalars, pictures and text to every backend; the run folder's journal is the truth, the others are views."""

import errno
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from utils.errors import StorageError
from utils.figures.curves import picture_grid
from utils.runs.reading import NO_METRICS, PHASES, read_rows

if TYPE_CHECKING:
    from torch import Tensor

    from utils.sinks.visdom_windows import Windows
    from utils.visualize import Visualizer

__all__ = ["Backend", "Journal", "Logger", "VisdomBoard"]

encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode  # json.dumps would make an encoder each time


class Backend(Protocol):
    """A view of the run; what it does not show it inherits."""

    def scalars(self, phase: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        return

    def images(self, name: str, step: int, images: "Tensor") -> None:
        return

    def text(self, name: str, step: int, text: str) -> None:
        return

    def matrix(self, name: str, step: int, matrix: Any, labels: Sequence[str]) -> None:
        return

    def close(self) -> None:
        return


class Logger:
    """Hands everything on to its backends; has none on ranks other than 0."""

    def __init__(self, backends: Sequence[Backend] = ()):
        self.backends = list(backends)

    def scalars(self, phase: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """One row: the values of a phase (train, val or test) after `step` training steps."""
        for backend in self.backends:
            backend.scalars(phase, epoch, step, values)

    def images(self, name: str, step: int, images: "Tensor") -> None:
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


class Journal(Backend):
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
        try:
            line = encode(row)
        except ValueError:  # JSON has no word for a value that is not finite; null keeps the line readable for all
            line = encode({k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()})
        whole = (line + "\n").encode()
        try:
            if (written := self.stream.write(whole)) < len(whole):  # on a half the next row would be written
                self.cut(self.size() - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise self._failure(error) from error

    @staticmethod
    def rows(path: Path) -> list[dict[str, Any]]:
        """The rows of a journal but for damaged ones; none where there is no journal."""
        return list(read_rows(path, (*PHASES, "show")))

    def size(self) -> int:
        """Bytes written so far."""
        return os.fstat(self.stream.fileno()).st_size

    def sync(self) -> None:
        """Make sure that the rows are on disk."""
        try:
            os.fsync(self.stream.fileno())
        except OSError as error:
            raise self._failure(error) from error

    def images(self, name: str, step: int, images: "Tensor") -> None:
        """A file beside the journal, and its name in it."""
        from utils.images import write_image

        stem = "samples" if name == "samples" else f"samples_{name}"
        file = f"{stem}_{step:06d}.png"
        write_image(self.path.with_name(file), picture_grid(images.detach().float().cpu().numpy()))
        self._write({"phase": "show", "epoch": self.epoch, "step": step, "name": name, "picture": file})

    def text(self, name: str, step: int, text: str) -> None:
        self._write({"phase": "show", "epoch": self.epoch, "step": step, "name": name, "text": text})

    def close(self) -> None:
        self.stream.close()

    def _failure(self, error: OSError) -> StorageError:
        reason = error.strerror or str(error)
        return StorageError(
            f"{self.path}: cannot be written: {reason}; make room or check its permissions, then --resume"
        )


class VisdomBoard:
    """Live curves in a browser: train and val of a metric in one window, a line of text for each validation."""

    def __init__(self, visualizer: "Visualizer"):
        self.visualizer = visualizer

    def scalars(self, phase: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        self.visualizer.row("curves", fill_row, phase, epoch, step, values, time.time())

    def images(self, name: str, step: int, images: "Tensor") -> None:
        self.visualizer.images(name, images)

    def text(self, name: str, step: int, text: str) -> None:
        self.visualizer.log(f"step {step}: {text}", win=name)

    def matrix(self, name: str, step: int, matrix: Any, labels: Sequence[str]) -> None:
        self.visualizer.heatmap(name, matrix, labels)

    def histograms(self, name: str, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Of the gradients the sizes: they differ by powers of ten between layers."""
        self.visualizer.spread(name, values, logarithmic=name == "gradients")

    def replay(self, journal: Path) -> None:
        """Show what a journal holds, with the pictures that lie beside it."""
        pictures: dict[str, str] = {}
        for row in Journal.rows(journal):
            name = str(row.get("name"))
            if "picture" in row:
                pictures[name] = str(row["picture"])
            elif "text" in row:
                self.visualizer.log(f"step {row['step']}: {row['text']}", name, row["time"])
            elif row["phase"] != "show":
                values = {name: value for name, value in row.items() if name not in NO_METRICS}
                place = row["phase"], row["epoch"], row["step"]
                self.visualizer.row("curves", fill_row, *place, values, row["time"])
        for name, file in pictures.items():
            self.picture(name, journal.parent / Path(file).name)

    def pictures(self, folder: Path) -> None:
        """Show what the end of a run has drawn, but for what there are windows of."""
        for name in ("predictions", "samples batch"):
            self.picture(name, folder / f"{name.replace(' ', '_')}.png")

    def picture(self, name: str, file: Path) -> None:
        """Show the picture in a PNG file, if it is there."""
        from PIL import Image

        if file.is_file():
            with self.visualizer.told(name), Image.open(file, formats=["PNG"]) as image:
                self.visualizer.images(name, np.asarray(image.convert("RGB")).transpose(2, 0, 1))

    def close(self) -> None:
        self.visualizer.close()


def fill_row(
    windows: "Windows",
    phase: str,
    epoch: int,
    step: int,
    values: Mapping[str, float | None],
    when: float,
) -> None:
    """Add a row of the journal, of the time `when` in s since 1970, to the windows it belongs to."""
    for name, value in values.items():
        # The rates of several networks in one window.
        rate = name.removeprefix("lr_") if name == "lr" or name.startswith("lr_") else ""
        pane = windows.curves("learning rate" if rate else name)
        pane.add(rate or phase, step, math.nan if value is None else value)
    if phase != "train" and values:
        told = time.strftime("[%m-%d %H:%M:%S]", time.localtime(when))
        shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items() if value is not None)
        windows.lines("log").add(f"{told} epoch {epoch + 1}, step {step}, {phase}: {shown}")
