"""Views of a batch of pictures for test.views: flips, turns and scales, which can be undone in a predicted mask."""

from abc import ABC, abstractmethod
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.config.ranges import Range

__all__ = ["hflip", "rot90", "rot180", "rot270", "scale", "vflip"]


class View(nn.Module, ABC):
    """A view of pictures [B, C, H, W]."""

    @abstractmethod
    def undo(self, output: Tensor, like: Tensor) -> Tensor:
        """Return the output [B, C, H, W] for a view as one for the pictures `like`."""


class hflip(View):  # the field's short names
    """Left and right exchanged."""

    axis = -1

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.flip(self.axis)

    def undo(self, output: Tensor, like: Tensor) -> Tensor:
        return output.flip(self.axis)


class vflip(hflip):
    """Top and bottom exchanged."""

    axis = -2


class rot90(View):
    """A quarter turn to the left."""

    turns = 1

    def forward(self, pictures: Tensor) -> Tensor:
        return torch.rot90(pictures, self.turns, (-2, -1))

    def undo(self, output: Tensor, like: Tensor) -> Tensor:
        return torch.rot90(output, -self.turns, (-2, -1))


class rot180(rot90):
    """Half a turn."""

    turns = 2


class rot270(rot90):
    """A quarter turn to the right."""

    turns = 3


class scale(View):
    """The pictures as large as `factor` says, at their own scale for 1; all of them is seen, at another size."""

    def __init__(self, factor: Annotated[float, Range(0.1, 10)] = 1.25):
        super().__init__()
        self.factor = factor

    def forward(self, pictures: Tensor) -> Tensor:
        size = [max(1, round(side * self.factor)) for side in pictures.shape[-2:]]
        return F.interpolate(pictures, size, mode="bilinear", antialias=self.factor < 1)

    def undo(self, output: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(output, like.shape[-2:], mode="bilinear")
