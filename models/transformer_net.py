"""TransformerNet: repaints a picture of any size in one pass."""

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.basic_module import BasicModule
from utils.config.ranges import Count, Range
from utils.errors import DataError

__all__ = ["TransformerNet"]

SMALLEST = 5  # pixels; a mirrored border must be narrower than the picture


class TransformerNet(BasicModule):
    """Image transformation network for fast neural style transfer (book, chapter 8).

    Johnson et al., "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", 2016, with instance
    normalisation (Ulyanov et al., 2016), and with upsampling before convolutions instead of transposed ones, which
    leave a checkerboard (Odena et al., 2016). It maps pictures (B, 3, H, W) in [0, 1] to pictures of the same size and
    range.

    `width` is the number of channels at full size; it doubles with each of the two halvings.
    """

    def __init__(self, width: Count = 32, blocks: Annotated[int, Range(0, 1000)] = 5) -> None:
        super().__init__()
        self.down = nn.Sequential(
            ConvBlock(3, width, 9),
            ConvBlock(width, 2 * width, 3, stride=2),
            ConvBlock(2 * width, 4 * width, 3, stride=2),
        )
        self.residual = nn.Sequential(*(ResidualBlock(4 * width) for _ in range(blocks)))
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2),
            ConvBlock(4 * width, 2 * width, 3),
            nn.Upsample(scale_factor=2),
            ConvBlock(2 * width, width, 3),
        )
        self.output = nn.Conv2d(width, 3, 9)

    def forward(self, x: Tensor) -> Tensor:
        """Repaint pictures (B, 3, H, W). Raises DataError when a side has fewer than 5 pixels."""
        height, width = x.shape[-2:]
        if min(height, width) < SMALLEST:
            raise DataError(f"a picture of {width} x {height} pixels is too small to repaint; a side needs {SMALLEST}")
        x = mirror(mirror(x, -1, 0, -width % 4), -2, 0, -height % 4)  # the sides are halved twice
        x = self.down(x)  # (B, 4 width, H/4, W/4)
        x = self.up(self.residual(x))  # (B, width, H, W)
        return convolve(self.output, x).sigmoid()[..., :height, :width]


class ConvBlock(nn.Module):
    """(B, channels, H, W) to (B, width, H/stride, W/stride): convolution, instance norm, ReLU."""

    def __init__(self, channels: int, width: Count, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride)
        self.norm = nn.InstanceNorm2d(width, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(convolve(self.conv, x)), inplace=True)


class ResidualBlock(nn.Module):
    """x + f(x), where f is two 3x3 convolutions; without a ReLU after the sum (Gross and Wilber, 2016)."""

    def __init__(self, width: Count) -> None:
        super().__init__()
        self.first = ConvBlock(width, width, 3)
        self.conv = nn.Conv2d(width, width, 3)
        self.norm = nn.InstanceNorm2d(width, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(convolve(self.conv, self.first(x)))


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve a picture that is mirrored at its borders: zeros there would leave a frame in the result."""
    border = conv.kernel_size[0] // 2
    return conv(mirror(mirror(x, -1, border, border), -2, border, border))


def mirror(x: Tensor, side: int, before: int, after: int) -> Tensor:
    """Extend the two ends of one side by their reflections.

    It does the same as F.pad with "reflect", for whose gradient a GPU has no deterministic algorithm.
    """
    end = x.shape[side] - 1 - after
    return torch.cat([x.narrow(side, 1, before).flip(side), x, x.narrow(side, end, after).flip(side)], side)
