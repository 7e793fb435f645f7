"""Metrics of predicted classes, as scikit-learn has them."""

from trainer.metrics._metric import Metric, Predictions

__all__ = ["balanced_accuracy", "macro_f1", "mcc", "quadratic_kappa"]


class quadratic_kappa(Metric):  # scikit-learn's and Kaggle's words
    """Cohen's kappa with quadratic weights, for classes in an order: 0 for chance, 1 for all right."""

    fits = ("classes", "pixels")
    of_choices = True

    def value(self, found: Predictions) -> float | None:
        from sklearn.metrics import cohen_kappa_score

        return cohen_kappa_score(found.truth, found.scores, weights="quadratic", sample_weight=found.counts)


class balanced_accuracy(Metric):
    """The mean over the classes of the fraction of a class that is found."""

    fits = ("classes", "pixels")
    of_choices = True

    def value(self, found: Predictions) -> float | None:
        from sklearn.metrics import balanced_accuracy_score

        return balanced_accuracy_score(found.truth, found.scores, sample_weight=found.counts)


class macro_f1(Metric):
    """The mean of the classes' F1, of those that occur in truth or predictions, also for two classes."""

    fits = ("classes", "pixels")
    of_choices = True

    def value(self, found: Predictions) -> float | None:
        from sklearn.metrics import f1_score

        return f1_score(found.truth, found.scores, average="macro", sample_weight=found.counts, zero_division=0.0)


class mcc(Metric):
    """Matthews's correlation of predicted and true classes: 0 for chance, 1 for all right."""

    fits = ("classes", "pixels")
    of_choices = True

    def value(self, found: Predictions) -> float | None:
        from sklearn.metrics import matthews_corrcoef

        return matthews_corrcoef(found.truth, found.scores, sample_weight=found.counts)
