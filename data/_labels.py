"""Find the columns of a CSV file of pictures: the picture's name, its class, and whether the first row is a header."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data._classes import check_classes, is_number, may_be_classes, same_classes
from data._csv import LABEL_WORDS, NAME_WORDS, Row, word_of
from data._folders import SUFFIXES
from data._several import Labels, names_in, separator_of
from data._splits import split_of
from utils.errors import DataError
from utils.words import suggest

__all__ = ["Columns", "find_columns"]

LOOKED_AT = 100  # rows whose pictures are looked for, to find the column of pictures
ONE_HOT = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
UNNAMED = re.compile(r"(unnamed: \d+)?")  # the header of an index that pandas wrote
BY_NAME = "data.dataset.path=COLUMN and data.dataset.label=COLUMN"
BY_NUMBER = "data.dataset.path=1 and data.dataset.label=2 (numbers of columns)"


@dataclass(frozen=True)
class Columns:
    """The columns of a file: `labels` has one for the class, or several that hold 0 and 1, one for each class.

    `several`: a picture may have any number of labels; their names are in one column, with `separator` between them, or
    columns of 0 and 1 are theirs, if it is None.
    """

    file: str
    names: list[str]  # as the header has them; without a header, their numbers from 1
    header: bool
    path: int
    labels: list[int]
    several: bool = False
    separator: str | None = None

    def labels_of(self, line: int, cells: Sequence[str]) -> Labels:
        """Return the labels of a row; none for an empty cell. Raises DataError for cells that are no 0 and 1."""
        if self.separator is not None:
            return names_in(cells[self.labels[0]], self.separator)
        if self.several:
            marks = self._marks(line, cells)
            return tuple(self.names[i] for i, mark in zip(self.labels, marks, strict=True) if mark)
        return (label,) if (label := self.label_of(line, cells)) else ()

    def label_of(self, line: int, cells: Sequence[str]) -> str:
        """Return the class of a row. Raises DataError unless a row of 0 and 1 has exactly one 1."""
        if len(self.labels) == 1:
            return cells[self.labels[0]]
        marks = self._marks(line, cells)
        count = sum(map(bool, marks))
        if count != 1:
            raise DataError(
                f"{self.file}:{line}: {count or 'none'} of the columns {self.listed(self.labels)} "
                f"hold{'' if count else 's'} 1, but the task learns exactly one label for a picture, not several; make "
                "one column of classes, or learn a single one of these: data.dataset.label=COLUMN; "
                "--task=MultiLabel learns several"
            )
        return self.names[self.labels[marks.index(True)]]

    def _marks(self, line: int, cells: Sequence[str]) -> list[bool]:
        """Return whether a row has the label of each column. Raises DataError for a cell that is neither 0 nor 1."""
        marks = [ONE_HOT.get(cells[i].lower()) for i in self.labels]
        if None in marks:
            odd = self.labels[marks.index(None)]
            message = f"'{cells[odd]}' in the column {self.names[odd]} is neither 0 nor 1, as in columns of classes"
            raise DataError(f"{self.file}:{line}: {message}; mend it or set data.dataset.label=COLUMN")
        return list(map(bool, marks))

    def listed(self, chosen: Sequence[int]) -> str:
        """Return the names of columns, at most ten."""
        return ", ".join(self.names[i] for i in chosen[:10]) + ", …" * (len(chosen) > 10)

    def position(self, column: str) -> int:
        """Return the position of a column that a key names. Raises DataError when there is none."""
        return _keyed(self.file, self.names, column)

    def splits(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """Return the columns beside that hold names of splits, such as train and test."""
        used = {self.path, *self.labels}
        columns = {self.names[i]: {cells[i] for cells in rows} for i in range(len(self.names)) if i not in used}
        return [name for name, found in columns.items() if len(found) > 1 and all(map(split_of, found))]

    def told(self) -> list[str]:
        """Return in words which columns are read."""
        row = "the first row is a header" if self.header else "the first row is a picture, not a header"
        read = "the one that holds 1 of the columns" if len(self.labels) > 1 else "the column"
        label = f"label: {read} {self.listed(self.labels)} (data.dataset.label)"
        if self.separator is not None:
            sign = f"separated by '{self.separator}' (data.dataset.label, data.dataset.separator)"
            label = f"labels: names in the column {self.names[self.labels[0]]}, {sign}"
        elif self.several:
            label = f"labels: those that hold 1 of the columns {self.listed(self.labels)} (data.dataset.label)"
        used = {self.path, *self.labels}
        others = [i for i in range(len(self.names)) if i not in used]
        return [
            f"pictures: the column {self.names[self.path]} (data.dataset.path); {row}",
            label,
            *([f"columns that are not read: {self.listed(others) or '(no name)'}"] if others else []),
        ]


def find_columns(
    file: str,
    rows: Sequence[Row],
    find: Callable[[str], str],
    path: str | int | None,
    label: str | int | Sequence[str] | None,
    several: bool = False,
    separator: str | None = None,
) -> Columns:
    """Return the columns of a CSV file; `find` returns a picture's file by its name, and "" without one.

    `path` and `label` name them, or number them from 1 in a file without a header. With `several` a picture may have
    any number of labels, and `separator` stands between two names in a cell. Raises DataError, with the columns
    and the key to set, where they are not clear.
    """
    first = rows[0][1]
    labels = [] if label is None else [label] if isinstance(label, (str, int)) else list(label)
    by_key = {str(key): _keyed(file, first, str(key)) for key in (path, *labels) if key is not None}
    header = any(key in first for key in by_key) if by_key else None
    picture = _picture_column(file, rows, find) if path is None else by_key[str(path)]
    if header is None:
        header = _is_header(file, rows, picture, find)
    names = first if header else [str(i + 1) for i in range(len(first))]
    body = [cells for _, cells in rows[header:]]
    chosen = [by_key[str(one)] for one in labels] or _label_columns(file, names, body, picture, header)
    if picture in chosen:
        raise DataError(
            f"{file}: the column {names[picture]} holds pictures and cannot be the label, too; set {BY_NAME}"
        )
    if several:
        if separator is None and not _is_marked(body, chosen):
            separator = separator_of(file, names[chosen[0]], [cells[chosen[0]] for cells in body])
        return Columns(file, names, header, picture, chosen, several, separator)
    if len(chosen) == 1:
        check_classes(file, names[chosen[0]], [cells[chosen[0]] for cells in body], sure=bool(labels))
    return Columns(file, names, header, picture, chosen)


def _is_marked(body: Sequence[Sequence[str]], chosen: Sequence[int]) -> bool:
    """Return whether columns hold 0 and 1; of several the rows are looked at later."""
    return len(chosen) > 1 or all(cells[chosen[0]].lower() in ONE_HOT for cells in body)


def _is_measured(text: str) -> bool:
    """Return whether a cell is a number with decimals, which names no picture."""
    return "." in text and is_number(text)


def _keyed(file: str, first: Sequence[str], key: str) -> int:
    """Return the position of a column that a key names, or numbers from 1."""
    if first.count(key) > 1:
        raise DataError(f"{file}:1: the column '{key}' stands there twice; rename one")
    if key in first:
        return first.index(key)
    if key.isdecimal() and 0 < int(key) <= len(first):
        return int(key) - 1
    near = suggest(key, first) or f"; it has {', '.join(first[:12])}"
    raise DataError(f"{file}:1: has no column '{key}'{near}")


# The column of pictures, and the header


def _picture_column(file: str, rows: Sequence[Row], find: Callable[[str], str]) -> int:
    """Return the column whose cells name files; of several the one with the most different names."""
    first = rows[0][1]
    body = [cells for _, cells in rows[1:]] or [first]
    sample = body[:: -(-len(body) // LOOKED_AT)]
    files = [["" if _is_measured(cells[i]) else find(cells[i]) for cells in sample] for i in range(len(first))]
    counts = [sum(map(bool, column)) for column in files]
    suffixed = [sum(cells[i].lower().endswith(SUFFIXES) for cells in sample) for i in range(len(first))]
    clues = counts if any(counts) else suffixed
    words = [word_of(cell) for cell in first]
    by_word = sorted((i for i in range(len(first)) if words[i] in NAME_WORDS), key=lambda i: NAME_WORDS.index(words[i]))
    if not any(clues):
        labels = [i for i in range(len(first)) if words[i] in LABEL_WORDS]
        return by_word[0] if by_word else int(labels == [0] and len(first) > 1)
    found = [i for i, clue in enumerate(clues) if clue >= max(clues) / 2]
    distinct = {i: len({cells[i] for cells in body}) for i in found}
    found = [i for i in found if distinct[i] == max(distinct.values())]
    found = [i for i in found if not UNNAMED.fullmatch(first[i].lower())] or found
    found = [i for i in found if suffixed[i] > len(sample) / 2] or found
    if len({tuple(files[i]) for i in found}) > 1:
        names = ", ".join(first[i] for i in found)
        raise DataError(f"{file}: each of the columns {names} names files that exist; set data.dataset.path=COLUMN")
    return next((i for i in by_word if i in found), found[0])


def _is_header(file: str, rows: Sequence[Row], picture: int, find: Callable[[str], str]) -> bool:
    """Return whether the first row is a header. Raises DataError where its cells could be both."""
    first, body = rows[0][1], [cells for _, cells in rows[1:]]
    name = first[picture]
    if find(name) or name.lower().endswith(SUFFIXES) or name.isdecimal():
        return False
    if word_of(name) in NAME_WORDS:
        return True
    like_data = like_header = any(word_of(cell) in LABEL_WORDS for cell in first)
    like_data = False
    for i, cell in enumerate(first):
        below = {cells[i] for cells in body if cells[i]}
        numbers = bool(below) and all(map(is_number, below))
        like_data |= (i != picture and cell in below) or (numbers and is_number(cell))
        like_header |= numbers and not is_number(cell)
        like_header |= i == picture and bool(below) and all(text.lower().endswith(SUFFIXES) for text in below)
    if like_data != like_header:
        return like_header
    raise DataError(
        f"{file}:1: is the first row ({', '.join(first[:6])}) a header, or a picture without a file? "
        f"For a header set {BY_NAME}; for none {BY_NUMBER}"
    )


# The columns of labels


def _label_columns(
    file: str, names: Sequence[str], body: Sequence[Sequence[str]], picture: int, header: bool
) -> list[int]:
    """Return the column of the class, or the columns of 0 and 1. Raises DataError where several could be."""
    others = [i for i in range(len(names)) if i != picture]
    columns = {i: [cells[i] for cells in body] for i in others}
    if len(others) > 1:
        others = [i for i in others if not (header and UNNAMED.fullmatch(names[i].lower()))] or others
    words = {i: word_of(names[i]) for i in others}
    by_word = sorted((i for i in others if words[i] in LABEL_WORDS), key=lambda i: LABEL_WORDS.index(words[i]))
    if len(others) == 1 or (by_word and all(same_classes(columns[by_word[0]], columns[i]) for i in by_word)):
        return by_word[:1] or others
    binary = [i for i in others if {cell.lower() for cell in columns[i]} <= ONE_HOT.keys()]
    plausible = [i for i in others if i in by_word or (i not in binary and may_be_classes(columns[i]))]
    if len(binary) > 1 and not plausible:
        return binary
    single = plausible + [i for i in binary if len(set(columns[i])) > 1]
    if len(single) == 1:
        return single
    counts = ", ".join(f"{names[i]} ({len(set(columns[i]))})" for i in range(len(names)) if i in columns)
    marks = f", or several of 0 and 1, as data.dataset.label=[{', '.join(names[i] for i in binary[:3])}, …]"
    raise DataError(
        f"{file}: which column is the label? {counts} (the number of different values); set "
        f"{BY_NAME if header else BY_NUMBER}{marks if len(binary) > 1 else ''}"
    )
