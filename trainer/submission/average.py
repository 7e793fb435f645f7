"""Averages of several runs' predictions of the same samples."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from trainer.task import Row
from utils.errors import ConfigError, DataError

__all__ = ["HOWS", "average", "climb"]

HOWS = ("mean", "geometric", "rank", "climb")
ROUNDS = 50  # of hill climbing: a weight is a multiple of 1 / 50 at the finest
Predictions = Mapping[str, Row]  # by id; the row's columns are numbers


def average(
    predictions: Sequence[Predictions],
    how: str = "mean",
    weights: Sequence[float] | None = None,
    names: Sequence[str] = (),
) -> dict[str, Row]:
    """Return one prediction for each id from those of several runs, in the ids' order of the first.

    `how`: mean; geometric, which is made to add up to 1 where the runs' columns do; rank, the mean of each column's
    ranks as fractions of the number of ids, which keeps an order and no probability. `climb` is a mean with the weights
    that `climb` found. `weights` have the sum 1 (default: all equal); `names` are those of the runs, for messages.

    Raises DataError for other ids, other columns or text; ConfigError for another `how`, or one that does not fit.
    """
    if how not in HOWS:
        raise ConfigError(f"test.average: no '{how}'; there is {', '.join(HOWS)}")
    if how == "climb" and weights is None:
        raise ConfigError("test.average: climb needs the weights that hill climbing finds on validation predictions")
    values = _stacked(predictions, names or [f"run {i + 1}" for i in range(len(predictions))])
    shares = np.full(len(values), 1 / len(values)) if weights is None else np.asarray(weights, dtype=float)
    columns = list(next(iter(predictions[0].values())))
    if how == "geometric":
        found = _geometric(values, shares, columns)
    else:
        found = np.tensordot(shares, _ranks(values) if how == "rank" else values, 1)
    return {key: dict(zip(columns, row, strict=True)) for key, row in zip(predictions[0], found.tolist(), strict=True)}


def climb(
    predictions: Sequence[Predictions], score: Callable[[Predictions], float], rounds: int = ROUNDS
) -> list[float]:
    """Return the weight of each run for which `score` of the weighted mean, the smaller the better, is best.

    Caruana et al., "Ensemble Selection from Libraries of Models", 2004: begin with the best run, add the one that
    improves the mean most, with replacement, and end when none does. The weights have the sum 1.

    Raises DataError as `average` does.
    """
    one = np.eye(len(predictions))
    scores = [score(predictions[i]) for i in range(len(predictions))]
    counts, best = one[int(np.argmin(scores))], min(scores)
    for _ in range(rounds - 1):
        tried = [counts + chosen for chosen in one]
        scores = [score(average(predictions, weights=counted / counted.sum())) for counted in tried]
        if not min(scores) < best:
            break
        counts, best = tried[int(np.argmin(scores))], min(scores)
    return (counts / counts.sum()).tolist()


def _stacked(predictions: Sequence[Predictions], names: Sequence[str]) -> np.ndarray:
    """Return the numbers of all runs, float64 [runs, ids, columns]. Raises DataError where they do not go together."""
    first = predictions[0]
    columns = list(next(iter(first.values())))
    for name, other in zip(names, predictions, strict=True):
        if other.keys() != first.keys():
            few = ", ".join(sorted(other.keys() ^ first.keys())[:3])
            raise DataError(f"{names[0]} and {name} predict other ids ({few}); average runs of one test split")
        if set(found := next(iter(other.values()))) != set(columns):
            given = f"{', '.join(columns[:5])} and {', '.join([*found][:5])}"
            raise DataError(f"{names[0]} and {name} predict other columns ({given}); average runs of the same classes")
    if any(isinstance(value, str) or np.ndim(value) for value in next(iter(first.values())).values()):
        raise DataError(f"{names[0]} predicts text or pictures, which have no average; average runs of numbers")
    return np.array([[[other[key][column] for column in columns] for key in first] for other in predictions], float)


def _geometric(values: np.ndarray, shares: np.ndarray, columns: Sequence[str]) -> np.ndarray:
    """Return the geometric means [ids, columns]. Raises DataError for numbers that have none."""
    if (values < 0).any():
        raise DataError("test.average: geometric takes no numbers below 0, as these runs predict; take mean")
    two = columns == ["probability"]
    if two:
        values = np.concatenate([values, 1 - values], 2)
    with np.errstate(divide="ignore"):
        found = np.exp(np.tensordot(shares, np.log(values), 1))
    if two or np.allclose(values.sum(2), 1, atol=1e-4):
        # of runs that are certain of other classes nothing is left; then each class is as likely
        total = found.sum(1, keepdims=True)
        found = np.divide(found, total, out=np.full_like(found, 1 / found.shape[1]), where=total > 0)
    return found[:, :1] if two else found


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return each column's ranks in (0, 1); equal values share their mean rank."""
    found = np.empty_like(values)
    for run, column in np.ndindex(values.shape[0], values.shape[2]):
        _, places, counts = np.unique(values[run, :, column], return_inverse=True, return_counts=True)
        found[run, :, column] = (counts.cumsum() - counts / 2)[places] / values.shape[1]
    return found
