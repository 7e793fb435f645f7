"""Measures of a classifier: fed batch by batch, stored in a checkpoint, merged over processes.

Torchnet's meters count where they are correct (means and confusion matrices). This file adds half precision, gradients,
checks with messages, and states that can be merged; counting.py takes torchnet's place where that is missing.
"""

import numpy as np
import torch
from torch import Tensor

from utils.meters.base import Average, Meter, State
from utils.meters.counting import confusion_counter
from utils.meters.roc import area_under_roc

__all__ = ["AUC", "F1", "Accuracy", "Confusion", "LogLoss"]


class Confusion(Meter):
    """How often each class was predicted as each: row = truth, column = prediction."""

    def __init__(self, num_classes: int) -> None:
        if num_classes < 1:
            raise ValueError(f"a confusion matrix needs at least one class, not {num_classes}")
        self.num_classes = num_classes
        self._meter = confusion_counter(num_classes)

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Add scores [N, C] (the highest is the prediction) or predicted classes [N], and the true classes [N]."""
        predictions, truth = _predictions(outputs, targets, self.num_classes)
        if len(truth):
            self._meter.add(predictions, truth)

    def state(self) -> State:
        return {"counts": torch.from_numpy(self._meter.conf.copy())}

    def merge(self, state: State) -> None:
        counts = state["counts"].cpu().numpy()
        if counts.shape != self._meter.conf.shape:
            raise ValueError(f"cannot merge a confusion matrix of {len(counts)} classes into {self.num_classes}")
        self._meter.conf += counts

    def value(self) -> np.ndarray:
        """Return the counts, an integer array [C, C]."""
        return self._meter.conf.copy()


class Accuracy(Average):
    """The fraction of samples, in [0, 1], whose true class is among the `k` highest scores.

    Of equal scores the first counts as the higher, as in argmax. A row with a NaN is a miss.
    """

    def __init__(self, k: int = 1) -> None:
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        super().__init__()
        self.k = k

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Add scores [N, C], or with k=1 predicted classes [N], and the true classes [N]."""
        outputs = torch.as_tensor(outputs)
        if outputs.dim() == 1 and self.k == 1:
            predictions, truth = _classes(outputs, "predictions"), _classes(targets, "targets")
            _check_lengths(predictions, truth)
            hits = predictions == truth
        else:
            hits = self._hits(*_scores_and_classes(outputs, targets))
        self._add_sum(int(hits.sum()), len(hits))

    def _hits(self, scores: Tensor, truth: Tensor) -> Tensor:
        if self.k > scores.shape[1]:
            raise ValueError(f"the top {self.k} of {scores.shape[1]} classes is not a measure")
        true_score = scores.gather(1, truth[:, None])  # [N, 1]
        earlier = torch.arange(scores.shape[1])[None, :] < truth[:, None]  # [N, C]
        beaten_by = (scores > true_score) | (earlier & (scores == true_score))
        return (beaten_by.sum(1) < self.k) & ~scores.isnan().any(1)


