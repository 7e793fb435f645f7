"""The counters below the meters: torchnet's, or without torchnet the same sums counted here."""

from typing import Any

import numpy as np
from torch import Tensor

from utils.optional import installed

__all__ = ["average_counter", "confusion_counter"]


class Sum:
    """A sum and the number of samples in it."""

    def __init__(self) -> None:
        self.sum, self.n = 0.0, 0

    def add(self, value: float, n: int) -> None:
        """Add the sum over `n` samples."""
        self.sum += value
        self.n += n


class Counts:
    """A matrix `conf` [C, C] of how often each class was predicted as each: row = truth, column = prediction."""

    def __init__(self, num_classes: int) -> None:
        self.conf = np.zeros((num_classes, num_classes), dtype=np.int64)

    def add(self, predictions: Tensor, truth: Tensor) -> None:
        """Add predicted and true classes, int64 [N] on the CPU."""
        size = len(self.conf)
        pairs = predictions.numpy() + size * truth.numpy()
        self.conf += np.bincount(pairs, minlength=size**2).reshape(size, size)


def average_counter() -> Any:
    """Return torchnet's AverageValueMeter; without torchnet a Sum."""
    if not installed("torchnet"):
        return Sum()
    from torchnet.meter import AverageValueMeter

    return AverageValueMeter()


def confusion_counter(num_classes: int) -> Any:
    """Return torchnet's ConfusionMeter; without torchnet Counts."""
    if not installed("torchnet"):
        return Counts(num_classes)
    from torchnet.meter import ConfusionMeter

    meter = ConfusionMeter(num_classes)
    meter.conf = meter.conf.astype(np.int64)  # torchnet's int32 overflows on pixels
    return meter
