"""Predicted masks beside the true ones: photo, truth, prediction and difference, the worst first."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from configs import Config
from data.loading.loader import looking
from data.protocol import first_sample, ids_of, read_one
from trainer.evaluate import evaluating
from trainer.task import Task
from trainer.watchers._thumbnails import MASK_CELL, MASK_SIDE, coloured, masks_of, thumbnails
from utils.device import autocast

__all__ = []

SHOWN = 6  # samples: the worst ones, one in the middle, the best one
RIGHT, TOO_MUCH, MISSED, UNKNOWN = range(4)
DIFFERENCE = ((240, 240, 240), (213, 40, 30), (30, 90, 200))  # right, wrong, and of two classes a miss


@dataclass(frozen=True)
class MaskDrawer:
    """Draws what a segmentation task makes of a dataset's pictures."""

    task: Task
    dataset: Any
    cfg: Config
    device: torch.device
    meta: Mapping[str, Any]

    def draw(self, target: Path, of: str, patience: float) -> None:
        """Draw the worst predictions, one in the middle and the best one, of the samples read in `patience` s."""
        found = self._look(patience)
        order = sorted(found, key=found.__getitem__)
        if len(order) > SHOWN:
            order = [*order[: SHOWN - 2], order[len(order) // 2], order[-1]]
        whole = len(self.dataset)
        choice = "" if len(found) == whole else f" (chosen at random among {whole:,})"
        mean = sum(found.values()) / len(found)
        title = f"predictions of {of}: IoU {mean:.3f}, the mean over {len(found):,} validation samples{choice}"
        self._draw_rows(order, found, f"{title}; the worst at the left", target)

    def _look(self, patience: float) -> dict[int, float]:
        """Return the mean IoU of samples by their index."""
        found: dict[int, float] = {}
        started = time.monotonic()
        with evaluating(self.task), torch.no_grad():
            loader = looking(self.dataset, self.cfg, self.device)
            for indices, batch in loader.epoch(0):
                predicted = self._predict(batch[0])
                for index, truth, guess in zip(indices, batch[1], predicted, strict=True):
                    found[int(index)] = self._iou(truth.cpu(), guess.cpu())
                if time.monotonic() - started > patience:
                    break
        return found

    def _predict(self, images: Tensor) -> Tensor:
        with autocast(self.device, self.cfg.train.precision):
            return self.task.pixel_classes(images)  # type: ignore[operator]

    def _iou(self, truth: Tensor, guess: Tensor) -> float:
        """Return the mean of a picture's IoUs, over the classes that are in it or in its prediction."""
        counted = self._counted(truth)
        truth, guess = truth[counted], guess[counted]
        classes = set(truth.unique().tolist()) | set(guess.unique().tolist())
        ious = [float(((truth == k) & (guess == k)).sum() / ((truth == k) | (guess == k)).sum()) for k in classes]
        return sum(ious) / len(ious) if ious else 1.0

    def _counted(self, truth: Tensor) -> Tensor:
        """Return which pixels have a class."""
        ignored = getattr(self.task, "ignored", None)
        return torch.ones_like(truth, dtype=torch.bool) if ignored is None else truth != ignored

    def _draw_rows(self, order: list[int], found: Mapping[int, float], title: str, target: Path) -> None:
        from utils.figures.fonts import printable
        from utils.figures.gallery import Row, draw_gallery
        from utils.figures.palette import IGNORED, class_colours

        names, _ = printable(getattr(self.task, "classes", []))
        colours = class_colours(len(names), self.meta.get("mask_values", ()))
        columns = [self._column(index, colours) for index in order]
        ids = ids_of(self.dataset)
        none: list[list[str]] = [[]] * len(order)
        captions = [[f"IoU {found[index]:.3f}", f"id {ids[index]}"] for index in order]
        wrong = f"red: taken for {names[-1]}, blue: for {names[0]}" if len(names) == 2 else "red: another class"
        heads = ("photo", "truth", "prediction", f"difference ({wrong})")
        rows = [
            Row(head, pictures, captions if head is heads[-1] else none)
            for head, pictures in zip(heads, zip(*columns, strict=True), strict=True)
        ]
        legend = list(zip(names, colours, strict=True))
        legend += [] if getattr(self.task, "ignored", None) is None else [("no class", IGNORED)]
        draw_gallery(title, rows, target, legend, MASK_CELL)

    def _column(self, index: int, colours: list[tuple[int, int, int]]) -> tuple[np.ndarray, ...]:
        """Return photo, truth, prediction and difference of a sample."""
        image, truth = read_one(self.dataset, index)
        with evaluating(self.task), torch.no_grad():
            guess = self._predict(image[None].to(self.device))[0].cpu()
        counted = self._counted(truth)
        difference = torch.where(truth == guess, RIGHT, TOO_MUCH)
        if len(colours) == 2:
            difference = torch.where((truth == 1) & (guess == 0), MISSED, difference)
        photo = thumbnails(image[None], self.cfg.data.transform.eval, MASK_SIDE)[0]
        masks = (truth.where(counted, -1), guess, difference.where(counted, UNKNOWN))
        palettes = (colours, colours, DIFFERENCE)
        return photo, *(coloured(mask, palette, MASK_SIDE) for mask, palette in zip(masks, palettes, strict=True))


def has_masks(dataset: Any) -> bool:
    """Return whether a sample is a picture with its mask."""
    sample = first_sample(dataset)
    pair = isinstance(sample, (tuple, list)) and len(sample) == 2 and all(isinstance(part, Tensor) for part in sample)
    return pair and masks_of([part[None] for part in sample]) is not None
