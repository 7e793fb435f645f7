"""Several labels for a picture, in a CSV: a column of 0 and 1 for each, or one column of names with a sign between."""

from collections import Counter
from collections.abc import Sequence

from utils.errors import DataError

__all__ = ["names_in", "rarest", "separator_of", "table_of"]

SIGNS = (";", "|", ",")
WORDS = {"space": " ", "tab": "\t"}  # of signs that a command line eats
Labels = tuple[str, ...]  # of one picture


def names_in(cell: str, separator: str) -> Labels:
    """Return the names in a cell, each once; none in an empty one."""
    separator = WORDS.get(separator, separator)
    parts = cell.split() if separator == " " else [part.strip() for part in cell.split(separator)]
    return tuple(dict.fromkeys(part for part in parts if part))


def separator_of(file: str, name: str, cells: Sequence[str]) -> str:
    """Return the sign between the names in the cells of a column; the first of SIGNS where each cell holds one name.

    Raises DataError, with the key to set, where it could be several, or where a space could be part of a name.
    """
    found = {cell for cell in cells if cell}
    signs = [sign for sign in SIGNS if any(sign in cell for cell in found)]
    key = "set data.dataset.separator to the sign between two labels"
    if len(signs) > 1:
        first, second = (min(cell for cell in found if sign in cell) for sign in signs[:2])
        raise DataError(f"{file}: the column {name} holds '{first}' and '{second}': {key}")
    if signs:
        return signs[0]
    several = {cell: cell.split() for cell in found if len(cell.split()) > 1}
    words = {word for cell in found for word in cell.split()}
    if not several:
        return SIGNS[0]
    # words that are labels themselves, or few words in many combinations
    if len(words) < len(found) or all(set(parts) <= found for parts in several.values()):
        return " "
    raise DataError(
        f"{file}: is '{min(several)}' in the column {name} one label, or {len(several[min(several)])}? "
        "Set data.dataset.separator to the sign between two labels: space, or ; for one label with a space in it"
    )


def rarest(labels: Sequence[Labels]) -> list[str]:
    """Return of each picture the label that the fewest pictures have, "" for one without: the class to divide by."""
    counts = Counter(name for names in labels for name in names)
    return [min(names, key=lambda name: (counts[name], name), default="") for names in labels]


def table_of(labels: Sequence[Labels], classes: Sequence[str]) -> list[list[float]]:
    """Return 1 for each label that a picture has and 0 for the others, a row for each picture."""
    return [[float(name in names) for name in classes] for names in map(set, labels)]
