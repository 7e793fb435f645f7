"""Figures of a written file: the metrics that its cells alone give, beside the truth by id."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from data._masks import Table
from data._several import names_in
from trainer.metrics._metric import Predictions
from trainer.metrics.rankings import average_precision
from trainer.submission.run_lengths import decode_runs, run_columns
from trainer.tasks.segmentation import ClassIoU, MeanIoU, plain_names
from utils.errors import DataError
from utils.meters import Accuracy, Confusion, ErrorRate

__all__ = ["Figures", "Reader", "Unreadable", "reader_of"]

Cells = Sequence[Mapping[str, str]]  # of each sample: the cells of its line by predicted column
LEAST = 1e-16  # a probability below it may be 0 in a file


class Figures(NamedTuple):
    """Metrics by name, the confusion matrix of classes, and how many samples leave a doubt.

    `level`: two classes are level; `tiny`: the probability of the true class may be 0 in a file.
    """

    numbers: dict[str, float]
    confusion: np.ndarray | None = None
    level: int = 0
    tiny: int = 0


class Unreadable(Exception):
    """The columns of a file tell nothing that could be compared with the truth; the text says why."""


class Reader(NamedTuple):
    """Reads figures from the cells of a file; `flipped` reads those of a file with the other of two classes."""

    figures: Callable[[Cells, Sequence[Any]], Figures]
    flipped: Callable[[Cells, Sequence[Any]], Figures] | None = None


def reader_of(
    columns: Sequence[str],
    target: Tensor | str,
    meta: Mapping[str, Any],
    output: str,
    positive: str | None,
    folder: Path,
) -> Reader:
    """Return how columns are read; `target` is one sample's, `folder` that of the file.

    Raises Unreadable for columns that are neither of classes, nor of numbers, nor of masks, nor a column of texts.
    """
    if isinstance(target, str):
        if len(columns) != 1:
            raise Unreadable(f"its columns {', '.join(columns[:5])} are not one column of texts")
        return Reader(lambda cells, truth: _of_texts([row[columns[0]] for row in cells], truth))
    classes = list(map(str, meta.get("classes") or ()))
    if "mask_values" in meta and target.ndim == 2:
        chosen = {} if columns[0] == "mask" else run_columns(meta["mask_values"], classes, positive)
        masks = _Masks(chosen, meta["mask_values"], meta.get("ignored_class"), folder)
        if len(masks.runs) == 1 and masks.count > 2:
            named = plain_names([*map(str, classes or meta["mask_values"])])[masks.runs["rle"]]
            return Reader(partial(masks.of_one, name=f"iou_{named}"))
        return Reader(masks.figures)
    if target.ndim == 1 and target.is_floating_point() and "outputs" not in meta and len(target) == len(classes):
        labels = _Labels(columns, classes, str(meta.get("separator") or ";"))
        return Reader(labels.figures, None if labels.named else labels.flipped)
    if target.is_floating_point():
        return Reader(_Numbers(columns, meta.get("outputs") or ()).figures)
    if target.ndim or not classes:
        raise Unreadable("the targets of its data are neither classes, numbers nor masks")
    if set(columns) == set(classes):
        return Reader(lambda cells, truth: _of_scores(_floats(cells, classes), truth))
    if len(columns) > 1 or (output == "probability" and len(classes) != 2):
        raise Unreadable(f"its columns {', '.join(columns[:5])} are not the classes {', '.join(classes[:5])}")
    if output != "probability":
        return Reader(lambda cells, truth: _of_choices(_chosen(cells, columns[0], classes, output), truth, classes))
    place = len(classes) - 1 if positive is None else classes.index(positive)
    both = [lambda cells, truth, at=at: _of_scores(_two(cells, columns[0], at), truth) for at in (place, 1 - place)]
    return Reader(*both)


def _floats(cells: Cells, columns: Sequence[str]) -> Tensor:
    """Return the numbers of columns, float64 [N, columns]. Raises DataError for a cell that is none."""
    try:
        return torch.tensor([[float(row[name]) for name in columns] for row in cells], dtype=torch.float64)
    except ValueError as error:
        raise DataError(f"a written cell is no number: {error}; see the task's test_step") from error


def _two(cells: Cells, column: str, place: int) -> Tensor:
    """Return the probabilities of two classes [N, 2] from that of the class at `place`."""
    given = _floats(cells, [column])
    return torch.cat([given, 1 - given] if place == 0 else [1 - given, given], 1)


def _of_scores(scores: Tensor, truth: Sequence[Tensor]) -> Figures:
    labels, accuracy, confusion = torch.stack(list(truth)), Accuracy(), Confusion(scores.shape[1])
    accuracy.add(scores, labels)
    confusion.add(scores, labels)
    top = scores.topk(2, 1).values
    right = scores.gather(1, labels[:, None])
    numbers = {"accuracy": accuracy.value() or 0.0, "log_loss": -float(right.clamp(min=LEAST).log().mean())}
    level = int((top[:, 0] - top[:, 1] < 1e-6).sum())
    return Figures(numbers, confusion.value(), level, int((right < LEAST).sum()))


def _chosen(cells: Cells, column: str, classes: Sequence[str], output: str) -> Tensor:
    """Return the class number of each sample. Raises DataError for a cell that names none."""
    names = [name.encode("utf-8", "backslashreplace").decode() for name in classes]
    known = {name: i for i, name in enumerate(map(str, range(len(classes))) if output == "label" else names)}
    if odd := [row[column] for row in cells if row[column] not in known]:
        due = f"a class number from 0 to {len(classes) - 1}" if output == "label" else "the name of a class"
        raise DataError(f"the column '{column}' holds '{odd[0][:40]}', which is not {due}; see the task's test_step")
    return torch.tensor([known[row[column]] for row in cells])


def _of_choices(chosen: Tensor, truth: Sequence[Tensor], classes: Sequence[str]) -> Figures:
    labels, confusion = torch.stack(list(truth)), Confusion(len(classes))
    confusion.add(chosen, labels)
    return Figures({"accuracy": float((chosen == labels).double().mean())}, confusion.value())


class _Labels:
    """A column of probabilities for each label, or one column of names of labels."""

    def __init__(self, columns: Sequence[str], classes: Sequence[str], separator: str):
        self.columns, self.classes, self.separator = list(columns), list(classes), separator
        self.named = set(columns) != set(classes)
        if self.named and len(columns) > 1:
            raise Unreadable(f"its columns {', '.join(columns[:5])} are not the labels {', '.join(classes[:5])}")

    def figures(self, cells: Cells, truth: Sequence[Tensor]) -> Figures:
        """Return the mean average precision, or of names the F1 over all labels."""
        labels = torch.stack(list(truth)).numpy() > 0.5
        if not self.named:
            return self._of(_floats(cells, self.classes).numpy(), labels)
        chosen = np.array([[name in found for name in self.classes] for found in map(self._names, cells)])
        both, either = float((chosen & labels).sum()), float(chosen.sum() + labels.sum())
        return Figures({"micro_f1": 2 * both / either if either else 0.0})

    def flipped(self, cells: Cells, truth: Sequence[Tensor]) -> Figures:
        """Return the same of the probabilities that a label is missing."""
        return self._of(1 - _floats(cells, self.classes).numpy(), torch.stack(list(truth)).numpy() > 0.5)

    def _of(self, scores: np.ndarray, labels: np.ndarray) -> Figures:
        value = average_precision().value(Predictions("labels", labels, scores))
        if value is None:
            raise Unreadable("the validation split has none of the labels")
        return Figures({"average_precision": value})

    def _names(self, row: Mapping[str, str]) -> set[str]:
        """Return the names in a cell. Raises DataError for one that is no label."""
        found = set(names_in(row[self.columns[0]], self.separator))
        if odd := found - {name.encode("utf-8", "backslashreplace").decode() for name in self.classes}:
            raise DataError(f"the column '{self.columns[0]}' holds '{min(odd)[:40]}', which is no label; see test_step")
        return found


def _of_texts(found: Sequence[str], truth: Sequence[str]) -> Figures:
    cer = ErrorRate()
    cer.add(found, truth)
    right = [one == other for one, other in zip(found, truth, strict=True)]
    return Figures({"cer": cer.value() or 0.0, "sequence_accuracy": sum(right) / len(right)})


class _Numbers:
    """Columns of numbers, in the unit of the data's files."""

    def __init__(self, columns: Sequence[str], outputs: Sequence[Mapping[str, Any]]):
        self.outputs = list(outputs) or [{"name": name} for name in columns]
        if {output["name"] for output in self.outputs} != set(columns):
            raise Unreadable(f"its columns {', '.join(columns[:5])} are not the targets of the data")

    def figures(self, cells: Cells, truth: Sequence[Tensor]) -> Figures:
        """Return the root mean squared error, in the unit of the target or of its logarithm, if that is learned."""
        values = _floats(cells, [output["name"] for output in self.outputs]).numpy()
        targets = torch.stack([target.double().reshape(-1) for target in truth]).numpy()
        if targets.shape != values.shape:
            raise Unreadable("it has another number of columns than the data have targets")
        for i, output in enumerate(self.outputs):
            targets[:, i] = targets[:, i] * output.get("std", 1.0) + output.get("mean", 0.0)
            values[:, i] = np.log1p(values[:, i]) if output.get("log") else values[:, i]
        return Figures({"rmse": math.sqrt(float(np.square(values - targets).mean()))})


