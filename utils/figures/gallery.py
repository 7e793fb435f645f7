"""Pictures in rows, with words below each, as one PNG."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from utils.figures.curves import DPI, write_figure
from utils.figures.fonts import fonts_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Row", "draw_gallery"]

Name = tuple[str, tuple[int, int, int]]  # of a legend, and its colour

COLUMNS = 8
CELL, GAP, LINE, HEAD = 1.2, 0.12, 0.15, 0.42  # inches: a picture's side, the gap, a line of words, a title
LETTERS = 9.5  # of a title, in an inch
MAX_LINE_WIDTH = 18  # characters of a line below a picture; a Chinese one takes two


class Row(NamedTuple):
    """A titled part of a gallery: pictures uint8 [C, H, W], C = 1 or 3, and the lines below each."""

    title: str
    pictures: Sequence[np.ndarray]
    captions: Sequence[Sequence[str]]


def draw_gallery(
    title: str, rows: Sequence[Row], target: Path, legend: Sequence[Name] = (), cell: float = CELL
) -> None:
    """Draw rows below one another into a PNG; a character that no font here has becomes a question mark.

    `legend`: names and their colours, for a line below the title; `cell`: the side of a picture in inches. Raises
    StorageError when the picture cannot be written.
    """
    from matplotlib.figure import Figure

    words = title + "".join(row.title + "".join(map("".join, row.captions)) for row in rows)
    family, missing = fonts_for(words + "".join(name for name, _ in legend))
    readable = str.maketrans(dict.fromkeys(missing, "?"))
    columns = min(COLUMNS, max(4, *(len(row.pictures) for row in rows)))
    width = columns * (cell + GAP) + GAP
    titles = textwrap.wrap(title, int(width * LETTERS)) or [""]
    head = HEAD * len(titles) - 0.16 * (len(titles) - 1) + (0.28 if legend else 0)
    height = head + sum(_height(row, cell) for row in rows)
    figure = Figure((width, height), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), aspect="equal")
    axes.axis("off")
    style: dict[str, Any] = {"parse_math": False, "family": family}
    axes.text(GAP, 0.1, "\n".join(titles).translate(readable), va="top", fontsize=13, **style)
    _draw_legend(axes, [(name.translate(readable), colour) for name, colour in legend], head - 0.16, width, style)
    top = head
    for row in rows:
        axes.text(GAP, top + 0.16, row.title.translate(readable), va="center", fontsize=10.5, **style)
        for number, (picture, lines) in enumerate(zip(row.pictures, row.captions, strict=True)):
            left = GAP + number % columns * (cell + GAP)
            down = top + 0.34 + number // columns * (cell + LINE * len(lines) + GAP)
            axes.imshow(_rgb(picture), extent=_extent(picture, left, down, cell), interpolation="nearest", zorder=2)
            text = "\n".join(_cut(line, cell) for line in lines).translate(readable)
            axes.text(left + cell / 2, down + cell + 0.04, text, ha="center", va="top", fontsize=8, **style)
        top += _height(row, cell)
    axes.set(xlim=(0, width), ylim=(height, 0))  # imshow has set its own
    write_figure(figure, target)


def _draw_legend(axes: "Axes", legend: Sequence[Name], middle: float, width: float, style: dict[str, Any]) -> None:
    """Draw a square of its colour before each name, as many as there is room for."""
    from matplotlib.patches import Rectangle

    left = GAP
    for number, (name, colour) in enumerate(legend):
        name = _cut(name, CELL)
        needed = 0.36 + 0.085 * sum(1 if sign.isascii() else 2 for sign in name)
        if left + needed > width - 0.2:
            axes.text(left, middle, f"… and {len(legend) - number} more", va="center", fontsize=9, **style)
            return
        face = tuple(part / 255 for part in colour)
        axes.add_patch(Rectangle((left, middle - 0.07), 0.14, 0.14, facecolor=face, edgecolor="0.4", linewidth=0.5))
        axes.text(left + 0.2, middle, name, va="center", fontsize=9, **style)
        left += needed


def _height(row: Row, cell: float) -> float:
    """Return the height of a row in inches."""
    row_count = math.ceil(len(row.pictures) / COLUMNS)
    return 0.4 + row_count * (cell + LINE * max(map(len, row.captions), default=0) + GAP)


def _rgb(picture: np.ndarray) -> np.ndarray:
    """Return the picture as uint8 [H, W, 3]."""
    return np.broadcast_to(picture, (3, *picture.shape[1:])).transpose(1, 2, 0)


def _extent(picture: np.ndarray, left: float, top: float, cell: float) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top of a picture in the middle of its cell, in its own proportions."""
    height, width = (cell * side / max(picture.shape[1:]) for side in picture.shape[1:])
    left, top = left + (cell - width) / 2, top + (cell - height) / 2
    return left, left + width, top + height, top


def _cut(line: str, cell: float) -> str:
    """Return the line, cut if it is too long for the place below a picture."""
    places = np.cumsum([1 if sign.isascii() else 2 for sign in line])
    most = int(MAX_LINE_WIDTH * cell / CELL)
    return line if not line or places[-1] <= most else line[: int((places < most).sum())] + "…"
