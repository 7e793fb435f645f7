"""A picture of predictions: photos with their classes, numbers or masks, and of a table how often each value came."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.task import Row
from trainer.watchers._thumbnails import MASK_CELL, MASK_SIDE, SIDE, coloured, thumbnails
from utils.images import read_image, to_tensor

__all__ = ["draw_photos", "draw_spread"]

SHOWN, SHOWN_MASKS = 48, 6


def draw_photos(title: str, found: Mapping[str, Row], target: Path, meta: Mapping[str, Any]) -> None:
    """Draw the first pictures of `found`, rows by path, each with its prediction below or its mask under it."""
    from utils.figures.gallery import Row as Part
    from utils.figures.gallery import draw_gallery
    from utils.figures.palette import class_colours

    masks = any(isinstance(value, Tensor) for value in next(iter(found.values())).values())
    paths = list(found)[: SHOWN_MASKS if masks else SHOWN]
    pictures = [_thumbnail(path, MASK_SIDE if masks else SIDE) for path in paths]
    more = f"; the first {len(paths)} of {len(found):,}" if len(paths) < len(found) else ""
    names = [[Path(path).name] for path in paths]
    if not masks:
        captions = [[*_words(found[path]), *name] for path, name in zip(paths, names, strict=True)]
        draw_gallery(title, [Part(f"{len(found):,} pictures{more}", pictures, captions)], target)
        return
    colours = class_colours(len(meta["classes"]), meta["mask_values"])
    numbers = [_numbers(next(iter(found[path].values())), meta["mask_values"]) for path in paths]
    drawn = [coloured(mask, colours, MASK_SIDE) for mask in numbers]
    rows = [Part(f"{len(found):,} pictures{more}", pictures, names), Part("predicted mask", drawn, [[]] * len(paths))]
    draw_gallery(title, rows, target, list(zip(map(str, meta["classes"]), colours, strict=True)), MASK_CELL)


def draw_spread(title: str, rows: Sequence[Row], target: Path) -> None:
    """Draw the spread of the first predicted column: a bar for each class, or a histogram of numbers."""
    from matplotlib.figure import Figure

    from utils.figures.curves import DPI, write_figure
    from utils.figures.fonts import printable

    name, values = next(iter(rows[0])), [next(iter(row.values())) for row in rows]
    figure = Figure((6.4, 3.6), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    if all(isinstance(value, float) for value in values):
        axes.hist(values, bins=min(40, max(5, len(values) // 5)))
        axes.set_xlabel(name, parse_math=False)
        axes.set_ylabel("rows")
    else:
        classes, counts = np.unique([str(value) for value in values], return_counts=True)
        shown, family = printable(classes.tolist())
        bars = axes.barh(range(len(shown)), counts)
        axes.bar_label(bars)
        axes.set_yticks(range(len(shown)), shown, family=family, parse_math=False)
        axes.invert_yaxis()
        axes.set_xlabel("rows")
    axes.set_title(title, fontsize=10, parse_math=False)
    write_figure(figure, target)


def _thumbnail(path: str, side: int) -> np.ndarray:
    return thumbnails(to_tensor(read_image(path))[None], (), side)[0]


def _words(row: Row) -> list[str]:
    """Return the lines below a picture: its class with the probability, or its numbers."""
    if "class" in row:
        chosen = [value for name, value in row.items() if name in (row["class"], f"probability of {row['class']}")]
        return [f"{row['class']}{f'  {chosen[0]:.1%}' if chosen and isinstance(chosen[0], float) else ''}"]
    if "labels" in row:
        return [str(row["labels"]) or "no label"]
    return [f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()][:3]


def _numbers(mask: Tensor, values: Sequence[Any]) -> Tensor:
    """Return the class numbers [H, W] of a mask of values [H, W], or of colours [3, H, W]."""
    numbers = torch.full(mask.shape[-2:], -1, dtype=torch.int64)
    for number, value in enumerate(values):
        same = mask == torch.as_tensor(value).view(-1, 1, 1) if mask.ndim == 3 else mask == value
        numbers[same.all(0) if mask.ndim == 3 else same] = number
    return numbers
