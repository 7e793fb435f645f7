"""Tables such as Kaggle's train.csv and test.csv: numbers and categories in, a number or a class to predict."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from data._columns import Columns, encode, fit, fit_classes, fit_number, read_numbers, standardise
from data._csv import Faults
from data._images import existing_folder
from data._table import MISSING, Table, derive, read_table, split_fold, table_path
from utils.errors import DataError

__all__ = ["Tabular"]


class Tabular(Dataset):
    """A table in train.csv and test.csv: numbers standardised, categories one-hot, gaps marked; validated fold by fold.

    `target` is the column to predict: a class if `columns.categories` names it, otherwise a number, standardised. `id`
    is the column with the rows' names; without one they are numbered from 1. The training rows decide whether a column
    holds numbers or categories. There NA, None or nothing is a gap among numbers, and a category of its own among
    categories. `columns` holds further options: ignore, categories, log, derive, without, rare, clip; see
    data/_columns.py. `fold` [k, n] holds out fold k of n, drawn with `seed`, for validation.

    All statistics (means, deviations, categories) come from the training rows. They are `meta["statistics"]`, which a
    checkpoint keeps and passes back as `statistics`, so that test.csv alone is enough to predict.

    Raises DataError, with file and line, for a table that cannot be read as the training rows were.
    """

    reads_batches = True

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        target: str,
        id: str | None = None,
        columns: Mapping[str, Any] | None = None,
        fold: Sequence[int] = (0, 5),
        seed: int = 0,
        statistics: Mapping[str, Any] | None = None,
    ) -> None:
        options = Columns.from_config(columns or {})
        root = existing_folder(root, split)
        self.ids: list[str]
        if statistics is None or split != "test":
            whole = derive(read_table(table_path(root, "train")), options.derive)
            ids = _ids(whole, id)
            training, held_out = split_fold(len(ids), fold, seed)
            training = _without(whole, ids, training, options.without)
            chosen = training if split == "train" else held_out
            statistics = statistics or _statistics(whole, whole.subset(training), (target, id), options)
        if split == "test":
            table = derive(read_table(table_path(root, split)), options.derive)
            self.ids = _ids(table, id)
        else:
            table, self.ids = whole.subset(chosen), [ids[i] for i in chosen]
        self.statistics = statistics
        if not statistics["features"]:
            raise DataError(f"the table in {root} has no column to learn from beside '{target}' and the id; add one")
        self.inputs = torch.tensor(encode(table, statistics["features"]))  # [N, in_features]
        self.labels = None if split == "test" else _targets(table, target, statistics)  # [N], or [N, 1] of numbers

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Any:
        """Return (input [in_features], class or number [1]); the input alone in the test split."""
        return self.inputs[index] if self.labels is None else (self.inputs[index], self.labels[index])

    def read(self, indices: Sequence[int] | Tensor, seeds: Sequence[int] = ()) -> tuple[Tensor, Tensor] | Tensor:
        """Return the batch of these rows: inputs [B, in_features] and classes [B] or numbers [B, 1]."""
        chosen = torch.as_tensor(indices)
        inputs = self.inputs.index_select(0, chosen)
        return inputs if self.labels is None else (inputs, self.labels.index_select(0, chosen))

    @property
    def meta(self) -> dict[str, Any]:
        """The facts for networks, task and other splits, with the statistics."""
        found: dict[str, Any] = {"statistics": dict(self.statistics), "in_features": self.inputs.shape[1]}
        if classes := self.statistics.get("classes"):
            return found | {"classes": classes, "num_classes": len(classes)}
        output = self.statistics["target"]
        return found | {"out_features": 1, "outputs": [{"name": output["column"], **output}]}


def _ids(table: Table, column: str | None) -> list[str]:
    """Return the rows' names. Raises DataError for a name that occurs twice."""
    if column is None:
        return [str(i) for i in range(1, len(table.rows) + 1)]
    faults, lines = Faults(table.path), dict[str, int]()
    for line, text in table.cells(column):
        if text in lines:
            faults.add(line, f"the {column} '{text}' is also in line {lines[text]}; remove one of the two")
        lines.setdefault(text, line)
    faults.check()
    return list(lines)


def _without(table: Table, ids: list[str], training: list[int], left_out: Sequence[Any]) -> list[int]:
    """Return the training rows without the given ids. Raises DataError for an id that the table lacks."""
    names = {str(name) for name in left_out}
    if missing := names - set(ids):
        raise DataError(f"{table.path}: columns.without names the row '{min(missing)}', which is missing; remove it")
    return [i for i in training if ids[i] not in names]


def _statistics(whole: Table, training: Table, exclude: tuple[str, str | None], options: Columns) -> dict[str, Any]:
    """Return the statistics of each column and of the target.

    Those of the target are its mean and deviation in training, or the classes of all rows.
    """
    target = exclude[0]
    whole.position(target)
    found: dict[str, Any] = {"features": fit(training, options, [name for name in exclude if name])}
    if target in options.categories:
        return found | {"classes": fit_classes(whole, target)}
    return found | {"target": {**fit_number(training, target, options), "clip": None}}


def _targets(table: Table, target: str, statistics: Mapping[str, Any]) -> Tensor:
    """Return classes int64 [N] or standardised numbers float32 [N, 1]. Raises DataError for a row without a target."""
    faults = Faults(table.path)
    for line, text in table.cells(target):
        if text not in statistics["classes"] if "classes" in statistics else text.lower() in MISSING:
            faults.add(line, f"its {target} '{text}' is nothing to learn from; fill it in or remove the row")
    faults.check()
    if classes := statistics.get("classes"):
        return torch.tensor([classes.index(text) for _, text in table.cells(target)])
    statistic = statistics["target"]
    values = [
        value for value in read_numbers(table, target, statistic["log"]) if value is not None
    ]  # no gap is left here
    return torch.tensor([standardise(value, statistic) for value in values]).unsqueeze(1)
