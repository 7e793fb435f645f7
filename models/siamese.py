"""The distance of two inputs by a network that embeds both."""

from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional as F

from models.basic_module import BasicModule
from utils.config.ranges import Positive

__all__ = ["Siamese"]


class Siamese(BasicModule):
    """One network for two inputs: the distance [B] of their embeddings, as HingeEmbeddingLoss takes it.

    Bromley et al., "Signature Verification using a Siamese Time Delay Neural Network", 1993. `encoder` is any network
    whose outputs are [B, D]. Of one input alone the output is its embedding.
    """

    def __init__(self, encoder: Annotated[nn.Module, "model"], p: Positive = 2.0):
        super().__init__()
        self.encoder, self.p = encoder, p

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        if other is None:
            return self.encoder(x)
        return F.pairwise_distance(self.encoder(x), self.encoder(other), p=self.p)
