"""mixup and cutmix: each sample of a training batch mixed with its neighbour, and its label with that one's."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from configs.schema import Mix
from utils.errors import ConfigError
from utils.randomness import mix

__all__ = ["Mixing", "mixing_of"]

PURPOSE = 0x6D6978  # sets its random numbers apart from those of samples


def mixing_of(cfg: Mix, seed: int, classes: int | None) -> "Mixing | None":
    """Return the mixing that a config asks for, if any. Raises ConfigError for a task without classes."""
    alphas = {name: alpha for name, alpha in (("mixup", cfg.mixup), ("cutmix", cfg.cutmix)) if alpha is not None}
    if not alphas:
        return None
    if not classes:
        name = next(iter(alphas))
        raise ConfigError(f"data.mix.{name}: it mixes the labels of classes, and this task learns none; leave it out")
    return Mixing(alphas, seed, classes)


class Mixing:
    """Mixes batches (inputs, labels) on their device; labels int64 [B] become shares of classes, float32 [B, C].

    The way, of several one chosen at random, its share and its box are a function of (seed, epoch, batch). After
    torchvision's MixUp (https://arxiv.org/abs/1710.09412) and CutMix (https://arxiv.org/abs/1905.04899).
    """

    def __init__(self, alphas: dict[str, float], seed: int, classes: int):
        """`alphas`: the parameter of the Beta distribution of each way's shares."""
        self.alphas, self.seed, self.classes = alphas, seed, classes

    def mixed(
        self, batches: Iterator[tuple[list[int], Any]], epoch: int, start: int
    ) -> Iterator[tuple[list[int], Any]]:
        """Yield (indices, mixed batch); `start` is the number of the first one in the epoch."""
        for number, (indices, batch) in enumerate(batches, start):
            yield indices, self.mix(batch, epoch, number)

    def mix(self, batch: Any, epoch: int, number: int) -> tuple[Tensor, Tensor]:
        """Return the batch of this number, mixed. Raises ConfigError for one that cannot be."""
        numbers = np.random.default_rng(mix(self.seed, epoch, number, PURPOSE))
        names = list(self.alphas)
        name = names[int(numbers.integers(len(names)))]
        share = float(numbers.beta(self.alphas[name], self.alphas[name]))
        inputs, labels = _checked(batch, name)
        if name == "mixup":
            return self._mixup(inputs, share), self._labels(labels, share)
        height, width = inputs.shape[2:]
        left, top, right, bottom = _box(width, height, share, numbers)
        cut = inputs.clone()
        cut[..., top:bottom, left:right] = inputs.roll(1, 0)[..., top:bottom, left:right]
        return cut, self._labels(labels, 1 - (right - left) * (bottom - top) / (width * height))

    def _mixup(self, inputs: Tensor, share: float) -> Tensor:
        return inputs.roll(1, 0).mul_(1 - share).add_(inputs.mul(share))

    def _labels(self, labels: Tensor, share: float) -> Tensor:
        whole = F.one_hot(labels, self.classes).float()
        return whole.roll(1, 0).mul_(1 - share).add_(whole.mul(share))


def _box(width: int, height: int, share: float, numbers: np.random.Generator) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a box of 1 - `share` of the pixels, before it is cut at the borders."""
    x, y = int(numbers.integers(width)), int(numbers.integers(height))
    half = 0.5 * math.sqrt(1 - share)
    across, down = int(half * width), int(half * height)
    return max(x - across, 0), max(y - down, 0), min(x + across, width), min(y + down, height)


def _checked(batch: Any, name: str) -> tuple[Tensor, Tensor]:
    """Return inputs and labels of a batch. Raises ConfigError for others than can be mixed."""
    pair = list(batch) if isinstance(batch, (tuple, list)) else []
    floating = [isinstance(part, Tensor) and part.is_floating_point() for part in pair]
    if floating != [True, False] or not isinstance(pair[1], Tensor) or pair[1].ndim != 1:
        raise ConfigError(f"data.mix.{name}: needs batches of floating inputs and class numbers; leave it out")
    if name == "cutmix" and pair[0].ndim != 4:
        raise ConfigError(f"data.mix.cutmix: needs pictures [B, C, H, W], not {list(pair[0].shape)}; take mixup")
    return pair[0], pair[1]
