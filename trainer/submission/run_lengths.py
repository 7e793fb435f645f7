"""Run-length masks, as Kaggle has them: "start length start length …".

Pixels are numbered from 1, from top to bottom and then from left to right; the runs are those of the one class.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from trainer.task import Row
from utils.errors import ConfigError, DataError

__all__ = ["decode_runs", "encode_runs", "with_runs"]


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


def with_runs(rows: Mapping[str, Row], values: Sequence[Any]) -> dict[str, Row]:
    """Return each row with a column `rle` in place of its mask; the runs are of the second of two `values`.

    Raises ConfigError where the rows hold no masks, or masks of more classes.
    """
    if not all(isinstance(row.get("mask"), Tensor) for row in rows.values()):
        raise ConfigError("test.output: rle is of masks, and this task predicts none; leave it out")
    if len(values) != 2:
        raise ConfigError(f"test.output: rle is of masks of two classes, and there are {len(values)}; leave it out")
    inside = np.asarray(values[1])
    return {key: {"rle": encode_runs(_inside(row["mask"].numpy(), inside))} for key, row in rows.items()}


def _inside(mask: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return where a mask [H, W], or [3, H, W] of colours, has the value."""
    return mask == value if mask.ndim == 2 else (mask == value[:, None, None]).all(0)
