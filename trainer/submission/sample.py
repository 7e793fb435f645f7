"""Kaggle's sample_submission.csv: its header, ids, order and types, and which prediction stands in which column."""

import csv
import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data._folders import SUFFIXES
from trainer.submission.cells import NUMBER
from trainer.task import Row
from utils.errors import DataError
from utils.terminal import show

__all__ = ["Sample", "by_sample", "check_ids", "check_numbers", "read_sample", "without_suffix"]

RUNS = ("rle", "encodedpixels", "encoded_pixels", "rle_mask", "run_length")  # names of columns of run-length masks
WORD_ENDS = re.compile(r"[\W_]+")


class Sample(NamedTuple):
    """A sample: the path, the header, the ids, and the cells of each further column."""

    path: str
    header: list[str]
    ids: list[str]
    columns: list[list[str]]

    def wants_runs(self) -> bool:
        """Return whether its one column is of run-length masks."""
        return len(self.header) == 2 and any(word in self.header[1].lower() for word in RUNS)

    def holds_classes(self, classes: Sequence[str]) -> bool:
        """Return whether its one column holds names of classes, and more than one of them."""
        found = {cell for column in self.columns for cell in column if cell}
        return len(self.columns) == 1 and len(found) > 1 and found <= {*classes}

    def class_of_column(self, classes: Sequence[str]) -> str:
        """Return the class that its one column is named after, as is_cat is after cat; empty if there is none."""
        words = _words(self.header[1]) if len(self.header) == 2 else ""
        found = sorted((name for name in classes if _words(name) in words and _words(name).strip()), key=len)
        return found[-1] if found and [*map(len, found)].count(len(found[-1])) == 1 else ""

    def has_columns(self, names: Sequence[str]) -> bool:
        """Return whether its columns are of these names."""
        return set(self.header[1:]) == set(names)


def _words(text: str) -> str:
    """Return the words of a name in lower case, with a space around each."""
    return f" {WORD_ENDS.sub(' ', text.lower()).strip()} "


def read_sample(name: str) -> Sample:
    """Read a sample. Raises DataError where it is missing or cannot be one."""
    path = Path(name)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header, *lines = [row for row in csv.reader(stream) if row] or [[]]
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file; --test.sample names Kaggle's sample_submission.csv") from error
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV with a header: {error}") from error
    ids = [row[0] for row in lines]
    if len(header) == 1 and any(sign in header[0] for sign in ";\t|"):
        raise DataError(f"{path}: its columns are divided by another sign than a comma, which Kaggle asks for")
    if len(header) < 2 or len(set(ids)) != len(ids) or not ids:
        raise DataError(f"{path}: needs a header with an id and at least one column, and each id once")
    if twice := {column for column in header if header.count(column) > 1}:
        raise DataError(f"{path}: its header has the column '{min(twice)}' twice")
    return Sample(name, header, ids, [[line[i] for line in lines if i < len(line)] for i in range(1, len(header))])


def by_sample(sample: Sample, rows: dict[str, Row]) -> tuple[list[str], dict[str, Row]]:
    """Return which predicted column goes under each column of the sample, and the rows by its ids, in its order.

    Raises DataError where ids, columns or types are not those of the predictions.
    """
    rows = _matched(sample.path, sample.ids, rows)
    names = _match_columns(sample.path, sample.header, list(next(iter(rows.values()))))
    for column, name, cells in zip(sample.header[1:], names, sample.columns, strict=True):
        _check_type(f"{sample.path}: the column '{column}'", [cell for cell in cells if cell], rows, name)
    return names, {key: rows[key] for key in sample.ids}


def check_ids(ids: Sequence[str], files: Sequence[str]) -> None:
    """Raise DataError where an id names the file of another sample: ids and files are out of step.

    `files` are those of the samples, if a dataset tells one for each.
    """
    if len(ids) != len(files):
        return
    names = [_bare(file) for file in files]
    known = set(names)
    for key, name in zip(map(_bare, ids), names, strict=True):
        if key != name and key in known:
            raise DataError(
                f"the id {key} is given to the sample of the file {name}, and another file has that name: "
                "ids and files are out of step; see the dataset's ids"
            )


def check_numbers(sample: Sample, cells: Any) -> None:
    """Raise DataError where the sample's ids are those of a column, and the rows of the table were numbered.

    `cells` are the rows of a table as text, None for other datasets.
    """
    name = sample.header[0]
    if cells is None or cells.id is not None or name not in cells.table.header:
        return
    texts = [text for _, text in cells.table.cells(name)]
    if texts != [str(number) for number in range(1, len(texts) + 1)]:
        raise DataError(
            f"{sample.path}: its first column is {name}, and the rows of {cells.table.path} are known by their "
            f"numbers, not by its column {name}; set --data.dataset.id={name}"
        )


