"""Turn the cells of a table into numbers for a network, by statistics of the training rows only."""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from data._cells import MISSING, MOST_ODD, Reading, guess, in_other_notation, reader_of
from data._csv import Faults
from data._table import Table
from utils.errors import DataError
from utils.words import count_of, shortened, suggest

__all__ = [
    "Columns",
    "Statistic",
    "describe",
    "embedded",
    "encode",
    "fit",
    "fit_classes",
    "fit_number",
    "lacking",
    "read_numbers",
    "standardise",
]

LISTS = ("ignore", "categories", "log", "without", "numbers", "gaps", "names")  # the options that are lists
LIMITS = ("rare", "clip", "one_hot_at_most")  # those that are numbers
SIGNS = (".", ",", " ", "'", "_")
ROW_NUMBERS = re.compile(r"|unnamed.*|index|.*_?id|row.*|no\.?|nr\.?|#")  # names of columns that may number the rows
LARGEST = 1e100  # of a number in a column: its square still fits
MOST_DISTINCT = 0.5  # of the filled cells: a text with more different values is no category

Statistic = dict[str, Any]  # plain values that a checkpoint keeps for a column


@dataclass(frozen=True)
class Columns:
    """The user's options for the columns of a table; all other facts come from the training rows."""

    ignore: Sequence[str] = ()  # columns that the network does not see
    # columns of labels, even if they look like numbers; the target too, for classification
    categories: Sequence[str] = ()
    log: Sequence[str] = ()  # columns that become log(1 + x); the target too
    derive: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # new columns, see data._table.derive
    without: Sequence[Any] = ()  # ids of rows that are left out of training; validation keeps them
    numbers: Sequence[str] = ()  # columns of numbers, whatever else stands there: other texts are gaps
    gaps: Sequence[str] = ()  # words that mean a gap, besides the usual ones
    decimal: str | None = None  # the decimal sign of numbers; None: a point, unless only a comma makes sense
    thousands: str | None = None  # the sign between groups of three digits
    names: Sequence[str] = ()  # the names of the columns, for a file without a header
    one_hot_at_most: int = 100  # a column with more categories is embedded
    rare: int = 1  # a category with fewer training rows than this counts as unknown
    clip: float | None = None  # standardised numbers are limited to ± this, against outliers

    @classmethod
    def from_config(cls, options: Mapping[str, Any]) -> "Columns":
        """Build the options from a config's section.

        Raises ValueError for an unknown option, or a value of the wrong type.
        """
        known = [option.name for option in dataclasses.fields(cls)]
        for name, value in options.items():
            if name not in known:
                raise ValueError(
                    f"columns: no option '{name}'{suggest(name, known) or '; it takes ' + ', '.join(known)}"
                )
            if name in ("ignore", "categories", "log", "without", "numbers", "gaps", "names") and not isinstance(
                value, (list, tuple)
            ):
                raise ValueError(f"columns.{name} must be a list, as [{value}]")
            if name == "derive" and not all(isinstance(v, Mapping) for v in getattr(value, "values", lambda: [0])()):
                raise ValueError("columns.derive must hold a recipe for each new column, as {Sum: {plus: [A, B]}}")
            if name in LIMITS and not isinstance(value, (int, float, type(None))):
                raise ValueError(f"columns.{name} must be a number, not {value!r}")
            if name in LIMITS and not (value is None or 0 < value < math.inf):
                raise ValueError(f"columns.{name} must be above 0, not {value!r}")
            if name in ("decimal", "thousands") and value not in (None, *SIGNS):
                raise ValueError(f"columns.{name} must be one of . , ' _ and a space, not {value!r}")
        chosen = cls(
            **{**options, **{key: list(map(str, options[key])) for key in ("gaps", "names") if key in options}}
        )
        if both := set(chosen.numbers) & {*chosen.categories, *chosen.ignore}:
            raise ValueError(f"columns: '{min(both)}' is named as numbers and as something else; leave one out")
        return chosen

    def kind_of(self, name: str) -> str:
        """Return the kind of a column where the user names it; empty otherwise."""
        if name in self.categories:
            return "category"
        return "number" if name in (*self.log, *self.numbers) else ""

    def told(self) -> dict[str, Any]:
        """Return the user's notation of numbers."""
        found = {"decimal": self.decimal, "thousands": self.thousands}
        return {**{key: value for key, value in found.items() if value}, "gaps": list(self.gaps)}


def fit(table: Table, columns: Columns, exclude: Sequence[str]) -> list[Statistic]:
    """Return the statistics of each column, from the training rows.

    The columns in `exclude` (target and id) and the ignored ones are skipped; so are those that only number the rows,
    and texts of which nearly every row has its own, unless the user names their kind.
    """
    for name in [*columns.ignore, *columns.categories, *columns.log, *columns.numbers]:
        table.position(name)
    chosen = [name for name in table.header if name not in (*exclude, *columns.ignore)]
    return [_fit_column(table, name, columns) for name in chosen]


