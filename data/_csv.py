"""Read lists and tables from text files; a fault is reported with file and line."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from utils.errors import DataError, LinesError
from utils.files import content

__all__ = ["LABEL_WORDS", "NAME_WORDS", "Faults", "Row", "delimiter_of", "read_lines", "read_rows", "word_of"]

# Words of a header, in lower case and without signs; an earlier one is preferred.
NAME_WORDS = ["path", "filepath", "imagepath", "file", "filename", "filenames", "imagefile", "imagename", "image"]
NAME_WORDS += [
    "images",
    "imageid",
    "img",
    "imgname",
    "imgid",
    "imgpath",
    "picture",
    "photo",
    "photoid",
    "fname",
    "name",
]
NAME_WORDS += ["id", "idcode"]
LABEL_WORDS = [
    "label",
    "labels",
    "labelname",
    "class",
    "classname",
    "classes",
    "classid",
    "labelid",
    "target",
    "category",
]
LABEL_WORDS += ["categoryname", "categoryid", "species", "breed", "diagnosis"]

Row = tuple[int, list[str]]  # the number of the row's last line, and its cells


@dataclass
class Faults:
    """The faults of a text file, reported in one sentence."""

    path: str
    found: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, message: str) -> None:
        """Record a fault of a line; the message says how to mend it."""
        self.found.append((line, message))

    def check(self) -> None:
        """Raise LinesError with the first fault and the number of others, if there are any."""
        if self.found:
            line, message = min(self.found)
            others = f" ({len(self.found) - 1} more in this file)" if len(self.found) > 1 else ""
            raise LinesError(f"{self.path}:{line}: {message}{others}", self.path, sorted(self.found))


def read_lines(path: str, faults: Faults) -> list[str]:
    """Return the lines of a UTF-8 file, with their ends. Raises DataError if it is missing or not UTF-8 text."""
    lines = []
    for number, line in enumerate(_content(path).removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True), 1):
        if b"\0" in line:
            faults.add(number, "holds NUL bytes; save the file as UTF-8 text")
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            faults.add(number, "is not UTF-8; save the file as UTF-8 text")
    faults.check()
    return lines


def _content(path: str) -> bytes:
    try:
        return content(Path(path))
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}); put it there or set its name") from error


def read_rows(path: str, faults: Faults) -> list[Row]:
    """Return the rows of a CSV file (comma, semicolon, tab or |), without the empty ones.

    A row whose length differs from the first one's is recorded in `faults`. Raises DataError when the file has no rows,
    or when its rows have one column.
    """
    lines = read_lines(path, faults)
    delimiter = delimiter_of(lines)
    rows: list[Row] = []
    for line, cells in _parse(lines, delimiter, faults):
        if rows and len(cells) != len(rows[0][1]):
            faults.add(
                line, f"has {len(cells)} columns, but the first row has {len(rows[0][1])}; mend or remove the row"
            )
        else:
            rows.append((line, cells))
    if not rows:
        faults.check()
        raise DataError(f"{path} is empty; it needs rows of a picture's name and its label")
    if len(rows[0][1]) < 2:
        raise DataError(
            f"{path}:{rows[0][0]}: has one column, but a picture's name and its label are two; add the other"
        )
    return rows


def delimiter_of(lines: list[str]) -> str:
    """Return the sign that the first row has most of outside quotes; the line `sep=;` of Excel is made an empty one."""
    if lines and re.fullmatch(r"sep=.\s*", lines[0]):
        lines[0] = "\n"
    first = next((line for line in lines if line.strip()), "")
    return max(",;\t|", key=re.sub(r'"[^"]*"', "", first).count)


def _parse(lines: list[str], delimiter: str, faults: Faults) -> Iterator[Row]:
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for row in reader:
            if any(cells := [cell.strip() for cell in row]):
                yield reader.line_num, cells
    except csv.Error as error:
        faults.add(reader.line_num, f"is no CSV ({error}); mend or remove the row")


def word_of(cell: str) -> str:
    """Return a cell of a header in lower case, without signs and spaces."""
    return re.sub(r"\W|_", "", cell.lower())
