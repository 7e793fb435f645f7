"""ImageEncoder: the features of a published classifier, without its last layer."""

from typing import Literal

import torch
from torch import Tensor, nn
from torchvision import models as catalogue

from models._published import load_published
from models.basic_module import BasicModule

__all__ = ["ImageEncoder"]

# Of the ImageNet photos on which the published weights were trained.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageEncoder(BasicModule):
    """A frozen ResNet without its last layer: pictures (B, 3, H, W) in [0, 1] to features (B, D).

    He et al., "Deep Residual Learning for Image Recognition", 2015. D is 512 for resnet18 and resnet34, otherwise 2048.
    `weights` is "none" for random ones, "download" for torchvision's, or the path of that file. A `grid` of features,
    which a decoder with attention takes, is (B, H/32 * W/32, D): one row for each place, not their mean.

    Raises:
        DataError: the weights cannot be read or downloaded, or are those of another network.
    """

    def __init__(
        self,
        variant: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = "resnet50",
        weights: str = "none",
        grid: bool = False,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.net = catalogue.get_model(variant)
        self.channels = self.net.fc.in_features
        self.net.fc = nn.Identity()
        if grid:
            self.net.avgpool = nn.Identity()
        load_published(self.net, weights, catalogue.get_model_weights(variant).DEFAULT.url, variant)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        self.freeze()

    def forward(self, x: Tensor) -> Tensor:
        features = self.net((x - self.mean) / self.std)  # (B, D), or (B, D * places)
        return features.view(len(x), self.channels, -1).transpose(1, 2) if self.grid else features
