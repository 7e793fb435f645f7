"""Evaluate and predict: for val and test, and within a training, which is as before afterwards."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from configs import COMPONENTS, Config, metric_specs
from data.loading.loader import Loader
from data.protocol import ids_of
from trainer.metrics._collected import with_metrics
from trainer.parallel.divided import is_divided
from trainer.progress import name_fault
from trainer.task import Row, Task
from utils import dist
from utils.blame import place_of_method
from utils.device import autocast
from utils.errors import CodeError, DataError
from utils.meters import Meter
from utils.randomness import same_random_state

__all__ = ["evaluate", "evaluating", "meters_of", "predict", "predicted", "unchanged"]


NAMED = 12  # samples that a sentence names


@contextmanager
def unchanged(task: Task) -> Iterator[None]:
    """Restore afterwards the random numbers, and which modules are in training mode."""
    modes = {module: module.training for module in task.modules()}
    try:
        with same_random_state():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def evaluating(task: Task) -> Iterator[None]:
    """Switch to evaluation mode, and restore everything afterwards."""
    with unchanged(task):
        task.eval()
        yield


def evaluate(
    task: Task,
    loader: Loader | None,
    cfg: Config,
    device: torch.device,
    after_batch: Callable[[], object] = lambda: None,
    also: Callable[[list[int], Any], object] = lambda indices, batch: None,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the metrics over a split, and extras that are no number, such as a confusion matrix.

    Each sample counts once, on one rank. Without a loader there are no metrics. `after_batch` is called equally often
    on all ranks, and may raise to break off; `also` gets the indices of a batch and the batch, under the same
    conditions as the task.
    Raises DataError when the split has no sample.
    """
    if loader is None:
        return {}, {}
    if not loader.size:
        raise DataError("the validation split has no samples; give it some, or make data.dataset.val_fraction larger")
    divided, done, batch = any(map(is_divided, task.parameters())), 0, None
    if divided and loader.size < dist.world_size():
        raise DataError(f"train.shard: full needs a validation sample for each process, and there are {loader.size}")
    meters = meters_of(task, cfg)
    with evaluating(task), torch.no_grad():
        for indices, batch in loader.epoch(0):
            with autocast(device, cfg.train.precision):
                task.val_step(batch, meters)
                also(indices, batch)
            after_batch()
            done += 1
        for _ in range(len(loader) - done):  # of some batches a rank has no sample: the others wait for it all the same
            if divided:
                with autocast(device, cfg.train.precision):
                    task.val_step(batch, task.meters())
            after_batch()
    if len(loader.bad.found) >= loader.size:
        raise DataError(f"none of the {loader.size:,} samples of validation can be read: {loader.bad.by_reason()}")
    values = {name: meter.value() for name, meter in _merged(task, cfg, meters).items()}
    numbers = {name: float(v) for name, v in values.items() if isinstance(v, (int, float))}
    return numbers, {name: v for name, v in values.items() if name not in numbers and v is not None}


def meters_of(task: Task, cfg: Config) -> Mapping[str, Meter]:
    """Return fresh meters of a task: its own, and those of task.metrics_too.

    Raises CodeError for own ones that are no dict, or whose names a row of the journal has no room for.
    """
    build, own = COMPONENTS["metric"].build, task.meters()
    fault = next(filter(None, map(name_fault, own)), "") if isinstance(own, Mapping) else f"a {type(own).__name__}"
    if fault:
        place = place_of_method(task, "meters") or "task"
        raise CodeError(f"{place}: meters gives {fault}; it must return a dict of meters, as {{'loss': Mean()}}")
    return with_metrics(own, {name: build(spec, key) for name, (spec, key) in metric_specs(cfg).items()}, task)


def _merged(task: Task, cfg: Config, meters: Mapping[str, Meter]) -> Mapping[str, Meter]:
    """Return the meters of all ranks together."""
    if dist.world_size() == 1:
        return meters
    whole = meters_of(task, cfg)
    for states in dist.gather({name: meter.state() for name, meter in meters.items()}):
        for name, state in states.items():
            whole[name].merge(state)
    return whole


def predict(task: Task, loader: Loader, cfg: Config, device: torch.device) -> dict[str, Row]:
    """Return the prediction of every sample by its id.

    Raises DataError when an id stands for two samples.
    """
    rows: list[tuple[int, Row]] = []
    with evaluating(task), torch.no_grad():
        for indices, batch in loader.epoch(0):
            with autocast(device, cfg.train.precision):
                rows += predicted(task, indices, batch)
    merged = dict(row for part in dist.gather(rows) for row in part)
    ids = [str(key) for key in ids_of(loader.dataset)]
    if loader.bad.found:
        raise DataError(_without_row(loader, ids))
    if missing := [ids[index] for index in range(loader.size) if index not in merged]:
        few = ", ".join(missing[:3])
        raise DataError(f"{len(missing)} of {loader.size} test samples were never read ({few}); see data.dataset")
    found = {ids[index]: merged[index] for index in range(loader.size)}
    if len(found) != loader.size:
        raise DataError(f"{loader.size} test samples have only {len(found)} different ids; make the file names unique")
    return found


def _without_row(loader: Loader, ids: list[str]) -> str:
    """Return in words which samples of the test split cannot be read."""
    loader.bad.write()
    bad = sorted(loader.bad.found)
    few = ", ".join(ids[index] for index in bad[:NAMED]) + (", …" if len(bad) > NAMED else "")
    where = f"; {loader.bad.path} lists all" if loader.bad.path else ""
    return (
        f"{len(bad):,} of {loader.size:,} test samples cannot be read and get no row: {few} ({loader.bad.by_reason()})"
        f"{where}; nothing was written: each id needs a prediction, so replace the files or leave the samples out"
    )


def predicted(task: Task, indices: list[int], batch: Any) -> list[tuple[int, Row]]:
    """Return the index and the prediction of each sample. Raises CodeError unless each has a row of plain cells."""
    rows = task.test_step(batch)
    if not isinstance(rows, list) or len(rows) != len(indices) or not all(isinstance(row, dict) for row in rows):
        place = place_of_method(task, "test_step") or "task"
        given = f"{len(rows)} rows" if isinstance(rows, list) else f"a {type(rows).__name__}"
        raise CodeError(
            f"{place}: test_step gives {given} for {len(indices)} samples; it must return a list of a dict for each"
        )
    for row in rows:
        for name, value in row.items():
            if isinstance(value, Tensor) and value.ndim not in (2, 3):
                place, given = place_of_method(task, "test_step") or "task", f"{list(value.shape)} as {name!r}"
                raise CodeError(f"{place}: test_step gives a tensor {given}; a cell is a number, text or a picture")
    return list(zip(indices, rows, strict=True))
