"""The two networks of PyTorch's first tutorial: two fixed layers, and a depth drawn anew at each step."""

from typing import Annotated

import torch
from torch import Tensor, nn

from models.basic_module import BasicModule
from utils.config.ranges import Count, Range

__all__ = ["DynamicNet", "TwoLayerNet"]


class TwoLayerNet(BasicModule):
    """Two linear layers with ReLU between them, from (B, in_features) to (B, out_features).

    After Justin Johnson, "Learning PyTorch with Examples". docs/notebooks/ladder.ipynb climbs its ladder up to here.
    """

    def __init__(self, in_features: Count, out_features: Count, hidden: Count = 100, bias: bool = True) -> None:
        super().__init__()
        self.linear1 = nn.Linear(in_features, hidden, bias)
        self.linear2 = nn.Linear(hidden, out_features, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.linear1(x).relu())


class DynamicNet(BasicModule):
    """A network that draws its depth at each training step and uses one middle layer again and again.

    Between input and output layer there are 0 to `max_depth` applications of the same middle layer: control flow and
    weight sharing in plain Python, after the same tutorial. The depth comes from torch's random numbers, so that a
    resumed run draws the same depths as an uninterrupted one. In evaluation nothing is drawn: the output is the mean
    over all depths, which equals the average in training.
    """

    def __init__(
        self,
        in_features: Count,
        out_features: Count,
        hidden: Count = 100,
        max_depth: Annotated[int, Range(0, 1000)] = 3,
    ) -> None:
        """Build the layers. Raises ValueError for a `max_depth` below 0."""
        if max_depth < 0:
            raise ValueError(f"max_depth={max_depth} is below 0")
        super().__init__()
        self.max_depth = max_depth
        self.input_linear = nn.Linear(in_features, hidden)
        self.middle_linear = nn.Linear(hidden, hidden)
        self.output_linear = nn.Linear(hidden, out_features)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.input_linear(x).relu()  # (B, hidden)
        if not self.training:
            return self._mean_over_depths(hidden)
        depth = int(torch.randint(self.max_depth + 1, ()))
        for _ in range(depth):
            hidden = self.middle_linear(hidden).relu()
        if depth == 0:  # a parameter without a gradient on one rank would make the other ranks wait for it
            hidden = hidden + 0.0 * self.middle_linear(hidden)
        return self.output_linear(hidden)

    def _mean_over_depths(self, hidden: Tensor) -> Tensor:
        total = self.output_linear(hidden)
        for _ in range(self.max_depth):
            hidden = self.middle_linear(hidden).relu()
            total = total + self.output_linear(hidden)
        return total / (self.max_depth + 1)
