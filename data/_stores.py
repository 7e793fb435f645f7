"""The sources of pictures, read by number: files, pixels in memory, or pictures that were decoded before."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from utils.images import Region, cut, read_image, read_region, to_tensor

__all__ = ["Files", "Packed", "Pixels", "Store"]


class Store(Protocol):
    """A source of pictures, each read by its number."""

    def picture(self, index: int) -> Image.Image:
        """Return the picture, for transforms."""

    def tensor(self, index: int) -> Tensor:
        """Return the picture as float32 [C, H, W] in [0, 1]."""


@dataclass(frozen=True, eq=False)
class Files:
    """Pictures in files, decoded as RGB each time they are read."""

    folder: str
    names: Sequence[str]

    def picture(self, index: int) -> Image.Image:
        """Return the picture, for transforms. Raises DataError when it cannot be read."""
        return read_image(os.path.join(self.folder, self.names[index]))

    def tensor(self, index: int) -> Tensor:
        """Return the picture as float32 [3, H, W] in [0, 1]. Raises DataError when it cannot be read."""
        return to_tensor(self.picture(index))

    def region(self, index: int, choose: Callable[[int, int], Region]) -> np.ndarray:
        """Return a region of the picture as uint8 [H, W, 3]; `choose` gets the picture's width and height.

        Raises DataError when the picture cannot be read.
        """
        return read_region(os.path.join(self.folder, self.names[index]), choose)


@dataclass(frozen=True, eq=False)
class Pixels:
    """Pictures in memory: uint8 values [N, C, H, W] from 0 to `white`."""

    values: Tensor
    white: int = 255

    def picture(self, index: int) -> Image.Image:
        """Return the picture, for transforms."""
        array = self.tensor(index).mul_(255).round_().byte().permute(1, 2, 0).cpu().numpy()
        return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)

    def tensor(self, index: int) -> Tensor:
        """Return the picture as float32 [C, H, W] in [0, 1]."""
        return self.values[index].float().div_(self.white)

    def batch(self, indices: Tensor) -> Tensor:
        """Return the pictures as float32 [B, C, H, W] in [0, 1]."""
        return self.select(indices).float().div_(self.white)

    def select(self, indices: Tensor) -> Tensor:
        """Return the stored pictures, uint8 [B, C, H, W]."""
        # A blocking copy would wait for the GPU's work. index_select takes a third of the time of values[indices].
        return self.values.index_select(0, indices.to(self.values.device, non_blocking=True))


@dataclass(frozen=True, eq=False)
class Packed:
    """Decoded pictures one after the other, in memory or in a memory-mapped file."""

    pixels: np.ndarray  # uint8: RGB of all pictures, row by row
    sizes: np.ndarray  # int64 [N, 2]: width and height; 0 or less for a picture that could not be read
    starts: np.ndarray  # int64 [N]: the position in `pixels` at which each begins
    files: Sequence[str] = ()

    def picture(self, index: int) -> Image.Image:
        """Return the picture, for transforms."""
        return _image(self._array(index))

    def tensor(self, index: int) -> Tensor:
        """Return the picture as float32 [3, H, W] in [0, 1]."""
        return to_tensor(self.picture(index))

    def region(self, index: int, choose: Callable[[int, int], Region]) -> np.ndarray:
        """Return a region of the picture as uint8 [H, W, 3]; `choose` gets the picture's width and height."""
        array = self._array(index)
        region = choose(array.shape[1], array.shape[0])
        left, top, right, bottom = map(int, region.box)
        if region.box != (left, top, right, bottom):
            return cut(_image(array), region)
        part = _image(array[top:bottom, left:right])  # the rest need not be copied
        return cut(part, region._replace(box=(0, 0, *part.size)))

    def _array(self, index: int) -> np.ndarray:
        """Return the picture [H, W, 3], not copied. Raises PictureError for one that could not be read."""
        width, height = self.sizes[index].tolist()
        if width <= 0:
            return np.asarray(read_image(self.files[index]))  # or its error, which says why
        start = int(self.starts[index])
        return self.pixels[start : start + 3 * width * height].reshape(height, width, 3)


def _image(array: np.ndarray) -> Image.Image:
    return Image.frombytes("RGB", array.shape[1::-1], array.tobytes())
