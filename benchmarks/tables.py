"""Ten tables: the shipped settings beside scikit-learn's HistGradientBoosting with its defaults, on the same folds.

`python -m benchmarks.tables --kaggle=FOLDER [--write=docs/kaggle.md]`; FOLDER holds titanic, house_prices and
digit_recognizer as Kaggle gives them. The other tables come with scikit-learn, or are drawn by its generators.
"""

import argparse
import contextlib
import csv
import io
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets as source
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from benchmarks.machine import describe
from configs import load
from data._table import split_fold
from trainer import fit

FOLDS = 5
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
QUIET = {"log.visdom": False, "log.pictures": False}


@dataclass(frozen=True)
class Table:
    """A table, the config that learns it, and the columns that the other one does not see."""

    name: str
    config: str
    target: str = "target"
    number: bool = False  # whether a number is predicted, judged by its error; otherwise a class, by accuracy
    hidden: Sequence[str] = ()
    logarithm: bool = False


REGRESSION = {"task": "Regression", "model.num_classes": 1, "train.monitor": "rmse"}
KAGGLE = (
    Table("titanic", "titanic", "Survived", hidden=("PassengerId", "Name", "Ticket", "Cabin")),
    Table("house_prices", "house_prices", "SalePrice", True, ("Id",), logarithm=True),
    Table("digit_recognizer", "digit_recognizer", "label"),
)
MADE = {
    Table("breast_cancer", "table"): source.load_breast_cancer,
    Table("wine", "table"): source.load_wine,
    Table("iris", "table"): source.load_iris,
    Table("digits", "table"): source.load_digits,
    Table("diabetes", "table", number=True): source.load_diabetes,
    Table("friedman1", "table", number=True): lambda: made(source.make_friedman1(2000, noise=1.0, random_state=0)),
    Table("classification", "table"): lambda: made(
        source.make_classification(2000, 20, n_informative=8, random_state=0)
    ),
}


def made(parts: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    return {"data": parts[0], "target": parts[1]}


def write_table(folder: Path, found: Any, number: bool) -> None:
    """Write train.csv from a set of scikit-learn's."""
    folder.mkdir(parents=True)
    names = [f"x{i}" for i in range(found["data"].shape[1])]
    with open(folder / "train.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "target"])
        for row, target in zip(found["data"], found["target"], strict=True):
            writer.writerow([*map(repr, map(float, row)), float(target) if number else f"class {int(target)}"])


def ours(table: Table, folder: Path, fold: int) -> float:
    """Train the config without fold `fold`; return accuracy, or the root of the mean squared error, on the fold."""
    options = {"data.dataset.root": str(folder), "data.dataset.fold": [fold, FOLDS], "data.dataset.seed": 0}
    options |= REGRESSION if table.number and table.config == "table" else {}
    cfg = load(table.config, {**options, **QUIET})
    with contextlib.redirect_stdout(io.StringIO()):
        numbers = fit(cfg, run=f"{table.name}-{fold}", output="quiet").metrics
    return numbers["rmse" if table.number else "accuracy"]


def theirs(table: Table, folder: Path, fold: int) -> float:
    """Train their model on the same rows with the same held out; return the same figure."""
    with open(folder / "train.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    target = [row[table.target] for row in rows]
    names = [name for name in rows[0] if name not in (table.target, *table.hidden)]
    columns = {name: numbers([row[name] for row in rows]) for name in names}
    texts = [i for i, name in enumerate(names) if columns[name] is None]
    values = np.array([[row[name] for name in names] for row in rows], dtype=object)
    for i, name in enumerate(names):
        if columns[name] is not None:
            values[:, i] = columns[name]
    encoder = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, max_categories=250), texts),
        remainder="passthrough",
    )
    chosen = list(range(len(texts)))
    kind = HistGradientBoostingRegressor if table.number else HistGradientBoostingClassifier
    model = make_pipeline(encoder, kind(categorical_features=chosen or None, random_state=fold))
    truth: Any = np.array(target)
    if table.number:
        truth = np.log1p(truth.astype(float)) if table.logarithm else truth.astype(float)
    train, held_out = split_fold(len(rows), (fold, FOLDS), 0)
    model.fit(values[train], truth[train])
    found = model.predict(values[held_out])
    return float(
        np.sqrt(np.mean((found - truth[held_out]) ** 2)) if table.number else np.mean(found == truth[held_out])
    )


def numbers(cells: Sequence[str]) -> np.ndarray | None:
    """Return a column as numbers, NaN for an empty cell or NA; None for one of texts."""
    try:
        return np.array([float("nan") if cell in ("", "NA") else float(cell) for cell in cells])
    except ValueError:
        return None


def line(table: Table, folder: Path) -> tuple[str, bool]:
    """Measure a table; return its line, and whether ours is level or ahead."""
    pairs = [(ours(table, folder, fold), theirs(table, folder, fold)) for fold in range(FOLDS)]
    own, other = (statistics.mean(values) for values in zip(*pairs, strict=True))
    gains = [(b - a) if table.number else (a - b) for a, b in pairs]
    gain, error = statistics.mean(gains), statistics.stdev(gains) / FOLDS**0.5
    verdict = "ahead" if gain > error else "level" if gain >= -error else "behind"
    figure = "RMSE" + (" of log" if table.logarithm else "") if table.number else "accuracy"
    told = f"| {table.name} | `{table.config}` | {figure} | {own:.4g} | {other:.4g} | {verdict} |"
    print(told, flush=True)
    return told, verdict != "behind"


def main() -> None:
    """Measure every table, and put the lines between their marks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kaggle", type=Path, required=True)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    tables = [(table, given.kaggle.absolute() / table.name) for table in KAGGLE]
    target = given.write.absolute() if given.write else None
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for table, make in MADE.items():
            write_table(Path(folder) / table.name, make(), table.number)
            tables.append((table, Path(folder) / table.name))
        found = [line(table, place) for table, place in tables]
    good = sum(level for _, level in found)
    head = "| Table | config | figure | ours | HistGradientBoosting | |\n|---|---|---|--:|--:|---|"
    words = f"Level or ahead in {good} of {len(found)}. Means of {FOLDS} folds; level: within a standard error of the"
    words += f" difference. Measured on {describe()['CPU']}, torch {describe()['torch']}."
    text = "\n".join([BEGIN, head, *(told for told, _ in found), "", words, END])
    print(words)
    if target:
        before, rest = target.read_text(encoding="utf-8").split(BEGIN)
        target.write_text(before + text + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
