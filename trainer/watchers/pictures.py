"""What a run leaves to look at: the first batch as it was trained on, curves, confusion matrix, predictions."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from trainer.evaluate import undisturbed
from trainer.trainer import Trainer
from trainer.watchers.predictions import _draw_matrices, _draw_predictions
from trainer.watchers.thumbnails import _guarded, _inputs_of, _labels_of, _thumbnails
from utils.sinks.logger import Backend
from utils.sinks.visdom_board import VisdomBoard

__all__ = ["Drawings"]

SAMPLES, CURVES = "samples_batch.png", "curves.png"
SHOWN = 32  # pictures of the first batch
PATIENCE = 3.0  # s, at most, that a run is delayed by looking at its predictions
SHARE = 0.01  # of a run's time, at most, for drawing predictions before its end


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
        from utils.images import picture_grid, write_image

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
