"""How metrics of a whole split get it: one meter keeps predictions and truth, and each metric is a view of it."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.metrics._metric import Metric, Predictions
from utils.errors import ConfigError, DataError
from utils.meters import Meter

__all__ = ["PREDICTIONS", "Measured", "Predicted", "with_metrics"]

PREDICTIONS = "predictions"  # the meter that a task's val_step hands scores and targets to
MOST = 2**27  # numbers that are kept of a split: 1 GB
PAIR = 2**31  # of a truth and a choice as one number


def with_metrics(meters: Mapping[str, Meter], metrics: Mapping[str, Metric], task: Any) -> dict[str, Meter]:
    """Return the meters of a task, and those of further metrics by name; a name that it measures itself stays its own.

    Raises ConfigError for a metric that wants more classes than there are.
    """
    wanted = {name: metric for name, metric in metrics.items() if name not in meters}
    if not wanted:
        return dict(meters)
    classes = len(getattr(task, "classes", ()))
    for name, metric in wanted.items() if classes and task.predicted_kind == "classes" else ():
        if classes < metric.fewest():
            raise ConfigError(f"task.metrics_too: {name} needs {metric.fewest()} classes, and there are {classes}")
    predicted = meters.get(PREDICTIONS)
    if not isinstance(predicted, Predicted):  # a task may measure by such metrics itself
        predicted = Predicted(task.predicted_kind, list(wanted.values()), getattr(task, "positive", 1))
    return {**meters, PREDICTIONS: predicted, **{name: Measured(one, predicted) for name, one in wanted.items()}}


class Predicted(Meter):
    """Predictions and truth, as far as the metrics need them: every score, 8 bytes each, or how often which class was
    taken for which.
    """

    def __init__(self, kind: str, metrics: Sequence[Metric], positive: int = 1):
        """`kind`: classes, pixels, labels or numbers; `positive`: the class that is told, of two."""
        self.kind, self.positive = kind, positive
        self.choices = any(metric.of_choices for metric in metrics)
        self.scores = not all(metric.of_choices for metric in metrics)
        self.kept: list[tuple[Tensor, Tensor]] = []
        self.pairs: dict[int, int] = {}  # counts by truth * PAIR + choice

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Add scores [N, …] and their truth, see Predictions; of pixels the predicted classes [N].

        Raises DataError for labels that are not 0 and 1, and for more numbers than there is room for.
        """
        outputs, targets = outputs.detach().cpu(), targets.detach().cpu()
        if self.kind == "labels" and not bool(((targets == 0) | (targets == 1)).all()):
            raise DataError("the labels of validation are not 0 and 1 for each sample and label; see data.dataset")
        if self.choices:
            chosen = outputs if outputs.ndim == 1 else outputs.argmax(1)
            self._count(*torch.unique(targets.long() * PAIR + chosen.long(), return_counts=True))
        if self.scores:
            self._keep(outputs.double(), targets)

    def _keep(self, scores: Tensor, targets: Tensor) -> None:
        self.kept.append((scores, targets))
        if sum(part.numel() for part, _ in self.kept) > MOST:
            raise DataError(
                f"task.metrics_too: more than {MOST:,} predictions of validation have no room in memory; take metrics "
                "of predicted classes, such as macro_f1, or fewer validation samples"
            )

    def _count(self, codes: Tensor, counts: Tensor) -> None:
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            self.pairs[code] = self.pairs.get(code, 0) + count

    def state(self) -> dict[str, Any]:
        """Return the pairs and their counts, and the scores with their truth, if there are any."""
        pairs = {"codes": torch.tensor(list(self.pairs)), "counts": torch.tensor(list(self.pairs.values()))}
        scores, targets = (torch.cat(parts) for parts in zip(*self.kept, strict=True)) if self.kept else (None, None)
        return pairs | ({} if scores is None else {"scores": scores, "targets": targets})

    def merge(self, state: Mapping[str, Any]) -> None:
        self._count(state["codes"], state["counts"])
        if "scores" in state:
            self._keep(state["scores"], state["targets"])

    def value(self) -> None:
        """Return nothing: the metrics are views of it."""

    def found(self, metric: Metric) -> Predictions | None:
        """Return what a metric takes; None without samples."""
        if metric.of_choices:
            codes, counts = np.array(sorted(self.pairs), dtype=np.int64), None
            if not len(codes):
                return None
            counts = np.array([self.pairs[code] for code in codes.tolist()])
            return Predictions("choices", codes // PAIR, codes % PAIR, counts)
        if not self.kept:
            return None
        state = self.state()
        return Predictions(self.kind, state["targets"].numpy(), state["scores"].numpy(), positive=self.positive)


class Measured(Meter):
    """A metric as a view of the predictions, which alone are fed and merged."""

    def __init__(self, metric: Metric, predicted: Predicted):
        self.metric, self.predicted = metric, predicted

    def add(self, *values: Any) -> None:
        """Leave the collecting to the predictions."""

    def state(self) -> dict[str, Any]:
        return {}

    def merge(self, state: Mapping[str, Any]) -> None:
        """Leave the merging to the predictions."""

    def value(self) -> float | None:
        """Return the metric; None where it is undefined, NaN where a prediction is not finite."""
        found = self.predicted.found(self.metric)
        if found is None:
            return None
        if not np.isfinite(found.scores).all():
            return float("nan")
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # of scikit-learn, about classes that do not occur
            value = self.metric.value(found)
        return None if value is None or np.isnan(value) else float(value)
