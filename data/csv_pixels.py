"""Pictures whose pixels are in the rows of a CSV file, as in Kaggle's Digit Recognizer."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch

from data._csv import Faults
from data._images import ImageDataset, existing_folder
from data._stores import Pixels
from data._table import iter_rows, split_fold, table_path
from utils.errors import DataError
from utils.words import suggest

__all__ = ["CSVPixels"]


class CSVPixels(ImageDataset):
    """Pictures as rows of train.csv and test.csv: a column for each grey pixel from 0 to 255, and one for the label.

    The columns are the pixels of the picture, row by row. Pictures are square unless `image_size` [H, W] is given. A
    row's id is its number, from 1. `fold` [k, n] holds out fold k of n, drawn with `seed`.

    Raises DataError, with file and line, for a row that is no picture or has no label.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        transform: Callable | None = None,
        label: str = "label",
        image_size: Sequence[int] | None = None,
        fold: Sequence[int] = (0, 5),
        seed: int = 0,
        classes: Sequence[str] | None = None,
    ) -> None:
        path = table_path(existing_folder(root, split), split)
        pixels, texts = _read(path, label, labelled=split != "test")
        size = _size(path, pixels.shape[1], image_size)
        values = pixels.view(len(pixels), 1, *size)  # [N, 1, H, W]
        classes = list(classes or sorted(set(texts), key=lambda text: (len(text), text)))
        chosen = list(range(len(values)))
        if split != "test":
            training, held_out = split_fold(len(values), fold, seed)
            chosen = training if split == "train" else held_out
        labels = [classes.index(texts[i]) for i in chosen] if texts else None
        super().__init__(Pixels(values[chosen]), [str(i + 1) for i in chosen], labels, classes, transform)


def _read(path: str, label: str, labelled: bool) -> tuple[torch.Tensor, list[str]]:
    """Return pixels uint8 [N, columns] and labels, an empty list unless `labelled`."""
    rows = iter_rows(path)
    _, header = next(rows)
    if labelled and label not in header:
        raise DataError(f"{path}:1: has no column '{label}'{suggest(label, header) or '; set data.dataset.label'}")
    place = header.index(label) if label in header else None
    faults, pixels, texts = Faults(path), bytearray(), []
    for line, cells in rows:
        text = cells.pop(place) if place is not None else ""
        try:
            pixels += bytes(map(int, cells))  # refuses numbers outside 0 to 255
        except ValueError:
            faults.add(line, "holds other values than whole numbers from 0 to 255; mend or remove the row")
        if labelled and not text:
            faults.add(line, f"has no {label}; fill it in or remove the row")
        texts.append(text)
    faults.check()
    table = torch.frombuffer(pixels, dtype=torch.uint8).view(len(texts), -1)
    return table, texts if labelled else []


def _size(path: str, count: int, image_size: Sequence[int] | None) -> Sequence[int]:
    """Return height and width. Raises DataError when they do not hold `count` pixels."""
    size = image_size or [math.isqrt(count)] * 2
    if len(size) != 2 or math.prod(size) != count:
        how = " x ".join(map(str, image_size)) if image_size else "a square"
        raise DataError(f"{path}:1: has {count} columns of pixels, which are not {how}; set data.dataset.image_size")
    return size
