"""The multi-layer perceptron, with a linear layer made by hand from two parameters."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.basic_module import BasicModule
from utils.config.ranges import Count, Fraction

__all__ = ["MLP"]


class Linear(nn.Module):
    """y = x W^T + b on (…, inputs), giving (…, outputs); parameters are named and drawn as in nn.Linear."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class MLP(BasicModule):
    """Multi-layer perceptron: linear layers with ReLU between them, for pictures or rows of numbers.

    It flattens (B, …) to (B, features) and gives (B, num_classes) logits. The features are `in_features`, otherwise
    in_channels * H * W of an `image_size` (H, W). `hidden` holds the width of each layer before the last; an empty one
    gives logistic regression. The last features may be numbers of categories: `embedded` holds how many categories each
    of them has, and each is looked up in an embedding of its own (Guo and Berkhahn, "Entity Embeddings of Categorical
    Variables", 2016).

    Raises:
        ValueError: neither in_features nor image_size is given.
    """

    def __init__(
        self,
        num_classes: Count,
        in_channels: Count = 1,
        image_size: tuple[Count, Count] | None = None,
        in_features: Count | None = None,
        hidden: Sequence[Count] = (128,),
        dropout: Fraction = 0.0,
        embedded: Sequence[Count] = (),
    ) -> None:
        super().__init__()
        if in_features is None:
            if image_size is None:
                raise ValueError("MLP must know its input: give image_size (height and width) or in_features")
            in_features = in_channels * math.prod(image_size)
        # fastai's rule for the size of an embedding
        sizes = [min(50, round(1.6 * count**0.56)) for count in embedded]
        self.embeddings = nn.ModuleList(nn.Embedding(n, d) for n, d in zip(embedded, sizes, strict=True))
        width = in_features - len(sizes) + sum(sizes)
        layers: list[nn.Module] = []
        for wide in hidden:
            layers += [Linear(width, wide), nn.ReLU(inplace=True), nn.Dropout(dropout)]
            width = wide
        self.layers = nn.Sequential(*layers, Linear(width, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if self.embeddings:
            numbers, categories = x[:, : -len(self.embeddings)], x[:, -len(self.embeddings) :].long()
            found = [table(column) for table, column in zip(self.embeddings, categories.unbind(1), strict=True)]
            x = torch.cat([numbers, *found], 1)
        return self.layers(x)
