"""Tables such as Kaggle's train.csv and test.csv: numbers and categories in, a number or a class to predict."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from data._cells import GAP_WORDS, MISSING, is_number
from data._classes import alike
from data._columns import (
    Columns,
    describe,
    embedded,
    encode,
    fit,
    fit_classes,
    fit_number,
    lacking,
    read_numbers,
    standardise,
)
from data._csv import Faults
from data._facts import Facts
from data._folders import existing_folder
from data._folds import Folds
from data._table import Cells, Table, derive, read_table, split_fold, table_path
from utils.config.ranges import Seed
from utils.errors import DataError

__all__ = ["Tabular"]

NO_TARGET = MISSING | {"?", "#n/a", "<na>", "inf", "-inf", "+inf", "infinity", "-infinity"}
NO_NUMBER = NO_TARGET | GAP_WORDS  # where every other row has a number
MOST_CLASSES = 20  # or half of the rows, if that is more: a target with more different values is a number
NAMED = 5  # columns whose gaps are told on one line
LISTED = 30  # columns that are described each in a line


class Tabular(Dataset):
    """A table in train.csv and test.csv: numbers standardised, categories one-hot, gaps marked; validated fold by fold.

    `target` is the column to predict: a class or a number, standardised, as the task asks for, or as
    `columns.categories` or `columns.numbers` says, if they name it. `id` is the column with the rows' names; without
    one they are numbered from 1. `train` and `test` name other files. The training rows decide whether a column holds
    numbers, dates or categories, and a run prints how each was understood. Among numbers NA, None or nothing is a gap,
    and so are a few other texts, which are counted and named; more of them are an error. Among categories NA is one of
    its own. Categories beyond `columns.one_hot_at_most` are embedded.

    `columns` holds the options: numbers, categories, ignore (lists of columns), gaps (words), decimal, thousands
    (signs), names (of a file without a header), log, derive, without, rare, clip, one_hot_at_most: see
    data/_columns.py.
    `fold` [k, n] holds out fold k of n, drawn with `seed`, for validation.

    All statistics (means, deviations, categories) come from the training rows. They are `meta["statistics"]`, which a
    checkpoint keeps and passes back as `statistics`, so that test.csv alone is enough to predict.

    Raises DataError, with file and line, for a table that cannot be read as the training rows were, and for a column
    that could be several things.
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
        seed: Seed = 0,
        train: str | None = None,
        test: str | None = None,
        statistics: Mapping[str, Any] | None = None,
        whole: bool = False,
        target_kind: Literal["class", "number"] | None = None,
        folds: Folds | None = None,
    ) -> None:
        options = Columns.from_config(columns or {})
        root = existing_folder(root, split)
        path = table_path(root, split, test if split == "test" else train)
        table = derive(read_table(path, options.names, (target, id)), options.derive)
        self.ids, self.facts = _ids(table, id), Facts(path)
        chosen = list(range(len(self.ids)))
        if split != "test":
            training, held_out = _parts(table, folds, fold, seed, (target, target_kind), options)
            training = _without(table, self.ids, training, options.without)
            if statistics is None:
                statistics = _statistics(table, table.subset(training), (target, id), options, target_kind)
            chosen = training if split == "train" else chosen if whole else held_out
            place = path if whole else _place(path, split, fold, folds, seed)
            self.facts = _facts(place, table.subset(chosen), split, statistics, options, (target, id))
            table, self.ids = table.subset(chosen), [self.ids[i] for i in chosen]
        elif statistics is None:
            statistics = Tabular(
                root, "train", target, id, columns, fold, seed, train, target_kind=target_kind, folds=folds
            ).statistics
        if split == "test":
            self.facts.lines += _lacking(table, statistics, split)
        self.statistics, self.content = statistics, table.content()
        self.read_again = partial(_cells, path, chosen, target, id, options)
        used = [one for one in statistics["features"] if "left_out" not in one]
        if not used:
            raise DataError(f"the table in {root} has no column to learn from beside '{target}' and the id; add one")
        self.embedded = embedded(used)
        self.inputs = torch.tensor(encode(table, used))  # [N, in_features]
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

    def cells(self) -> Cells:
        """Return the rows of the split as text, read again."""
        return self.read_again()

    @property
    def meta(self) -> dict[str, Any]:
        """The facts for networks, task and other splits, with the statistics."""
        found: dict[str, Any] = {"statistics": dict(self.statistics), "in_features": self.inputs.shape[1]}
        found |= {"embedded": self.embedded} if self.embedded else {}
        if classes := self.statistics.get("classes"):
            return found | {"classes": classes, "num_classes": len(classes)}
        output = self.statistics["target"]
        return found | {"out_features": 1, "outputs": [{"name": output["column"], **output}]}


