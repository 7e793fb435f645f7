"""Cross-entropy with targets that are probabilities."""

from torch import Tensor, nn
from torch.nn import functional as F

from utils.config.ranges import Positive

__all__ = ["SoftTargetCrossEntropy"]


class SoftTargetCrossEntropy(nn.Module):
    """Cross-entropy of logits [B, C] with probabilities [B, C], as of mixed samples or of a teacher.

    Class numbers [B] are taken, too: as the probability 1 of that class. `temperature` divides the logits (Hinton et
    al., "Distilling the Knowledge in a Neural Network", 2015).
    """

    def __init__(self, temperature: Positive = 1.0):
        super().__init__()
        self.temperature = temperature

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        if not targets.is_floating_point():
            targets = F.one_hot(targets, logits.shape[1]).to(logits)
        if targets.shape != logits.shape:
            raise ValueError(f"targets of shape {list(targets.shape)} for logits of shape {list(logits.shape)}")
        return F.cross_entropy(logits / self.temperature, targets.to(logits))
