"""Fuse the usual chains of transforms: read a part of each picture, resize and flip it, normalise a whole batch."""

import functools
import math
import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from configs import Component
from utils.images import Region

__all__ = ["FusedFiles", "FusedTensor", "fuse"]

RESIZES = ("Resize", "RandomResizedCrop")
FLIPS = ("RandomHorizontalFlip", "RandomVerticalFlip")
CROPS = ("CenterCrop", "RandomCrop")
TRIES = 10  # attempts of RandomResizedCrop, before it takes the middle


class Part(NamedTuple):
    """A box of a picture's pixels, and the size at which it is shown."""

    left: float
    top: float
    right: float
    bottom: float
    width: int
    height: int

    def crop(self, left: int, top: int, width: int, height: int) -> "Part":
        """Return a part of this part; the arguments count shown pixels."""
        across, down = (self.right - self.left) / self.width, (self.bottom - self.top) / self.height
        x, y = self.left + left * across, self.top + top * down
        return Part(x, y, x + width * across, y + height * down, width, height)

    def resize(self, width: int, height: int) -> "Part":
        """Return the same box, shown at another size."""
        return self._replace(width=width, height=height)


class Step(NamedTuple):
    """A resize or a crop, with the arguments of torchvision's transform of that name."""

    kind: str
    size: tuple[int, ...]  # height and width; of a Resize also the short side alone
    scale: tuple[float, float]
    ratio: tuple[float, float]


class FusedTransform:
    """A chain of transforms, fused. Called with anything but a batch of pictures, it runs torchvision's own chain.

    Boxes and flips have torchvision's distributions, but are drawn from Python's generator, which is seeded for each
    sample. The numbers therefore differ from torchvision's.
    """

    def __init__(
        self,
        specs: Sequence[Component],
        compose: Callable[[], Any],
        steps: Sequence[Step],
        flips: Sequence[tuple[float, bool]],
        mean: Sequence[float],
        std: Sequence[float],
    ):
        """Store the chain. `compose` makes torchvision's chain of `specs`; a flip is (probability, horizontal)."""
        self.specs, self.compose, self.steps, self.flips = specs, compose, steps, flips
        self.scale = torch.tensor([1 / (255 * s) for s in std]).view(-1, 1, 1)
        self.shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(-1, 1, 1)

    @functools.cached_property
    def exact(self) -> Any:
        """torchvision's chain, made when it is first used: importing torchvision takes as long as importing torch."""
        return self.compose()

    def __call__(self, *inputs: Any) -> Any:
        return self.exact(*inputs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.specs!r})"

    def choose(self, width: int, height: int, seed: int) -> Region:
        """Return the region that the seed chooses in a picture of this size."""
        generator = random.Random(seed)
        part = Part(0, 0, width, height, width, height)
        for step in self.steps:
            part = STEPS[step.kind](step, part, generator)
        across = down = False
        for p, horizontal in self.flips:
            if generator.random() < p:
                across, down = across ^ horizontal, down ^ (not horizontal)
        return Region(part[:4], (part.width, part.height), across, down)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return pictures uint8 [B, C, H, W] as float32, on their device; the bits are the same on any device."""
        scale, shift = (numbers.to(pixels.device, non_blocking=True) for numbers in (self.scale, self.shift))
        return pixels.to(torch.float32, memory_format=torch.contiguous_format).mul_(scale).add_(shift)


class FusedFiles(FusedTransform):
    """A fused chain with one resize, for pictures in files.

    For a given box the pixels differ from torchvision's by at most 1 of 255. Exception: a JPEG may be decoded at a
    smaller size, which keeps at least 0.8 pixels for each pixel of the result, across and down. Then the mean
    difference is below 4 of 255.
    """

    def stack(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """Stack pictures uint8 [H, W, 3] to one tensor [B, 3, H, W]."""
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


class FusedTensor(FusedTransform):
    """A fused chain without a resize, for small pictures in memory. It crops and flips a batch on the batch's device.

    For given boxes and flips the pixels differ from torchvision's only by the rounding of float32.
    """

    padding = 0  # black pixels on each side, added before the crop

    def fits(self, channels: int, height: int, width: int) -> bool:
        """Return whether the chain can run on pictures of this shape; for others torchvision reports the error."""
        sides = [(height + 2 * self.padding, width + 2 * self.padding), *(step.size for step in self.steps)]
        within = all(one[0] >= two[0] and one[1] >= two[1] for one, two in pairwise(sides))
        return within and len(self.scale) in (1, channels)

    def cut(self, pixels: Tensor, seeds: Sequence[int]) -> Tensor:
        """Return the parts [B, C, h, w] that the seeds choose in pictures uint8 [B, C, H, W], on any device."""
        if not (self.steps or self.flips):
            return pixels
        padded = torch.nn.functional.pad(pixels, (self.padding,) * 4)
        B, C, H, W = padded.shape
        regions = [self.choose(W, H, seed) for seed in seeds]
        places = _places(regions, W, pixels.device)
        chosen = padded.view(B, C, H * W).gather(2, places.view(B, 1, -1).expand(-1, C, -1))
        return chosen.view(B, C, *places.shape[1:])


def _places(regions: Sequence[Region], width: int, device: torch.device) -> Tensor:
    """Return the positions of each region's pixels in a picture of this width, row by row: int64 [B, h, w]."""
    w, h = regions[0].size
    numbers = torch.tensor([[int(r.box[0]), int(r.box[1]), r.across, r.down] for r in regions])
    numbers = numbers.to(device, non_blocking=True)  # a blocking copy would wait for the GPU's work
    left, top, across, down = numbers.view(-1, 4, 1).unbind(1)  # each [B, 1]
    columns, rows = torch.arange(w, device=device), torch.arange(h, device=device)
    columns = left + torch.where(across > 0, w - 1 - columns, columns)  # [B, w]
    rows = top + torch.where(down > 0, h - 1 - rows, rows)
    return rows[:, :, None] * width + columns[:, None, :]


