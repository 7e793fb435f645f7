"""Any number of labels for each input, each learned as yes or no."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from trainer.losses._measure import check_fit, learn, mean_of, measure, outputs_due
from trainer.losses.soft_target import SoftTargetCrossEntropy
from trainer.metrics._collected import with_metrics
from trainer.metrics._metric import Metric, Predictions
from trainer.metrics.rankings import average_precision
from trainer.task import Row, Task, Update, output_of, pair_of
from utils.config.ranges import Range
from utils.errors import ConfigError, DataError
from utils.meters import Mean, Meter

__all__ = ["MultiLabel"]

OVER_CLASSES = (nn.CrossEntropyLoss, SoftTargetCrossEntropy)  # they would take labels for probabilities of one class
SIGN = ";"  # between the names of a row, unless the data have another one


Measure = Callable[[np.ndarray, np.ndarray], float]  # of truth and choices, bools [N, L]


class MultiLabel(Task):
    """Multi-label classification over (input, labels) batches, labels [B, L] of 0 and 1.

    The network gives a logit for each label, whose sigmoid is the label's probability. `loss` takes logits and labels
    of one shape; without one it is BCEWithLogitsLoss. A label is predicted from `threshold` on: a number, or a list of
    one for each label. `average_precision` is the mean over labels, mAP; `accuracy` is over samples and labels, and
    `exact_match` the fraction of samples whose labels are all right. `test` writes the probability of each label, or
    with test.output label or class the names of those predicted, with `separator` between: the sign of the data, or ;.
    """

    metrics: ClassVar[Mapping[str, str]] = {
        "average_precision": "max",
        "macro_f1": "max",
        "micro_f1": "max",
        "accuracy": "max",
        "exact_match": "max",
        "loss": "min",
    }
    target_kind: ClassVar[str] = "labels"
    predicted_kind: ClassVar[str] = "labels"
    unsaved: ClassVar[tuple[str, ...]] = ("loss",)

    def __init__(
        self,
        model: nn.Module,
        classes: Sequence[str] = (),
        output: str = "probability",
        threshold: Annotated[float | Sequence[float], Range(0, 1)] = 0.5,
        separator: str | None = None,
        loss: Annotated[nn.Module, "loss"] | None = None,
    ):
        """`classes` are the names of the labels in their order; `output` says what `test_step` writes.

        Raises ConfigError for another number of thresholds, or a loss that does not take logits and labels, DataError
        for data that tell no labels.
        """
        super().__init__()
        if not classes:
            raise DataError(
                "data.dataset: it tells no labels; CSVImages does, and one of your own by meta = {'classes': …}"
            )
        self.model, self.loss, self.output = model, loss or nn.BCEWithLogitsLoss(), output
        self.classes, self.separator = list(classes), separator or SIGN
        self.thresholds = [threshold] * len(classes) if isinstance(threshold, int | float) else list(threshold)
        if len(self.thresholds) != len(classes):
            told = f"{len(self.thresholds)} thresholds for {len(classes)} labels ({', '.join(self.classes[:5])}, …)"
            raise ConfigError(f"task.threshold: {told}; give one number, or one for each")
        self._fit_loss()

    def train_step(self, batch: Any, update: Update) -> dict[str, Tensor]:
        logits, labels = self._pair(batch)
        return {"loss": learn(update, *measure(self.loss, logits, labels), len(labels))}

    def at_chance(self) -> dict[str, float]:
        """Return the loss of 0.5 for each label, where nothing is weighted."""
        plain = isinstance(self.loss, (nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss))
        weights = getattr(self.loss, "weight", None), getattr(self.loss, "pos_weight", None)
        return {"loss": math.log(2)} if plain and weights == (None, None) and self.loss.reduction == "mean" else {}

    def outputs_due(self) -> Literal["logits", "log-probabilities", ""]:
        return outputs_due(self.loss)

    def meters(self) -> dict[str, Meter]:
        measures: dict[str, Measure] = {
            "macro_f1": _f1,
            "micro_f1": partial(_f1, average="micro"),
            "accuracy": _accuracy,
        }
        measures |= {"exact_match": lambda truth, chosen: float((truth == chosen).all(1).mean())}
        own: dict[str, Metric] = {"average_precision": average_precision()}
        own |= {name: _Decided(self.thresholds, one) for name, one in measures.items()}
        return with_metrics({"loss": Mean()}, own, self)

    def val_step(self, batch: Any, meters: Mapping[str, Any]) -> None:
        logits, labels = self._pair(batch)
        meters["loss"].add(*mean_of(*measure(self.loss, logits.float(), labels), len(labels)))
        meters["predictions"].add(logits.double().sigmoid(), labels)

    def test_step(self, batch: Any) -> list[Row]:
        inputs = batch[0] if isinstance(batch, (list, tuple)) else batch  # a test split may have no labels
        rows = [dict(zip(self.classes, row, strict=True)) for row in self.label_probabilities(inputs).tolist()]
        return rows if self.output == "probability" else [{"labels": self.names_of(row)} for row in rows]

    def predicts(self) -> str:
        """Return how the names of predicted labels are chosen and written."""
        if self.output == "probability":
            return ""
        return f"the labels from their thresholds on (task.threshold), with '{self.separator}' between"

    def label_probabilities(self, inputs: Tensor) -> Tensor:
        """Return the probability of each label, in double precision on the CPU, [B, L]."""
        return _probabilities(self._logits(inputs))

    def names_of(self, row: Row) -> str:
        """Return the names of the labels that a row of probabilities predicts, with the separator between them."""
        pairs = zip(self.classes, self.thresholds, strict=True)
        return self.separator.join(name for name, threshold in pairs if row[name] >= threshold)

    def _fit_loss(self) -> None:
        """Raises ConfigError for a loss that does not take logits and labels, or takes them for classes."""
        name = type(self.loss).__name__
        if isinstance(self.loss, OVER_CLASSES):
            raise ConfigError(f"task.loss: {name} is over classes of which one is true; take Classification")
        if isinstance(self.loss, nn.BCELoss):
            raise ConfigError("task.loss: BCELoss takes probabilities, and MultiLabel gives logits: BCEWithLogitsLoss")
        shape = 3, len(self.classes)
        check_fit(
            self.loss, [torch.zeros(shape), torch.zeros(shape)], f"logits of {shape[1]} labels and 0 or 1 of each"
        )

    def _logits(self, inputs: Tensor) -> Tensor:
        """Return [B, L]. Raises ConfigError where the network gives another number of labels."""
        logits = output_of(self.model, inputs, rank=2)
        if logits.shape[1] != len(self.classes):
            given = f"{list(logits.shape[1:])} for each sample, the data has {len(self.classes)} labels"
            raise ConfigError(f"model: gives {given}; see model.num_classes")
        return logits

    def _pair(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return logits and labels [B, L] as floats. Raises DataError for labels of another shape."""
        inputs, labels = pair_of(batch)
        if labels.ndim != 2 or labels.shape[1] != len(self.classes):
            shape = f"labels of shape {list(labels.shape[1:])} for each sample"
            due = f"0 or 1 for each of {len(self.classes)} labels is due, [{len(self.classes)}]"
            raise DataError(f"data.dataset: gives {shape}, where {due}; for one class of several take Classification")
        return self._logits(inputs), labels.float()


class _Decided(Metric):
    """A measure of the labels that are predicted from their thresholds on, each as bools [N, L]."""

    fits = ("labels",)

    def __init__(self, thresholds: Sequence[float], measure: Measure):
        self.thresholds, self.measure = np.array(thresholds), measure

    def value(self, found: Predictions) -> float | None:
        return self.measure(found.truth > 0.5, found.scores >= self.thresholds)


def _f1(truth: np.ndarray, chosen: np.ndarray, average: str = "macro") -> float:
    from sklearn.metrics import f1_score

    if truth.shape[1] == 1:  # scikit-learn takes one column for two classes
        return f1_score(truth[:, 0], chosen[:, 0], zero_division=0.0)
    return f1_score(truth, chosen, average=average, zero_division=0.0)


def _accuracy(truth: np.ndarray, chosen: np.ndarray) -> float:
    return float((truth == chosen).mean())


def _probabilities(logits: Tensor) -> Tensor:
    """Return probabilities in double precision, in which 1 - p of a sure network is more than 0."""
    return logits.detach().cpu().double().sigmoid()
