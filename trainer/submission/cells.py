"""The text of a submission: written so that it is read back equal, and that no spreadsheet takes it for a formula."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from utils.errors import DataError

__all__ = ["encoded", "quoted", "read_lines", "text_of", "unquoted"]

FORMULA = re.compile(r"'*[=+\-@\t\r]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def text_of(key: str) -> str:
    """Return text as it is written: bytes of a file's name that are no UTF-8 text as codes, such as \\udce9."""
    return key.encode("utf-8", "backslashreplace").decode()


def quoted(text: str) -> str:
    """Return a cell that a spreadsheet takes for text: with a ' before what it would compute, such as =1+1."""
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def unquoted(cell: str) -> str:
    """Return the text of a cell that `quoted` made."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def encoded(lines: Iterable[Sequence[object]], exact: bool) -> bytes:
    """Return the bytes of a CSV file; `exact`: text stands there as it is, as a sample has it."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for line in lines:
        writer.writerow([cell if exact or not isinstance(cell, str) else quoted(cell) for cell in line])
    return stream.getvalue().encode("utf-8", "backslashreplace")  # ids are names of files


def read_lines(path: Path, exact: bool) -> list[list[str]]:
    """Return the cells of a file that was made with the same `exact`. Raises DataError for one that is no CSV."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            lines = [line for line in csv.reader(stream) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV: {error}") from error
    return lines if exact else [[unquoted(cell) for cell in line] for line in lines]
