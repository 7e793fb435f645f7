"""Turn the cells of a table into numbers for a network, by statistics of the training rows only."""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data._table import Table, convert, parse_number
from utils.words import suggest

__all__ = ["Columns", "Statistic", "encode", "fit", "fit_classes", "fit_number", "read_numbers", "standardise"]

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
            if name in ("ignore", "categories", "log", "without") and not isinstance(value, (list, tuple)):
                raise ValueError(f"columns.{name} must be a list, as [{value}]")
            if name == "derive" and not all(isinstance(v, Mapping) for v in getattr(value, "values", lambda: [0])()):
                raise ValueError("columns.derive must hold a recipe for each new column, as {Sum: {plus: [A, B]}}")
            if name in ("rare", "clip") and not isinstance(value, (int, float, type(None))):
                raise ValueError(f"columns.{name} must be a number, not {value!r}")
        return cls(**options)


def fit(table: Table, columns: Columns, exclude: Sequence[str]) -> list[Statistic]:
    """Return the statistics of each column, from the training rows.

    The columns in `exclude` (target and id) and the ignored ones are skipped.
    """
    for name in [*columns.ignore, *columns.categories, *columns.log]:
        table.position(name)
    chosen = [name for name in table.header if name not in (*exclude, *columns.ignore)]
    return [_fit_column(table, name, columns) for name in chosen]


def _fit_column(table: Table, name: str, columns: Columns) -> Statistic:
    texts = [text for _, text in table.cells(name)]
    if name in columns.log or (name not in columns.categories and _all_numbers(texts)):
        return fit_number(table, name, columns)
    counts = Counter(texts)
    # Unknown values get no place of their own: training would never move the weight of it from its random start.
    return {"column": name, "values": sorted(text for text, count in counts.items() if count >= columns.rare)}


def _all_numbers(texts: Sequence[str]) -> bool:
    try:
        values = list(map(parse_number, texts))
    except ValueError:
        return False
    return any(value is not None for value in values)


def fit_number(table: Table, name: str, columns: Columns) -> Statistic:
    """Return mean and standard deviation of a column of numbers, or of their logarithms, and whether it has gaps.

    Raises DataError for a text that is no number, or that has no logarithm.
    """
    log = name in columns.log
    values = read_numbers(table, name, log)
    known = [value for value in values if value is not None]
    mean = math.fsum(known) / max(len(known), 1)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / max(len(known), 1))
    gaps = len(known) < len(values)
    return {"column": name, "log": log, "mean": mean, "std": std or 1.0, "gaps": gaps, "clip": columns.clip}


def fit_classes(table: Table, target: str) -> list[str]:
    """Return the distinct labels of a column in order; numbers are ordered by value."""
    found = {text for _, text in table.cells(target)} - {""}
    return sorted(found, key=lambda text: (int(text), text) if all(map(str.isdecimal, found)) else (0, text))


def encode(table: Table, statistics: Sequence[Statistic]) -> list[list[float]]:
    """Return a row of numbers for each row of the table.

    A number becomes (x - mean) / std, and a gap becomes 0. If the column has gaps in training, a second number is 1 for
    a gap and 0 otherwise. A category becomes one-hot: 1 in its place and 0 in the others. An unknown category becomes
    zeros. Raises DataError for a missing column, or a text among numbers.
    """
    parts = [part for statistic in statistics for part in _encode_column(table, statistic)]
    return [list(row) for row in zip(*parts, strict=True)]


def _encode_column(table: Table, statistic: Statistic) -> list[list[float]]:
    name = statistic["column"]
    if "values" in statistic:
        texts = [text for _, text in table.cells(name)]
        return [[float(text == value) for text in texts] for value in statistic["values"]]
    values = read_numbers(table, name, statistic["log"])
    standardised = [0.0 if value is None else standardise(value, statistic) for value in values]
    return [standardised] + ([[float(value is None) for value in values]] if statistic["gaps"] else [])


def standardise(value: float, statistic: Statistic) -> float:
    """Return (value - mean) / std, limited to ± `clip` if that is set."""
    z = (value - statistic["mean"]) / statistic["std"]
    clip = statistic["clip"]
    return z if clip is None else max(-clip, min(clip, z))


def read_numbers(table: Table, name: str, log: bool) -> list[float | None]:
    """Return the numbers of a column, or log(1 + x) of them; None for a gap. Raises DataError for any other text."""
    if not log:
        return convert(table, name, parse_number, "training has numbers there (or name it in columns.categories)")
    return convert(table, name, _logarithm, "above -1, but columns.log takes the logarithm there")


def _logarithm(text: str) -> float | None:
    value = parse_number(text)
    return None if value is None else math.log1p(value)  # log1p raises ValueError at -1 and below
