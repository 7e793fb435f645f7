"""The mirror check: the validation split, written and read as the test split is, must give validation's metrics again.

What it finds are predictions that are inverted, shifted, shuffled or of another kind than their column says.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from configs import Config
from data.loading.loader import Loader
from data.protocol import first_sample, ids_of, labels_of, read_one, texts_of
from trainer.evaluate import evaluate, predicted
from trainer.submission.cells import NUMBER, text_of
from trainer.submission.figures import Figures, Reader, Unreadable, reader_of
from trainer.submission.write import Layout, read_cells, write_pictures, write_rows
from trainer.task import Row, Task
from utils import dist
from utils.errors import DataError

__all__ = ["Validated", "compare", "read_back", "validated"]

SHOWN = (
    "mean_iou",
    "accuracy",
    "rmse",
    "log_loss",
    "average_precision",
    "micro_f1",
    "cer",
    "sequence_accuracy",
)  # the first of these that a task measures is told
ROUNDING = 2e-5  # the difference that single precision may make
PROBED = 32  # samples that are read alone


class Validated(NamedTuple):
    """The validation split: its metrics, the confusion matrix, and predictions and truth by id."""

    numbers: dict[str, float]
    confusion: Any
    rows: dict[str, Row]
    truth: dict[str, Any]  # targets as tensors, or texts


def validated(task: Task, loader: Loader, cfg: Config, device: torch.device, test: Dataset) -> Validated:
    """Evaluate and predict the validation split in one pass; `test_step` gets its batches as it gets those of `test`.

    Raises Unreadable for batches that are no pair of input and target, DataError where a batch holds other samples
    than it says.
    """
    rows: list[tuple[int, Row]] = []
    targets: list[tuple[int, Tensor]] = []
    texts = texts_of(loader.dataset)
    paired = bool(len(test)) and isinstance(first_sample(test), (tuple, list))  # type: ignore[arg-type]

    def collect(indices: list[int], batch: Any) -> None:
        if texts:
            rows.extend(predicted(task, indices, batch if paired else batch[0]))
            return
        if not isinstance(batch, (tuple, list)) or len(batch) != 2 or not isinstance(batch[1], Tensor):
            raise Unreadable("its batches are no pairs of an input and a target")
        targets.extend(zip(indices, _compact(batch[1]), strict=True))
        rows.extend(predicted(task, indices, _as_test(batch, paired)))

    numbers, extras = evaluate(task, loader, cfg, device, also=collect)
    found = dict(pair for part in dist.gather(rows) for pair in part)
    truth: Any = dict(enumerate(texts)) if texts else None
    if truth is None:
        truth = _true_targets(loader, dict(pair for part in dist.gather(targets) for pair in part))
    ids = [text_of(str(key)) for key in ids_of(loader.dataset)]
    if len(set(ids)) != len(ids):
        ids = [str(index) for index in range(loader.size)]
    order = sorted(truth)
    by_id = {ids[i]: found[i] for i in order}
    return Validated(numbers, extras.get("confusion"), by_id, {ids[i]: truth[i] for i in order})


class Reading(NamedTuple):
    """The lines of a written file, beside the truth, and how figures are read from them."""

    reader: Reader
    lines: list[dict[str, str]]
    truth: list[Any]

    def figures(self) -> Figures:
        """Return the figures of the file."""
        return self.reader.figures(self.lines, self.truth)


def read_back(
    seen: Validated, layout: Layout, cfg: Config, meta: Mapping[str, Any], sure: bool, folder: Path
) -> Reading:
    """Write the validation split as a submission into a folder, and read it; `sure`: it is of probabilities.

    Raises Unreadable for columns that tell nothing to compare.
    """
    target, first = folder / "submission.csv", next(iter(seen.truth.values()))
    meta = {**meta, **({"separator": sign} if (sign := cfg.task.args.get("separator")) else {})}
    reader = reader_of(layout.names, first, meta, cfg.test.output, _positive(cfg, meta), folder)
    layout = layout._replace(exact=False)
    write_rows(target, layout, write_pictures(target, seen.rows), sure)
    cells = read_cells(target, layout)
    return Reading(reader, [cells[key] for key in seen.truth], list(seen.truth.values()))


def compare(seen: Validated, layout: Layout, cfg: Config, meta: Mapping[str, Any], sure: bool) -> str:
    """Return in words which metric the file gives again; `sure`: it is of probabilities.

    Raises DataError where it gives another value than validation, Unreadable where nothing can be compared.
    """
    with tempfile.TemporaryDirectory() as folder:
        read = read_back(seen, layout, cfg, meta, sure, Path(folder))
        figures = read.figures()
        shown = next(iter(_comparable(figures, seen)), None)
        if shown is None:
            raise Unreadable(f"the task measures none of {', '.join(figures.numbers)}")
        if name := _differs(figures, seen):
            known = name if name in seen.numbers else "accuracy"
            ours, theirs = f"{figures.numbers[known]:.6g}", f"{seen.numbers[known]:.6g}"
            raise DataError(
                f"mirror check: the file's column gives {name} {ours} on the validation split, validation {theirs}: "
                f"{_cause(read, seen)}; nothing was written"
            )
    return f"{shown} {figures.numbers[shown]:.4g} on the validation split, as validation does"


def _positive(cfg: Config, meta: Mapping[str, Any]) -> str | None:
    return cfg.test.positive if cfg.test.positive is not None else meta.get("positive")


def _as_test(batch: Any, paired: bool) -> Any:
    """Return a labelled batch as a test split's: without targets, or in the size of its masks, where it has some."""
    inputs, targets = batch
    if targets.ndim == 3 and paired:
        return [inputs, [torch.full((len(targets),), side) for side in targets.shape[1:]]]
    return [inputs, targets] if paired else inputs


