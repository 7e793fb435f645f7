"""Live curves of a run in a browser, through visdom."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.runs.reading import NO_METRICS
from utils.sinks.journal import Journal
from utils.sinks.logger import Sink

if TYPE_CHECKING:
    from torch import Tensor

    from utils.sinks.visdom_windows import Windows
    from utils.visualize import Visualizer

__all__ = ["VisdomBoard"]


class VisdomBoard(Sink):
    """Live curves in a browser: train and val of a metric in one window, a line of text for each validation."""

    shows = frozenset({"histograms", "pictures"})

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
        """Show the histograms; for gradients those of their sizes, which differ by powers of ten between layers."""
        self.visualizer.spread(name, values, logarithmic=name == "gradients")

    def replay(self, journal: Path) -> None:
        """Show a journal's rows, and the pictures beside it."""
        pictures: dict[str, str] = {}
        for row in Journal.read(journal):
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

    def picture(self, name: str, file: Path) -> None:
        """Show the picture in a PNG file, if it is there."""
        from PIL import Image

        if file.is_file():
            with self.visualizer.warning_on_error(name), Image.open(file, formats=["PNG"]) as image:
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
    """Add a row of the journal to its windows; `when` is its time in s since 1970."""
    if phase == "val" and values.get("log_loss") == values.get("loss"):  # a copy, unless labels are smoothed
        values = {name: value for name, value in values.items() if name != "log_loss"}
    for name, value in values.items():
        # the rates of several networks share one window
        rate = name.removeprefix("lr_") if name == "lr" or name.startswith("lr_") else ""
        of_class = name.removeprefix("iou_") if name.startswith("iou_") else ""  # one window for all classes
        pane = windows.curves("learning rate" if rate else "IoU of each class" if of_class else name)
        pane.add(rate or of_class or phase, step, math.nan if value is None else value)
    if phase != "train" and values:
        stamp = time.strftime("[%m-%d %H:%M:%S]", time.localtime(when))
        shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items() if value is not None)
        windows.lines("log").add(f"{stamp} epoch {epoch + 1}, step {step}, {phase}: {shown}")
