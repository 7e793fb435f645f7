"""DCGAN: a generator of pictures from noise, and its mirror, a discriminator of generated and real pictures."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from models.basic_module import BasicModule
from utils.config.ranges import Count

__all__ = ["DCGANDiscriminator", "DCGANGenerator"]

Convolution = tuple[int, int, int]  # kernel, stride, padding

FIRST: Convolution = (4, 1, 0)  # 1x1 -> 4x4
DOUBLE: Convolution = (4, 2, 1)
# By the pictures' side, from noise to picture; the discriminator has them in reverse order.
LAYERS: dict[int, tuple[Convolution, ...]] = {
    28: ((7, 1, 0), DOUBLE, DOUBLE),
    32: (FIRST, DOUBLE, DOUBLE, DOUBLE),
    64: (FIRST, DOUBLE, DOUBLE, DOUBLE, DOUBLE),  # the paper's
    96: (FIRST, DOUBLE, DOUBLE, DOUBLE, (5, 3, 1)),  # the book's: the last one triples
}


class DCGANGenerator(BasicModule):
    """The generator of DCGAN: noise [B, nz, 1, 1] to pictures [B, in_channels, H, W] in [-1, 1].

    Radford et al., "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks",
    2016. At 96 pixels it is the book's, section 7.2. `ngf` is the width of the last hidden layer; each layer before it
    is twice as wide.

    Raises:
        ValueError: an `image_size` [H, W] other than 28, 32, 64 or 96 pixels square.
    """

    def __init__(
        self, nz: Count = 100, ngf: Count = 64, in_channels: Count = 3, image_size: tuple[Count, Count] = (96, 96)
    ) -> None:
        super().__init__()
        self.nz = nz
        layers = _layers_for(image_size)
        widths = [nz, *_widths(ngf, len(layers) - 1)[::-1]]
        self.main = nn.Sequential()
        for layer, n_in, n_out in zip(layers[:-1], widths[:-1], widths[1:], strict=True):
            self.main.append(nn.ConvTranspose2d(n_in, n_out, *layer, bias=False))
            self.main.extend([nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)])
        self.main.extend([nn.ConvTranspose2d(ngf, in_channels, *layers[-1], bias=False), nn.Tanh()])
        self.apply(_initialise)

    def forward(self, noise: Tensor) -> Tensor:
        return self.main(noise)  # [B, in_channels, H, W]


class DCGANDiscriminator(BasicModule):
    """The discriminator of DCGAN: pictures [B, in_channels, H, W] in [-1, 1] to logits [B], high for real ones.

    It mirrors the generator; see there. The book's ends in a sigmoid, which is in the loss here. `norm` is the layer
    between its convolutions: "batch" as in the paper; "instance" or "none" for WGAN-GP, which penalises the gradient at
    each picture alone. A batch norm would mix the pictures (Gulrajani et al., 2017).

    Raises:
        ValueError: an `image_size` [H, W] other than 28, 32, 64 or 96 pixels square.
    """

    def __init__(
        self,
        ndf: Count = 64,
        in_channels: Count = 3,
        image_size: tuple[Count, Count] = (96, 96),
        norm: Literal["batch", "instance", "none"] = "batch",
    ) -> None:
        super().__init__()
        layers = _layers_for(image_size)[::-1]
        widths = _widths(ndf, len(layers) - 1)
        self.main = nn.Sequential(nn.Conv2d(in_channels, ndf, *layers[0], bias=False), _leaky())
        for layer, n_in, n_out in zip(layers[1:-1], widths[:-1], widths[1:], strict=True):
            self.main.append(nn.Conv2d(n_in, n_out, *layer, bias=norm == "none"))
            self.main.extend([*_norm(norm, n_out), _leaky()])
        self.main.append(nn.Conv2d(widths[-1], 1, *layers[-1], bias=False))
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x).flatten()  # [B, 1, 1, 1] -> [B]


def _layers_for(image_size: Sequence[int]) -> tuple[Convolution, ...]:
    height, width = image_size
    if height != width or height not in LAYERS:
        sizes = ", ".join(f"{side}x{side}" for side in LAYERS)
        raise ValueError(f"DCGAN is for pictures of {sizes} pixels, not {height}x{width}; give data.transform a Resize")
    return LAYERS[height]


def _widths(narrowest: int, count: int) -> list[int]:
    return [narrowest * 2**i for i in range(count)]


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.2, inplace=True)


def _norm(name: str, width: int) -> list[nn.Module]:
    """Return a list with the layer, or an empty one."""
    if name == "none":
        return []
    return [nn.BatchNorm2d(width) if name == "batch" else nn.InstanceNorm2d(width, affine=True)]


def _initialise(layer: nn.Module) -> None:
    """Draw weights from N(0, 0.02) and those of a norm from N(1, 0.02), as in the paper."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, (nn.BatchNorm2d, nn.InstanceNorm2d)):
        nn.init.normal_(layer.weight, 1.0, 0.02)
