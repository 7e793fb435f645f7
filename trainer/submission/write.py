"""Predictions as a CSV file that can be trusted: every id once, in the sample's order, under the sample's header.

The file is read back and compared with the predictions before it takes the place of an older one.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from configs import Config
from configs.schema import Test
from trainer.submission.cells import encoded, quoted, read_lines, text_of
from trainer.submission.sample import Sample, by_sample
from trainer.task import Row
from utils.errors import ConfigError, DataError, NonFiniteError
from utils.files import output_file, write_atomic
from utils.images import write_image
from utils.terminal import show

__all__ = [
    "Layout",
    "check_file",
    "laid_out",
    "read_cells",
    "refuse_among_data",
    "target_of",
    "tell_formulas",
    "tell_odd_names",
    "write_pictures",
    "write_rows",
]

TABLES = (".csv", ".txt", ".tsv", "")


class Layout(NamedTuple):
    """The columns of a file: the header, and the predicted column under each of its names after the first.

    `exact`: ids and header are a sample's, and stand there as they are.
    """

    header: list[str]
    names: list[str]
    exact: bool = False


def laid_out(rows: dict[str, Row], sample: Sample | None) -> tuple[Layout, dict[str, Row]]:
    """Return the columns of the file, and the rows in its order, by its ids.

    Without a sample: header `id` and the prediction's columns, sorted by id (numbers as numbers). Raises DataError
    when the sample's ids, columns or types are not those of the predictions, or rows have several sets of columns.
    """
    if not rows:
        raise DataError("the test split has no samples: nothing to predict")
    first = next(iter(rows.values()))
    if odd := [key for key, row in rows.items() if row.keys() != first.keys()]:
        raise DataError(
            f"the prediction for id {odd[0]} has other columns than the first one; see the task's test_step"
        )
    if sample is None:
        order = sorted(rows, key=int if all(key.isdecimal() for key in rows) else str)
        return Layout(["id", *first], list(first)), {key: rows[key] for key in order}
    names, rows = by_sample(sample, rows)
    return Layout(sample.header, names, exact=True), rows


def write_rows(target: Path, layout: Layout, rows: Mapping[str, Row], probabilities: bool = False) -> None:
    """Write the rows, and read them back before an older file is replaced; `probabilities` are from 0 to 1.

    Raises DataError when an id is doubled or a value out of range, NonFiniteError for a value that is no number.
    """
    lines = [[key, *(row[name] for name in layout.names)] for key, row in rows.items()]
    for key, *values in lines:
        _check_values(str(key), values, probabilities)
    data = encoded([layout.header, *lines], layout.exact)
    write_atomic(target, data, partial(check_file, layout=layout, lines=lines))


def read_cells(path: Path, layout: Layout) -> dict[str, dict[str, str]]:
    """Return the cells of a written file by id, as they are written, and by predicted column. Raises DataError."""
    lines = read_lines(path, layout.exact)
    if lines[0] != [text_of(name) for name in layout.header]:
        raise DataError(f"{path}: the header is {_few(lines[0])}, not {_few(layout.header)}")
    return {line[0]: dict(zip(layout.names, line[1:], strict=True)) for line in lines[1:]}


def check_file(path: Path, layout: Layout, lines: Sequence[Sequence[object]]) -> None:
    """Raise DataError unless a file holds exactly this header and these lines, an id first, each once."""
    header, *found = read_lines(path, layout.exact) or [[]]
    wanted = [text_of(name) for name in layout.header]
    if header != wanted:
        raise _other_header(path, header, wanted)
    ids = [line[0] for line in found]
    if len(set(ids)) != len(ids):
        twice = next(key for key in ids if ids.count(key) > 1)
        raise DataError(f"{path}: the id {twice} stands in several lines; make the names of the test files unique")
    due = [text_of(str(line[0])) for line in lines]
    there = set(ids)
    if missing := [key for key in due if key not in there]:
        raise DataError(f"{path}: {len(missing)} ids have no line ({_few(missing)})")
    if ids != due:
        wrong = next(((a, b) for a, b in zip(ids, due, strict=False) if a != b), (ids[-1], "nothing"))
        raise DataError(f"{path}: the id {wrong[0]} stands where {wrong[1]} is due")
    for line, meant in zip(found, lines, strict=True):
        if len(line) != len(header) or not all(map(_equal, line[1:], meant[1:])):
            raise DataError(f"{path}: the line of id {line[0]} reads {_few(line[1:])}, not {_few(meant[1:])}")


def write_pictures(target: Path, rows: dict[str, Row]) -> dict[str, Row]:
    """Write every predicted picture as `<column>s/<id>.png` beside the CSV, where its name then stands in its place.

    Raises DataError for an id that is no name of a file below that folder.
    """
    named: dict[str, Row] = {}
    for key, row in rows.items():
        if ".." in Path(key).parts or Path(key).is_absolute() or "\0" in key or len(Path(key).name) > 200:
            raise DataError(f"the id {key[:60]!r} cannot name a picture that is predicted; rename that test file")
        files = _pictures(target, key, row)
        for column, file in files.items():
            write_image(file, row[column])
        named[key] = row | {column: file.relative_to(target.parent).as_posix() for column, file in files.items()}
    return named


def tell_odd_names(ids: Sequence[str], exact: bool) -> None:
    """Say which ids are no UTF-8 text or look like formulas, and how they are written."""
    odd = [key for key in ids if text_of(key) != key]
    if odd:
        show(f"note: {len(odd):,} ids are no UTF-8 text; they are written with codes, the first as {text_of(odd[0])}")
    formulas = [key for key in ids if quoted(key) != key]
    if formulas:
        how = (
            "they stand there as in the sample"
            if exact
            else f"they are written with a ' before, as {quoted(formulas[0])}"
        )
        show(f"note: {len(formulas):,} ids are formulas to a spreadsheet; {how}")


def tell_formulas(layout: Layout, rows: Mapping[str, Row]) -> None:
    """Say which names of columns and predicted words look like formulas, and how they are written."""
    cells = {*layout.header[1:], *(value for row in rows.values() for value in row.values() if isinstance(value, str))}
    if not layout.exact and (found := sorted(cell for cell in cells if quoted(cell) != cell)):
        told = f"{', '.join(map(text_of, found[:3]))}{', …' if len(found) > 3 else ''}"
        show(f"note: names of classes are formulas to a spreadsheet ({told}); they are written with a ' before")


def target_of(wanted: Test, folder: Path, name: str = "submission.csv") -> Path:
    """Return where the CSV goes. Raises ConfigError when that is a folder, the sample, or another kind of file."""
    target = Path(wanted.result_file) if wanted.result_file else folder / name
    return output_file("test.result_file", target, TABLES, read=[wanted.sample] if wanted.sample else [])


def refuse_among_data(target: Path, cfg: Config, layout: Layout, rows: Mapping[str, Row]) -> None:
    """Raise ConfigError where test.result_file would replace a table or pictures of the data."""
    data = cfg.data
    roots = [data.train_data_root, data.test_data_root, data.dataset.args.get("root")]
    inside = [target.resolve().is_relative_to(Path(root).resolve()) for root in roots if root is not None]
    if cfg.test.result_file is None or not any(inside):
        return
    header = encoded([layout.header], layout.exact)
    others = [target] if target.exists() and not target.read_bytes().startswith(header) else []
    others += [path for key, row in rows.items() for path in _pictures(target, key, row).values() if path.exists()]
    if others:
        raise ConfigError(
            f"test.result_file={target}: {others[0]} is among the data and would be lost; name a file in another folder"
        )


def _pictures(target: Path, key: str, row: Row) -> dict[str, Path]:
    """Return the file of each predicted picture of a row, by its column."""
    return {name: target.parent / f"{name}s/{key}.png" for name, value in row.items() if isinstance(value, Tensor)}


def _check_values(key: str, values: Sequence[object], probabilities: bool) -> None:
    for value in values:
        if isinstance(value, float) and not math.isfinite(value):
            raise NonFiniteError(f"the prediction for id {key} is {value}; nothing was written")
        if probabilities and not (isinstance(value, float | int) and 0 <= value <= 1):
            raise DataError(f"the prediction for id {key} is {value}, no probability from 0 to 1; see test_step")


def _equal(cell: str, value: object) -> bool:
    """Return whether a cell says a value: a number to its last bit, text as it is written."""
    if isinstance(value, float):
        try:
            return float(cell) == value
        except ValueError:
            return False
    return cell == text_of(str(value))


def _other_header(path: Path, found: Sequence[str], wanted: Sequence[str]) -> DataError:
    """Return the error for another header; an index column and other upper and lower case are told as such."""
    hint = ""
    if [name.lower() for name in found] == [name.lower() for name in wanted]:
        hint = ": it differs in upper and lower case"
    elif list(found[1:]) == list(wanted):
        hint = ": an index column stands before it"
    return DataError(f"{path}: the header is {_few(found)}, not {_few(wanted)}{hint}")


def _few(texts: Sequence[object]) -> str:
    return ", ".join(str(text)[:40] for text in texts[:5]) + (", …" if len(texts) > 5 else "")
