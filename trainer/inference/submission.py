"""Predictions as a CSV file that can be trusted: every id once, in the sample's order, under the sample's header."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from trainer.task import Row
from utils.errors import ConfigError, DataError, NonFiniteError
from utils.files import write_atomic
from utils.images import write_image

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
        _compare_ids(sample, order, rows)
        names = _match_columns(sample, header, list(next(iter(rows.values()))))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for key in order:
        writer.writerow([key, *(_value(key, rows[key][name]) for name in names)])
    write_atomic(target, text.getvalue().encode())
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


def _compare_ids(sample: str, wanted: Sequence[str], rows: dict[str, Row]) -> None:
    missing, foreign = set(wanted) - rows.keys(), rows.keys() - set(wanted)
    if missing or foreign:
        parts = [f"{len(missing)} of its ids have no prediction ({_few(missing)})"] if missing else []
        parts += [f"{len(foreign)} predictions are not in it ({_few(foreign)})"] if foreign else []
        raise DataError(f"{sample}: {' and '.join(parts)}; is --test-data-root the folder it belongs to?")


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