def _fit_column(table: Table, name: str, columns: Columns) -> Statistic:
    cells = table.cells(name)
    kind = columns.kind_of(name)
    reading = guess(table.path, name, cells, columns.told(), kind)
    if reading.kind != "category":
        if not kind and _numbers_rows(name, [text for _, text in cells]):
            typed = name or "''"  # in a list of YAML
            return {"column": name, "left_out": f"it numbers the rows; columns.numbers=[{typed}] takes it in"}
        return fit_number(table, name, columns, reading)
    counts = Counter(text for _, text in cells)
    filled = sum(count for text, count in counts.items() if text.lower() not in MISSING)
    if not kind and len(counts) > columns.one_hot_at_most and len(counts) > MOST_DISTINCT * filled:
        reason = f"{len(counts):,} different texts in {len(cells):,} rows; columns.categories=[{name}] embeds them"
        return {"column": name, "left_out": reason}
    # Unknown values get no place of their own: training would never move the weight of it from its random start.
    values = sorted(text for text, count in counts.items() if count >= columns.rare)
    if not values:
        reason = f"none of its {len(counts):,} different texts is in {columns.rare} rows (columns.rare)"
        return {"column": name, "left_out": reason}
    return {"column": name, "values": values} | ({"embed": True} if len(values) > columns.one_hot_at_most else {})


def _numbers_rows(name: str, texts: Sequence[str]) -> bool:
    """Return whether an unnamed column, or one with a name as of an id, goes up by one from row to row."""
    if not re.fullmatch(r"|unnamed.*|index|.*_?id|row.*|no\.?|nr\.?|#", name.lower()) or not all(
        map(str.isdecimal, texts)
    ):
        return False
    numbers = list(map(int, texts))
    return len(numbers) > 2 and len(set(numbers)) == len(numbers) and numbers == sorted(numbers)


def fit_number(table: Table, name: str, columns: Columns, reading: Reading | None = None) -> Statistic:
    """Return mean and standard deviation of a column of numbers, or of their logarithms, and whether it has gaps.

    Raises DataError for a text that is no number, or that has no logarithm.
    """
    log = name in columns.log
    reading = reading or guess(table.path, name, table.cells(name), columns.told(), "number")
    statistic: Statistic = {"column": name, "log": log, **reading.options()}
    statistic |= {"others_are_gaps": True} if name in columns.numbers else {}
    values = read_numbers(table, statistic)
    known = [value for value in values if value is not None]
    if (most := max(map(abs, known), default=0)) > LARGEST:
        line = next(line for (line, _), value in zip(table.cells(name), values, strict=True) if value in (most, -most))
        told = f"{most:g} in the column {name} is too large to compute with"
        raise DataError(f"{table.path}:{line}: {told}; mend the cell, or set columns.log=[{name}]")
    mean = math.fsum(known) / max(len(known), 1)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / max(len(known), 1))
    gaps = len(known) < len(values)
    return {**statistic, "mean": mean, "std": std or 1.0, "gaps": gaps, "clip": columns.clip}


def fit_classes(table: Table, target: str) -> list[str]:
    """Return the distinct labels of a column in order; numbers are ordered by value."""
    found = {text for _, text in table.cells(target)} - {""}
    return sorted(found, key=lambda text: (int(text), text) if all(map(str.isdecimal, found)) else (0, text))


def encode(table: Table, statistics: Sequence[Statistic]) -> list[list[float]]:
    """Return a row of numbers for each row of the table.

    A number becomes (x - mean) / std, and a gap becomes 0. If the column has gaps in training, a second number is 1 for
    a gap and 0 otherwise. A category becomes one-hot: 1 in its place and 0 in the others. An unknown category becomes
    zeros. Categories that are embedded come last, as numbers from 1; 0 is an unknown one. Raises DataError for a
    missing column, or a text among numbers.
    """
    used = sorted((one for one in statistics if "left_out" not in one), key=lambda one: one.get("embed", False))
    parts = [part for statistic in used for part in _encode_column(table, statistic)]
    return [list(row) for row in zip(*parts, strict=True)]


def embedded(statistics: Sequence[Statistic]) -> list[int]:
    """Return how many categories each embedded column has, the unknown one included."""
    return [len(statistic["values"]) + 1 for statistic in statistics if statistic.get("embed")]


