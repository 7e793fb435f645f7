"""Pictures in one folder for each class."""

import os
from collections.abc import Callable, Sequence
from typing import Literal

from data._images import (
    ImageDataset,
    existing_folder,
    labelled_images,
    list_folders,
    list_images,
    no_pictures,
    pick,
    root_option,
    split_indices,
)
from data._stores import Files
from utils.errors import DataError

__all__ = ["ImageFolder"]

FOLDERS = {"train": ["train"], "val": ["val", "valid"], "test": ["test"]}


class ImageFolder(ImageDataset):
    """Pictures of your own in one folder for each class, such as `train/cat/1.jpg` and `train/dog/2.jpg`.

    Reads `root/train`, `root/val` (or `valid`) and `root/test` if they exist. Without `train`, class folders directly
    in `root` are the training set. Without `val`, a seeded `val_fraction` of the training pictures is for validation.
    Pictures directly in `test`, or directly in a `root` that is only for the test, have no labels.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        transform: Callable | None = None,
        val_fraction: float = 0.3,
        seed: int = 0,
        classes: Sequence[str] | None = None,
    ) -> None:
        root = existing_folder(root, split)
        folder = _folder(root, split)
        if split == "test" and (flat := list_images(folder)):
            super().__init__(Files(folder, flat), flat, None, classes or [], transform)
            return
        classes = classes or _class_names(root, split)
        names, labels = _pictures(root, split, classes)
        if split != "test" and not _own_folder(root, "val"):
            chosen = split_indices(len(names), split, val_fraction, seed)
            names, labels = pick(names, chosen), pick(labels, chosen)
        super().__init__(Files(folder, names), names, labels, classes, transform)


def _own_folder(root: str, split: str) -> str | None:
    paths = (os.path.join(root, name) for name in FOLDERS[split])
    return next((path for path in paths if os.path.isdir(path)), None)


def _folder(root: str, split: str) -> str:
    """Return the folder of a split's pictures; train and val may share one."""
    shared = None if split == "test" else _own_folder(root, "train")
    return _own_folder(root, split) or shared or root


def _class_folders(root: str, folder: str) -> list[str]:
    splits = {name for names in FOLDERS.values() for name in names} if folder == root else set()
    return [name for name in list_folders(folder) if name not in splits]


def _class_names(root: str, split: str) -> list[str]:
    """Return the class folders of the training set, or of the split itself if there is no training set.

    Raises DataError when there are fewer than two.
    """
    train, own = _folder(root, "train"), _folder(root, split)
    folder = train if _class_folders(root, train) else own
    classes = _class_folders(root, folder)
    if len(classes) < 2:
        found = f"only the class folder {classes[0]}" if classes else "no class folders"
        raise DataError(f"{folder} holds {found}, but two are needed at least; set {root_option(split)}")
    return classes


def _pictures(root: str, split: str, classes: Sequence[str]) -> tuple[list[str], list[int]]:
    folder = _folder(root, split)
    names, labels = labelled_images(folder, classes, _class_folders(root, folder))
    if not names:
        raise no_pictures(folder, split)
    for label in set(range(len(classes))) - set(labels) if split == "train" else ():
        raise no_pictures(os.path.join(folder, classes[label]), split)
    return names, labels
