"""Pictures with a mask each, whose grey values are the classes of the pixels."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data._folders import existing_folder, list_images, no_pictures, root_option
from utils.errors import DataError
from utils.images import read_image, to_tensor

__all__ = ["MaskFolder"]

MAX_MASK_VALUES = 64  # different values in one mask; a lossy JPEG has more, because it blurs every edge


class MaskFolder(Dataset):
    """Pictures and their masks: `root/train/image/7.png` and `root/train/label/7.png`, or both without `train`.

    A mask has the size and the name of its picture, except for the suffix; `images` and `masks` name the two folders.
    The split val is the last `val_fraction` in the order of the names, in which numbers are ordered by value. It is not
    drawn at random, because neighbouring slices of one block look alike: val would then hold pictures much like the
    training ones. The split test is the pictures in the first of `root/test/image`, `root/test`, `root/image` and
    `root` that has any.

    A mask holds a grey value for each class: `mask_values`, by default all values of the training masks. `in_channels`
    is 1 for grey and 3 for colour, by default as in the first picture. Transforms move picture and mask alike; pixels
    that a transform leaves empty become the first class.

    Raises:
        ValueError: an impossible val_fraction, in_channels or mask_values.
        DataError: no pictures, a picture without a mask, or masks that hold no classes.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        transform: Callable | None = None,
        images: str = "image",
        masks: str = "label",
        val_fraction: float = 0.2,
        in_channels: int | None = None,
        mask_values: Sequence[int] | None = None,
    ) -> None:
        _check(val_fraction, in_channels, mask_values)
        root = existing_folder(root, split)
        if split == "test":
            train, self.pairs = [], _unmasked(root, images)
        else:
            pairs = _masked(root, images, masks, split)
            cut = len(pairs) - round(len(pairs) * val_fraction)
            train, self.pairs = pairs[:cut], pairs[:cut] if split == "train" else pairs[cut:]
            if not self.pairs:
                raise DataError(f"val_fraction={val_fraction} leaves none of {len(pairs)} pictures to '{split}'")
            mask_values = mask_values or _find_values(train)
        self.ids = [pair.id for pair in self.pairs]
        self.in_channels = in_channels or _count_channels((train or self.pairs)[0].image)
        self.mask_values = list(mask_values or ())  # the split test alone needs none
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        """Return the image float32 [C, H, W] and its mask int64 [H, W] of classes; for test the image and its (H, W).

        Raises DataError when a file cannot be read, or when a mask has a wrong size or an unknown value.
        """
        pair = self.pairs[index]
        image = read_image(pair.image, "L" if self.in_channels == 1 else "RGB")
        size = image.height, image.width
        mask = None if pair.mask is None else self._classes(pair.mask, *size)
        pixels, mask = self._transform_both(image, mask) if self.transform else (to_tensor(image), mask)
        return pixels, size if mask is None else mask.long()

    def _transform_both(self, image: PIL.Image.Image, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return both after the transforms.

        Both are passed as tensors, because Pillow rotates pictures about another centre.
        """
        from torchvision.tv_tensors import Image, Mask

        assert self.transform
        return self.transform(Image(image), None if mask is None else Mask(mask))

    def _classes(self, path: str, height: int, width: int) -> Tensor:
        """Return the mask as class numbers, uint8 [H, W]."""
        grey = _read_mask(path)
        if grey.shape != (height, width):
            there = "x".join(map(str, reversed(grey.shape)))
            raise DataError(f"{path} is {there}, but its picture is {width}x{height}; mend or remove both")
        if unknown := set(_values(grey)).difference(self.mask_values):
            known = ", ".join(map(str, self.mask_values))
            raise DataError(f"{path} holds the value {min(unknown)}, but the classes are {known}; mend or remove it")
        table = np.zeros(256, np.uint8)
        table[self.mask_values] = range(len(self.mask_values))
        return torch.from_numpy(table[grey])

    @property
    def meta(self) -> dict[str, Any]:
        """Channels, and the classes: their number, their grey values, and these as text."""
        return {
            "in_channels": self.in_channels,
            "num_classes": len(self.mask_values),
            "mask_values": list(self.mask_values),
            "classes": [str(value) for value in self.mask_values],
        }


@dataclass(frozen=True)
class Pair:
    """The paths of a picture and of its mask, if it has one."""

    id: str
    image: str
    mask: str | None = None


def _check(val_fraction: float, in_channels: int | None, mask_values: Sequence[int] | None) -> None:
    if not 0 <= val_fraction <= 1:
        raise ValueError(f"val_fraction={val_fraction} is not between 0 and 1")
    if in_channels not in (None, 1, 3):
        raise ValueError(f"in_channels={in_channels} is neither 1, grey, nor 3, colour")
    if mask_values is not None and (len(set(mask_values)) < 2 or not set(mask_values) <= set(range(256))):
        raise ValueError(f"mask_values={list(mask_values)} must be two different values or more, from 0 to 255")


# Folders


def _masked(root: str, images: str, masks: str, split: str) -> list[Pair]:
    """Return the pictures and masks of train and val, in order."""
    folder = os.path.join(root, "train")
    folder = folder if os.path.isdir(os.path.join(folder, images)) else root
    places = [existing_folder(os.path.join(folder, name), split) for name in (images, masks)]
    pictures, found = (_by_stem(place) for place in places)
    if not pictures:
        raise no_pictures(places[0], split)
    if missing := [stem for stem in pictures if stem not in found]:
        few = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise DataError(f"{places[1]} has no mask for {few}; add it or remove the picture from {places[0]}")
    return [Pair(stem, pictures[stem], found[stem]) for stem in pictures]


def _unmasked(root: str, images: str) -> list[Pair]:
    """Return the pictures of the split test, in order."""
    for inner in (f"test/{images}", "test", images, ""):
        folder = os.path.join(root, inner)
        if os.path.isdir(folder) and (pictures := _by_stem(folder)):
            return [Pair(stem, path) for stem, path in pictures.items()]
    raise DataError(f"no pictures in {root}, nor in test or {images} below it; set {root_option('test')}")


def _by_stem(folder: str) -> dict[str, str]:
    """Return the paths of a folder's pictures by name without suffix; numbers in the names are ordered by value."""
    stems: dict[str, str] = {}
    for name in list_images(folder):
        stem, path = os.path.splitext(name)[0], os.path.join(folder, name)
        if stem in stems:
            raise DataError(f"{path} has the same name as {stems[stem]}, but for the suffix; remove one of the two")
        stems[stem] = path
    return dict(sorted(stems.items(), key=lambda item: _natural(item[0])))


def _natural(name: str) -> list[Any]:
    """Return a sort key that places a10 after a9: text and numbers in turn."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]


# Pictures


def _count_channels(path: str) -> int:
    """Return 1 for a grey picture, 3 for a coloured one."""
    return 1 if _is_grey(np.asarray(read_image(path))) else 3


def _is_grey(pixels: np.ndarray) -> bool:
    return bool((pixels == pixels[:, :, :1]).all())


def _read_mask(path: str) -> np.ndarray:
    """Return the grey values of a mask, uint8 [H, W]."""
    pixels = np.asarray(read_image(path))
    if not _is_grey(pixels):
        raise DataError(f"{path} is coloured, but a mask holds a grey value for each class; turn it to grey values")
    return pixels[:, :, 0]


def _values(grey: np.ndarray) -> list[int]:
    """Return the distinct values in a mask, in order."""
    return np.flatnonzero(np.bincount(grey.ravel(), minlength=256)).tolist()


def _find_values(pairs: Iterable[Pair]) -> list[int]:
    """Return the distinct values in all masks, in order."""
    found: set[int] = set()
    for path in (pair.mask for pair in pairs if pair.mask):
        values = _values(_read_mask(path))
        if len(values) > MAX_MASK_VALUES:
            raise DataError(
                f"{path} holds {len(values)} different values, as masks do that were saved as JPEG or resized smoothly;"
                " save masks as PNG with one value for each class"
            )
        found.update(values)
    if len(found) < 2:
        raise DataError(f"the training masks hold only the value {min(found, default=0)}, but two classes are needed")
    return sorted(found)
