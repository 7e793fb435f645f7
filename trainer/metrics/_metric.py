"""Metric: one number from the predictions of a whole split."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

__all__ = ["Metric", "Predictions", "mean_of"]


@dataclass(frozen=True)
class Predictions:
    """The predictions of a split beside the truth, by `kind`:

    - classes: truth [N] of class numbers, scores [N, C] of probabilities; `positive` is the class that is told, of two;
    - labels: truth [N, L] of 0 and 1, scores [N, L] of probabilities;
    - numbers: truth and scores [N, outputs], in the unit of the data's files;
    - choices, for a metric of them: truth [M] and scores [M] of class numbers, each pair once, with its count.
    """

    kind: str
    truth: np.ndarray
    scores: np.ndarray
    counts: np.ndarray | None = None
    positive: int = 1

    def columns(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield truth as booleans [N] and scores [N] of each label, or class; of two classes that of the positive."""
        if self.kind == "labels":
            yield from zip(self.truth.T > 0.5, self.scores.T, strict=True)
        else:
            classes = self.scores.shape[1]
            for number in [self.positive] if classes == 2 else range(classes):
                yield self.truth == number, self.scores[:, number]


class Metric(ABC):
    """A metric of task.metrics_too: a class whose constructor is its arguments, and whose docstring's first line is its
    help.
    """

    better: ClassVar[str] = "max"
    fits: ClassVar[tuple[str, ...]] = ()  # kinds of predictions: classes, pixels, labels, numbers
    label: ClassVar[str] = ""  # its name in the journal, with arguments as {k}; empty: that of the class
    of_choices: ClassVar[bool] = False  # whether it takes predicted classes, and no scores

    @abstractmethod
    def value(self, found: Predictions) -> float | None:
        """Return the metric; None where it is undefined. Raises DataError for a truth that it cannot take."""

    def fewest(self) -> int:
        """Return the fewest classes that it needs to tell anything."""
        return 2


def mean_of(values: list[Any]) -> float | None:
    """Return the mean of the known values; None where there is none."""
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else None
