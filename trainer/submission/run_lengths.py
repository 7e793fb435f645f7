"""Run-length masks, as Kaggle has them: "start length start length …".

Pixels are numbered from 1, from top to bottom and then from left to right. Of two classes the runs are those of the
second, of more there is a column for each class except the first, or the one of `test.positive`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from trainer.submission.sample import Sample, without_suffix
from trainer.task import Row
from utils.errors import ConfigError, DataError
from utils.words import suggest

__all__ = ["by_class", "decode_runs", "encode_runs", "run_columns", "with_runs"]


def encode_runs(mask: np.ndarray) -> str:
    """Return the runs of a bool mask [H, W]; empty for one without a pixel."""
    pixels = np.concatenate([[0], mask.T.ravel().astype(np.int8), [0]])
    starts, ends = np.flatnonzero(np.diff(pixels) == 1), np.flatnonzero(np.diff(pixels) == -1)
    return " ".join(f"{start + 1} {end - start}" for start, end in zip(starts, ends, strict=True))


def decode_runs(text: str, height: int, width: int) -> np.ndarray:
    """Return the bool mask [height, width] of runs. Raises DataError for text that is none, or leaves the picture."""
    words = text.split()
    if len(words) % 2 or not all(word.isdecimal() for word in words):
        raise DataError(f"'{text[:40]}' is no run-length mask: it needs pairs of a first pixel and a length")
    pixels = np.zeros(height * width, bool)
    for start, length in zip(map(int, words[::2]), map(int, words[1::2]), strict=True):
        if start < 1 or start - 1 + length > len(pixels):
            raise DataError(f"the run '{start} {length}' leaves a picture of {height} x {width} pixels")
        pixels[start - 1 : start - 1 + length] = True
    return pixels.reshape(width, height).T


def with_runs(
    rows: Mapping[str, Row], values: Sequence[Any], classes: Sequence[str], positive: str | None = None
) -> dict[str, Row]:
    """Return each row with columns of runs in place of its mask: `rle` of one class, otherwise the classes' names.

    `values` are those of the classes in a mask. Raises ConfigError where the rows hold no masks, and for a class that
    there is not.
    """
    if not all(isinstance(row.get("mask"), Tensor) for row in rows.values()):
        raise ConfigError("test.output: rle is of masks, and this task predicts none; leave it out")
    columns = run_columns(values, classes, positive)
    return {
        key: {name: encode_runs(_inside(row["mask"].numpy(), np.asarray(values[k]))) for name, k in columns.items()}
        for key, row in rows.items()
    }


def run_columns(values: Sequence[Any], classes: Sequence[str], positive: str | None) -> dict[str, int]:
    """Return the class number of each column of runs. Raises ConfigError for a class that there is not."""
    names = list(map(str, classes)) or [str(value) for value in values]
    if positive is not None:
        if positive not in names:
            raise ConfigError(f"test.positive: no class '{positive}'{suggest(positive, names)}")
        return {"rle": names.index(positive)}
    return {"rle": 1} if len(names) == 2 else {name: number for number, name in enumerate(names) if number}


def by_class(rows: Mapping[str, Row], sample: Sample) -> dict[str, Row] | None:
    """Return a row for each picture and class, under the ids of a sample that has a line for each, as 0a.jpg_fish.

    A class stands there by its name or its number. None for another sample.
    """
    columns = list(next(iter(rows.values())))
    short = {without_suffix(key): key for key in rows}
    found: dict[str, Row] = {}
    for key in sample.ids:
        ends = [(sign + end, name) for k, name in enumerate(columns, 1) for sign in "_-" for end in (name, str(k))]
        fits = [(short.get(without_suffix(key.removesuffix(end))), name) for end, name in ends if key.endswith(end)]
        known = {(one, name) for one, name in fits if one is not None}
        if len(known) != 1:
            return None
        one, name = known.pop()
        found[key] = {"rle": rows[one][name]}  # type: ignore[index]
    return found if len(found) == len(rows) * len(columns) else None


def _inside(mask: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return where a mask [H, W], or [3, H, W] of colours, has the value."""
    return mask == value if mask.ndim == 2 else (mask == value[:, None, None]).all(0)
