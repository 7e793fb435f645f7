"""Whether a column of a CSV file holds classes, and whether names of classes mean the same."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress

from utils.errors import DataError

__all__ = ["alike", "check_classes", "is_number", "may_be_classes", "same_classes"]

MANY = 20  # numbers with decimals: more of them than these are measured, not classes
FEW_ROWS = 10  # a column of so few rows may hold other classes in each


def alike(classes: Iterable[str]) -> str:
    """Return the first names of classes that look like one, as Cat, cat; 1, 1.0; True, 1; empty if all differ.

    They differ in capitals, in spaces around, in the way of a number, or in the codes of an accent; names that would
    look the same are told with codes.
    """
    found: dict[object, list[str]] = {}
    for name in classes:
        found.setdefault(_meaning(name), []).append(name)
    same = next((names for names in found.values() if len(names) > 1), [])
    seen = {unicodedata.normalize("NFC", name).strip() for name in same}
    return ", ".join(same if len(seen) == len(same) else map(ascii, same))


def _meaning(name: str) -> object:
    text = unicodedata.normalize("NFC", name).strip().lower()
    text = {"true": "1", "false": "0"}.get(text, text)
    return float(text) if "_" not in text and is_number(text) else text


def check_classes(file: str, name: str, cells: Sequence[str], sure: bool) -> None:
    """Raise DataError for a column that holds no classes: measured numbers, or, unless `sure`, several in a cell."""
    found = {cell for cell in cells if cell}
    if len(found) > MANY and all(map(is_number, found)) and not all(float(cell).is_integer() for cell in found):
        raise DataError(
            f"{file}: the column {name} holds {len(found)} different numbers such as {min(found)}, which are measured "
            "and no classes; set data.dataset.label=COLUMN to one of classes, or make classes of them"
        )
    if sure:
        return
    parts = {cell: [part for part in re.split(r"[\s,;|]+", cell) if part] for cell in found}
    several = [cell for cell in found if len(parts[cell]) > 1]
    words = {part for cell in found for part in parts[cell]}
    # words that are classes themselves, or few words in many combinations
    if any(set(parts[cell]) <= found for cell in several) or (several and len(words) < len(found) / 2):
        raise DataError(
            f"{file}: the column {name} seems to hold several labels in a cell, such as '{min(several)}', and the task "
            f"learns one for each picture; --task=MultiLabel learns several, and data.dataset.label={name} takes each "
            "combination for a class of its own"
        )
    if len(cells) > FEW_ROWS and len(found) > len(cells) / 2:
        raise DataError(
            f"{file}: the column {name} holds {len(found)} different labels in {len(cells)} rows; if it holds the "
            f"classes, set data.dataset.label={name}"
        )


def is_number(text: str) -> bool:
    """Return whether a text is a finite number."""
    with suppress(ValueError):
        return abs(float(text)) < float("inf")
    return False


def may_be_classes(cells: Sequence[str]) -> bool:
    """Return whether a column may hold classes: not one value only, not another in each row, no measured numbers."""
    found = {cell for cell in cells if cell}
    measured = all(map(is_number, found)) and not all(float(cell).is_integer() for cell in found)
    return len(found) > 1 and (len(cells) < FEW_ROWS or len(found) < len(cells)) and not measured


def same_classes(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether two columns name the same classes, such as their numbers and their names."""
    pairs = Counter(zip(one, other, strict=True))
    return len(pairs) == len(set(one)) == len(set(other))
