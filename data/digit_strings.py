"""Strings of handwritten digits, put together from MNIST's pictures."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from data._facts import Facts
from data._images import share_of, split_indices
from data._strings import Strings
from data.mnist import read_digits
from utils.config.ranges import Count, Fraction, Seed
from utils.errors import DataError
from utils.randomness import mix

__all__ = ["DigitStrings"]

SIDE = 28  # pixels of a digit's picture
SHIFT = 2  # pixels that a digit may lie above or below the middle
SPLITS = ("train", "val", "test")


class DigitStrings(Dataset):
    """Strings such as 40715, of digits that people wrote, for a network that learns to read them by CTC.

    `root` holds MNIST's idx files. A seeded `val_fraction` of its training pictures is put together to the strings of
    val and the others to those of train, so that no digit is in both; the strings of test are of the test pictures.
    train has so many `strings`, val and test have `held_out` each. A string has `digits` characters (least, most).
    Between the pictures of two digits, of 28 pixels each, are `gap` pixels (least, most): below 0 they overlap. Each
    string is a function of (seed, split, index) and the same in each epoch. It lies anywhere in its picture, which is
    as wide as the longest string may be.

    A batch is pictures float32 [B, 1, 28, W] in [0, 1], targets int64 [B, S], and lists of the network's steps and of
    the strings' lengths. A step is `stride` pixels.

    Raises:
        ValueError: bounds that no string has.
        DataError: no such files in root, or pictures of another size.
    """

    reads_batches = True

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        strings: Count = 10_000,
        held_out: Count = 2_000,
        digits: tuple[Count, Count] = (3, 6),
        gap: tuple[int, int] = (-10, 0),
        val_fraction: Fraction = 0.1,
        seed: Seed = 0,
        stride: Count = 4,
    ) -> None:
        if digits[0] > digits[1] or gap[0] > gap[1] or gap[0] <= -SIDE:
            raise ValueError(f"digits={list(digits)} and gap={list(gap)} must be (least, most), and gap above -{SIDE}")
        path, images, labels = read_digits(root, "t10k" if split == "test" else "train", split)
        if tuple(images.shape[1:]) != (SIDE, SIDE):
            found = "x".join(map(str, images.shape[1:]))
            raise DataError(f"{path}: has pictures of {found} pixels, {SIDE}x{SIDE} are needed; give MNIST's own files")
        pool = torch.arange(len(images))
        if split != "test":
            pool = torch.tensor(split_indices(len(images), split, val_fraction, seed))
        self.images, self.stride = images.numpy(), stride
        most = digits[1]
        self.width = -(-(SIDE * most + max(gap[1], 0) * (most - 1)) // stride) * stride
        draws = torch.Generator().manual_seed(mix(seed, SPLITS.index(split)))
        self._draw(strings if split == "train" else held_out, pool, digits, gap, draws)
        found = zip(labels[self.chosen].tolist(), self.counts.tolist(), strict=True)
        texts = ["".join(map(str, row[:count])) for row, count in found]
        self.strings = Strings(texts, "0123456789", stride)
        self.ids = [str(index) for index in range(len(texts))]
        self.facts = Facts(share_of(path, split, val_fraction, seed))
        self.facts.lines.append(
            f"{len(texts):,} strings of {digits[0]} to {most} of {len(pool):,} digits, in pictures of {self.width} x "
            f"{SIDE} pixels, drawn by seed {seed}"
        )

    def _draw(
        self, count: int, pool: Tensor, digits: tuple[int, int], gap: tuple[int, int], draws: torch.Generator
    ) -> None:
        """Draw of each string the pictures [N, most], how many of them it has [N], and where each lies [N, most]."""
        most = digits[1]

        def integers(least: int, largest: int, *shape: int) -> Tensor:
            return torch.randint(least, largest + 1, shape, generator=draws)

        self.counts = integers(*digits, count)
        self.chosen = pool[integers(0, len(pool) - 1, count, most)]
        self.down = integers(-SHIFT, SHIFT, count, most)
        after = (SIDE + integers(*gap, count, most)).cumsum(1)  # where the next picture begins
        begin = F.pad(after[:, :-1], (1, 0))
        free = self.width - SIDE - begin.gather(1, self.counts[:, None] - 1)
        self.left = begin + (torch.rand(count, 1, generator=draws) * (free + 1)).long()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def texts(self) -> Sequence[str]:
        """The string of each sample."""
        return self.strings.texts or ()

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int, int]:
        """Return (picture [1, 28, W], target [length], steps, length)."""
        return self.strings.sample(self.read([index])[0][0], index)

    def read(self, indices: Sequence[int] | Tensor, seeds: Sequence[int] = ()) -> Any:
        """Return the batch of these samples."""
        rows = torch.as_tensor(indices)
        canvas = np.zeros((len(rows), SIDE, self.width), np.uint8)
        digits = self.images[self.chosen[rows].numpy()]  # [B, most, 28, 28]
        layout = zip(self.counts[rows].tolist(), self.left[rows].tolist(), self.down[rows].tolist(), strict=True)
        for row, (count, lefts, downs) in enumerate(layout):
            for place, left, down in zip(range(count), lefts, downs, strict=False):
                part = canvas[row, max(down, 0) : SIDE + min(down, 0), left : left + SIDE]
                np.maximum(part, digits[row, place, max(-down, 0) : SIDE - max(down, 0)], out=part)
        return self.strings.batch(torch.from_numpy(canvas).unsqueeze(1).float().div_(255), rows.tolist())

    @property
    def meta(self) -> dict[str, Any]:
        """The digits, the size of a picture, and the pixels of a step."""
        return self.strings.meta(torch.empty(1, SIDE, self.width))
