"""SqueezeNet 1.1: fire modules that squeeze to few channels before they expand to many."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.basic_module import BasicModule, Renaming
from utils.config.ranges import Count, Fraction

__all__ = ["SqueezeNet"]


class SqueezeNet(BasicModule):
    """AlexNet's accuracy with a fiftieth of its parameters: 1.2 million, a checkpoint of 5 MB.

    Iandola et al., 2016, in their later version 1.1. It maps (B, in_channels, H, W) to (B, num_classes) logits.
    Parameters are named as in torchvision's squeezenet1_1, whose weights load, as do the book's.

    With `image_size` (H, W) the first convolution keeps the size of pictures of up to 64 pixels.

    Raises:
        ValueError: a side is under 10 pixels.
    """

    published: ClassVar[Renaming] = ((r"^model\.", ""),)  # the book wraps torchvision's

    def __init__(
        self,
        num_classes: Count = 1000,
        in_channels: Count = 3,
        image_size: tuple[Count, Count] | None = None,
        dropout: Fraction = 0.5,
    ) -> None:
        super().__init__()
        side = min(image_size) if image_size is not None else 224
        if side < 10:
            raise ValueError(f"SqueezeNet needs pictures of at least 10 x 10 pixels; a side of these has {side}")
        stride = 1 if side <= 64 else 2
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, 3, stride),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            Fire(64, 16, 128),
            Fire(128, 16, 128),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            Fire(128, 32, 256),
            Fire(256, 32, 256),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            Fire(256, 48, 384),
            Fire(384, 48, 384),
            Fire(384, 64, 512),
            Fire(512, 64, 512),
        )
        last = nn.Conv2d(512, num_classes, 1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), last, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(last.weight, std=0.01)
        # The paper's ReLU on the logits kills classes, at times all, if they start at 0; a common shift is harmless.
        nn.init.constant_(last.bias, 3.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)  # (B, 512, H/16, W/16)
        return self.classifier(x).flatten(1)


class Fire(nn.Module):
    """(B, C, H, W) to (B, width, H, W) through `squeezed` channels, half by 1x1 and half by 3x3 convolutions."""

    def __init__(self, channels: int, squeezed: int, width: Count) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, width // 2, 1)
        self.expand3x3 = nn.Conv2d(squeezed, width // 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x), inplace=True)  # (B, squeezed, H, W)
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1), inplace=True)