def _encode_column(table: Table, statistic: Statistic) -> list[list[float]]:
    name = statistic["column"]
    if "values" in statistic:
        texts = [text for _, text in table.cells(name)]
        if statistic.get("embed"):
            numbers = {value: float(number) for number, value in enumerate(statistic["values"], 1)}
            return [[numbers.get(text, 0.0) for text in texts]]
        return [[float(text == value) for text in texts] for value in statistic["values"]]
    values = read_numbers(table, statistic)
    standardised = [0.0 if value is None else standardise(value, statistic) for value in values]
    return [standardised] + ([[float(value is None) for value in values]] if statistic["gaps"] else [])


def standardise(value: float, statistic: Statistic) -> float:
    """Return (value - mean) / std, limited to ± `clip` if that is set."""
    z = (value - statistic["mean"]) / statistic["std"]
    clip = statistic["clip"]
    return z if clip is None else max(-clip, min(clip, z))


def read_numbers(table: Table, statistic: Statistic, strict: bool = False) -> list[float | None]:
    """Return the numbers of a column, or log(1 + x) of them; None for a gap, and for a few texts that are no numbers.

    With `strict`, as for a target, such a text is an error. Raises DataError, with the line, for too many of them where
    the user has not called them gaps, and for one that looks like a number in another notation.
    """
    name, read, log, order = statistic["column"], reader_of(statistic), statistic["log"], statistic.get("order", "")
    faults, values, odd, sure = Faults(table.path), [], 0, strict
    for line, text in table.cells(name):
        try:
            value = read(text)
        except ValueError:
            value, odd, sure = None, odd + 1, sure or in_other_notation(text, order)
            kind = "date" if order else "number"
            told = f"is no {kind}, but training has {kind}s there; mend {'it' if strict else 'or empty the cell'}"
            faults.add(line, f"'{shortened(text, 60)}' in the column {name} {told}")
        if value is not None and log and value <= -1:
            told = f"'{text}' in the column {name} has no logarithm"
            raise DataError(f"{table.path}:{line}: {told}: columns.log takes log(1 + x); mend the cell")
        values.append(math.log1p(value) if log and value is not None else value)
    if sure or (odd > MOST_ODD * len(values) and not statistic.get("others_are_gaps")):
        faults.check()
    return values


def describe(table: Table, statistics: Sequence[Statistic], columns: Columns) -> list[str]:
    """Return a line for each column of the training rows: its kind, gaps, range or number of categories."""
    return [_described(table, statistic, columns) for statistic in statistics]


def _described(table: Table, statistic: Statistic, columns: Columns) -> str:
    name = statistic["column"]
    if "left_out" in statistic:
        return f"{name or '(no name)'}: left out, {statistic['left_out']}"
    if "values" in statistic:
        how = "embedded" if statistic.get("embed") else "one-hot"
        return f"{name}: {len(statistic['values']):,} categories, {how}"
    cells = table.cells(name)
    values = read_numbers(table, {**statistic, "log": False})
    known = [value for value in values if value is not None]
    gaps = [(line, text) for (line, text), value in zip(cells, values, strict=True) if value is None]
    said = [(line, text) for line, text in gaps if text.lower() not in MISSING]
    kind = f"date ({statistic['order']})" if statistic.get("order") else "number"
    signs = "".join(f", {key} sign '{statistic[key]}'" for key in ("decimal", "thousands") if key in statistic)
    span = f", {_shown(min(known), statistic)} to {_shown(max(known), statistic)}" if known else ""
    if statistic.get("order") and any(":" in text for _, text in cells):
        span += ", without the time of day"
    odd = f", among them '{shortened(said[0][1], 30)}' in line {said[0][0]}" if said else ""
    return f"{name}: {kind}{signs}{span}" + (f", {count_of(len(gaps), 'gap')}{odd}" if gaps else "")


def lacking(table: Table, statistics: Sequence[Statistic]) -> list[str]:
    """Return each column in which cells of these rows hold no number, or a category that the training rows lack.

    Each is told with the number of such cells and the first of them.
    """
    found = []
    for statistic in statistics:
        if "left_out" in statistic:
            continue
        cells = table.cells(statistic["column"])
        known = statistic.get("values")
        read = [None] * len(cells) if known is not None else read_numbers(table, {**statistic, "log": False})
        empty = [
            (line, text)
            for (line, text), value in zip(cells, read, strict=True)
            if (value is None if known is None else text not in known)
        ]
        if empty:
            thing = "gap" if known is None else "unknown text"
            line, text = empty[0]
            first = f"'{shortened(text, 30)}' in line {line}"
            found.append(f"{statistic['column']} {count_of(len(empty), thing)}, the first {first}")
    return found


def _shown(value: float, statistic: Statistic) -> str:
    return str(date(1970, 1, 1) + timedelta(value)) if statistic.get("order") else f"{value:g}"
