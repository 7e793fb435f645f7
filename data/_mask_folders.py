"""Folders of pictures and masks: which mask goes with which picture, and which of them are for validation."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data._facts import Facts
from data._folders import existing_folder, list_folders, list_images, no_pictures, root_option
from data._folds import Folds
from data._splits import split_folders
from utils.errors import DataError

__all__ = ["Found", "Layout", "Pair", "find_pairs", "unmasked"]

# Ends of the names of masks, in common use; a picture 7.png has a mask 7_mask.png.
MASK_ENDS = ("", "_mask", "_masks", "_L", "_label", "_labels", ".labels", "_seg", "_segmentation", "_gt", "_labelIds")


@dataclass(frozen=True)
class Pair:
    """The paths of a picture and of its mask, if it has one."""

    id: str
    image: str
    mask: str | None = None


@dataclass(frozen=True)
class Layout:
    """Where pictures and masks lie, and which of them are for validation."""

    images: str
    masks: str
    splits: Mapping[str, str] | None
    val_fraction: float
    whole: bool
    folds: Folds | None = None


@dataclass(frozen=True)
class Found:
    """The pictures of training and of validation, or of the test."""

    train: list[Pair]
    val: list[Pair]
    facts: Facts


def find_pairs(root: str, layout: Layout, split: str, facts: Facts) -> Found:
    """Return the pictures of train and val with their masks, in order."""
    if "{split}" in layout.images:
        places = {name: root for name in ("train", "val") if os.path.isdir(_inner(root, layout.images, name))}
    else:
        places = split_folders(root, layout.splits)
        places = {name: path for name, path in places.items() if os.path.isdir(os.path.join(path, layout.images))}
    train = _masked(places.get("train", root), layout, "train", split, facts)
    if "val" in places:
        val = _masked(places["val"], layout, "val", split, facts)
        if layout.folds:
            layout.folds.refuse(f"{places['val']} is for validation; leave one out")
        facts.source = _inner(root, layout.images, split) if "{split}" in layout.images else places[split]
        return Found(train, val, facts)
    cut = len(train) - round(len(train) * layout.val_fraction)
    place = places.get("train", root)
    if layout.whole:
        facts.source = place
        return Found(train, train, facts)
    if layout.folds:
        facts.source = layout.folds.told(place, split, "in the order of the names")
        held_out = layout.folds.block(len(train), "val")
        start, end = held_out[0], held_out[-1] + 1
        return Found(train[:start] + train[end:], train[start:end], facts)
    share = 100 * (layout.val_fraction if split == "val" else 1 - layout.val_fraction)
    facts.source = f"the {'last' if split == 'val' else 'first'} {share:g} % of {place} (data.dataset.val_fraction)"
    return Found(train[:cut], train[cut:], facts)


def _inner(folder: str, name: str, split: str) -> str:
    return os.path.join(folder, name.replace("{split}", split))


def _masked(folder: str, layout: Layout, part: str, split: str, facts: Facts) -> list[Pair]:
    """Return the pictures and masks in a folder, in order."""
    names = (layout.images, layout.masks)
    places = [_inner(folder, name, part) for name in names]
    for key, place in zip(("images", "masks"), places, strict=True):
        if not os.path.isdir(place) and (beside := list_folders(folder)):
            told = f"{place} does not exist; set data.dataset.{key} to one of {', '.join(beside[:6])}, or "
            raise DataError(f"{told}data.dataset.root to another folder")
    places = [existing_folder(place, split) for place in places]
    pictures, found = (_by_stem(place) for place in places)
    if not pictures:
        raise no_pictures(places[0], split)
    end = next((end for end in MASK_ENDS if all(stem + end in found for stem in pictures)), "")
    if end:
        facts.lines.append(f"names of masks end in {end}")
    if missing := [stem for stem in pictures if stem + end not in found]:
        few = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise DataError(f"{places[1]} has no mask for {few}; add it or remove the picture from {places[0]}")
    facts.leave_out("a mask without a picture", sorted(set(found) - {stem + end for stem in pictures}))
    return [Pair(stem, pictures[stem], found[stem + end]) for stem in pictures]


def unmasked(root: str, images: str) -> list[Pair]:
    """Return the pictures of the split test, in order."""
    inner = (
        [f"test/{images}", "test", images, ""] if "{split}" not in images else [images.replace("{split}", "test"), ""]
    )
    for name in inner:
        folder = os.path.join(root, name)
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
