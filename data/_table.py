"""Read tables from CSV files, find their columns and derive new columns."""

import csv
import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from data._cells import parse_number
from data._csv import Faults, Row, delimiter_of, read_lines
from data._sources import advice
from utils.errors import DataError
from utils.words import suggest

__all__ = [
    "Cells",
    "Table",
    "convert",
    "derive",
    "split_fold",
    "iter_rows",
    "read_table",
    "table_path",
]


@dataclass(frozen=True)
class Table:
    """The rows of a CSV file, each with the number of its last line."""

    path: str
    header: list[str]
    rows: list[Row]

    def position(self, column: str) -> int:
        """Return a column's position. Raises DataError when the file has no column of that name."""
        if column not in self.header:
            near = suggest(column, self.header) or f"; it has {', '.join(self.header[:8])}, …"
            raise DataError(f"{self.path}:1: has no column '{column}'{near}")
        return self.header.index(column)

    def cells(self, column: str) -> list[tuple[int, str]]:
        """Return (line, text) of each row. Raises DataError when the file has no such column."""
        position = self.position(column)
        return [(line, row[position]) for line, row in self.rows]

    def subset(self, chosen: Sequence[int]) -> "Table":
        """Return a table of the rows at these positions."""
        return Table(self.path, self.header, [self.rows[i] for i in chosen])

    def content(self) -> int:
        """Return a number that these rows have, as text and in their order; other rows have another one."""
        digest = hashlib.blake2b(digest_size=7)  # a number that JSON and checkpoints hold
        for _, row in self.rows:
            digest.update(repr(row).encode("utf-8", "replace"))
        return int.from_bytes(digest.digest())


class Cells(NamedTuple):
    """The rows of a split as its file has them, and the meaning of its columns."""

    table: Table
    target: str
    id: str | None
    ignored: Sequence[str]  # columns that the config leaves out


def read_table(path: str, names: Sequence[str] = (), known: Collection[str | None] = ()) -> Table:
    """Read a CSV file; `names` are those of the columns of a file without a header, `known` stand in a header.

    Raises DataError with the line of a fault.
    """
    (line, header), *rows = iter_rows(path)
    if names:
        if len(names) != len(header):
            raise DataError(f"{path}:{line}: has {len(header)} columns, but columns.names has {len(names)} names")
        return Table(path, _checked(list(names), path), [(line, header), *rows])
    told = [i for i, name in enumerate(header) if name in known and all(row[i] != name for _, row in rows)]
    if not told and _is_data(header):
        raise DataError(
            f"{path}:1: the first row ({', '.join(header[:4])}, …) holds numbers, no names of columns; if the file has "
            "no header, name them with data.dataset.columns.names=[…]"
        )
    return Table(path, _checked(header, path), rows)


def iter_rows(path: str) -> Iterator[Row]:
    """Yield the header and then the rows of a CSV file (comma, semicolon, tab or |), without empty ones.

    Raises DataError when the file is missing, is not UTF-8 or has no row below its header. Rows of another length are
    skipped; at the end the first of them raises DataError.
    """
    faults = Faults(path)
    lines = read_lines(path, faults)
    reader = csv.reader(lines, delimiter=delimiter_of(lines), skipinitialspace=True, strict=True)
    header: list[str] = []
    count = 0
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if header and any(cells) and len(cells) != len(header):
                message = f"has {len(cells)} columns, but the header has {len(header)}; mend or remove the row"
                faults.add(reader.line_num, message)
            elif any(cells):
                header = header or cells
                count += 1
                yield reader.line_num, cells
    except csv.Error as error:
        faults.add(reader.line_num, f"is no CSV ({error}); mend or remove the row")
    faults.check()
    if count < 2:
        raise DataError(f"{path} is empty; it needs a header and rows below it")


def _checked(header: list[str], path: str) -> list[str]:
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise DataError(f"{path}:1: the column '{twice[0]}' stands there twice; rename one")
    return header


def _is_data(cells: Sequence[str]) -> bool:
    """Return whether a first row holds numbers, and no names of columns, such as the years 2019, 2020, 2021."""
    numbers = list[float]()
    for cell in cells:
        with suppress(ValueError):
            numbers += [number] if (number := parse_number(cell)) is not None else []
    counted = len(numbers) > 2 and all(after - before == 1 for before, after in pairwise(numbers))
    return len(numbers) > len(cells) / 2 and not counted


