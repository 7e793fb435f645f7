"""Pictures with a mask each, whose values or colours are the classes of the pixels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset, default_collate

from data._broken import broken_named
from data._facts import Facts
from data._folders import existing_folder
from data._folds import Folds
from data._mask_folders import Found, Layout, Pair, find_pairs, unmasked
from data._masks import IGNORED, Table, find_values, table_of
from utils.config.ranges import Count, Fraction
from utils.errors import DataError
from utils.images import read_image, read_size, to_tensor

__all__ = ["MaskFolder"]

LOOKED_AT = 64  # pictures that are looked at for colours


class MaskFolder(Dataset):
    """Pictures and their masks: `root/train/image/7.png` and `root/train/label/7.png`, or both without `train`.

    A mask has the size and the name of its picture, except for the suffix and a common end as in 7_mask.png; `images`
    and `masks` name the two folders, with `{split}` in them for folders as CamVid's train and trainannot. A folder for
    validation is known by its name (val, valid, …), or by `splits`, as {train: DIR, val: DIR}. Without one the split
    val is the last `val_fraction` in the order of the names, in which numbers are ordered by value. It is not drawn at
    random, because neighbouring slices of one block look alike: val would then hold pictures much like the training
    ones. The split test is the pictures in the first of `root/test/image`, `root/test`, `root/image` and `root` that
    has any.

    A mask holds a value for each class, kept exactly: 8, 16 or 32 bits, or the number of a palette. `classes` names
    them, as {road: 0, sky: 1}, or gives each a colour, as {road: [128, 64, 128]}; a list gives names only, in the order
    of the values. Without it `mask_values`, by default all values of the training masks, are the classes.
    `task.ignore_index` is the value of pixels that have no class. `in_channels` is 1 for grey and 3 for colour, by
    default 3 if one picture of those that are looked at is coloured. Transforms move picture and mask alike; pixels
    that a transform leaves empty become the first class. Pictures of several sizes are padded at the right and below to
    the largest of their batch, by pixels without a class.

    Raises:
        ValueError: an impossible val_fraction, in_channels, mask_values or classes.
        DataError: no pictures, a picture without a mask, or masks that hold no classes.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        transform: Callable | None = None,
        images: str = "image",
        masks: str = "label",
        val_fraction: Fraction = 0.2,
        in_channels: Count | None = None,
        mask_values: Sequence[int | Sequence[int]] | None = None,
        classes: Mapping[str, Any] | Sequence[str] | None = None,
        splits: Mapping[str, str] | None = None,
        ignore_index: int | Sequence[int] | None = None,
        whole: bool = False,
        folds: Folds | None = None,
    ) -> None:
        values, names = table_of(classes, mask_values)
        _check(val_fraction, in_channels, values)
        root = existing_folder(root, split)
        self.facts, self.transform = Facts(), transform
        if split == "test":
            found = Found([], unmasked(root, images), self.facts)
            self.pairs = found.val
        else:
            found = find_pairs(root, Layout(images, masks, splits, val_fraction, whole, folds), split, self.facts)
            self.pairs = found.train if split == "train" else found.val
            if not self.pairs:
                count = len(found.train) + len(found.val)
                raise DataError(f"val_fraction={val_fraction} leaves none of {count} pictures to '{split}'")
            values = values or find_values([pair.mask for pair in found.train if pair.mask], ignore_index)
        self.ids = [pair.id for pair in self.pairs]
        with broken_named(self):
            self.in_channels = in_channels or _count_channels(found.train or self.pairs, self.facts)
        self.mask_values = list(values or ())  # the split test alone needs none
        self.table = Table(self.mask_values, ignore_index) if self.mask_values else None
        self.names = _named(names, self.mask_values)
        every = (*found.train, *found.val)
        with broken_named(self, [pair.image for pair in every]):
            sizes = {read_size(pair.image) for pair in every}
        self.ignores = ignore_index is not None or len(sizes) > 1
        self._tell(ignore_index, sizes)

    def _tell(self, ignore_index: int | Sequence[int] | None, sizes: set[tuple[int, int]]) -> None:
        """Note the meaning of the masks' values and the sizes of the pictures."""
        shown = [value if isinstance(value, int) else list(value) for value in self.mask_values]
        pairs = zip(map(str, shown), self.names, strict=True)
        meanings = [value if value == name else f"{value} {name}" for value, name in pairs]
        if meanings:
            none = f", {ignore_index} no class" if ignore_index is not None else ""
            self.facts.lines.append(f"masks: {', '.join(meanings)}{none} (data.dataset.classes, task.ignore_index)")
        if len(sizes) > 1:
            low, high = min(sizes, key=lambda size: size[0] * size[1]), max(sizes, key=lambda size: size[0] * size[1])
            spread = f"{low[0]} x {low[1]} to {high[0]} x {high[1]}"
            self.facts.lines.append(f"sizes: {len(sizes)}, from {spread}; batches are padded to their largest")

    @property
    def files(self) -> list[str]:
        """The paths of the pictures and of the masks."""
        return [path for pair in self.pairs for path in (pair.image, pair.mask) if path]

    @property
    def masks(self) -> list[str | None]:
        """The paths of the masks, one for each picture."""
        return [pair.mask for pair in self.pairs]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        """Return the image float32 [C, H, W] and its mask int64 [H, W] of classes; for test the image and its (H, W).

        Raises DataError when a file cannot be read, or when a mask has a wrong size or an unknown value.
        """
        pair = self.pairs[index]
        image = read_image(pair.image, "L" if self.in_channels == 1 else "RGB")
        size = image.height, image.width
        mask = None if pair.mask is None or self.table is None else self.table.read(pair.mask, *size)
        try:
            pixels, mask = self._transform_both(image, mask) if self.transform else (to_tensor(image), mask)
        except (ValueError, TypeError, RuntimeError) as error:
            if "allocate" in str(error):
                raise
            reason = " ".join(str(error).split())
            shape = f"{image.width}x{image.height}"
            raise DataError(f"data.transform: the picture {pair.id} of {shape} fails there: {reason}") from error
        return pixels, size if mask is None else mask.long()

    def _transform_both(self, image: PIL.Image.Image, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return both after the transforms.

        Both are passed as tensors, because Pillow rotates pictures about another centre.
        """
        from torchvision.tv_tensors import Image, Mask

        assert self.transform
        return self.transform(Image(image), None if mask is None else Mask(mask))

    def collate(self, samples: list[Any]) -> Any:
        """Return (images [B, C, H, W], masks [B, H, W]), or for the split test (images, sizes of the files).

        Pictures of several sizes are padded; a batch of the split test then also holds the sizes without the padding.
        """
        sizes = [image.shape[1:] for image, _ in samples]
        if len(set(sizes)) == 1:
            return default_collate(samples)
        height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
        images = torch.stack([_padded(image, height, width, 0) for image, _ in samples])
        if not isinstance(samples[0][1], Tensor):
            inner = [tuple(map(int, size)) for size in sizes]
            return images, default_collate([size for _, size in samples]), default_collate(inner)
        return images, torch.stack([_padded(mask, height, width, IGNORED) for _, mask in samples])

    @property
    def meta(self) -> dict[str, Any]:
        """Channels, and the classes: their number, their values and names, and the number of pixels without a class."""
        values = [value if isinstance(value, int) else list(value) for value in self.mask_values]
        found = {"in_channels": self.in_channels, "num_classes": len(values), "mask_values": values}
        return found | {"classes": self.names} | ({"ignored_class": IGNORED} if self.ignores else {})


def _check(val_fraction: float, in_channels: int | None, values: Sequence[Any] | None) -> None:
    if not 0 <= val_fraction <= 1:
        raise ValueError(f"val_fraction={val_fraction} is not between 0 and 1")
    if in_channels not in (None, 1, 3):
        raise ValueError(f"in_channels={in_channels} is neither 1, grey, nor 3, colour")
    if values is not None and len(values) < 2:
        raise ValueError(f"mask_values={list(values)} must be two different values or more")
    Table(values or ())


def _named(names: list[str] | None, values: Sequence[Any]) -> list[str]:
    """Return the names of the classes: as given, otherwise their values as text."""
    if names is not None and values and len(names) != len(values):
        told = f"classes names {len(names)} classes, but the masks have {len(values)} values"
        raise ValueError(f"{told} ({list(values)})")
    return names if names is not None else [str(value) for value in values]


def _padded(values: Tensor, height: int, width: int, value: int) -> Tensor:
    return F.pad(values, (0, width - values.shape[-1], 0, height - values.shape[-2]), value=value)


def _count_channels(pairs: Sequence[Pair], facts: Facts) -> int:
    """Return 1 for grey pictures, 3 if one of those that are looked at is coloured."""
    chosen = pairs[:: max(1, len(pairs) // LOOKED_AT)]
    coloured = sum(not _is_grey(pair.image) for pair in chosen)
    if 0 < coloured < len(chosen):
        facts.lines.append(
            f"{coloured} of {len(chosen)} pictures are coloured, the others grey: all are read as colour"
        )
    facts.lines.append(f"pictures: {'colour' if coloured else 'grey'} (data.dataset.in_channels)")
    return 3 if coloured else 1


def _is_grey(path: str) -> bool:
    pixels = np.asarray(read_image(path))
    return bool((pixels == pixels[:, :, :1]).all())
