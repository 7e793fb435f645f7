"""Pictures: the first batch as it was trained on, and at the end the curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from trainer.watchers._thumbnails import guarded, inputs_of, labels_of, thumbnails
from trainer.watchers.watcher import Run, Watcher

__all__ = ["Pictures"]

SAMPLES, CURVES = "samples_batch.png", "curves.png"
SHOWN = 32  # pictures of the first batch


class Pictures(Watcher):
    """Draws samples_batch.png with the first batch, and curves.png when the run is finished."""

    def __init__(self) -> None:
        self.pictures: Sequence[np.ndarray] = ()
        self.labels: list[int] = []

    def after_step(self, run: Run, batch: Any, scalars: Mapping[str, Tensor]) -> bool:
        """Draw what the first step learned from; it costs no second reading."""
        from utils.images import picture_grid, write_image

        if run.folder is None or (run.folder / SAMPLES).exists():  # a resumed run has it already
            return False
        with guarded(run.folder / SAMPLES, run.say) as target:
            if (inputs := inputs_of(batch)) is not None:
                self.pictures = thumbnails(inputs[:SHOWN], run.cfg.data.transform.train)
                self.labels = labels_of(batch)[: len(self.pictures)]
                write_image(target, picture_grid(np.stack(self.pictures)))  # without matplotlib, which takes its time
        run.logger.picture("samples batch", run.folder / SAMPLES)
        return False

    def end(self, run: Run) -> None:
        """Draw the curves, and the first batch once more with its labels."""
        from utils.figures.curves import draw_curves

        if run.folder is None:
            return
        with guarded(run.folder / CURVES, run.say) as target:
            draw_curves(run.folder / "log.jsonl", target)
        if len(self.pictures):
            with guarded(run.folder / SAMPLES, run.say) as target:
                self._label_batch(run, target)
        run.logger.picture("samples batch", run.folder / SAMPLES)

    def _label_batch(self, run: Run, target: Path) -> None:
        """Draw the first batch with a title and the labels."""
        from utils.figures.fonts import printable
        from utils.figures.gallery import Row, draw_gallery

        names, _ = printable(run.meta.get("classes", []))
        captions = [[names[label] if label < len(names) else str(label)] for label in self.labels]
        rest: list[list[str]] = [[]] * (len(self.pictures) - len(captions))
        size = run.train_loader.size
        title = f"{len(self.pictures)} of {size:,} training samples, as the network got them (after augmentation)"
        draw_gallery(title, [Row("with their labels" if captions else "", self.pictures, captions + rest)], target)
