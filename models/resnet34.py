"""ResNet34 in two pieces: a residual block, and the network that stacks sixteen of them."""

from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from models.basic_module import BasicModule, Renaming
from utils.config.ranges import Count

__all__ = ["ResNet34"]


class ResNet34(BasicModule):
    """Residual network of 34 layers; a sound first choice for photos, and for 32-pixel pictures too.

    He et al., "Deep Residual Learning for Image Recognition", 2015. It maps (B, in_channels, H, W) to (B, num_classes)
    logits. Parameters are named as in torchvision's resnet34, whose weights load; so do those of the book's second
    edition. Those of its first edition are of a wider network, BookResNet34.

    `stem` is the first layer: "imagenet" makes the sides a quarter at once (7x7 convolution, pooling), "small" keeps
    them (3x3). "auto" is "small" if `image_size` (H, W) has a side of at most 32 pixels, otherwise "imagenet".
    """

    published: ClassVar[Renaming] = (
        (r"^pre\.0\.", "conv1."),
        (r"^pre\.1\.", "bn1."),
        (r"\.left\.0\.", ".conv1."),
        (r"\.left\.1\.", ".bn1."),
        (r"\.left\.3\.", ".conv2."),
        (r"\.left\.4\.", ".bn2."),
        (r"\.right\.", ".downsample."),
    )

    def __init__(
        self,
        num_classes: Count = 1000,
        in_channels: Count = 3,
        image_size: tuple[Count, Count] | None = None,
        stem: Literal["auto", "imagenet", "small"] = "auto",
    ) -> None:
        super().__init__()
        if stem == "auto":
            stem = "small" if image_size is not None and min(image_size) <= 32 else "imagenet"
        kernel, stride = {"imagenet": (7, 2), "small": (3, 1)}[stem]
        self.conv1 = nn.Conv2d(in_channels, 64, kernel, stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem == "imagenet" else nn.Identity()
        self.layer1 = layer(64, 64, blocks=3, stride=1)
        self.layer2 = layer(64, 128, blocks=4, stride=2)
        self.layer3 = layer(128, 256, blocks=6, stride=2)
        self.layer4 = layer(256, 512, blocks=3, stride=2)
        self.fc = nn.Linear(512, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.maxpool(x)  # (B, 64, H/4, W/4), or (B, 64, H, W) with the small stem
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (B, 512, …), each side an eighth
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (B, 512)
        return self.fc(x)


class ResidualBlock(nn.Module):
    """relu(x + f(x)), where f is two 3x3 convolutions: (B, C, H, W) to (B, width, H/stride, W/stride)."""

    def __init__(self, channels: int, width: Count, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            conv = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += self.downsample(x)
        return F.relu(y, inplace=True)


def layer(channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    """Return a row of residual blocks; the first one changes width and size."""
    rest = [ResidualBlock(width, width) for _ in range(blocks - 1)]
    return nn.Sequential(ResidualBlock(channels, width, stride), *rest)
