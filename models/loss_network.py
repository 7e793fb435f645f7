"""The frozen VGG16 whose features style transfer compares, for content and style."""

import torch
from torch import Tensor, nn

from models._published import load_published
from models.basic_module import BasicModule
from utils.errors import DataError

__all__ = ["VGG16Taps"]

# Channels of VGG16's convolutions up to relu4_3; 0 stands for max pooling.
PLAN = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512)
SMALLEST = 8  # pixels, which are halved three times
# Of the photos of ImageNet, by channel.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGG16Taps(BasicModule):
    """The features of pictures after relu1_2, relu2_2, relu3_3 and relu4_3; nothing in it is trained.

    Simonyan and Zisserman, "Very Deep Convolutional Networks", 2014. Parameters are named as in torchvision's vgg16,
    whose file is read; the rest of that network is never built.

    `weights` is "none", "download" or the path of that file; see `load_published`. With "none" the features are random,
    and the same in every run: they distinguish textures too, but not the content.

    Raises:
        DataError: the weights cannot be read or downloaded, or are those of another network.
    """

    names = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
    channels = (64, 128, 256, 512)
    taps = (3, 8, 15, 22)  # their positions among the layers

    def __init__(self, weights: str) -> None:
        super().__init__()
        from torchvision.models import VGG16_Weights  # slow to import, and not needed to use a trained network

        self.features = nn.Sequential(*_layers())
        _randomise(self.features)
        load_published(self, weights, VGG16_Weights.IMAGENET1K_V1.url, "VGG16")
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        self.freeze()

    def forward(self, pictures: Tensor, count: int = 4) -> list[Tensor]:
        """Return the first `count` taps of pictures [B, 3, H, W] in [0, 1]: [B, 64, H, W], …, [B, 512, H/8, W/8].

        Raises DataError when a side has fewer than 8 pixels.
        """
        if min(pictures.shape[-2:]) < SMALLEST:
            size = " x ".join(map(str, pictures.shape[:-3:-1]))
            raise DataError(f"a picture of {size} pixels is too small for VGG16; a side needs {SMALLEST}, take others")
        x, found = (pictures - self.mean) / self.std, []
        for place, layer in enumerate(self.features[: self.taps[count - 1] + 1]):
            x = layer(x)
            if place in self.taps:
                found.append(x)
        return found


def _layers() -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for width in PLAN:
        if width:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    return layers


def _randomise(features: nn.Sequential) -> None:
    """Use He's initialisation, which keeps a signal's size; drawn from a fixed seed, whatever the run's is."""
    draws = torch.Generator().manual_seed(0)
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=draws)
            nn.init.zeros_(layer.get_parameter("bias"))
