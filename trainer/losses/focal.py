"""Cross-entropy that looks away from samples that are easy."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.config.ranges import NonNegative

__all__ = ["FocalLoss"]


class FocalLoss(nn.Module):
    """(1 - p)^gamma times cross-entropy, with p the probability of the right class, for classes of unequal number.

    Lin et al., "Focal Loss for Dense Object Detection", 2017. It takes logits [B, C] and class numbers [B], or pictures
    [B, C, H, W] and masks [B, H, W]; those of the number `ignore_index` do not count. With `gamma` 0 it is
    CrossEntropyLoss: `weight` holds a factor for each class, and the mean is divided by the factors' sum. Of shares of
    classes, [B, C, …] as mixed samples have them, it is the sum of the classes' losses, each times its share.
    """

    weight: Tensor | None

    def __init__(
        self,
        gamma: NonNegative = 2.0,
        weight: Sequence[float] | Literal["balanced"] | None = None,
        ignore_index: int = -100,
        reduction: Literal["mean", "sum"] = "mean",
    ):
        super().__init__()
        self.gamma, self.ignore_index, self.reduction = gamma, ignore_index, reduction
        self.register_buffer("weight", None if weight is None else torch.as_tensor(weight, dtype=torch.float32))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.weight is not None and len(self.weight) != logits.shape[1]:
            raise ValueError(f"weight has {len(self.weight)} numbers, and there are {logits.shape[1]} classes")
        if labels.is_floating_point():
            return self._of_shares(logits, labels)
        flat, numbers = logits.movedim(1, -1).flatten(0, -2), labels.flatten()
        entropies = F.cross_entropy(flat, numbers, ignore_index=self.ignore_index, reduction="none")
        # 1 - exp(-x) as -expm1(-x) keeps the digits of sure samples; a root of 0 would have no gradient
        return self._reduced(entropies, self._factors(numbers))

    def _of_shares(self, logits: Tensor, shares: Tensor) -> Tensor:
        if shares.shape != logits.shape:
            raise ValueError(f"targets of shape {list(shares.shape)} for logits of shape {list(logits.shape)}")
        return self._reduced(-logits.log_softmax(1).movedim(1, -1), self._factors(shares))

    def _reduced(self, entropies: Tensor, factors: Tensor) -> Tensor:
        losses = (-torch.expm1(-entropies)).clamp(min=1e-12).pow(self.gamma) * entropies
        total = (losses * factors).sum()
        return total if self.reduction == "sum" else total / factors.sum().clamp(min=1e-12)

    def weight_of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the factors' sum, by which the mean is divided: batches add up by it."""
        return self._factors(labels if labels.is_floating_point() else labels.flatten()).sum()

    def _factors(self, labels: Tensor) -> Tensor:
        """Return the factor of each label, [N]; 0 for those that do not count. Of shares [B, C, …]: [B, …, C]."""
        if labels.is_floating_point():
            return labels.movedim(1, -1) * (1.0 if self.weight is None else self.weight)
        counted = labels != self.ignore_index
        if self.weight is None:
            return counted.float()
        return self.weight[labels.where(counted, 0)] * counted
