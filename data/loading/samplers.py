"""The order of samples: a pure function of (seed, epoch)."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from configs import COMPONENTS, Component
from configs.schema import Data
from utils.errors import DataError
from utils.randomness import mix

__all__ = ["Sampler", "epoch_order", "sampler_of"]


class Sampler(ABC):
    """The samples of an epoch of training. Its constructor may take `dataset`, and `batch` (samples of all ranks)."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples an epoch, the same in each."""

    @abstractmethod
    def order(self, generator: torch.Generator) -> Tensor:
        """Return the indices of an epoch's samples, int64 [len(self)]; all its random numbers come from `generator`."""

    def population(self) -> Tensor | None:
        """Return the indices that an epoch may have; None for all."""
        return None


def sampler_of(dataset: Any, cfg: Data, batch: int) -> Sampler | None:
    """Return the sampler that a config asks for; None for an epoch that has each sample once.

    Raises ConfigError or DataError for one that does not fit the dataset.
    """
    spec = Component("ClassBalanced") if cfg.balance_classes else cfg.sampler
    if spec is None:
        return None
    sampler: Sampler = COMPONENTS["sampler"].build(spec, "data.sampler", dataset=dataset, batch=batch)
    if len(sampler) < 1:
        raise DataError(f"data.sampler: {spec.name} leaves no sample to train on")
    return sampler


def epoch_order(size: int, shuffle: bool, sampler: Sampler | None, key: tuple[int, int] | None) -> Tensor:
    """Return the order of samples [size] in the epoch of `key` (seed, epoch); without a key, in the dataset's order."""
    if key is None or not (shuffle or sampler):
        return torch.arange(size)
    generator = torch.Generator().manual_seed(mix(*key))
    if sampler is None:
        return torch.randperm(size, generator=generator)
    order = sampler.order(generator)
    assert len(order) == size, f"{type(sampler).__name__}.order gives {len(order)} samples, and its length is {size}"
    return order
