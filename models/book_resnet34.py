"""BookResNet34: the wider ResNet34 of the book's first edition, whose checkpoints load."""

from torch import Tensor, nn
from torch.nn import functional as F

from models.basic_module import BasicModule
from utils.config.ranges import Count

__all__ = ["BookResNet34"]


class BookResNet34(BasicModule):
    """The residual network of the book (section 6.1.5), wider than the paper's: 47 million parameters.

    Its four rows of blocks have 128, 256, 512 and 512 channels, where the paper's ResNet34 has 64 to 512, and each
    begins with a convolution on the shortcut. It maps (B, in_channels, H, W) to (B, num_classes) logits; sides of 224
    are as in the book. Parameters have the book's names. For a new training take ResNet34.
    """

    def __init__(self, num_classes: Count = 2, in_channels: Count = 3) -> None:
        super().__init__()
        self.pre = nn.Sequential(
            nn.Conv2d(in_channels, 64, 7, 2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.layer1 = _row(64, 128, blocks=3, stride=1)
        self.layer2 = _row(128, 256, blocks=4, stride=2)
        self.layer3 = _row(256, 512, blocks=6, stride=2)
        self.layer4 = _row(512, 512, blocks=3, stride=2)
        self.fc = nn.Linear(512, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.pre(x)))))  # (B, 512, H/32, W/32)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Block(nn.Module):
    """relu(right(x) + left(x)), where left is two 3x3 convolutions: (B, C, H, W) to (B, width, H/stride, W/stride)."""

    def __init__(self, channels: int, width: Count, stride: int, shortcut: bool) -> None:
        super().__init__()
        self.left = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.right: nn.Module = nn.Identity()
        if shortcut:
            self.right = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.left(x) + self.right(x), inplace=True)


def _row(channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    """Return a row of blocks; the first one changes width and size, and has a convolution on its shortcut."""
    rest = [Block(width, width, 1, shortcut=False) for _ in range(blocks - 1)]
    return nn.Sequential(Block(channels, width, stride, shortcut=True), *rest)
