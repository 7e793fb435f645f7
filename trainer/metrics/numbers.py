"""Metrics of numbers, in the unit of the data's files."""

import numpy as np

from trainer.metrics._metric import Metric, Predictions
from utils.errors import DataError

__all__ = ["mae", "r2", "rmsle"]


class mae(Metric):
    """The mean absolute error, in the unit of the data's files."""

    better = "min"
    fits = ("numbers",)

    def value(self, found: Predictions) -> float | None:
        from sklearn.metrics import mean_absolute_error

        return mean_absolute_error(found.truth, found.scores)


class r2(Metric):
    """The fraction of the variance that is explained, R²: 0 for the mean of the truth, 1 for all right."""

    fits = ("numbers",)

    def value(self, found: Predictions) -> float | None:
        from sklearn.metrics import r2_score

        return r2_score(found.truth, found.scores)


class rmsle(Metric):
    """The root mean squared error of log(1 + x), for a truth that is never negative; predictions below 0 count as 0."""

    better = "min"
    fits = ("numbers",)

    def value(self, found: Predictions) -> float | None:
        from sklearn.metrics import root_mean_squared_log_error

        # the truth has been standardised, and 0 may come back a little below
        if (least := float(found.truth.min())) < -1e-4 * max(1.0, float(np.abs(found.truth).max())):
            raise DataError(
                f"task.metrics_too: rmsle: the truth goes down to {least:.4g}, and it takes no numbers below 0; take "
                "mae or r2"
            )
        return root_mean_squared_log_error(found.truth.clip(0), found.scores.clip(0))
