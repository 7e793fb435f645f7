"""AlexNet: five convolutions, then three linear layers that hold nearly all of its parameters."""

from torch import Tensor, nn

from models.basic_module import BasicModule
from utils.config.ranges import Count, Fraction

__all__ = ["AlexNet"]


class AlexNet(BasicModule):
    """The network that won ImageNet in 2012, in its one-GPU form; 61 million parameters, fast for its size.

    Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014. It maps (B, in_channels, H, W)
    to (B, num_classes) logits. Parameters are named as in torchvision's alexnet, whose weights load.

    With `image_size` (H, W) the first convolution has a smaller stride on smaller pictures; the weights are the same.

    Raises:
        ValueError: a side is under 21 pixels.
    """

    def __init__(
        self,
        num_classes: Count = 1000,
        in_channels: Count = 3,
        image_size: tuple[Count, Count] | None = None,
        dropout: Fraction = 0.5,
    ) -> None:
        super().__init__()
        side = min(image_size) if image_size is not None else 224
        if side < 21:
            raise ValueError(f"AlexNet needs pictures of at least 21 x 21 pixels; a side of these has {side}")
        # The feature maps of a 64-pixel picture are then as large as those of a 224-pixel one.
        stride = min(4, max(1, side // 56))
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, 11, stride, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))  # (B, 256, 6, 6)
        return self.classifier(x.flatten(1))
