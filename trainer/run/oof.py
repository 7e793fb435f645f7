"""oof.csv of a k-fold study: each training row once, predicted by the run that did not see it."""

import csv
import io
import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from configs import Config, more_metrics
from data.protocol import ids_of
from trainer.build import build_dataset
from trainer.evaluate import meters_of
from trainer.inference.trained import LoadedRun
from trainer.messages import explain_torch_errors
from trainer.task import Row, Task, pair_of
from trainer.tasks.classification import Classification
from trainer.tasks.multi_label import MultiLabel
from trainer.tasks.regression import Regression
from utils.device import autocast
from utils.errors import DataError
from utils.files import write_atomic
from utils.runs.study import Child, Study
from utils.words import count_of

__all__ = ["FILE", "write_oof"]

FILE = "oof.csv"
LEAST = 1e-38  # a probability's logarithm is finite


@dataclass
class Predicted:
    """A training row: its truth, and the predictions of each run that did not see it (one for each seed)."""

    truth: Row
    rows: list[Row] = field(default_factory=list)
    children: list[str] = field(default_factory=list)

    def mean(self) -> Row:
        """Return the mean of the predictions."""
        return {name: math.fsum(row[name] for row in self.rows) / len(self.rows) for name in self.rows[0]}


def write_oof(study: Study) -> list[str]:
    """Write oof.csv into the study's folder, and its score into study.json; return what was done in words.

    Raises DataError unless each training row is predicted exactly once for each seed.
    """
    found: dict[str, Predicted] = {}
    known, left = set[str](), set[str]()
    task: Task | None = None
    for child in study.children:
        trained = LoadedRun(str(study.folder(child)))
        cfg, task, device = trained.load_task([])
        if not isinstance(task, Classification | MultiLabel | Regression):
            return [f"no {FILE}: {type(task).__name__} predicts no classes, labels or numbers"]
        with explain_torch_errors(cfg, training=False), closing(trained.loader(cfg, "val", task, device)) as loader:
            ids = list(map(str, ids_of(loader.dataset)))
            known = known or set(map(str, ids_of(build_dataset(cfg, "train", trained.meta))))
            known |= set(ids)
            _add(found, _predicted(task, loader, cfg.train.precision, device), ids, child)
            left |= {ids[number] for number in loader.bad.found}
    assert task is not None, "a study has children"
    _check(found, known - left, int(study.options.get("seeds", 1)))
    _write(study, found)
    study.options["oof"] = score = _score(task, cfg, found)
    study.save()
    told = ", ".join(f"{name} {value:.6g}" for name, value in _chosen(score, study.monitor()).items())
    without = [f"{FILE} lacks {count_of(len(left), 'row')} that cannot be read, as {min(left)}"] if left else []
    return [
        f"{study.path / FILE}: {len(found):,} rows, each predicted by the run that did not see it; {told}",
        *without,
    ]


def _predicted(task: Any, loader: Any, precision: str, device: torch.device) -> list[tuple[int, Row, Row]]:
    """Return (index, prediction, truth) of each sample of a split."""
    rows: list[tuple[int, Row, Row]] = []
    with torch.no_grad():
        for indices, batch in loader.epoch(0):
            inputs, targets = pair_of(batch)
            with autocast(device, precision):
                if isinstance(task, Classification):
                    probabilities = task.probabilities(inputs).cpu().tolist()
                    predictions = [dict(zip(task.classes, row, strict=True)) for row in probabilities]
                    truths: list[Row] = [{"truth": task.classes[label]} for label in targets.tolist()]
                elif isinstance(task, MultiLabel):
                    predictions = [_by_name(task, row) for row in task.label_probabilities(inputs).tolist()]
                    truths = [_named(_by_name(task, row)) for row in targets.int().tolist()]
                else:
                    predictions = task.test_step(batch)
                    truths = [_named(row) for row in task.in_units(targets)]
            rows += zip(indices, predictions, truths, strict=True)
    return rows


def _by_name(task: MultiLabel, row: list[Any]) -> Row:
    """Return a row of one value for each label under the labels' names."""
    return dict(zip(task.classes, row, strict=True))