def _cells(path: str, chosen: Sequence[int], target: str, id: str | None, options: Columns) -> Cells:
    return Cells(read_table(path, options.names, (target, id)).subset(chosen), target, id, options.ignore)


def _ids(table: Table, column: str | None) -> list[str]:
    """Return the rows' names. Raises DataError for a name that occurs twice."""
    if column is None:
        return [str(i) for i in range(1, len(table.rows) + 1)]
    faults, lines = Faults(table.path), dict[str, int]()
    for line, text in table.cells(column):
        if not text:
            faults.add(line, f"its {column} is empty; fill it in")
        elif text in lines:
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


def _statistics(
    whole: Table, training: Table, exclude: tuple[str, str | None], options: Columns, kind: str | None
) -> dict[str, Any]:
    """Return the statistics of each column and of the target.

    Those of the target are its mean and deviation in training, or the classes of all rows.
    """
    target = exclude[0]
    _refuse_gaps(whole, target)
    found: dict[str, Any] = {"features": fit(training, options, [name for name in exclude if name])}
    if _is_class(whole, target, options, kind):
        return found | {"classes": fit_classes(whole, target)}
    return found | {"target": {**fit_number(training, target, options), "clip": None}}


def _is_class(table: Table, target: str, options: Columns, kind: str | None) -> bool:
    """Return whether the target is a class: as the config says, otherwise as the task asks for (`kind`).

    Raises DataError for a target with too many different numbers to be classes.
    """
    if target in options.categories or target in options.numbers:
        return target in options.categories
    texts = {text for _, text in table.cells(target)}
    if kind == "class" and (same := alike(sorted(texts))):
        told = f"the values {same} of the target {target} look like one class written in several ways"
        raise DataError(f"{table.path}: {told}; make them one, or set columns.categories=[{target}] to keep them apart")
    if kind == "class" and len(texts) > max(MOST_CLASSES, len(table.rows) / 2):
        held = f"{len(texts)} different values in {len(table.rows)} rows"
        raise DataError(
            f"{table.path}: the target {target} holds {held}, too many for classes; for a number set --task=Regression "
            f"--model.num_classes=1, for classes columns.categories=[{target}]"
        )
    return kind == "class"


def _refuse_gaps(table: Table, target: str) -> None:
    """Raises DataError for a row without a target."""
    faults, cells = Faults(table.path), table.cells(target)
    numbers = all(is_number(text) for _, text in cells if text.lower() not in NO_NUMBER)
    for line, text in cells:
        if text.lower() in (NO_NUMBER if numbers else NO_TARGET):
            faults.add(line, f"its {target} '{text}' is nothing to learn from; fill it in or remove the row")
    faults.check()


def _place(path: str, split: str, fold: Sequence[int], folds: Folds | None, seed: int) -> str:
    if folds:
        return folds.told(path, split, f"drawn by seed {seed}")
    return f"{path}, {'all folds but' if split == 'train' else 'fold'} {fold[0]} of {fold[1]}"


