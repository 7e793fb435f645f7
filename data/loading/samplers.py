"""The order of samples: a pure function of (seed, epoch)."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from configs import COMPONENTS, Component
from configs.schema import Data
from data.loading.sampling._walk import Walk
from utils.errors import DataError
from utils.randomness import mix

__all__ = ["Order", "Sampler", "epoch_order", "order_told", "sampler_of", "spread"]

LARGE = 10_000_000  # samples above which the memory of an order is told


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


class InOrder:
    """The numbers 0 to `size` - 1 as they are; no list of them is in memory."""

    def __init__(self, size: int):
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice) -> Tensor:
        """Return the numbers at the positions of a slice, int64."""
        return torch.arange(*part.indices(self.size))


Order = Tensor | InOrder | Walk  # of which parts are taken: order[start:stop]


def epoch_order(size: int, cfg: Data, sampler: Sampler | None, key: tuple[int, int] | None) -> Order:
    """Return the order of samples [size] in the epoch of `key` (seed, epoch); without a key, in the dataset's order."""
    if key is None or not (cfg.shuffle or sampler):
        return InOrder(size)
    if sampler is None and cfg.order == "walk":
        return Walk(size, *key)
    generator = torch.Generator().manual_seed(mix(*key))
    if sampler is None:
        return torch.randperm(size, generator=generator)
    order = sampler.order(generator)
    assert len(order) == size, f"{type(sampler).__name__}.order gives {len(order)} samples, and its length is {size}"
    return order


def order_told(size: int, cfg: Data, sampler: Sampler | None) -> str:
    """Return in words which rule gives the order of a training, if it is not the usual one, or should not be."""
    if sampler is not None or not cfg.shuffle:
        return ""
    if cfg.order == "walk":
        return "data.order: walk, a permutation by seed and epoch that is computed where it is read"
    megabytes = f"{size * 8 / 1e6:,.0f} MB"  # int64
    told = f"note: the order of {size:,} samples takes {megabytes} in each process; data.order=walk takes none"
    return told if size > LARGE else ""


def spread(size: int, most: int) -> Tensor:
    """Return the numbers of at most `most` samples from all over a split of `size`."""
    return torch.linspace(0, size - 1, min(most, size), dtype=torch.float64).long()
