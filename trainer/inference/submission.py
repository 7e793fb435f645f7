"""Predictions as a CSV file that can be trusted: every id once, in the sample's order, under the sample's header."""

import csv
import io
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from data._folders import SUFFIXES
from trainer.task import Row
from utils.errors import ConfigError, DataError, NonFiniteError
from utils.files import write_atomic
from utils.images import write_image
from utils.terminal import show

__all__ = ["target_of", "write_pictures", "write_submission"]


def write_submission(target: Path, rows: dict[str, Row], sample: str | None) -> int:
    """Write id and predicted columns; give the number of rows.

    Without a sample: header `id` and the prediction's columns, sorted by id (numbers as numbers). Raises DataError
    when the sample's ids or columns are not those of the predictions, NonFiniteError for a value that is no number.
    """
    if sample is None:
        header, order = ["id", *next(iter(rows.values()))], sorted(rows, key=_by_number(rows))
        names = header[1:]
    else:
        header, order = _read_sample(Path(sample))
        rows = _matched(sample, order, rows)
        names = _match_columns(sample, header, list(next(iter(rows.values()))))
    _tell_odd_names(order)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for key in order:
        writer.writerow([key, *(_value(key, rows[key][name]) for name in names)])
    write_atomic(target, text.getvalue().encode("utf-8", "backslashreplace"))  # ids are names of files
    return len(order)


def write_pictures(target: Path, rows: dict[str, Row]) -> dict[str, Row]:
    """Write every predicted picture as `<column>s/<id>.png` beside the CSV, where its name then stands in its place.

    Raises DataError for an id that is no name of a file below that folder.
    """
    named: dict[str, Row] = {}
    for key, row in rows.items():
        if ".." in Path(key).parts or Path(key).is_absolute() or "\0" in key or len(Path(key).name) > 200:
            raise DataError(f"the id {key[:60]!r} cannot name a picture that is predicted; rename that test file")
        files = {column: f"{column}s/{key}.png" for column, value in row.items() if isinstance(value, Tensor)}
        for column, file in files.items():
            write_image(target.parent / file, row[column])
        named[key] = row | files
    return named


def _by_number(ids: dict[str, Row]):  # noqa: ANN202 - a sort key
    return int if all(key.isdecimal() for key in ids) else str


def _read_sample(path: Path) -> tuple[list[str], list[str]]:
    """Header and ids."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header, *lines = [row for row in csv.reader(stream) if row] or [[]]
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file; --test.sample names Kaggle's sample_submission.csv") from error
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV with a header: {error}") from error
    ids = [row[0] for row in lines]
    if len(header) < 2 or len(set(ids)) != len(ids) or not ids:
        raise DataError(f"{path}: needs a header with an id and at least one column, and each id once")
    return header, ids


def _tell_odd_names(ids: Sequence[str]) -> None:
    """Say which names of files are no UTF-8 text, and how they are written."""
    odd = [key for key in ids if _text(key) != key]
    if odd:
        show(f"note: {len(odd):,} ids are no UTF-8 text; they are written with codes, the first as {_text(odd[0])}")


def _text(key: str) -> str:
    """Return an id as it is written: bytes of a file's name that are no UTF-8 text as codes, such as \\udce9."""
    return key.encode("utf-8", "backslashreplace").decode()


def _matched(sample: str, wanted: Sequence[str], rows: dict[str, Row]) -> dict[str, Row]:
    """Return the rows by the sample's ids: the same ids, otherwise without suffixes, otherwise without folders, too.

    Raises DataError when the ids of the sample and of the predictions are not the same, or one could be two.
    """
    for short, told in ((lambda key: key, ""), (_without_suffix, "suffix"), (_bare, "suffix and folder")):
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


def _without_suffix(key: str) -> str:
    """Return an id without a picture's suffix."""
    return os.path.splitext(key)[0] if key.lower().endswith(SUFFIXES) else key


def _bare(key: str) -> str:
    return _without_suffix(key).rpartition("/")[2]


def _other_ids(sample: str, wanted: Sequence[str], rows: dict[str, Row]) -> DataError:
    """Return the error for ids that are missing, foreign, or the same without suffix."""
    missing, foreign = set(wanted) - rows.keys(), rows.keys() - set(wanted)
    twice = _doubles(rows, _without_suffix)
    if missing and twice and {_without_suffix(key) for key in wanted} == {_without_suffix(key) for key in rows}:
        return DataError(f"{sample}: {' and '.join(twice)} are both '{_without_suffix(twice[0])}' there; rename one")
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
    raise DataError(
        f"{sample} has the columns {', '.join(wanted[:5])}, the predictions have {', '.join(predicted[:5])}"
        f"{', …' if len(predicted) > 5 else ''}; --test.output=label or class writes one column"
    )


def _value(key: str, value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        raise NonFiniteError(f"the prediction for id {key} is {value}; nothing was written")
    return value


def target_of(result_file: str | None, folder: Path) -> Path:
    """Return where the CSV goes.

    Raises ConfigError when that is a folder.
    """
    target = Path(result_file) if result_file else folder / "submission.csv"
    if target.is_dir():
        raise ConfigError(f"test.result_file: {target} is a folder; name a file in it")
    return target
