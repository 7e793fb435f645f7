"""Pictures: the first batch as it was trained on, and at the end the curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from trainer.watchers._thumbnails import (
    MASK_CELL,
    MASK_SIDE,
    SIDE,
    coloured,
    guarded,
    inputs_of,
    labels_of,
    masks_of,
    thumbnails,
)
from trainer.watchers.watcher import Run, Watcher

__all__ = ["Pictures"]

SAMPLES, CURVES = "samples_batch.png", "curves.png"
SHOWN, SHOWN_MASKS = 32, 6  # pictures of the first batch; with their masks below


class Pictures(Watcher):
    """Draws samples_batch.png with the first batch, and curves.png when the run is finished."""

    def after_step(self, run: Run, batch: Any, scalars: Mapping[str, Tensor]) -> bool:
        """Draw what the first step learned from; it costs no second reading."""
        from utils.figures.grid import picture_grid
        from utils.images import write_image

        if run.folder is None or (run.folder / SAMPLES).exists():  # a resumed run has it already
            return False
        with guarded(run.folder / SAMPLES, run.say) as target:
            if (inputs := inputs_of(batch)) is not None:
                try:
                    _draw_batch(run, inputs, batch, target)
                except ModuleNotFoundError:  # no matplotlib: the pictures alone
                    plain = thumbnails(inputs[:SHOWN], run.cfg.data.transform.train)
                    write_image(target, picture_grid(np.stack(plain)))
        run.logger.picture("samples batch", run.folder / SAMPLES)
        return False

    def end(self, run: Run) -> None:
        """Draw the curves."""
        from utils.figures.curves import draw_curves

        if run.folder is None:
            return
        with guarded(run.folder / CURVES, run.say) as target:
            draw_curves(run.folder / "log.jsonl", target)


def _draw_batch(run: Run, inputs: Tensor, batch: Any, target: Path) -> None:
    """Draw the first batch with a title and the labels; of masks each picture with its own."""
    from utils.figures.fonts import printable
    from utils.figures.gallery import Row, draw_gallery
    from utils.figures.palette import class_colours

    shown = SHOWN if (masks := masks_of(batch)) is None else SHOWN_MASKS
    side = SIDE if masks is None else MASK_SIDE
    pictures = thumbnails(inputs[:shown], run.cfg.data.transform.train, side)
    count = f"{len(pictures)} of {run.train_loader.size:,} training samples"
    title = f"{count}, as the network got them (after augmentation)"
    names, _ = printable(run.meta.get("classes", []))
    if masks is not None:
        colours = class_colours(len(names), run.meta.get("mask_values", ()))
        none: list[list[str]] = [[]] * len(pictures)
        drawn = [coloured(mask, colours, MASK_SIDE) for mask in masks[:shown]]
        rows = [Row("photo", pictures, none), Row("mask, in the colours of the classes", drawn, none)]
        draw_gallery(title, rows, target, list(zip(names, colours, strict=True)), MASK_CELL)
        return
    captions = [[names[label] if label < len(names) else str(label)] for label in labels_of(batch)[: len(pictures)]]
    captions = captions or _shares(batch, names)[: len(pictures)]
    rest: list[list[str]] = [[]] * (len(pictures) - len(captions))
    draw_gallery(title, [Row("with their labels" if captions else "", pictures, captions + rest)], target)


def _shares(batch: Any, names: Sequence[str]) -> list[list[str]]:
    """Return the classes of mixed samples with their shares, a line each, the largest first; [] for other batches.

    Of several labels, 0 and 1 each, it is their names.
    """
    labels = batch[1] if isinstance(batch, (tuple, list)) and len(batch) == 2 else None
    if not isinstance(labels, Tensor) or labels.ndim != 2 or labels.shape[1] != len(names):
        return []
    if bool(((labels == 0) | (labels == 1)).all()):
        chosen = [[name for name, there in zip(names, row, strict=True) if there] for row in labels.tolist()]
        return [[", ".join(some) or "no label"] for some in chosen]
    best = labels.detach().float().cpu().topk(min(2, len(names)), dim=1)
    rows = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    return [[f"{names[k]} {share:.2f}" for share, k in zip(*row, strict=True) if share > 0.005] for row in rows]
