"""Linear regression, with the linear layer made by hand."""

from torch import Tensor

from models.basic_module import BasicModule
from models.mlp import Linear
from utils.config.ranges import Count

__all__ = ["LinearRegression"]


class LinearRegression(BasicModule):
    """Linear regression: y = x W^T + b, from (B, in_features) to (B, out_features)."""

    def __init__(self, in_features: Count = 1, out_features: Count = 1) -> None:
        super().__init__()
        self.linear = Linear(in_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)