class _Masks:
    """Columns of run-length masks, or one of names of pictures in the folder of the file."""

    def __init__(self, runs: Mapping[str, int], values: Sequence[Any], ignored: int | None, folder: Path):
        """`runs`: the class number of each column of runs; empty for pictures."""
        self.runs, self.ignored, self.folder = runs, ignored, folder
        self.table, self.count = Table(values), len(values)

    def figures(self, cells: Cells, truth: Sequence[Tensor]) -> Figures:
        """Return the mean intersection over union, and the fraction of pixels that are right."""
        confusion = Confusion(self.count)
        for row, mask in zip(cells, truth, strict=True):
            counted, found = self._counted(mask), torch.from_numpy(self._classes(row, *mask.shape))
            confusion.add(found[counted], mask[counted].long())
        counts = confusion.value()
        right = float(np.diag(counts).sum() / max(1, counts.sum()))
        return Figures({"mean_iou": MeanIoU(confusion).value() or 0.0, "accuracy": right}, counts)

    def of_one(self, cells: Cells, truth: Sequence[Tensor], name: str) -> Figures:
        """Return under this name the intersection over union of the one class that has a column."""
        confusion, number = Confusion(2), self.runs["rle"]
        for row, mask in zip(cells, truth, strict=True):
            counted, found = self._counted(mask), torch.from_numpy(decode_runs(row["rle"], *mask.shape).copy())
            confusion.add(found[counted].long(), (mask[counted] == number).long())
        return Figures({name: ClassIoU(confusion, 1).value() or 0.0})

    def _counted(self, mask: Tensor) -> Tensor:
        """Return which pixels have a class."""
        return mask != self.ignored if self.ignored is not None else torch.ones_like(mask, dtype=torch.bool)

    def _classes(self, row: Mapping[str, str], height: int, width: int) -> np.ndarray:
        """Return the class numbers [height, width] of a written mask. Raises DataError for values that are none."""
        if not self.runs:
            return self.table.read(str(self.folder / row["mask"]), height, width).numpy()
        rest = next(number for number in range(self.count) if number not in self.runs.values())
        found = np.full((height, width), rest, np.int64)
        for name, number in self.runs.items():
            inside = decode_runs(row[name], height, width)
            if (found[inside] != rest).any():
                raise DataError(f"the runs of '{name}' hold pixels of another class, too; see the task's test_step")
            found[inside] = number
        return found
