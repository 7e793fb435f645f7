"""Predictions of a classifier: sure, unsure and wrong ones, and its confusion matrix."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from configs import Config
from data.loading.loader import looking
from data.protocol import first_sample, ids_of, read_one
from trainer.evaluate import evaluating
from trainer.task import Task
from trainer.watchers._mask_pictures import MaskDrawer, has_masks
from trainer.watchers._thumbnails import Say, guarded, inputs_of, thumbnails
from trainer.watchers.watcher import Run, Watcher
from utils.device import autocast

__all__ = ["Predictions"]

MATRIX, PREDICTIONS = "confusion_matrix.png", "predictions.png"
PER_ROW = 8  # predictions of a kind
PATIENCE = 3.0  # s, at most, that a run is delayed by looking at its predictions
TIME_SHARE = 0.01  # of a run's time, at most, for drawing predictions before its end


class Predictions(Watcher):
    """Draws predictions.png and the confusion matrix when the run is finished, and predictions now and then before.

    Predictions are drawn after a validation, too, whenever a hundred times as long has passed as that took.
    """

    def __init__(self) -> None:
        self.drawn, self.cost = time.monotonic(), PATIENCE + 1  # s, of predictions
        self.extras: Mapping[str, Any] = {}  # of the last validation

    def after_validation(self, run: Run, numbers: Mapping[str, float], extras: Mapping[str, Any]) -> None:
        self.extras = extras
        began = time.monotonic()
        if (began - self.drawn) * TIME_SHARE > self.cost:
            self._draw(run, f"epoch {run.progress.epoch + 1}")
            self.drawn = time.monotonic()
            self.cost = self.drawn - began

    def end(self, run: Run) -> None:
        if run.folder is not None:
            draw_matrices(self.extras, run.meta.get("classes", []), run.folder, "last validation", run.say)
            if self.extras:
                run.logger.picture("confusion matrix", run.folder / MATRIX)
            self._draw(run, "the last weights")

    def _draw(self, run: Run, of: str) -> None:
        if run.folder is not None and run.val_loader is not None:
            drawer = Drawer(run.eval_task, run.val_loader.dataset, run.cfg, run.device, run.say, run.meta)
            drawer.draw_predictions(run.folder / PREDICTIONS, of, PATIENCE)
            run.logger.picture("predictions", run.folder / PREDICTIONS)


def draw_matrices(matrices: Mapping[str, Any], classes: Sequence[str], folder: Path, of: str, say: Say) -> None:
    """Draw each matrix of a validation, and say which classes no font here can show."""
    from utils.figures.curves import draw_confusion
    from utils.figures.fonts import unprintable

    for name, matrix in matrices.items():
        file = MATRIX if name == "confusion" else f"{name}.png"
        with guarded(folder / file, say) as target:
            draw_confusion(matrix, classes, target, f"confusion matrix, {of}")
            if told := unprintable(classes):
                say(told)


class Outputs(NamedTuple):
    """A classifier's outputs for validation samples: index, label, predicted class and its probability, each [N]."""

    indices: Tensor
    labels: Tensor
    predicted: Tensor
    probability: Tensor


@dataclass(frozen=True)
class Drawer:
    """Draws the predictions of a task for the pictures of a dataset."""

    task: Task
    dataset: Any
    cfg: Config
    device: torch.device
    say: Say
    meta: Mapping[str, Any] = field(default_factory=dict)

    def draw_predictions(self, target: Path, of: str, patience: float) -> None:
        """Draw the most confident mistakes, the least certain, and the best, of validation pictures.

        Only for a task that gives `probabilities` of labelled pictures; of masks what was predicted beside the truth.
        After `patience` seconds the samples that were looked at must do; they are a random choice.
        """
        with guarded(target, self.say):
            if hasattr(self.task, "probabilities") and _has_pictures(self.dataset):
                self._draw_rows(self._predict(patience), target, of)
            elif hasattr(self.task, "pixel_classes") and has_masks(self.dataset):
                MaskDrawer(self.task, self.dataset, self.cfg, self.device, self.meta).draw(target, of, patience)

    def _predict(self, patience: float) -> Outputs:
        parts, started = [], time.monotonic()
        with evaluating(self.task), torch.no_grad():
            loader = looking(self.dataset, self.cfg, self.device)
            for indices, (inputs, labels) in loader.epoch(0):
                with autocast(self.device, self.cfg.train.precision):
                    probabilities = self.task.probabilities(inputs).cpu()  # type: ignore[operator]
                probability, predicted = probabilities.max(1)
                parts.append((torch.as_tensor(indices), labels.cpu(), predicted, probability))
                if time.monotonic() - started > patience:
                    break
        return Outputs(*map(torch.cat, zip(*parts, strict=True)))

    def _draw_rows(self, found: Outputs, target: Path, of: str) -> None:
        from utils.figures.gallery import Row, draw_gallery

        right = found.predicted == found.labels
        rows = []
        for title, chosen in _choose(found).items():
            samples = [read_one(self.dataset, place)[0] for place in found.indices[chosen].tolist()]
            pictures = [thumbnails(sample[None], self.cfg.data.transform.eval)[0] for sample in samples]
            rows.append(Row(title if chosen else f"{title}: none", pictures, self._captions(found, chosen)))
        size, whole = len(right), len(self.dataset)
        choice = "" if size == whole else f" (chosen at random among {whole:,})"
        accuracy = float(right.float().mean())
        title = f"predictions of {of}: {accuracy:.1%} right, of {size:,} validation samples{choice}"
        draw_gallery(title, rows, target)

    def _captions(self, found: Outputs, chosen: Sequence[int]) -> list[list[str]]:
        """Return the lines below each prediction: truth, prediction with its probability, and which sample it is."""
        from utils.figures.fonts import printable

        names, _ = printable(self.task.classes)  # type: ignore[arg-type]
        ids = ids_of(self.dataset)
        return [
            [
                f"truth {names[int(found.labels[i])]}",
                f"→ {names[int(found.predicted[i])]}  {float(found.probability[i]):.1%}",
                f"id {ids[int(found.indices[i])]}",
            ]
            for i in chosen
        ]


def _choose(found: Outputs) -> dict[str, list[int]]:
    """Return which predictions are shown, by the title of their row."""
    right = found.predicted == found.labels
    order = found.probability.argsort(stable=True)  # the least certain first
    wrong = [i for i in order.flip(0).tolist() if not right[i]][:PER_ROW]
    unsure = [i for i in order.tolist() if i not in wrong][:PER_ROW]
    best = [i for i in order.flip(0).tolist() if right[i] and i not in unsure][:PER_ROW]
    mistakes = int((~right).sum())
    return {f"most confident mistakes, of {mistakes:,}": wrong, "least certain": unsure, "most certain and right": best}


def _has_pictures(dataset: Any) -> bool:
    """Return whether a sample is a picture with a label."""
    sample = first_sample(dataset)
    if not isinstance(sample, (tuple, list)) or len(sample) != 2 or not isinstance(sample[0], Tensor):
        return False
    return inputs_of(sample[0][None]) is not None