def _parts(
    table: Table, folds: Folds | None, fold: Sequence[int], seed: int, target: tuple[str, str | None], options: Columns
) -> tuple[list[int], list[int]]:
    """Return the positions for training and for validation; with `folds` each class of the target has its share."""
    if folds is None:
        return split_fold(len(table.rows), fold, seed)
    labels = [text for _, text in table.cells(target[0])] if _is_class(table, target[0], options, target[1]) else None
    groups = None if folds.group is None else [text for _, text in table.cells(folds.group)]
    return tuple(folds.choose(len(table.rows), part, seed, labels, groups) for part in ("train", "val"))  # type: ignore[return-value]


def _facts(
    place: str,
    table: Table,
    split: str,
    statistics: Mapping[str, Any],
    options: Columns,
    exclude: tuple[str, str | None],
) -> Facts:
    """Return how the rows of a split were understood."""
    target, id = exclude
    facts = Facts(place)
    kind = f"{len(statistics['classes'])} classes" if "classes" in statistics else "a number"
    facts.lines.append(f"target: {target}, {kind} (data.dataset.target, columns.categories)")
    facts.lines.append(f"id: {id or 'the number of the row'} (data.dataset.id)")
    if split == "train":
        lines = describe(table, statistics["features"], options)
        facts.lines.append("columns (data.dataset.columns.numbers, .categories, .ignore, .gaps, .decimal, .thousands):")
        facts.lines += [f"  {line}" for line in lines[:LISTED]]
        if len(lines) > LISTED:
            kinds = Counter(line.rpartition(": ")[2].partition(",")[0].split()[-1] for line in lines)
            counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(4))
            facts.lines.append(f"  and {len(lines) - LISTED} more columns (in all: {counts})")
        facts.leave_out("columns.ignore names the column", list(options.ignore))
        if options.without:
            facts.leave_out("columns.without names the row", list(map(str, options.without)))
        used = [one["column"] for one in statistics["features"] if "left_out" not in one]
        constant = [name for name in used if len({text for _, text in table.cells(name)}) == 1]
        facts.note_odd("a column with one value only", constant)
        numbers = [name for name in used if name not in options.numbers]
        facts.note_odd("a column that goes up from row to row, as an id does (columns.ignore)", _rising(table, numbers))
        return facts
    facts.lines += _lacking(table, statistics, split)
    if "classes" in statistics and len({text for _, text in table.cells(target)}) == 1:
        facts.lines.append("note: validation holds one class only: AUC is not defined, accuracy says little (fold)")
    return facts


def _lacking(table: Table, statistics: Mapping[str, Any], split: str) -> list[str]:
    """Return the line about cells of a split that hold none of the numbers and categories of training, if any."""
    found = lacking(table, statistics["features"])
    more = f"; and {len(found) - NAMED} more columns" if len(found) > NAMED else ""
    return [f"cells of {split} without a known value: {'; '.join(found[:NAMED])}{more}"] if found else []


def _rising(table: Table, names: Sequence[str]) -> list[str]:
    """Return the columns of whole numbers in which each row has a higher one than the row above."""
    columns = {name: [text for _, text in table.cells(name)] for name in names}
    whole = {name: list(map(int, texts)) for name, texts in columns.items() if all(map(str.isdecimal, texts))}
    return [name for name, found in whole.items() if len(found) > 2 and all(a < b for a, b in pairwise(found))]


def _targets(table: Table, target: str, statistics: Mapping[str, Any]) -> Tensor:
    """Return classes int64 [N] or standardised numbers float32 [N, 1]. Raises DataError for a row without a target."""
    _refuse_gaps(table, target)
    if classes := statistics.get("classes"):
        faults = Faults(table.path)
        for line, text in table.cells(target):
            if text not in classes:
                faults.add(line, f"its {target} '{text}' is none of the classes {', '.join(classes[:6])}; mend the row")
        faults.check()
        numbers = {name: number for number, name in enumerate(classes)}
        return torch.tensor([numbers[text] for _, text in table.cells(target)])
    statistic = statistics["target"]
    values = [value for value in read_numbers(table, statistic, strict=True) if value is not None]
    if len(values) < len(table.rows):
        raise DataError(f"{table.path}: {target} has gaps; fill them in or remove the rows")
    return torch.tensor([standardise(value, statistic) for value in values]).unsqueeze(1)
