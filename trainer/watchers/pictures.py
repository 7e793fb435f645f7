"""What a run leaves to look at: the first batch as it was trained on, curves, confusion matrix, predictions."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from configs import Component, Config
from data.loading.batches import Batches
from trainer.evaluate import measure, undisturbed
from trainer.setup import autocast, told_in_words
from trainer.task import Task
from trainer.trainer import Trainer
from utils.sinks.logger import Backend, VisdomBoard

__all__ = ["Drawings", "draw_validation"]

SAMPLES, CURVES, MATRIX = "samples_batch.png", "curves.png", "confusion_matrix.png"
PREDICTIONS = "predictions.png"
SIDE = 96  # pixels that a picture is brought to
SHOWN = 32  # pictures of the first batch
A_ROW = 8  # predictions of a kind
PATIENCE = 3.0  # s, at most, that a run is delayed by looking at its predictions
SHARE = 0.01  # of a run's time, at most, for drawing predictions before its end

Say = Callable[[str], None]


class Drawings(Backend):
    """A run's pictures in its folder and in visdom; whatever fails while they are drawn is a sentence, no more.

    Predictions are drawn after a validation, too, whenever a hundred times as long has passed as that took.
    """

    def __init__(self, trainer: Trainer, folder: Path):
        self.trainer, self.folder = trainer, folder
        self.pictures: Sequence[np.ndarray] = ()
        self.labels: list[int] = []
        self.train_step = trainer.train_step
        self.drawn, self.cost = time.monotonic(), PATIENCE + 1  # s, of predictions
        if not (folder / SAMPLES).exists():  # a resumed run has it already
            trainer.train_step = self.first_step

    def first_step(self, batch: Any, update: Any) -> dict[str, Tensor]:
        """The first training step: what it learned from is written after it, and costs no second reading."""
        from utils.figures.curves import picture_grid
        from utils.images import write_image

        scalars = self.train_step(batch, update)
        self.trainer.train_step = self.train_step
        with _guarded(self.folder / SAMPLES, self.trainer.console.say) as target:
            if (inputs := _inputs_of(batch)) is not None:
                self.pictures = _thumbnails(inputs[:SHOWN], self.trainer.cfg.data.transform.train)
                self.labels = _labels_of(batch)[: len(self.pictures)]
                write_image(target, picture_grid(np.stack(self.pictures)))  # without matplotlib, which takes its time
        self._show()
        return scalars

    def scalars(self, phase: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """After a validation, now and then: predictions so far."""
        began = time.monotonic()
        if phase == "val" and (began - self.drawn) * SHARE > self.cost:
            with undisturbed(self.trainer.eval_task):
                self._draw_predictions(f"epoch {epoch + 1}")
            self._show()
            self.drawn = time.monotonic()
            self.cost = self.drawn - began

    def at_end(self) -> None:
        """Draw what the finished run has to show."""
        from utils.figures.curves import draw_curves

        trainer, folder, say = self.trainer, self.folder, self.trainer.console.say
        with _guarded(folder / CURVES, say) as target:
            draw_curves(folder / "log.jsonl", target)
        _draw_matrices(trainer.matrices, trainer.meta.get("classes", []), folder, "last validation", say)
        self._draw_predictions("the last weights")
        if len(self.pictures):
            with _guarded(folder / SAMPLES, say) as target:
                self._label_batch(target)
        self._show()

    def _draw_predictions(self, of: str) -> None:
        trainer = self.trainer
        if trainer.val_batches is not None:
            task, dataset, say = trainer.eval_task, trainer.val_batches.dataset, trainer.console.say
            _draw_predictions(task, dataset, trainer.cfg, trainer.device, self.folder, of, say, PATIENCE)

    def _show(self) -> None:
        """Bring visdom up to date."""
        for board in self.trainer.logger.backends:
            if isinstance(board, VisdomBoard):
                board.pictures(self.folder)

    def _label_batch(self, target: Path) -> None:
        """The first batch once more, with a title and the labels."""
        from utils.figures.fonts import printable
        from utils.figures.gallery import Shelf, draw_gallery

        names, _ = printable(self.trainer.meta.get("classes", []))
        captions = [[names[label] if label < len(names) else str(label)] for label in self.labels]
        rest: list[list[str]] = [[]] * (len(self.pictures) - len(captions))
        size = self.trainer.train_batches.size
        title = f"{len(self.pictures)} of {size:,} training samples, as the network got them (after augmentation)"
        draw_gallery(title, [Shelf("with their labels" if captions else "", self.pictures, captions + rest)], target)


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


@contextmanager
def _guarded(target: Path, say: Say) -> Iterator[Path]:
    """A picture that cannot be drawn is told in a sentence: a run that has trained for days must not fail by it."""
    try:
        yield target
    except Exception as error:
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        say(f"{target} is not drawn: {reason}")


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


def _inputs_of(batch: Any) -> Tensor | None:
    """The pictures [B, C, H, W] of a batch, None where there are none."""
    inputs = batch[0] if isinstance(batch, (tuple, list)) and len(batch) else batch
    is_pictures = isinstance(inputs, Tensor) and inputs.is_floating_point() and inputs.ndim == 4
    return inputs if is_pictures and inputs.shape[1] in (1, 3) else None


def _labels_of(batch: Any) -> list[int]:
    """The labels of a batch, none where it has none of that kind."""
    labels = batch[1] if isinstance(batch, (tuple, list)) and len(batch) == 2 else None
    if not isinstance(labels, Tensor) or labels.ndim != 1 or labels.is_floating_point():
        return []
    return [int(label) for label in labels]


def _thumbnails(inputs: Tensor, transforms: Sequence[Component]) -> list[np.ndarray]:
    """Pictures [N, C, H, W] as a person sees them, uint8 [C, h, w] with the longer side near `SIDE`."""
    pixels = inputs.detach().float().cpu()
    for spec in reversed([spec for spec in transforms if spec.name == "Normalize"]):
        mean, std = (torch.as_tensor(spec.args[name]).float().view(-1, 1, 1) for name in ("mean", "std"))
        pixels = pixels * std + mean
    low, high = float(pixels.min()), float(pixels.max())
    if low < -0.5 or high > 1.5:  # in a scale of the dataset's own
        pixels = (pixels - low) / max(high - low, 1e-6)
    longest = max(pixels.shape[2:])
    if longest > SIDE:
        height, width = (max(1, round(side * SIDE / longest)) for side in pixels.shape[2:])
        pixels = F.interpolate(pixels, (height, width), mode="area")
    elif longest <= SIDE // 2:
        pixels = F.interpolate(pixels, scale_factor=SIDE // longest, mode="nearest")
    return list((pixels.clamp(0, 1) * 255).round().byte().numpy())
