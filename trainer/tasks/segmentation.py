"""A class for every pixel, learned by cross-entropy or another loss, and the Dice coefficient."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.losses._measure import check_fit, entropy_of_guess, learn, measure, outputs_due
from trainer.losses.dice import dice_loss
from trainer.task import Row, Task, Update, Weight, output_of, pair_of
from utils.config.ranges import NonNegative
from utils.errors import ConfigError
from utils.meters import Accuracy, Confusion, Mean, Meter

if TYPE_CHECKING:
    from utils.sinks.logger import Logger

__all__ = ["Segmentation"]

SIDE = 256  # pixels, of the pictures that are shown


class Segmentation(Task):
    """Semantic segmentation over batches of images [B, C, H, W] and masks [B, H, W] of class numbers.

    The network gives logits [B, classes, H, W]. The loss is `loss` over these and the masks, such as FocalLoss, plus
    `dice_weight` times the soft Dice loss; without one it is cross-entropy. DiceLoss alone wants dice_weight 0.
    `mean_iou` and `accuracy` count the pixels of all validation pictures together; `iou_<class>` is the intersection
    over union of a class, and `worst_iou` the smallest of them. A class that occurs neither in truth nor in predictions
    has none. Pixels without a class count nowhere: those whose value in the masks is `ignore_index`, and padding.
    """

    metrics: ClassVar[Mapping[str, str]] = {"mean_iou": "max", "worst_iou": "max", "accuracy": "max", "loss": "min"}
    predicted_kind: ClassVar[str] = "pixels"
    unsaved: ClassVar[tuple[str, ...]] = ("loss",)
    shown: Tensor  # for `show`: a picture, its mask and the predicted one, grey [3, 1, SIDE, SIDE] in [0, 1]

    def __init__(
        self,
        model: nn.Module,
        mask_values: Sequence[int | Sequence[int]],
        classes: Sequence[str] = (),
        dice_weight: NonNegative = 1.0,
        ignore_index: int | Sequence[int] | None = None,
        ignored_class: int | None = None,
        loss: Annotated[nn.Module, "loss"] | None = None,
    ):
        """`mask_values`, from the data, are the values or colours by which `test` writes the classes.

        `ignored_class`, from the data, is the number of pixels without a class; a dataset that does not tell it has
        `ignore_index` in its masks. Masks of colours have a colour [red, green, blue] as ignore_index.
        """
        super().__init__()
        self.model = model
        self.mask_values, self.dice_weight = list(mask_values), dice_weight
        self.classes = list(classes) or [str(value) for value in mask_values]
        if ignored_class is None and not isinstance(ignore_index, int | None):
            raise ValueError("ignore_index is a colour, but the dataset has no masks of colours; give a class number")
        self.ignored: Any = ignore_index if ignored_class is None else ignored_class
        self.loss = loss or nn.CrossEntropyLoss()
        self._fit_loss()
        self.register_buffer("shown", torch.zeros(3, 1, SIDE, SIDE), persistent=False)

    def pixel_classes(self, images: Tensor) -> Tensor:
        """Return the predicted class of each pixel, [B, H, W]."""
        return self.model(images).argmax(1)

    def train_step(self, batch: Any, update: Update) -> dict[str, Tensor]:
        logits, masks = self._logits(*pair_of(batch))
        loss, weight, dice = self._losses(logits, masks)
        whole = loss + self.dice_weight * dice if self.dice_weight else loss
        name = "cross_entropy" if isinstance(self.loss, nn.CrossEntropyLoss) else "pixel_loss"
        told = learn(update, whole, None if self.dice_weight else weight, len(masks))
        return {"loss": told, name: loss, "dice_loss": dice}

    def at_chance(self) -> dict[str, float]:
        count = len(self.mask_values)
        return {"cross_entropy": math.log(count)} if entropy_of_guess(self.loss, count) else {}

    def outputs_due(self) -> Literal["logits", "log-probabilities", ""]:
        return outputs_due(self.loss)

    def own_of_processes(self) -> Sequence[str]:
        return ["mean over pixels beside the Dice loss"] if self.ignored is not None and self.dice_weight else []

    def meters(self) -> dict[str, Meter]:
        confusion = Confusion(len(self.mask_values))
        views: dict[str, Meter] = {"mean_iou": MeanIoU(confusion), "worst_iou": WorstIoU(confusion)}
        views |= {f"iou_{name}": ClassIoU(confusion, number) for number, name in enumerate(plain_names(self.classes))}
        return views | {"accuracy": Accuracy(), "loss": MeanOfParts(self.dice_weight), "confusion": confusion}

    def val_step(self, batch: Any, meters: Mapping[str, Any]) -> None:
        images, masks = pair_of(batch)
        logits, _ = self._logits(images, masks)
        meters["loss"].add(*self._losses(logits, masks), len(masks))
        predicted = logits.argmax(1)  # [B, H, W]
        counted = masks.flatten() if self.ignored is None else masks[masks != self.ignored]
        found = predicted.flatten() if self.ignored is None else predicted[masks != self.ignored]
        for name in meters.keys() & {"accuracy", "confusion", "predictions"}:
            meters[name].add(found, counted)
        self._keep(images[0], masks[0], predicted[0])

    def test_step(self, batch: Any) -> list[Row]:
        """Masks of the size of the input's file, uint8 [H, W], whatever size the transforms gave the input.

        Of classes with colours they are [3, H, W].
        """
        images, sizes, *inner = batch
        values = torch.tensor(self.mask_values)
        values = values.to(torch.uint8 if values.max() < 256 else torch.int32)
        rows = []
        inside = inner[0] if inner else [torch.full((len(images),), side) for side in images.shape[2:]]
        everything = zip(self.model(images).float(), *(s.tolist() for s in (*sizes, *inside)), strict=True)
        for logits, height, width, inner_height, inner_width in everything:
            logits = logits[:, :inner_height, :inner_width]
            if list(logits.shape[1:]) != [height, width]:
                logits = F.interpolate(logits[None], [height, width], mode="bilinear")[0]
            mask = values[logits.argmax(0).cpu()]
            rows.append({"mask": mask.movedim(-1, 0) if mask.ndim == 3 else mask})
        return rows

    def show(self, logger: "Logger", step: int) -> None:
        """Show a validation picture, its mask and the predicted mask, side by side."""
        logger.images("masks", step, self.shown)

    def _logits(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [B, C, H, W] and the masks. Raises ConfigError where these are none, or C is another number."""
        logits, count = output_of(self.model, images, rank=4), len(self.mask_values)
        if masks.ndim != 3:
            raise ConfigError(f"data.dataset: its targets of shape {list(masks.shape)} are no masks, as MaskFolder's")
        if logits.shape[1] != count:
            raise ConfigError(f"model: gives {logits.shape[1]} classes, the masks have {count}; see model.num_classes")
        return logits, masks

    def _fit_loss(self) -> None:
        """Let the loss leave out pixels without a class.

        Raises ConfigError for a loss that cannot, or takes no pictures and masks.
        """
        name = type(self.loss).__name__
        if getattr(self.loss, "reduction", "mean") == "sum":
            raise ConfigError(f"task.loss.reduction: a mean over pictures is added to {name}, which must be one, too")
        if self.ignored is not None:
            if not hasattr(self.loss, "ignore_index"):
                raise ConfigError(f"task.loss: {name} has no ignore_index, and pixels of {self.ignored} have no class")
            self.loss.ignore_index = self.ignored
        logits, masks = torch.zeros(2, len(self.mask_values), 4, 3), torch.zeros(2, 4, 3, dtype=torch.int64)
        check_fit(self.loss, self._flat(logits, masks), "logits [B, C, H, W] and masks [B, H, W]")

    def _flat(self, logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and masks pixel by pixel for torch's own losses over classes, otherwise as they are.

        For whole pictures a GPU has no algorithm that gives the same bits each time.
        """
        if not isinstance(self.loss, (nn.CrossEntropyLoss, nn.NLLLoss)):
            return logits, masks
        return logits.movedim(1, -1).flatten(0, -2), masks.flatten()

    def _losses(self, logits: Tensor, masks: Tensor) -> tuple[Tensor, Weight, Tensor]:
        """Return the loss over pixels, the number of those that count if some do not, and the Dice loss."""
        logits = logits.float()
        loss, weight = measure(self.loss, *self._flat(logits, masks), checked=self.ignored is None)
        return loss, weight, dice_loss(logits.softmax(1), masks, self.ignored)  # a mean over pictures

    def _keep(self, image: Tensor, mask: Tensor, predicted: Tensor) -> None:
        """Remember a picture and its masks for `show`; its darkest pixel becomes black and its brightest white."""
        image = image.float().mean(0)
        low, high = image.min(), image.max()
        last = len(self.mask_values) - 1
        pictures = [(image - low) / (high - low).clamp(min=1e-6), mask.clamp(max=last) / last, predicted / last]
        self.shown.copy_(F.interpolate(torch.stack(pictures)[:, None], (SIDE, SIDE)))


class IoU(Meter):
    """A view of a confusion matrix, which alone is fed and merged."""

    def __init__(self, confusion: Confusion):
        self.confusion = confusion

    def add(self, *values: Any) -> None:
        """Leave the counting to the confusion matrix."""

    def state(self) -> dict[str, Any]:
        return {}

    def merge(self, state: Mapping[str, Any]) -> None:
        """Leave the counts to the confusion matrix."""

    def ious(self) -> np.ndarray:
        """Return the intersection over union of each class: of the pixels that are of the class or were taken for it,
        the fraction that is both. It is NaN for a class that occurs neither in truth nor in predictions.
        """
        counts = self.confusion.value()
        both = np.diag(counts)
        either = counts.sum(0) + counts.sum(1) - both
        return np.divide(both, either, out=np.full(len(both), np.nan), where=either > 0)


class MeanOfParts(Meter):
    """A mean over the pixels that count, and `factor` times one over pictures: a loss over a whole split."""

    def __init__(self, factor: float):
        self.factor, self.parts = factor, {"pixels": Mean(), "pictures": Mean()}

    def add(self, loss: Tensor, weight: Any, dice: Tensor, pictures: int) -> None:
        """Add a batch; without a `weight` its pictures have as many pixels as those of any other."""
        self.parts["pixels"].add(loss, pictures if weight is None else weight)
        self.parts["pictures"].add(dice, pictures)

    def state(self) -> dict[str, Any]:
        return {name: part.state() for name, part in self.parts.items()}

    def merge(self, state: dict[str, Any]) -> None:
        for name, part in self.parts.items():
            part.merge(state[name])

    def value(self) -> float | None:
        pixels, pictures = (part.value() for part in self.parts.values())
        return None if pictures is None else (pixels or 0.0) + self.factor * pictures


class MeanIoU(IoU):
    """The mean over the classes of intersection over union; None without pixels."""

    def value(self) -> float | None:
        ious = self.ious()
        return float(np.mean(ious[~np.isnan(ious)])) if not np.isnan(ious).all() else None


class WorstIoU(IoU):
    """The smallest intersection over union of a class; None without pixels."""

    def value(self) -> float | None:
        ious = self.ious()
        return float(np.nanmin(ious)) if not np.isnan(ious).all() else None


class ClassIoU(IoU):
    """The intersection over union of one class; None if it does not occur."""

    def __init__(self, confusion: Confusion, number: int):
        super().__init__(confusion)
        self.number = number

    def value(self) -> float | None:
        value = float(self.ious()[self.number])
        return None if np.isnan(value) else value


def plain_names(classes: Sequence[str]) -> list[str]:
    """Return the names of classes as parts of a metric's: letters of any script, digits and _, each another one."""
    names = [re.sub(r"\W+", "_", name).strip("_") or "class" for name in classes]
    return [name if names.count(name) == 1 else f"{name}_{number}" for number, name in enumerate(names)]