def split_fold(count: int, fold: Sequence[int], seed: int) -> tuple[list[int], list[int]]:
    """Return the positions for training and for validation.

    They are seeded permutations: validation gets every n-th position of the permutation, from the k-th on. `fold` is
    (k, n). Raises ValueError unless 0 <= k < n and n > 1.
    """
    import torch

    if len(fold) != 2 or not 0 <= fold[0] < fold[1] or fold[1] < 2:
        raise ValueError(f"fold={list(fold)} must be [k, n]: fold k of n, counted from 0, with n at least 2")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    held_out = order[fold[0] :: fold[1]]
    if not 0 < len(held_out) < count:
        raise DataError(
            f"fold={list(fold)} of {count} rows leaves none to train on or none to hold out; give more rows"
        )
    return sorted(set(order) - set(held_out)), sorted(held_out)


# Columns made of others


def derive(table: Table, recipes: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the table with new columns, one for each recipe.

    `{plus: […], minus: […]}` adds and subtracts columns; a gap counts as 0. `{column: …, pattern: …}` cuts text out of
    a column: the first group of the regular expression, or the whole match if it has no group; an empty cell without a
    match. Raises ValueError for any other recipe, and DataError for a column or a number that the table lacks.
    """
    for name, recipe in recipes.items():
        if name in table.header:
            raise ValueError(f"columns.derive.{name}: the table has a column of that name; choose another")
        cells = _make(table, name, recipe)
        rows = [(line, [*row, cell]) for (line, row), cell in zip(table.rows, cells, strict=True)]
        table = Table(table.path, [*table.header, name], rows)
    return table


def _make(table: Table, name: str, recipe: Mapping[str, Any]) -> list[str]:
    if set(recipe) == {"column", "pattern"}:
        try:
            pattern = re.compile(str(recipe["pattern"]))
        except re.error as error:
            raise ValueError(f"columns.derive.{name}.pattern is no regular expression: {error}") from error
        return [_cut(pattern, text) for _, text in table.cells(recipe["column"])]
    if recipe and set(recipe) <= {"plus", "minus"}:
        parts = [(sign, one) for sign, key in ((1, "plus"), (-1, "minus")) for one in recipe.get(key, ())]
        columns = [[sign * value for value in _numbers(table, one)] for sign, one in parts]
        return [repr(sum(values)) for values in zip(*columns, strict=True)]
    raise ValueError(f"columns.derive.{name} must have plus or minus (lists of columns), or column and pattern")


def _cut(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return (found.group(1 if pattern.groups else 0) or "") if found else ""


def _numbers(table: Table, column: str) -> list[float]:
    return [value or 0.0 for value in convert(table, column, parse_number, "it is added to others")]


def convert(table: Table, column: str, read: Callable[[str], Any], why: str) -> list[Any]:
    """Return `read(text)` for each cell of a column.

    Raises DataError, with the line, for the first cell for which `read` raises ValueError; `why` ends the message.
    """
    faults = Faults(table.path)
    values = []
    for line, text in table.cells(column):
        try:
            values.append(read(text))
        except ValueError:
            faults.add(line, f"'{text}' in the column {column} is no number, but {why}; mend the cell")
    faults.check()
    return values


def table_path(root: str, split: str, file: str | None = None) -> str:
    """Return the path of a split's file: `file`, in `root` unless it is a whole path, otherwise as on Kaggle.

    There they are called test.csv, and train.csv for training and validation. Raises DataError for a missing file.
    """
    key = "test" if split == "test" else "train"
    path = os.path.join(root, os.path.expanduser(file or f"{key}.csv"))
    if not os.path.exists(path):
        beside = sorted(
            name for name in os.listdir(os.path.dirname(path) or ".") if name.endswith((".csv", ".tsv", ".txt"))
        )
        found = f"; there is {', '.join(beside[:6])}" if beside else ""
        raise DataError(f"{path} does not exist; set data.dataset.{key}=FILE{found or advice(root)}")
    return path
