"""Decoded pictures one after the other in memory or in a file that is mapped into it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from utils.images import Region, cut, to_tensor

__all__ = ["Packed"]


@dataclass(frozen=True, eq=False)
class Packed:
    """Pictures decoded before; a store as `Files` is."""

    pixels: np.ndarray  # uint8: RGB of all pictures, row by row
    sizes: np.ndarray  # int64 [N, 2]: width and height
    starts: np.ndarray  # int64 [N]: where in `pixels` each begins

    def picture(self, index: int) -> Image.Image:
        """The picture, for transforms."""
        return _image(self._array(index))

    def tensor(self, index: int) -> Tensor:
        """The picture as float32 [3, H, W] in [0, 1]."""
        return to_tensor(self.picture(index))

    def region(self, index: int, choose: Callable[[int, int], Region]) -> np.ndarray:
        """The region that is chosen by the picture's width and height, uint8 [H, W, 3]."""
        array = self._array(index)
        region = choose(array.shape[1], array.shape[0])
        left, top, right, bottom = map(int, region.box)
        if region.box != (left, top, right, bottom):
            return cut(_image(array), region)
        part = _image(array[top:bottom, left:right])  # the rest need not be copied
        return cut(part, region._replace(box=(0, 0, *part.size)))

    def _array(self, index: int) -> np.ndarray:
        """The picture [H, W, 3], not copied."""
        width, height = self.sizes[index].tolist()
        start = int(self.starts[index])
        return self.pixels[start : start + 3 * width * height].reshape(height, width, 3)


def _image(array: np.ndarray) -> Image.Image:
    return Image.frombytes("RGB", array.shape[1::-1], array.tobytes())