class F1(Meter):
    """The harmonic mean of precision and recall, from a confusion matrix.

    With `positive` it is that of this class, the usual choice for two classes. Without it, it is the plain mean over
    the classes that occur in truth or predictions. It is None if no such class occurs.
    """

    def __init__(self, num_classes: int, positive: int | None = None) -> None:
        if positive is not None and not 0 <= positive < num_classes:
            raise ValueError(f"the positive class {positive} is not one of 0 to {num_classes - 1}")
        self.positive = positive
        self._confusion = Confusion(num_classes)

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Add scores [N, C] or predicted classes [N], and the true classes [N]."""
        self._confusion.add(outputs, targets)

    def state(self) -> State:
        return self._confusion.state()

    def merge(self, state: State) -> None:
        self._confusion.merge(state)

    def value(self) -> float | None:
        counts = self._confusion.value()
        hits = np.diag(counts)
        seen = counts.sum(0) + counts.sum(1)  # predicted + true, a class: F1 = 2 hits / (predicted + true)
        chosen = seen > 0
        if self.positive is not None:
            chosen &= np.arange(len(seen)) == self.positive
        return float(np.mean(2 * hits[chosen] / seen[chosen])) if chosen.any() else None


class LogLoss(Average):
    """The mean of -log p(true class), in nats, from logits: the softmax is computed here, in double precision."""

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """Add logits [N, C], not probabilities, and the true classes [N]."""
        scores, truth = _scores_and_classes(logits, targets)
        self._add_sum(-float(scores.double().log_softmax(1).gather(1, truth[:, None]).sum()), len(truth))


class AUC(Meter):
    """The area under the ROC curve over all samples; for several classes, the mean of one against the rest.

    Every score is kept until the end, because an area is no sum: 12 bytes a sample for two classes, 8 (C + 1) for C. It
    is None while fewer than two classes occur in the truth. A class that never occurs is left out of the mean.
    """

    def __init__(self) -> None:
        self._scores: list[Tensor] = []
        self._targets: list[Tensor] = []

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Add scores [N] (higher = class 1) or logits [N, C], and the true classes [N]."""
        outputs = torch.as_tensor(outputs)
        if outputs.dim() == 1:
            scores, truth = _floats(outputs), _classes(targets, "targets")
            _check_lengths(scores, truth)
            _check_range(truth, 2, "targets")
        else:
            scores, truth = _scores_and_classes(outputs, targets)
            scores = _ranking(scores)
        self._keep(scores, truth)

    def _keep(self, scores: Tensor, truth: Tensor) -> None:
        if self._scores and self._scores[0].shape[1:] != scores.shape[1:]:
            raise ValueError(
                f"scores of shape {list(scores.shape)} do not go with {list(self._scores[0].shape)} added before"
            )
        if len(scores):
            self._scores.append(scores.clone())
            self._targets.append(truth.clone())

    def state(self) -> State:
        if not self._scores:
            return {"scores": torch.empty(0), "targets": torch.empty(0, dtype=torch.int64)}
        return {"scores": torch.cat(self._scores), "targets": torch.cat(self._targets)}

    def merge(self, state: State) -> None:
        if len(state["targets"]):
            self._keep(state["scores"].cpu(), state["targets"].cpu())

    def value(self) -> float | None:
        state = self.state()
        scores, truth = state["scores"].numpy(), state["targets"].numpy()
        present = np.unique(truth)
        if len(present) < 2:
            return None
        if np.isnan(scores).any():
            return float("nan")
        if scores.ndim == 1:
            return area_under_roc(truth == 1, scores)
        return float(np.mean([area_under_roc(truth == c, scores[:, c]) for c in present]))


def _ranking(logits: Tensor) -> Tensor:
    """Return the values that rank the samples: the second logit minus the first [N] for two classes, otherwise [N, C].

    For more classes they are probabilities.
    """
    if logits.shape[1] == 2:
        return logits[:, 1] - logits[:, 0]  # gives the order of the probabilities, without their ties near 0 and 1
    return logits.double().softmax(1)


def _predictions(outputs: Tensor, targets: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return predicted and true classes, each int64 [N] in [0, num_classes) on the CPU."""
    outputs = torch.as_tensor(outputs)
    if outputs.dim() == 2:
        if outputs.shape[1] != num_classes:
            raise ValueError(f"scores of shape {list(outputs.shape)} for {num_classes} classes")
        outputs = outputs.detach().argmax(1)
    predictions, truth = _classes(outputs, "predictions"), _classes(targets, "targets")
    _check_lengths(predictions, truth)
    _check_range(predictions, num_classes, "predictions")
    _check_range(truth, num_classes, "targets")
    return predictions, truth


def _scores_and_classes(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores [N, C] as floats and true classes [N], checked, on the CPU."""
    scores = torch.as_tensor(scores)
    if scores.dim() != 2 or scores.shape[1] < 2:
        raise ValueError(f"scores must be [N, C] with at least 2 classes, not {list(scores.shape)}")
    scores, truth = _floats(scores), _classes(targets, "targets")
    _check_lengths(scores, truth)
    _check_range(truth, scores.shape[1], "targets")
    return scores, truth


def _floats(values: Tensor) -> Tensor:
    """Return the values on the CPU, without gradient; half precision is widened, double precision kept."""
    values = values.detach()
    return values.to("cpu", torch.float64 if values.dtype == torch.float64 else torch.float32)


def _classes(values: Tensor, name: str) -> Tensor:
    """Return class numbers as int64 [N] on the CPU."""
    values = torch.as_tensor(values).detach()
    if values.dim() != 1:
        raise ValueError(f"{name} must be class numbers of shape [N], not {list(values.shape)}")
    if values.is_floating_point() or values.is_complex():
        raise ValueError(f"{name} must be whole numbers, not {values.dtype}")
    return values.to("cpu", torch.int64)


def _check_lengths(outputs: Tensor, truth: Tensor) -> None:
    if len(outputs) != len(truth):
        raise ValueError(f"{len(outputs)} outputs do not go with {len(truth)} targets")


def _check_range(classes: Tensor, num_classes: int, name: str) -> None:
    if len(classes) and not (int(classes.min()) >= 0 and int(classes.max()) < num_classes):
        low, high = int(classes.min()), int(classes.max())
        raise ValueError(f"{name} must be from 0 to {num_classes - 1}, but run from {low} to {high}")
