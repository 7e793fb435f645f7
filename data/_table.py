"""Read tables from CSV files, find their columns and derive new columns."""

import csv
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data._csv import Faults, Row, read_lines
from utils.errors import DataError
from utils.words import suggest

__all__ = [
    "MISSING",
    "Table",
    "convert",
    "derive",
    "split_fold",
    "iter_rows",
    "parse_number",
    "read_table",
    "table_path",
]

MISSING = {"", "na", "n/a", "nan", "null", "none"}  # cells without a number, in any case of letters


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


def read_table(path: str) -> Table:
    """Read a CSV file with a header. Raises DataError with the line of a fault."""
    (_, header), *rows = iter_rows(path)
    return Table(path, header, rows)


def iter_rows(path: str) -> Iterator[Row]:
    """Yield the header and then the rows of a CSV file (comma, semicolon or tab), without empty ones.

    Raises DataError when the file is missing, is not UTF-8 or has no row below its header, or when two columns have the
    same name. Rows of another length are skipped; at the end the first of them raises DataError.
    """
    faults = Faults(path)
    lines = read_lines(path, faults)
    delimiter = max(",;\t", key=lines[0].count) if lines else ","
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    header: list[str] = []
    count = 0
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if header and any(cells) and len(cells) != len(header):
                message = f"has {len(cells)} columns, but the header has {len(header)}; mend or remove the row"
                faults.add(reader.line_num, message)
            elif any(cells):
                header = header or _checked(cells, path)
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


def parse_number(text: str) -> float | None:
    """Return the finite number in a cell; None for a gap.

    Raises ValueError for any other text.
    """
    if text.lower() in MISSING:
        return None
    value = float(text)
    if not math.isfinite(value) or "_" in text:  # float() accepts 1_000, which no table means
        raise ValueError(f"'{text}' is no number")
    return value


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


def table_path(root: str, split: str) -> str:
    """Return the path of a split's file, named as on Kaggle: test.csv, or train.csv for training and validation."""
    return os.path.join(root, "test.csv" if split == "test" else "train.csv")
