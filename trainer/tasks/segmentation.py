"""A class for every pixel, learned by cross-entropy and the Dice coefficient."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.task import Row, Task, Update
from utils.meters import Accuracy, Confusion, Mean, Meter

if TYPE_CHECKING:
    from utils.sinks.logger import Logger

__all__ = ["Segmentation"]

SIDE = 256  # pixels, of the pictures that are shown


class Segmentation(Task):
    """Semantic segmentation over batches of images [B, C, H, W] and masks [B, H, W] of class numbers.

    The network gives logits [B, classes, H, W]. The loss is cross-entropy plus `dice_weight` times the soft Dice loss.
    `mean_iou` and `accuracy` count the pixels of all validation pictures together.
    """

    metrics: ClassVar[Mapping[str, str]] = {"mean_iou": "max", "accuracy": "max", "loss": "min"}
    shown: Tensor  # for `show`: a picture, its mask and the predicted one, grey [3, 1, SIDE, SIDE] in [0, 1]

    def __init__(self, model: nn.Module, mask_values: Sequence[int], dice_weight: float = 1.0):
        """`mask_values`, from the data, are the grey values by which `test` writes the classes.

        Raises ValueError for a negative weight.
        """
        super().__init__()
        if dice_weight < 0:
            raise ValueError(f"dice_weight={dice_weight} is negative")
        self.model = model
        self.mask_values, self.dice_weight = list(mask_values), dice_weight
        self.register_buffer("shown", torch.zeros(3, 1, SIDE, SIDE), persistent=False)

    def train_step(self, batch: Any, update: Update) -> dict[str, Tensor]:
        images, masks = batch
        loss, parts = self._loss(self.model(images), masks)
        update(loss)
        return {"loss": loss, **parts}

    def meters(self) -> dict[str, Meter]:
        count = len(self.mask_values)
        return {
            "mean_iou": MeanIoU(count),
            "accuracy": Accuracy(),
            "loss": Mean(),
            "confusion": Confusion(count),
        }

    def val_step(self, batch: Any, meters: Mapping[str, Any]) -> None:
        images, masks = batch
        logits = self.model(images)  # [B, C, H, W]
        meters["loss"].add(self._loss(logits, masks)[0], len(masks))
        predicted = logits.argmax(1)  # [B, H, W]
        for name in ("mean_iou", "accuracy", "confusion"):
            meters[name].add(predicted.flatten(), masks.flatten())
        self._keep(images[0], masks[0], predicted[0])

    def test_step(self, batch: Any) -> list[Row]:
        """Masks of the size of the input's file, uint8 [H, W], whatever size the transforms gave the input."""
        images, sizes = batch
        grey = torch.tensor(self.mask_values, dtype=torch.uint8)
        rows = []
        for logits, *size in zip(self.model(images).float(), *(side.tolist() for side in sizes), strict=True):
            if list(logits.shape[1:]) != size:
                logits = F.interpolate(logits[None], size, mode="bilinear")[0]
            rows.append({"mask": grey[logits.argmax(0).cpu()]})
        return rows

    def show(self, logger: "Logger", step: int) -> None:
        """Show a validation picture, its mask and the predicted mask, side by side."""
        logger.images("masks", step, self.shown)

    def _loss(self, logits: Tensor, masks: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits = logits.float()
        # Pixel by pixel: for whole pictures a GPU has no algorithm that gives the same bits each time.
        cross_entropy = F.cross_entropy(logits.movedim(1, -1).flatten(0, -2), masks.flatten())
        dice = dice_loss(logits.softmax(1), masks)
        return cross_entropy + self.dice_weight * dice, {"cross_entropy": cross_entropy, "dice_loss": dice}

    def _keep(self, image: Tensor, mask: Tensor, predicted: Tensor) -> None:
        """Remember a picture and its masks for `show`; its darkest pixel becomes black and its brightest white."""
        image = image.float().mean(0)
        low, high = image.min(), image.max()
        last = len(self.mask_values) - 1
        pictures = torch.stack([(image - low) / (high - low).clamp(min=1e-6), mask / last, predicted / last])
        self.shown.copy_(F.interpolate(pictures[:, None], (SIDE, SIDE)))


class MeanIoU(Confusion):
    """The mean over the classes of intersection over union: of the pixels that are of the class or were taken for it,
    the fraction that is both. A class that occurs neither in truth nor in predictions is left out.
    """

    def value(self) -> float | None:  # type: ignore[override]
        """Return the mean in [0, 1]; None without pixels."""
        counts = super().value()
        both = np.diag(counts)
        either = counts.sum(0) + counts.sum(1) - both
        return float(np.mean(both[either > 0] / either[either > 0])) if either.any() else None


def dice_loss(probabilities: Tensor, masks: Tensor) -> Tensor:
    """1 - 2 Σ p t / (Σ p² + Σ t²), the mean over pictures and classes; each Σ goes over a picture's pixels.

    Milletari et al., "V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image Segmentation", 2016,
    section 3. Probabilities p [B, C, H, W], and masks [B, H, W] of class numbers, of which t is 1 where a pixel is of
    the class. One pixel is added above and below the fraction's line: a class that is rightly not seen costs nothing.
    """
    truth = F.one_hot(masks, probabilities.shape[1]).movedim(-1, 1).to(probabilities)  # [B, C, H, W]
    overlap = 2 * (probabilities * truth).sum((2, 3))
    total = probabilities.square().sum((2, 3)) + truth.sum((2, 3))  # t² is t
    return 1 - ((overlap + 1) / (total + 1)).mean()
