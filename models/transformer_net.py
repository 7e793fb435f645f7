"""TransformerNet: repaints a picture of any size in one pass."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.basic_module import BasicModule, Renaming
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

    `width` is the number of channels at full size; it doubles with each of the two halvings. `squash` is the last step
    to the range: "sigmoid", or "clamp" as in the book.

    The weights of the book's network load. Theirs maps 0 … 255 to 0 … 255, so that the first and the last convolution
    are scaled: with "clamp" the pictures are the same, with "sigmoid" they are near, for a training to begin with.
    """

    published: ClassVar[Renaming] = (
        (r"^initial_layers\.([036])\.conv2d\.", lambda found: f"down.{int(found[1]) // 3}.conv."),
        (r"^initial_layers\.([147])\.", lambda found: f"down.{int(found[1]) // 3}.norm."),
        (r"^res_layers\.(\d+)\.conv1\.conv2d\.", r"residual.\1.first.conv."),
        (r"^res_layers\.(\d+)\.in1\.", r"residual.\1.first.norm."),
        (r"^res_layers\.(\d+)\.conv2\.conv2d\.", r"residual.\1.conv."),
        (r"^res_layers\.(\d+)\.in2\.", r"residual.\1.norm."),
        (r"^upsample_layers\.6\.conv2d\.", "output."),
        (r"^upsample_layers\.([03])\.conv2d\.", lambda found: f"up.{int(found[1]) // 3 * 2 + 1}.conv."),
        (r"^upsample_layers\.([14])\.", lambda found: f"up.{int(found[1]) // 3 * 2 + 1}.norm."),
    )

    def __init__(
        self,
        width: Count = 32,
        blocks: Annotated[int, Range(0, 1000)] = 5,
        squash: Literal["sigmoid", "clamp"] = "sigmoid",
    ) -> None:
        super().__init__()
        self.squash = squash
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
        x = convolve(self.output, x)[..., :height, :width]
        return x.clamp(0, 1) if self.squash == "clamp" else x.sigmoid()

    def adopt(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the tensors of the book's file under the names here, scaled from 0 … 255 to [0, 1]."""
        found = dict(super().adopt(state))
        if found.keys() == state.keys():
            return found
        first, weight, bias = "down.0.conv.weight", "output.weight", "output.bias"
        # sigmoid(4 (y - 1/2)) has the value and the slope of y in the middle of the range
        slope, middle = (1.0, 0.0) if self.squash == "clamp" else (4.0, 0.5)
        scaled = {name: found[name] * (slope / 255) for name in (weight, bias) if name in found}
        if bias in scaled:
            scaled[bias] = scaled[bias] - slope * middle
        return found | scaled | ({first: found[first] * 255} if first in found else {})


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
