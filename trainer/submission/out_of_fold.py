"""oof.csv of several k-fold studies, joined by id: how well a mean of the studies predicts the rows held out."""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from trainer.submission.average import Predictions
from trainer.task import Row
from utils.errors import CheckpointError, DataError
from utils.runs.study import Study

__all__ = ["OOF", "HeldOut", "held_out", "loss_of"]

OOF = "oof.csv"
LEAST = 1e-16  # of a probability, whose logarithm is finite


class HeldOut(NamedTuple):
    """Rows by id, each predicted by the runs that did not see it, and their truth: a class, labels or numbers."""

    rows: dict[str, Row]
    truth: dict[str, list[str]]


def held_out(studies: Sequence[Study]) -> list[HeldOut]:
    """Return the rows of each study's oof.csv, in the order of the first.

    Raises CheckpointError for a study without the file, DataError where two have other rows, truths or columns.
    """
    found = [_read(study) for study in studies]
    first = found[0]
    for study, other in zip(studies, found, strict=True):
        names = f"{studies[0].path} and {study.path}"
        if different := sorted(first.truth.keys() ^ other.truth.keys()):
            told = f"{len(different):,} ids are in one {OOF} alone, as {different[0]}"
            raise DataError(f"{names} hold out other rows: {told}; average studies of the same training data")
        if wrong := next((key for key, truth in first.truth.items() if other.truth[key] != truth), None):
            raise DataError(f"{names} have another truth for the row {wrong}; average studies of the same data")
        if {*next(iter(first.rows.values()))} != {*next(iter(other.rows.values()))}:
            raise DataError(f"{names} predict other columns; average studies of the same classes")
    return [HeldOut({key: other.rows[key] for key in first.rows}, first.truth) for other in found]


def _read(study: Study) -> HeldOut:
    """Return the rows of a study's oof.csv: id, truth, predictions, child."""
    file = study.path / OOF
    try:
        with open(file, encoding="utf-8", newline="") as stream:
            header, *lines = csv.reader(stream)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{study.path}: has no {OOF}, with which climb finds its weights; a kfold of classes, labels or numbers "
            "writes it when all folds are done; take --test.average=mean"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: is damaged; kfold --resume={study.path} writes it again") from error
    truths = 1 if header[1] == "truth" else (len(header) - 2) // 2
    columns = header[1 + truths : -1]
    try:
        rows: dict[str, Row] = {
            line[0]: dict(zip(columns, map(float, line[1 + truths : -1]), strict=True)) for line in lines
        }
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"{file}: is damaged; kfold --resume={study.path} writes it again") from error
    return HeldOut(rows, {line[0]: line[1 : 1 + truths] for line in lines})


def loss_of(truth: Mapping[str, Sequence[str]], meta: Mapping[str, Any]) -> tuple[str, Callable[[Predictions], float]]:
    """Return the name of the loss that these truths allow, and the loss of predictions: the smaller the better.

    It is the log loss of classes or labels, and the RMSE of numbers, of their logarithms where those were learned.
    """
    if "outputs" in meta or not meta.get("classes"):
        return "rmse", lambda rows: _rmse(rows, truth, meta.get("outputs") or ())
    classes = list(map(str, meta["classes"]))
    if len(next(iter(truth.values()))) == 1 and len(classes) > 1:
        return "log_loss", lambda rows: _mean_log(rows[key][name] for key, (name,) in truth.items())
    return "log_loss", lambda rows: _mean_log(_of_labels(rows, truth))


def _mean_log(right: Any) -> float:
    """Return the mean of -log of the probabilities of the truth."""
    return -float(np.log(np.fromiter(right, float).clip(LEAST)).mean())


def _of_labels(rows: Predictions, truth: Mapping[str, Sequence[str]]) -> Any:
    for key, labels in truth.items():
        for value, label in zip(rows[key].values(), labels, strict=True):
            yield value if float(label) > 0.5 else 1 - value


def _rmse(rows: Predictions, truth: Mapping[str, Sequence[str]], outputs: Sequence[Mapping[str, Any]]) -> float:
    found = np.array([list(rows[key].values()) for key in truth], float)
    right = np.array([list(map(float, values)) for values in truth.values()])
    for place, output in enumerate(outputs):
        if output.get("log"):
            found[:, place], right[:, place] = np.log1p(found[:, place]), np.log1p(right[:, place])
    return math.sqrt(float(np.square(found - right).mean()))