def fuse(specs: Sequence[Component], compose: Callable[[], Any]) -> FusedTransform | None:
    """Return the chain as FusedFiles or FusedTensor, or None if it cannot be fused; `compose` makes the original.

    A chain can be fused if it is, in this order: one Resize or RandomResizedCrop (bilinear), crops that fit into its
    result, flips, and Normalize; and if all pictures get the same size. Without a resize, a single crop may pad with
    zeros.
    """
    last = specs[-1] if specs and specs[-1].name == "Normalize" else None
    body = list(specs[:-1] if last else specs)
    flips = [spec for spec in body if spec.name in FLIPS]
    sized = [spec for spec in body if spec.name in RESIZES + CROPS]
    padding, bare = _without_padding(sized)
    steps = [step for spec in bare if (step := _step(spec)) is not None]
    shares = [p for spec in flips if (p := spec.args.get("p", 0.5)) is not None and _are_numbers([p], 0, 1)]
    mean: Any = last.args.get("mean") if last else [0.0]
    std: Any = last.args.get("std") if last else [1.0]
    whole = bool(specs) and [*sized, *flips] == body and len(steps) == len(sized) and len(shares) == len(flips)
    scaled = all(_are_numbers(values) and len(values) in (1, 3) for values in (mean, std)) and len(mean) == len(std)
    if not (whole and scaled and all(std)) or (last and len(last.args) > 2):
        return None
    across = [spec.name == FLIPS[0] for spec in flips]
    parts = (specs, compose, steps, list(zip(shares, across, strict=True)), mean, std)
    if not padding and _fit(steps):
        return FusedFiles(*parts)
    if any(step.kind in RESIZES for step in steps):
        return None
    chain = FusedTensor(*parts)
    chain.padding = padding
    return chain