def _check_type(place: str, cells: Sequence[str], rows: dict[str, Row], name: str) -> None:
    """Raise DataError where a column of the sample holds words and the predictions numbers, or the other way round."""
    words, texts = [cell for cell in cells if not NUMBER.fullmatch(cell)], [row[name] for row in rows.values()]
    if not cells:
        return
    said = [text for text in texts if isinstance(text, str) and text and not NUMBER.fullmatch(text)]
    if words and not any(isinstance(text, str) for text in texts):
        raise DataError(f"{place} holds words ('{words[0][:30]}'), the predictions are numbers; see --test.output")
    if said and not words:
        raise DataError(
            f"{place} holds numbers ({cells[0]}), the predictions are words ('{said[0][:30]}'); see --test.output"
        )
    fractions = [cell for cell in cells if not words and float(cell) % 1]
    if fractions and (name == "label" or all(isinstance(text, str) for text in texts)):
        raise DataError(
            f"{place} holds fractions ({fractions[0]}), the predictions are class numbers; "
            "--test.output=probability writes probabilities"
        )


def _matched(sample: str, wanted: Sequence[str], rows: dict[str, Row]) -> dict[str, Row]:
    """Return the rows by the sample's ids: the same ids, otherwise without suffixes, otherwise without folders, too.

    Raises DataError when the ids of the sample and of the predictions are not the same, or one could be two.
    """
    for short, told in SHORTER:
        found = _by_short_name(wanted, rows, short)
        if found is not None:
            if told:
                show(f"{sample}: its ids are matched with those of the pictures without {told}")
            return found
    raise _other_ids(sample, wanted, rows)


def _by_short_name(wanted: Sequence[str], rows: dict[str, Row], short: Callable[[str], str]) -> dict[str, Row] | None:
    """Return the rows by the wanted ids; None unless each short id fits one row, and each row one id."""
    known = {short(key): key for key in rows}
    ids = {short(key): key for key in wanted}
    if len(known) < len(rows) or len(ids) < len(wanted) or known.keys() != ids.keys():
        return None
    return {key: rows[known[name]] for name, key in ids.items()}


def _doubles(rows: dict[str, Row], short: Callable[[str], str]) -> list[str]:
    """Return two ids that are the same in their short form; empty if there are none."""
    found: dict[str, str] = {}
    for key in rows:
        if (other := found.setdefault(short(key), key)) != key:
            return [other, key]
    return []


def without_suffix(key: str) -> str:
    """Return an id without a picture's suffix, and with the usual codes of its accents."""
    key = unicodedata.normalize("NFC", key)  # a folder from macOS has others
    return os.path.splitext(key)[0] if key.lower().endswith(SUFFIXES) else key


def _bare(key: str) -> str:
    return without_suffix(key).rpartition("/")[2]


SHORTER: tuple[tuple[Callable[[str], str], str], ...] = (
    (str, ""),
    (without_suffix, "suffix"),
    (_bare, "suffix and folder"),
)


def _other_ids(sample: str, wanted: Sequence[str], rows: dict[str, Row]) -> DataError:
    """Return the error for ids that are missing, foreign, or the same without suffix."""
    missing, foreign = set(wanted) - rows.keys(), rows.keys() - set(wanted)
    twice = _doubles(rows, without_suffix)
    if missing and twice and {without_suffix(key) for key in wanted} == {without_suffix(key) for key in rows}:
        return DataError(f"{sample}: {' and '.join(twice)} are both '{without_suffix(twice[0])}' there; rename one")
    for short, _ in SHORTER[1:]:  # only the suffix may differ, beside few ids that are really others
        shorter = {short(key) for key in rows}
        if len(others := {key for key in wanted if short(key) not in shorter}) < len(missing):
            names = {short(key) for key in wanted}
            missing, foreign = others, {key for key in rows if short(key) not in names}
    parts = [f"{len(missing)} of its ids have no prediction ({_few(missing)})"] if missing else []
    parts += [f"{len(foreign)} predictions are not in it ({_few(foreign)})"] if foreign else []
    return DataError(f"{sample}: {' and '.join(parts)}; is --test-data-root the folder it belongs to?")


def _few(ids: set[str]) -> str:
    return ", ".join(sorted(ids)[:3]) + (", …" if len(ids) > 3 else "")


def _match_columns(sample: str, header: list[str], predicted: list[str]) -> list[str]:
    """Return which predicted column goes under each column of the sample."""
    wanted = header[1:]
    if set(wanted) == set(predicted):
        return wanted
    if len(wanted) == len(predicted) == 1:
        return predicted
    lower = {name.lower() for name in wanted} == {name.lower() for name in predicted}
    several = len(predicted) > 1 and len(wanted) == 1
    hint = "--test.output=label or class writes one column" if several else "is it the sample of these data?"
    hint = "they differ in upper and lower case" if lower else hint
    raise DataError(
        f"{sample} has the columns {', '.join(wanted[:5])}, the predictions have {', '.join(predicted[:5])}"
        f"{', …' if len(predicted) > 5 else ''}; {hint}"
    )