def _named(row: Row) -> Row:
    """Return a row of targets under the names of its columns in oof.csv."""
    return {"truth" if len(row) == 1 else f"truth {name}": value for name, value in row.items()}


def _add(found: dict[str, Predicted], rows: list[tuple[int, Row, Row]], ids: list[str], child: Child) -> None:
    """Add a child's predictions. Raises DataError for an id that stands for two of its rows."""
    for index, row, truth in rows:
        one = found.setdefault(ids[index], Predicted(truth))
        if child.name in one.children or one.truth.keys() != truth.keys():
            raise DataError(f"{FILE}: the id {ids[index]} stands for two rows; let the dataset's ids be unique")
        one.rows.append(row)
        one.children.append(child.name)


def _check(found: Mapping[str, Predicted], known: set[str], seeds: int) -> None:
    """Raise DataError unless the folds hold each row once for each seed, and every row that a run trained on."""
    wrong = next((key for key, one in found.items() if len(one.rows) != seeds), None)
    if wrong is not None:
        told = f"the row {wrong} was held out {len(found[wrong].rows)} times, not {seeds}"
        raise DataError(f"{FILE}: {told}: the folds overlap; did the data change between them, or lack ids?")
    if missing := known - found.keys():
        raise DataError(
            f"{FILE}: {len(missing)} rows were held out by no fold, as {min(missing)}; did the data change?"
        )


def _write(study: Study, found: Mapping[str, Predicted]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    first = next(iter(found.values()))
    writer.writerow(["id", *first.truth, *first.rows[0], "child"])
    for key in sorted(found, key=int if all(map(str.isdecimal, found)) else str):
        one = found[key]
        writer.writerow([key, *one.truth.values(), *one.mean().values(), "+".join(one.children)])
    write_atomic(study.path / FILE, text.getvalue().encode("utf-8", "backslashreplace"))


def _score(task: Any, cfg: Config, found: Mapping[str, Predicted]) -> dict[str, float]:
    """Return the metrics of the predictions of all rows together."""
    if isinstance(task, Regression):
        return {"rmse": _rmse(task, found), **_of_numbers(task, cfg, found)}
    task.cpu().model = nn.Identity()  # it is given logarithms of probabilities, which are logits too
    means = torch.tensor([list(one.mean().values()) for one in found.values()], dtype=torch.float64)
    meters = meters_of(task, cfg)
    if isinstance(task, MultiLabel):
        logits, truths = means.logit(LEAST), [list(one.truth.values()) for one in found.values()]
    else:
        logits, truths = (
            means.clamp_min(LEAST).log(),
            [task.classes.index(one.truth["truth"]) for one in found.values()],
        )
    with torch.no_grad():
        task.val_step((logits, torch.tensor(truths)), meters)
    values = {name: meter.value() for name, meter in meters.items()}
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}


def _of_numbers(task: Regression, cfg: Config, found: Mapping[str, Predicted]) -> dict[str, float]:
    """Return the metrics of task.metrics_too, which are in the unit of the file."""
    if "predictions" not in (meters := meters_of(task, cfg)):
        return {}
    means, truths = (
        torch.tensor([list(row.values()) for row in rows], dtype=torch.float64)
        for rows in ([one.mean() for one in found.values()], [one.truth for one in found.values()])
    )
    meters["predictions"].add(means, truths)
    values = {name: meters[name].value() for name in more_metrics(cfg.task)}
    return {name: float(value) for name, value in values.items() if value is not None}


def _rmse(task: Regression, found: Mapping[str, Predicted]) -> float:
    """Return the root mean squared error, of logarithms where those are learned."""
    truths = _learned(task, torch.tensor([list(one.truth.values()) for one in found.values()], dtype=torch.float64))
    means = _learned(task, torch.tensor([list(one.mean().values()) for one in found.values()], dtype=torch.float64))
    return math.sqrt((means - truths).square().mean().item())


def _learned(task: Regression, values: Tensor) -> Tensor:
    for number, output in enumerate(task.outputs):
        if output.get("log"):
            values[:, number] = values[:, number].log1p()
    return values


def _chosen(score: Mapping[str, float], monitor: str) -> dict[str, float]:
    """Return the monitored metric, or all metrics where it has no out-of-fold value."""
    return {monitor: score[monitor]} if monitor in score else dict(score)