def _without_padding(crops: Sequence[Component]) -> tuple[int, Sequence[Component]]:
    """Return the padding of a single RandomCrop, and the crops without it; 0 unless it is zeros, equal on all sides."""
    if len(crops) != 1 or crops[0].name != "RandomCrop":
        return 0, crops
    args = dict(crops[0].args)
    padding = args.pop("padding", None) or 0
    if not isinstance(padding, int) or padding < 0 or args.pop("padding_mode", "constant") != "constant":
        return 0, crops
    return padding, [Component("RandomCrop", args)]


def _fit(steps: Sequence[Step]) -> bool:
    """Return whether the steps are one resize, and then crops that fit into its result."""
    kinds = [step.kind for step in steps]
    if not steps or kinds[0] not in RESIZES or any(kind in RESIZES for kind in kinds[1:]):
        return False
    sizes = [(step.size[0], step.size[-1]) for step in steps]  # for a Resize to one number: the least size
    fits = all(one[0] >= two[0] and one[1] >= two[1] for one, two in pairwise(sizes))
    # a lone Resize to one number keeps different long sides
    return fits and (len(steps[0].size) == 2 or len(steps) > 1)


def _step(spec: Component) -> Step | None:
    """Return the resize or crop; None if it is not bilinear, pads, or takes more than a size."""
    args = {"scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3), "interpolation": "bilinear", **spec.args}
    size, scale, ratio, _ = (args.pop(name, None) for name in ("size", "scale", "ratio", "antialias"))
    size = [size] if isinstance(size, int) else size
    bilinear = args.pop("interpolation") == "bilinear"
    numbers = _are_numbers(size, 1) and all(isinstance(side, int) for side in size) and 1 <= len(size) <= 2
    pairs = all(_are_numbers(pair, 1e-9) and len(pair) == 2 for pair in (scale, ratio))
    if not (numbers and pairs and bilinear) or any(args.values()):
        return None
    size = tuple(size) if spec.name == "Resize" or len(size) == 2 else (*size, *size)
    return Step(spec.name, size, tuple(scale), tuple(ratio))


def _are_numbers(values: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    if not isinstance(values, (list, tuple)):
        return False
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) and least <= v <= most for v in values)


# The effect of torchvision's transforms of these names on the shown part, with their random numbers


def _resize(step: Step, part: Part, generator: random.Random) -> Part:
    if len(step.size) == 2:
        return part.resize(step.size[1], step.size[0])
    short, sides = step.size[0], (part.width, part.height)
    width, height = (short if side == min(sides) else int(short * side / min(sides)) for side in sides)
    return part.resize(width, height)


def _random_resized_crop(step: Step, part: Part, generator: random.Random) -> Part:
    height, width = step.size
    return part.crop(*_random_box(step, part.width, part.height, generator)).resize(width, height)


def _random_box(step: Step, width: int, height: int, generator: random.Random) -> tuple[int, int, int, int]:
    """Return left, top, width and height of the box."""
    for _ in range(TRIES):
        area = width * height * generator.uniform(*step.scale)
        ratio = math.exp(generator.uniform(*map(math.log, step.ratio)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return generator.randint(0, width - w), generator.randint(0, height - h), w, h
    low, high = min(step.ratio), max(step.ratio)
    w = width if width / height <= high else round(height * high)
    h = height if width / height >= low else round(width / low)
    return (width - w) // 2, (height - h) // 2, w, h


def _center_crop(step: Step, part: Part, generator: random.Random) -> Part:
    height, width = step.size
    return part.crop(round((part.width - width) / 2), round((part.height - height) / 2), width, height)


def _random_crop(step: Step, part: Part, generator: random.Random) -> Part:
    height, width = step.size
    left, top = generator.randint(0, part.width - width), generator.randint(0, part.height - height)
    return part.crop(left, top, width, height)


STEPS = {
    "Resize": _resize,
    "RandomResizedCrop": _random_resized_crop,
    "CenterCrop": _center_crop,
    "RandomCrop": _random_crop,
}
