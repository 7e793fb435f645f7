"""The base class of all meters, and the mean of a value."""

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from torch import Tensor

from utils.meters.counting import average_counter

__all__ = ["Meter", "Mean"]

State = dict[str, Any]  # python numbers and tensors only, which torch.load(weights_only=True) accepts


class Meter(ABC):
    """The base class of all meters.

    Any split of the samples into batches, and any order of merging, gives one value.
    """

    @abstractmethod
    def add(self, *args: Any) -> None:
        """Add one batch. Raises ValueError with the fault of a wrong batch."""

    @abstractmethod
    def state(self) -> State:
        """Return everything added so far, as python numbers and tensors on the CPU."""

    @abstractmethod
    def merge(self, state: State) -> None:
        """Add the state of another meter of this kind: another process's, or a checkpoint's into a fresh meter."""

    @abstractmethod
    def value(self) -> Any:
        """Return the measure as a float; None if it is undefined, for example without samples."""


class Average(Meter):
    """A sum over samples and their number, kept by torchnet's AverageValueMeter where that is installed."""

    def __init__(self) -> None:
        self._meter = average_counter()

    def _add_sum(self, total: float, n: float) -> None:
        # Torchnet wants the sum. The deviation that it also keeps has no meaning for n > 1, and can be the root of a
        # negative number; its warning is of no interest.
        if n:
            with np.errstate(invalid="ignore"):
                self._meter.add(total, n)

    def state(self) -> State:
        n = float(self._meter.n)  # of weighted samples no whole number
        return {"sum": float(self._meter.sum), "n": int(n) if n.is_integer() else n}

    def merge(self, state: State) -> None:
        self._add_sum(state["sum"], state["n"])

    def value(self) -> float | None:
        # From the sum: torchnet's own mean is a recurrence, whose rounding depends on the batches.
        return float(self._meter.sum / self._meter.n) if self._meter.n else None


class Mean(Average):
    """The mean over samples of a value that is known batch by batch, such as a loss, and its deviation `std`.

    `mean` and `std` are the names of torchnet's AverageValueMeter (book, section 6.1.8), whose value() is both.
    """

    def __init__(self) -> None:
        super().__init__()
        self._squares = 0.0  # the sum over samples of squared distances from the mean

    @property
    def mean(self) -> float | None:
        """The same as value()."""
        return self.value()

    @property
    def std(self) -> float | None:
        """The deviation over samples, by n - 1, where each has the mean of its batch; None for fewer than two.

        So it is that of the samples where each was added alone, and smaller where batches were.
        """
        n = float(self._meter.n)
        return math.sqrt(self._squares / (n - 1)) if n > 1 else None

    def state(self) -> State:
        return {**super().state(), "squares": self._squares}

    def merge(self, state: State) -> None:
        self._add_part(state["sum"], state["n"], state["squares"])

    def _add_part(self, total: float, n: float, squares: float) -> None:
        """Add samples with their sum and their own squared distances (Chan, Golub and LeVeque, 1979)."""
        before = float(self._meter.n)
        apart = total / n - float(self._meter.sum) / before if n and before else 0.0
        self._squares += squares + (apart * apart * before * n / (before + n) if apart else 0.0)
        self._add_sum(total, n)

    def add(self, value: float | Tensor, n: float | Tensor) -> None:
        """Add a `value` (a number, or a tensor of one element) that is the mean over `n` samples, or their weights."""
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise ValueError(f"a mean is one number, not a tensor of shape {list(value.shape)}")
            value = float(value.detach().double())
        n = float(n) if isinstance(n, Tensor) else n
        if n < 0:
            raise ValueError(f"a batch cannot hold {n} samples")
        self._add_part(value * n, n, 0.0)
