"""The order of samples: a pure function of (seed, epoch)."""

from typing import Any

import torch
from torch import Tensor

from configs.schema import Data
from data.protocol import classes_of
from utils.randomness import mix

__all__ = ["epoch_order"]


def epoch_order(dataset: Any, size: int, cfg: Data, key: tuple[int, int] | None) -> Tensor:
    """Return the order of samples [size] in the epoch of `key` (seed, epoch); without a key, in the dataset's order.

    Raises DataError when classes are to be balanced and the dataset does not tell them.
    """
    if key is None or not (cfg.shuffle or cfg.balance_classes):
        return torch.arange(size)
    generator = torch.Generator().manual_seed(mix(*key))
    return _balanced(dataset, size, generator) if cfg.balance_classes else torch.randperm(size, generator=generator)


def _balanced(dataset: Any, size: int, generator: torch.Generator) -> Tensor:
    """Return draws with replacement in which each class is equally likely."""
    labels = classes_of(dataset)
    weights = 1.0 / labels.bincount().double()[labels]
    return torch.multinomial(weights, size, replacement=True, generator=generator)
