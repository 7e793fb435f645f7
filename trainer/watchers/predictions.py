"""What a validation has to show: predictions, sure, unsure and wrong, and matrices."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from configs import Config
from data.loading.batches import Batches
from trainer.evaluate import measure, undisturbed
from trainer.messages import told_in_words
from trainer.task import Task
from trainer.watchers.thumbnails import Say, _guarded, _inputs_of, _thumbnails
from utils.device import autocast

__all__ = ["draw_validation"]

SAMPLES, CURVES, MATRIX = "samples_batch.png", "curves.png", "confusion_matrix.png"
PREDICTIONS = "predictions.png"
A_ROW = 8  # predictions of a kind


def draw_validation(folder: Path) -> list[Path]:
    """Draw confusion_matrix.png and predictions.png of a run's best checkpoint; gives those that are new.

    Raises CheckpointError where there is none, DataError where the validation data is not there any more.
    """
    from trainer.inference.trained import Trained

    trained = Trained(str(folder))
    cfg, task, device = trained.revive([], losses=True)
    batches = trained.batches(cfg, "val", task, device)
    of, began = trained.source.name, time.time()
    with told_in_words(cfg):
        _, matrices = measure(task, batches, cfg, device)
        batches.close()
        _draw_matrices(matrices, trained.meta.get("classes", []), folder, of, print)
        _draw_predictions(task, batches.dataset, cfg, device, folder, of, print, math.inf)
    return [path for path in (folder / MATRIX, folder / PREDICTIONS) if path.exists() and path.stat().st_mtime >= began]


def _draw_matrices(matrices: dict[str, Any], classes: Sequence[str], folder: Path, of: str, say: Say) -> None:
    """Draw each matrix of a validation, and say which classes no font here can show."""
    from utils.figures.curves import draw_confusion
    from utils.figures.fonts import unprintable

    for name, matrix in matrices.items():
        file = MATRIX if name == "confusion" else f"{name}.png"
        with _guarded(folder / file, say) as target:
            draw_confusion(matrix, classes, target, f"confusion matrix, {of}")
            if told := unprintable(classes):
                say(told)


class Looked(NamedTuple):
    """What a classifier says of validation samples: index, label, predicted class and its probability, each [N]."""

    indices: Tensor
    labels: Tensor
    predicted: Tensor
    probability: Tensor


def _draw_predictions(
    task: Task, dataset: Any, cfg: Config, device: torch.device, folder: Path, of: str, say: Say, patience: float
) -> None:
    """Draw predictions.png: the most confident mistakes, the least certain, and the best, of validation pictures.

    Only for a task that gives `probabilities` of labelled pictures. After `patience` seconds the samples that were
    looked at must do; they are a random choice.
    """
    with _guarded(folder / PREDICTIONS, say) as target:
        if not hasattr(task, "probabilities") or not _has_pictures(dataset):
            return
        found = _look(task, dataset, cfg, device, patience)
        _draw_shelves(found, task, dataset, cfg, target, of)


def _has_pictures(dataset: Any) -> bool:
    """Whether a sample is a picture with a label."""
    sample = _sample(dataset, 0)
    if not isinstance(sample, (tuple, list)) or len(sample) != 2 or not isinstance(sample[0], Tensor):
        return False
    return _inputs_of(sample[0][None]) is not None


def _look(task: Task, dataset: Dataset, cfg: Config, device: torch.device, patience: float) -> Looked:
    data = replace(cfg.data, num_workers=0, shuffle=True, balance_classes=False, drop_last=False)
    parts, started = [], time.monotonic()
    with undisturbed(task), torch.no_grad():
        batches = Batches(dataset, data, cfg.train.seed, training=True, device=device)
        for indices, (inputs, labels) in batches.epoch(0):
            with autocast(device, cfg.train.precision):
                probabilities = task.probabilities(inputs).cpu()  # type: ignore[operator]
            probability, predicted = probabilities.max(1)
            parts.append((torch.as_tensor(indices), labels.cpu(), predicted, probability))
            if time.monotonic() - started > patience:
                break
    return Looked(*map(torch.cat, zip(*parts, strict=True)))


def _draw_shelves(found: Looked, task: Task, dataset: Any, cfg: Config, target: Path, of: str) -> None:
    from utils.figures.fonts import printable
    from utils.figures.gallery import Shelf, draw_gallery

    names, _ = printable(task.classes)  # type: ignore[arg-type]
    right = found.predicted == found.labels
    order = found.probability.argsort(stable=True)  # the least certain first
    wrong = [i for i in order.flip(0).tolist() if not right[i]][:A_ROW]
    unsure = [i for i in order.tolist() if i not in wrong][:A_ROW]
    best = [i for i in order.flip(0).tolist() if right[i] and i not in unsure][:A_ROW]
    mistakes = int((~right).sum())
    kinds = {
        f"most confident mistakes, of {mistakes:,}": wrong,
        "least certain": unsure,
        "most certain and right": best,
    }
    shelves = []
    for title, chosen in kinds.items():
        places = found.indices[chosen].tolist()
        pictures = [_thumbnails(_sample(dataset, place)[0][None], cfg.data.transform.eval)[0] for place in places]
        captions = [_caption(found, i, names, dataset) for i in chosen]
        shelves.append(Shelf(title if chosen else f"{title}: none", pictures, captions))
    size, whole = len(right), len(dataset)
    choice = "" if size == whole else f" (chosen at random among {whole:,})"
    share = float(right.float().mean())
    draw_gallery(f"predictions of {of}: {share:.1%} right, of {size:,} validation samples{choice}", shelves, target)


def _caption(found: Looked, i: int, names: Sequence[str], dataset: Any) -> list[str]:
    """The lines below a prediction: truth, prediction with its probability, and which sample it is."""
    index, probability = int(found.indices[i]), float(found.probability[i])
    ids = getattr(dataset, "ids", range(len(dataset)))
    predicted = f"→ {names[int(found.predicted[i])]}  {probability:.1%}"
    return [f"truth {names[int(found.labels[i])]}", predicted, f"id {ids[index]}"]


def _sample(dataset: Any, index: int) -> Any:
    """A sample; read as the batches were where that needs no torchvision."""
    if not getattr(dataset, "draws_alone", False):
        return dataset[index]
    batch = dataset.gather([index], [0])
    return tuple(part[0] for part in batch) if isinstance(batch, tuple) else batch[0]
