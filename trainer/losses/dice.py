"""The Dice loss: how little the predicted pixels and the true ones overlap."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.config.ranges import NonNegative

__all__ = ["DiceLoss"]


class DiceLoss(nn.Module):
    """The soft Dice loss of logits [B, C, H, W] and masks [B, H, W] of class numbers, the mean over pictures, classes.

    Masks [B, C, H, W] of 0 and 1 are one picture for each class, of which a pixel may be several; the probabilities are
    then those of a sigmoid. Pixels of the class `ignore_index` do not count. See `dice_loss` for the formula.
    """

    def __init__(self, smooth: NonNegative = 1.0, ignore_index: int | None = None):
        super().__init__()
        self.smooth, self.ignore_index = smooth, ignore_index

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        if logits.ndim < 3 or masks.shape not in (logits.shape, logits.shape[:1] + logits.shape[2:]):
            raise ValueError(f"logits of shape {list(logits.shape)} and masks of {list(masks.shape)} are no pictures")
        if masks.shape == logits.shape:
            return overlap_loss(logits.sigmoid(), masks.to(logits), self.smooth)
        return dice_loss(logits.softmax(1), masks, self.ignore_index, self.smooth)


def dice_loss(probabilities: Tensor, masks: Tensor, ignored: int | None = None, smooth: float = 1.0) -> Tensor:
    """1 - 2 Σ p t / (Σ p² + Σ t²), the mean over pictures and classes; each Σ goes over a picture's pixels.

    Milletari et al., "V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image Segmentation", 2016,
    section 3. Probabilities p [B, C, H, W], and masks [B, H, W] of class numbers, of which t is 1 where a pixel is of
    the class. Pixels of the class `ignored` are left out. `smooth` pixels are added above and below the fraction's
    line: a class that is rightly not seen costs nothing.
    """
    if ignored is not None:
        counted = masks != ignored
        probabilities, masks = probabilities * counted[:, None], masks.where(counted, 0)
    truth = F.one_hot(masks, probabilities.shape[1]).movedim(-1, 1).to(probabilities)  # [B, C, H, W]
    if ignored is not None:
        truth = truth * counted[:, None]
    return overlap_loss(probabilities, truth, smooth)


def overlap_loss(probabilities: Tensor, truth: Tensor, smooth: float) -> Tensor:
    """Return the Dice loss of probabilities and truth [B, C, …], of which each is a number from 0 to 1."""
    pixels = tuple(range(2, probabilities.ndim))
    overlap = 2 * (probabilities * truth).sum(pixels)
    total = probabilities.square().sum(pixels) + truth.square().sum(pixels)
    if not smooth:  # a class that is nowhere would be 0 / 0
        total = total.clamp(min=torch.finfo(total.dtype).tiny)
    return 1 - ((overlap + smooth) / (total + smooth)).mean()
