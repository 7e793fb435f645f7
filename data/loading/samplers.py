"""The order of samples: a pure function of (seed, epoch)."""

from typing import Any

import torch
from torch import Tensor

from configs.schema import Data
from utils.errors import DataError
from utils.randomness import mix

__all__ = []


def epoch_order(dataset: Any, size: int, cfg: Data, key: tuple[int, int] | None) -> Tensor:
    """The order of samples [size] in the epoch of `key` (seed, epoch); without a key, as they stand."""
    if key is None or not (cfg.shuffle or cfg.balance_classes):
        return torch.arange(size)
    generator = torch.Generator().manual_seed(mix(*key))
    return _balanced(dataset, size, generator) if cfg.balance_classes else torch.randperm(size, generator=generator)


def _balanced(dataset: Any, size: int, generator: torch.Generator) -> Tensor:
    """Draws with replacement in which each class is equally likely.

    Raises DataError for a dataset that does not tell its labels.
    """
    labels = None if getattr(dataset, "labels", None) is None else torch.as_tensor(dataset.labels)
    if labels is None or labels.is_floating_point() or labels.ndim != 1:
        raise DataError(f"data.balance_classes: {type(dataset).__name__} has no classes as `labels` to balance by")
    weights = 1.0 / labels.bincount().double()[labels]
    return torch.multinomial(weights, size, replacement=True, generator=generator)
