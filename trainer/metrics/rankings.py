"""Metrics of probabilities: how high what is true ranks."""

from typing import Annotated

import numpy as np

from trainer.metrics._metric import Metric, Predictions, mean_of
from utils.config.ranges import Range

__all__ = ["average_precision", "map_at_k", "roc_auc_ovr", "top_k"]


class average_precision(Metric):
    """The area under precision over recall: of the positive of two classes, otherwise the mean over classes or labels.

    One that never occurs in the truth is left out of the mean. Of labels it is mAP, the mean average precision.
    """

    fits = ("classes", "labels")

    def value(self, found: Predictions) -> float | None:
        from sklearn.metrics import average_precision_score

        return mean_of([average_precision_score(t, scores) if t.any() else None for t, scores in found.columns()])


class roc_auc_ovr(Metric):
    """The area under the ROC curve: the mean over classes or labels, each against the rest.

    One that always or never occurs in the truth is left out of the mean.
    """

    fits = ("classes", "labels")

    def value(self, found: Predictions) -> float | None:
        from sklearn.metrics import roc_auc_score

        areas = [roc_auc_score(t, s) if t.any() and not t.all() else None for t, s in found.columns()]
        return mean_of(areas)


class map_at_k(Metric):
    """Kaggle's MAP@k: of a sample with one class 1 / its rank, 0 below k; of labels the average precision at k.

    `map_at_3` is {name: map_at_k, k: 3}; so are 1, 5 and 10. Of labels it is the sum of the precision at each true one
    of the first k, over the number of true ones, k at most; samples without a label are left out.
    """

    fits = ("classes", "labels")
    label = "map_at_{k}"

    def __init__(self, k: Annotated[int, Range(1, 100)] = 5):
        self.k = k

    def value(self, found: Predictions) -> float | None:
        truth = found.truth > 0.5 if found.kind == "labels" else _marked(found)
        order = np.argsort(-found.scores, axis=1, kind="stable")[:, : self.k]
        hits = np.take_along_axis(truth, order, 1)
        precision = hits.cumsum(1) / np.arange(1, hits.shape[1] + 1)
        due = np.minimum(truth.sum(1), self.k)
        counted = due > 0
        return float(np.mean((precision * hits).sum(1)[counted] / due[counted])) if counted.any() else None


class top_k(Metric):
    """The fraction of samples whose true class is among the k most probable.

    `top3` is {name: top_k, k: 3}; so are 2, 5 and 10.
    """

    fits = ("classes",)
    label = "top{k}"

    def __init__(self, k: Annotated[int, Range(1, 100)] = 5):
        self.k = k

    def fewest(self) -> int:
        return self.k + 1

    def value(self, found: Predictions) -> float | None:
        order = np.argsort(-found.scores, axis=1, kind="stable")[:, : self.k]
        return float(np.take_along_axis(_marked(found), order, 1).any(1).mean())


def _marked(found: Predictions) -> np.ndarray:
    """Return which class is the true one, bool [N, C]."""
    return found.truth[:, None] == np.arange(found.scores.shape[1])
