"""Pictures in rows, with words below each, as one PNG."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils.figures.curves import DPI, write_figure
from utils.figures.fonts import fonts_for

__all__ = ["Row", "draw_gallery"]

COLUMNS = 8
CELL, GAP, LINE, HEAD = 1.2, 0.12, 0.15, 0.42  # inches: a picture's side, the gap, a line of words, a title
MAX_LINE_WIDTH = 18  # characters of a line below a picture; a Chinese one takes two


class Row(NamedTuple):
    """A titled part of a gallery: pictures uint8 [C, H, W], C = 1 or 3, and the lines below each."""

    title: str
    pictures: Sequence[np.ndarray]
    captions: Sequence[Sequence[str]]


def draw_gallery(title: str, rows: Sequence[Row], target: Path) -> None:
    """Draw rows below one another into a PNG; a character that no font here has becomes a question mark.

    Raises StorageError when the picture cannot be written.
    """
    from matplotlib.figure import Figure

    words = title + "".join(row.title + "".join(map("".join, row.captions)) for row in rows)
    family, missing = fonts_for(words)
    readable = str.maketrans(dict.fromkeys(missing, "?"))
    columns = min(COLUMNS, max(4, *(len(row.pictures) for row in rows)))
    width = columns * (CELL + GAP) + GAP
    height = HEAD + sum(_height(row) for row in rows)
    figure = Figure((width, height), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), aspect="equal")
    axes.axis("off")
    style: dict[str, Any] = {"parse_math": False, "family": family}
    axes.text(GAP, 0.24, title.translate(readable), va="center", fontsize=13, **style)
    top = HEAD
    for row in rows:
        axes.text(GAP, top + 0.16, row.title.translate(readable), va="center", fontsize=10.5, **style)
        for number, (picture, lines) in enumerate(zip(row.pictures, row.captions, strict=True)):
            left = GAP + number % columns * (CELL + GAP)
            down = top + 0.34 + number // columns * (CELL + LINE * len(lines) + GAP)
            axes.imshow(_rgb(picture), extent=_extent(picture, left, down), interpolation="nearest", zorder=2)
            text = "\n".join(_cut(line) for line in lines).translate(readable)
            axes.text(left + CELL / 2, down + CELL + 0.04, text, ha="center", va="top", fontsize=8, **style)
        top += _height(row)
    axes.set(xlim=(0, width), ylim=(height, 0))  # imshow has set its own
    write_figure(figure, target)


def _height(row: Row) -> float:
    """Return the height of a row in inches."""
    row_count = math.ceil(len(row.pictures) / COLUMNS)
    return 0.4 + row_count * (CELL + LINE * max(map(len, row.captions), default=0) + GAP)


def _rgb(picture: np.ndarray) -> np.ndarray:
    """Return the picture as uint8 [H, W, 3]."""
    return np.broadcast_to(picture, (3, *picture.shape[1:])).transpose(1, 2, 0)


def _extent(picture: np.ndarray, left: float, top: float) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top of a picture in the middle of its cell, in its own proportions."""
    height, width = (CELL * side / max(picture.shape[1:]) for side in picture.shape[1:])
    left, top = left + (CELL - width) / 2, top + (CELL - height) / 2
    return left, left + width, top + height, top


def _cut(line: str) -> str:
    """Return the line, cut if it is too long for the place below a picture."""
    places = np.cumsum([1 if sign.isascii() else 2 for sign in line])
    return line if not line or places[-1] <= MAX_LINE_WIDTH else line[: int((places < MAX_LINE_WIDTH).sum())] + "…"
