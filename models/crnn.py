"""CRNN, a reader of text in pictures: convolutions see, and an LSTM reads along the line."""

import torch
from torch import Tensor, nn

from models.basic_module import BasicModule
from utils.config.ranges import Count, Depth, Fraction

__all__ = ["CRNN"]

BLOCKS = 3  # of convolutions, at least; each halves the height


class CRNN(BasicModule):
    """Convolutions and bidirectional LSTMs that give a character, or none, for each step along a line of text.

    After Shi et al., "An End-to-End Trainable Neural Network for Image-based Sequence Recognition and Its Application
    to Scene Text Recognition", 2015, and smaller. It maps pictures (B, in_channels, H, W) to log-probabilities (T, B,
    num_classes) with T = W // stride, as CTCLoss takes them; class 0 is the blank. (H, W) is the `image_size`. `width`
    is that of the first convolution, each block has twice as many channels as the one before; `hidden` are the units of
    an LSTM, one in each direction, in each of so many `layers`. `stride` is 2, 4, 8, …, the pixels of a step.

    The LSTMs compute in float32 whatever the precision of the run.

    Raises:
        ValueError: a stride that is no power of 2, a picture too small for it, or no layer.
    """

    def __init__(
        self,
        num_classes: Count,
        in_channels: Count = 1,
        image_size: tuple[Count, Count] = (32, 128),
        stride: Count = 4,
        width: Count = 32,
        hidden: Count = 128,
        layers: Depth = 1,
        dropout: Fraction = 0.0,
    ) -> None:
        super().__init__()
        if stride < 2 or stride & (stride - 1):
            raise ValueError(f"stride={stride} must be 2, 4, 8 or another power of 2")
        halvings = stride.bit_length() - 1
        count = max(BLOCKS, halvings)
        height = image_size[0] >> count
        if height < 1 or image_size[1] < stride:
            size = "x".join(map(str, image_size))
            raise ValueError(f"pictures of {size} are too small for {count} halvings of their height, or the stride")
        channels = [in_channels, *(width << block for block in range(count))]
        self.features = nn.Sequential(
            *(_block(channels[i], channels[i + 1], across=i < halvings) for i in range(count))
        )
        between = dropout if layers > 1 else 0.0  # torch warns of dropout between layers if there is only one
        self.lstm = nn.LSTM(channels[-1] * height, hidden, layers, bidirectional=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        columns = self.features(x).flatten(1, 2).permute(2, 0, 1)  # (T, B, channels * height)
        # On a CPU torch 2.14 has an LSTM under autocast for packed sequences only.
        with torch.autocast(x.device.type, enabled=False):
            hidden, _ = self.lstm(self.dropout(columns.float()))
            return self.output(self.dropout(hidden)).log_softmax(2)


def _block(inputs: int, outputs: int, across: bool) -> nn.Sequential:
    """Return a convolution that halves the height, and the width only `across`."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.MaxPool2d((2, 2 if across else 1)),
    )