def _compact(targets: Tensor) -> Tensor:
    """Return targets on the CPU; masks of few classes take a byte a pixel."""
    targets = targets.detach().cpu()
    return targets.to(torch.uint8) if targets.ndim == 3 and not targets.is_floating_point() else targets


def _true_targets(loader: Loader, found: dict[int, Tensor]) -> dict[int, Tensor]:
    """Return the target of each sample by its index, from the dataset itself where it tells its labels.

    Samples that cannot be read have none. Raises DataError where batches lack others, or hold other targets than the
    samples have that are read alone.
    """
    dataset, count, bad = loader.dataset, loader.size, loader.bad.found
    if missing := [index for index in range(count) if index not in found and index not in bad]:
        raise DataError(f"mirror check: {len(missing)} of {count} validation samples were never read; see data.dataset")
    labels = labels_of(dataset)
    if labels is not None and len(labels) == count:
        return {index: label for index, label in enumerate(labels.cpu()) if index in found}
    for index in {*torch.linspace(0, count - 1, min(PROBED, count)).long().tolist()} - bad.keys():
        alone = torch.as_tensor(read_one(dataset, index)[1])
        if alone.ndim < 2 and not torch.allclose(alone.double(), found[index].double()):
            told = f"{found[index].tolist()} in its batch and {alone.tolist()} alone"
            raise DataError(
                f"mirror check: the target of sample {index} ({ids_of(dataset)[index]}) is {told}: batches "
                "hold other samples than they say; see data.dataset"
            )
    return found


def _comparable(figures: Figures, seen: Validated) -> list[str]:
    """Return the metrics that both have, the first ones to be told first; of masks also those of a class."""
    of_classes = [name for name in figures.numbers if name.startswith("iou_")]
    return [name for name in (*SHOWN, *of_classes) if name in figures.numbers and name in seen.numbers]


def _differs(figures: Figures, seen: Validated) -> str:
    """Return the first metric that a file gives otherwise than validation; empty if it gives all again."""
    for name in _comparable(figures, seen):
        ours, theirs = figures.numbers[name], seen.numbers[name]
        slack = ROUNDING * (1 + abs(theirs)) + (figures.level / len(seen.truth) if name == "accuracy" else 0)
        # the loss of a probability that is too small for a file is larger than the file tells
        more = name == "log_loss" and figures.tiny and theirs >= ours
        if not (abs(ours - theirs) <= slack or more):
            return name
    if figures.confusion is None or seen.confusion is None or figures.level:
        return ""
    return "" if np.array_equal(figures.confusion, seen.confusion) else "other samples right: accuracy"


def _cause(read: Reading, seen: Validated) -> str:
    """Return in words the likely fault of a column that gives other metrics."""
    reader, lines, truth = read
    if reader.flipped and not _differs(reader.flipped(lines, truth), seen):
        return "it is inverted, the probability of the other class; see test.positive and the task's test_step"
    for shift in (1, -1):
        if not _differs(reader.figures([*lines[shift:], *lines[:shift]], truth), seen):
            return "its rows are shifted by one; see the task's test_step"
    cells = {cell for line in lines for cell in line.values()}
    if reader.flipped and cells <= {"0", "1", "0.0", "1.0"}:
        return "it holds class numbers in place of probabilities; see test.output and the task's test_step"
    if (
        not isinstance(truth[0], str)
        and all(NUMBER.fullmatch(cell) for cell in cells)
        and max(len(cell.partition(".")[2]) for cell in cells) < 4
    ):
        return "its numbers have too few digits; see the task's test_step"
    return "its rows are shuffled, or it holds something of another kind; see the task's test_step and data.dataset"
