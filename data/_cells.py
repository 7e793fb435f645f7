"""The kinds of a table's columns, read from their cells: numbers, dates, categories. A doubtful one is an error."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from utils.errors import DataError
from utils.words import count_of, shortened

__all__ = [
    "GAP_WORDS",
    "MISSING",
    "MOST_ODD",
    "Reading",
    "guess",
    "in_other_notation",
    "is_number",
    "parse_number",
    "reader_of",
]

MISSING = {"", "na", "n/a", "nan", "null", "none"}  # cells without a number, in any case of letters
# Further words for a gap, of spreadsheets, databases and statistics programs; only among numbers.
GAP_WORDS = {"?", "-", "--", "—", ".", "..", "*", "#n/a", "#na", "#n/a n/a", "#div/0!", "#value!", "#ref!", "#num!"}
GAP_WORDS |= {"<na>", "n.a.", "nil", "(null)", "missing", "unknown", "undefined", "\\n", "inf", "-inf", "+inf"}
MOST_ODD = 0.05  # the share of other texts in a column of numbers; with more of them the guess is doubtful
LIKE_NUMBER = re.compile(r"[\s$€£¥₹+(−-]*(\d[\d\s.,'’_]*|0[xX][0-9a-fA-F]+)[\s)%€$£¥₹]*(?:[eE][+-]?\d+)?")
GROUPED = {sign: re.compile(rf"[+-]?\d{{1,3}}(?:{re.escape(sign)}\d{{3}})+") for sign in (",", ".", " ", "'", "_")}
CODE = re.compile(r"0\d+|\+\d{7,}")  # digits that name something: a post code, a telephone number
DAY = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")  # 20240131
ISO_DATE = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[T ].*)?")
OTHER_DATE = re.compile(r"(\d{1,2})([-/.])(\d{1,2})[-/.](\d{4})(?:[T ].*)?")


@dataclass(frozen=True)
class Reading:
    """A column as it was understood, and the way to read its cells. Plain values, which a checkpoint keeps."""

    kind: str  # number, date or category
    decimal: str = "."
    thousands: str = ""
    gaps: tuple[str, ...] = ()  # the user's words for a gap, besides the known ones
    order: str = ""  # of a date: ymd, dmy or mdy
    odd: tuple[tuple[int, str], ...] = ()  # line and text of the cells that count as gaps, though no word says so

    def options(self) -> dict[str, Any]:
        """Return what reading the cells again needs, without what is usual."""
        found = {"decimal": self.decimal, "thousands": self.thousands, "words": list(self.gaps), "order": self.order}
        usual = {"decimal": ".", "thousands": "", "words": [], "order": ""}
        return {key: value for key, value in found.items() if value != usual[key]}


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


def reader_of(options: Mapping[str, Any]) -> Callable[[str], float | None]:
    """Return the function for a column's cells: the number, or the days since 1970-01-01 of a date; None for a gap.

    It raises ValueError for any other text.
    """
    gaps = {text.lower() for text in options.get("words", ())} | GAP_WORDS
    order, thousands, decimal = options.get("order", ""), options.get("thousands", ""), options.get("decimal", ".")

    def read(text: str) -> float | None:
        if text.lower() in gaps:
            return None
        if order:
            return None if text.lower() in MISSING else _days(text, order)
        if thousands:
            if thousands in text and not GROUPED[thousands].fullmatch(text.partition(decimal)[0]):
                raise ValueError(f"'{text}' is not grouped by thousands")
            text = text.replace(thousands, "")
        if decimal != ".":
            if "." in text:
                raise ValueError(f"'{text}' has a point, but the decimal sign is {decimal}")
            text = text.replace(decimal, ".")
        return parse_number(text)

    return read


def guess(path: str, name: str, cells: Sequence[tuple[int, str]], told: Mapping[str, Any], kind: str = "") -> Reading:
    """Return how a column is understood from (line, text) of its training rows.

    `told` are the user's decimal, thousands and gaps; `kind` is the column's kind where the user names it. Raises
    DataError, with the choices, where the cells can be taken for several things.
    """
    gaps = {text.lower() for text in told.get("gaps", ())}
    filled = [(line, text) for line, text in cells if text.lower() not in MISSING | gaps]
    values = [text for _, text in filled if text.lower() not in GAP_WORDS]
    options = {"decimal": told.get("decimal", "."), "thousands": told.get("thousands", "")}
    options |= {"gaps": tuple(told.get("gaps", ()))}
    if kind == "category" or not values:
        return Reading("category", **options)
    if not kind and (order := _date_order(path, name, values)):
        return Reading("date", order=order, gaps=options["gaps"])
    options |= {} if told.get("thousands") or told.get("decimal") else _notation(path, name, values)
    read = reader_of({**options, "words": options["gaps"]})
    odd = [(line, text) for line, text in filled if not _is_number(read, text)]
    numbers = len(filled) - len(odd)
    if numbers >= len(filled) / 2:
        _refuse_grouped(path, name, odd)
    if not kind:
        _refuse_codes(path, name, filled)
    if kind == "number":
        if not numbers:
            told = f"the column {name} is to hold numbers, but '{odd[0][1]}' is none"
            raise DataError(f"{path}:{odd[0][0]}: {told}; write plain numbers, or see columns.numbers and the target")
    elif numbers < len(filled) / 2:
        _refuse_notation(path, name, odd, len(filled))
        return Reading("category", gaps=options["gaps"])
    elif len(odd) > MOST_ODD * len(filled):
        raise _doubt(path, name, odd, f"{count_of(numbers, 'number')} and {count_of(len(odd), 'other text')}")
    known = [(line, text) for line, text in filled if text.lower() in GAP_WORDS]
    return Reading("number", **options, odd=tuple(sorted(odd + known)))


def _is_number(read: Callable[[str], float | None], text: str) -> bool:
    """Return whether a cell holds a number or a known word for a gap."""
    try:
        read(text)
    except ValueError:
        return False
    return True


def _refuse_codes(path: str, name: str, filled: Sequence[tuple[int, str]]) -> None:
    """Raises DataError for a column whose digits may be no quantities: codes with leading zeros, days in one number."""
    codes = [(line, text) for line, text in filled if CODE.fullmatch(text)]
    days = [(line, text) for line, text in filled if DAY.fullmatch(text)]
    if not codes and len(days) < len(filled):
        return
    line, text = (codes or days)[0]
    what = "a code such as a post code" if codes else "a day without signs between its parts"
    raise DataError(
        f"{path}:{line}: the column {name} holds '{text}', which may be a number or {what}; say what it is: "
        f"columns.numbers=[{name}], columns.categories=[{name}] or columns.ignore=[{name}]"
        + ("" if codes else ", or write year-month-day")
    )


def in_other_notation(text: str, order: str = "") -> bool:
    """Return whether a text that was not read as a number, or as a date of an order, looks like one all the same."""
    other = (LIKE_NUMBER,) if not order else (DAY, OTHER_DATE if order == "ymd" else ISO_DATE)
    return any(pattern.fullmatch(text) for pattern in other)


def is_number(text: str) -> bool:
    """Return whether a cell holds a plain number."""
    return _is_number(float, text)


def _doubt(path: str, name: str, odd: Sequence[tuple[int, str]], holds: str) -> DataError:
    """Return the error for a column that may be numbers or categories."""
    common = ", ".join(f"'{shortened(text, 30)}'" for text, _ in Counter(text for _, text in odd).most_common(3))
    return DataError(
        f"{path}:{odd[0][0]}: the column {name} holds {holds} ({common}); say what it is: columns.numbers=[{name}] "
        f"(other texts are gaps), columns.categories=[{name}], columns.ignore=[{name}], or columns.gaps=[…] for words "
        "that mean a gap"
    )


def _notation(path: str, name: str, values: Sequence[str]) -> dict[str, str]:
    """Return the signs of a column's numbers, if they are not plain and can mean one thing only."""
    commas = [text for text in values if "," in text]
    if len(commas) < (1 - MOST_ODD) * len(values) / 2 or not all(re.fullmatch(r"[\d.,+-]+", text) for text in commas):
        return {}
    whole = [text for text in commas if GROUPED[","].fullmatch(text.partition(".")[0])]
    points = [text for text in commas if re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})*,\d+", text)]
    if len(whole) == len(commas):
        sure = any(text.count(",") > 1 or "." in text for text in whole)
        if sure or not all(text.count(",") == 1 for text in whole):
            return {"thousands": ","}
        if any(re.fullmatch(r"[+-]?0\d*,\d+", text) for text in whole):
            return {"decimal": ","}
        raise DataError(
            f"{path}: the column {name} holds '{whole[0]}': with columns.thousands=',' that is "
            f"{whole[0].replace(',', '')}, with columns.decimal=',' it is {whole[0].replace(',', '.')}; set one of them"
        )
    if len(points) == len(commas):
        return {"decimal": ",", "thousands": "."} if any("." in text for text in points) else {"decimal": ","}
    return {}


