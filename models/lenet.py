"""LeNet-5: two convolutions and three linear layers, the network that read the digits on cheques."""

from torch import Tensor, nn

from models.basic_module import BasicModule
from utils.config.ranges import Count

__all__ = ["LeNet"]


class LeNet(BasicModule):
    """LeNet-5 of 1998 for digits and other small pictures; 62 thousand parameters, trains in a minute.

    LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998. It maps (B, in_channels, H, W) to (B,
    num_classes) logits, where (H, W) is `image_size`. A side under 32 pixels is padded with zeros to 32, as the paper
    pads the 28 of MNIST.

    Unlike the original it has ReLU instead of tanh, maximum instead of learned average pooling, plain logits instead of
    the radial basis functions at the end, and connects every map of the second convolution to every map of the first.
    """

    def __init__(
        self, num_classes: Count = 10, in_channels: Count = 1, image_size: tuple[Count, Count] = (32, 32)
    ) -> None:
        super().__init__()
        padding = tuple(max(0, (33 - side) // 2) for side in image_size)
        height, width = (((side + 2 * pad - 4) // 2 - 4) // 2 for side, pad in zip(image_size, padding, strict=True))
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, 5, padding=padding),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(16 * height * width, 120),
            nn.ReLU(inplace=True),
            nn.Linear(120, 84),
            nn.ReLU(inplace=True),
            nn.Linear(84, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)  # (B, 16, 5, 5) for sides up to 32
        return self.classifier(x.flatten(1))
