"""The usual chains of transforms in one go: a part of the picture is read, resized and flipped, batches normalised."""

import math
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils.images import Region

__all__ = ["Fast", "recognise"]

FLIPS = ("RandomHorizontalFlip", "RandomVerticalFlip")
CROPS = ("CenterCrop", "RandomCrop")
TRIES = 10  # of RandomResizedCrop, before it takes the middle


class Part(NamedTuple):
    """What is seen of a picture: a box of its pixels, shown at a size."""

    left: float
    top: float
    right: float
    bottom: float
    width: int
    height: int

    def crop(self, left: int, top: int, width: int, height: int) -> "Part":
        """The part of what is shown."""
        across, down = (self.right - self.left) / self.width, (self.bottom - self.top) / self.height
        x, y = self.left + left * across, self.top + top * down
        return Part(x, y, x + width * across, y + height * down, width, height)

    def resize(self, width: int, height: int) -> "Part":
        """The same at another size."""
        return self._replace(width=width, height=height)


class Fast:
    """A recognised chain. As a callable it is torchvision's own chain, for whatever is no batch of pictures.

    Boxes and flips are drawn as torchvision draws them, from Python's generator, seeded for each sample: the numbers
    are others, their distributions the same. For a given box the pixels are torchvision's to one unit of 255, but for a
    JPEG that is decoded smaller, with never less than 0.8 pixels for each of the result across and down: then they
    differ by less than 4 of 255 in the mean.
    """

    def __init__(self, exact: Any, steps: Sequence[Any], flips: Sequence[Any], normalize: Any | None):
        self.exact, self.steps = exact, steps
        self.flips = [(flip.p, type(flip).__name__ == FLIPS[0]) for flip in flips]
        mean, std = (normalize.mean, normalize.std) if normalize else ([0.0], [1.0])
        self.scale = np.array([1 / (255 * s) for s in std], np.float32)
        self.shift = np.array([-m / s for m, s in zip(mean, std, strict=True)], np.float32)

    def __call__(self, *inputs: Any) -> Any:
        return self.exact(*inputs)

    def __repr__(self) -> str:
        return f"Fast({self.exact!r})"

    def choose(self, width: int, height: int, seed: int) -> Region:
        """The region of a picture of this size that the seed chooses."""
        generator = random.Random(seed)
        part = Part(0, 0, width, height, width, height)
        for step in self.steps:
            part = STEPS[type(step).__name__](step, part, generator)
        across = down = False
        for p, horizontal in self.flips:
            if generator.random() < p:
                across, down = across ^ horizontal, down ^ (not horizontal)
        return Region(part[:4], (part.width, part.height), across, down)

    def finish(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """Pictures uint8 [H, W, 3] as one float32 [B, 3, H, W], normalised over whole rows at once."""
        pixels = np.stack(pictures)  # [B, H, W, 3]
        B, H, W, C = pixels.shape
        rows = np.multiply(pixels.reshape(B * H, W * C), np.resize(self.scale, W * C), dtype=np.float32)
        rows += np.resize(self.shift, W * C)
        return torch.from_numpy(np.ascontiguousarray(rows.reshape(B, H, W, C).transpose(0, 3, 1, 2)))


def recognise(built: Sequence[Any], exact: Any) -> Any:
    """The chain as Fast, or `exact`, the same composed by torchvision.

    Recognised are one Resize or RandomResizedCrop (bilinear), crops that fit into what it gives, flips, and Normalize,
    in that order, where all pictures come out in one size.
    """
    left = list(built)
    names = [type(t).__name__ for t in left]
    if not names or names[0] not in ("Resize", "RandomResizedCrop") or not _plain(left[0]):
        return exact
    normalize = left.pop() if names[-1] == "Normalize" and len(left[-1].mean) in (1, 3) else None
    crops = [t for t in left[1:] if type(t).__name__ in CROPS]
    flips = [t for t in left[1:] if type(t).__name__ in FLIPS]
    if [left[0], *crops, *flips] != left or not all(_plain(crop) for crop in crops):
        return exact
    sizes = [(t.size[0], t.size[-1]) for t in (left[0], *crops)]  # of a Resize to one number, at least
    fits = all(one[0] >= two[0] and one[1] >= two[1] for one, two in pairwise(sizes))
    if not fits or (len(left[0].size) == 1 and not crops):  # then the long side is as long as it is
        return exact
    return Fast(exact, [left[0], *crops], flips, normalize)


def _plain(transform: Any) -> bool:
    """Whether a resize is bilinear and goes by size, a crop pads nothing."""
    kind = getattr(transform, "interpolation", "bilinear")
    special = ("max_size", "padding", "pad_if_needed")
    sized = transform.size is not None
    return sized and getattr(kind, "value", kind) == "bilinear" and not any(getattr(transform, n, 0) for n in special)


# What torchvision's transforms of these names do to the part that is seen, with its own draws


def _resize(transform: Any, part: Part, generator: random.Random) -> Part:
    if len(transform.size) == 2:
        return part.resize(transform.size[1], transform.size[0])
    short, sides = transform.size[0], (part.width, part.height)
    width, height = (short if side == min(sides) else int(short * side / min(sides)) for side in sides)
    return part.resize(width, height)


def _random_resized_crop(transform: Any, part: Part, generator: random.Random) -> Part:
    height, width = transform.size
    return part.crop(*_random_box(transform, part.width, part.height, generator)).resize(width, height)


def _random_box(transform: Any, width: int, height: int, generator: random.Random) -> tuple[int, int, int, int]:
    """Left, top, width, height."""
    for _ in range(TRIES):
        area = width * height * generator.uniform(*transform.scale)
        ratio = math.exp(generator.uniform(*map(math.log, transform.ratio)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return generator.randint(0, width - w), generator.randint(0, height - h), w, h
    low, high = min(transform.ratio), max(transform.ratio)
    w = width if width / height <= high else round(height * high)
    h = height if width / height >= low else round(width / low)
    return (width - w) // 2, (height - h) // 2, w, h


def _center_crop(transform: Any, part: Part, generator: random.Random) -> Part:
    height, width = transform.size
    return part.crop(round((part.width - width) / 2), round((part.height - height) / 2), width, height)


def _random_crop(transform: Any, part: Part, generator: random.Random) -> Part:
    height, width = transform.size
    left, top = generator.randint(0, part.width - width), generator.randint(0, part.height - height)
    return part.crop(left, top, width, height)


STEPS = {
    "Resize": _resize,
    "RandomResizedCrop": _random_resized_crop,
    "CenterCrop": _center_crop,
    "RandomCrop": _random_crop,
}
