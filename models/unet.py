"""U-Net: a network in the shape of a U that gives every pixel of a picture its class."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.basic_module import BasicModule
from utils.config.ranges import Count, Range

__all__ = ["UNet"]


class DoubleConv(nn.Sequential):
    """A 3x3 convolution, batch norm and ReLU, twice: (B, inputs, H, W) to (B, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(*_conv(inputs, outputs), *_conv(outputs, outputs))


class Down(nn.Sequential):
    """A step down the U, to half the height and width: the maximum of each 2x2 pixels, then a double convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.MaxPool2d(2), DoubleConv(inputs, outputs))


class Up(nn.Module):
    """A step up the U, to twice the height and width, joined with the features of the way down at that size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, outputs, 2, stride=2)
        self.conv = DoubleConv(2 * outputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return (B, outputs, H, W), from x (B, inputs, H/2, W/2) and skip (B, outputs, H, W)."""
        return self.conv(torch.cat([skip, self.up(x)], 1))


class OutConv(nn.Conv2d):
    """A 1x1 convolution: the features of each pixel to its logits."""

    def __init__(self, inputs: int, num_classes: Count) -> None:
        super().__init__(inputs, num_classes, 1)


class UNet(BasicModule):
    """U-Net: (B, in_channels, H, W) of any height and width gives logits (B, num_classes, H, W).

    Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015. It goes `depth` steps
    down and as many up. Each step down halves the sides and doubles the channels, from `width` channels on (the paper:
    64, and 4 steps). Unlike the paper's, its convolutions are padded, so that the border is kept, and each is followed
    by batch norm. The picture's border is repeated at the right and below until the sides divide by 2^depth; the
    addition is cut off again.

    Raises:
        ValueError: width or depth below 1.
    """

    def __init__(
        self, num_classes: Count, in_channels: Count = 1, width: Count = 64, depth: Annotated[int, Range(1, 16)] = 4
    ) -> None:
        super().__init__()
        if width < 1 or depth < 1:
            raise ValueError(f"UNet needs width >= 1 and depth >= 1, not {width} and {depth}")
        widths = [width * 2**step for step in range(depth + 1)]
        self.enter = DoubleConv(in_channels, width)
        self.down = nn.ModuleList(Down(wide, wider) for wide, wider in pairwise(widths))
        self.up = nn.ModuleList(Up(wider, wide) for wider, wide in pairwise(reversed(widths)))
        self.output = OutConv(width, num_classes)
        self.multiple = 2**depth

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = self.enter(F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate"))
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(x)
        for up in self.up:
            x = up(x, skips.pop())
        return self.output(x)[:, :, :height, :width]


def _conv(inputs: int, outputs: int) -> Sequence[nn.Module]:
    """Return a convolution, batch norm and ReLU; the convolution has no bias, which batch norm would remove."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