def _refuse_grouped(path: str, name: str, odd: Sequence[tuple[int, str]]) -> None:
    """Raises DataError for a number in another notation among plain ones: as a gap it would be lost."""
    for line, text in odd:
        if in_other_notation(text):
            shown = shortened(text, 30)
            raise DataError(
                f"{path}:{line}: the column {name} holds '{shown}' among plain numbers; write it as one, or set "
                f"columns.thousands or columns.decimal, or make it a gap with columns.gaps=['{shown}']"
            )


def _refuse_notation(path: str, name: str, odd: Sequence[tuple[int, str]], filled: int) -> None:
    """Raises DataError for a column of texts of which most look like numbers in a notation that is not read."""
    alike = [(line, text) for line, text in odd if in_other_notation(text)]
    if len(alike) > filled / 2:
        raise DataError(
            f"{path}:{alike[0][0]}: the column {name} holds '{shortened(alike[0][1], 30)}', which looks like a number "
            f"but is not written as one; write plain numbers, or set columns.decimal or columns.thousands, or take it "
            f"for labels with columns.categories=[{name}], or leave it out with columns.ignore=[{name}]"
        )


def _date_order(path: str, name: str, values: Sequence[str]) -> str:
    """Return the order of year, month and day in a column of dates; empty if it holds none."""
    if all(ISO_DATE.fullmatch(text) for text in values):
        return "ymd"
    found = [match for text in values if (match := OTHER_DATE.fullmatch(text))]
    if len(found) < len(values):
        return ""
    first, second = (max(int(match[i]) for match in found) for i in (1, 3))
    if found[0][2] == "." or first > 12 >= second:
        return "dmy"
    if second > 12 >= first:
        return "mdy"
    raise DataError(
        f"{path}: the column {name} holds '{values[0]}': day and month could stand in either order; write year-month-"
        f"day, or set columns.ignore=[{name}] or columns.categories=[{name}]"
    )


def _days(text: str, order: str) -> float:
    """Return the days from 1970-01-01 to a date. Raises ValueError for another text."""
    match = (ISO_DATE if order == "ymd" else OTHER_DATE).fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is no date")
    parts = match.group(1, 2, 3) if order == "ymd" else match.group(4, 3, 1) if order == "dmy" else match.group(4, 1, 3)
    return float((date(*map(int, parts)) - date(1970, 1, 1)).days)
