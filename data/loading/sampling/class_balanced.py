"""Draws in which each class is equally likely."""

from typing import Any

import torch
from torch import Tensor

from data.loading.samplers import Sampler
from data.protocol import labels_of
from utils.config.ranges import Count
from utils.errors import DataError

__all__ = ["ClassBalanced"]


class ClassBalanced(Sampler):
    """Draw every class equally often, with replacement; `num_samples` an epoch, by default as many as there are.

    Needs a dataset with class numbers as `labels`.
    """

    def __init__(self, dataset: Any, num_samples: Count | None = None):
        labels = labels_of(dataset)
        if labels is None:
            kind = type(dataset).__name__
            raise DataError(f"data.sampler=ClassBalanced: {kind} has no classes as `labels` to balance by")
        labels = labels.cpu()
        self.weights = 1.0 / labels.bincount().double()[labels]
        self.size = num_samples or len(labels)

    def __len__(self) -> int:
        return self.size

    def order(self, generator: torch.Generator) -> Tensor:
        return torch.multinomial(self.weights, self.size, replacement=True, generator=generator)
