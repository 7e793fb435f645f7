"""Pictures in one folder for each class."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from data._classes import alike
from data._facts import Facts
from data._folders import (
    existing_folder,
    labelled_images,
    list_folders,
    list_images,
    no_pictures,
    note_odd,
    root_option,
)
from data._folds import Folds
from data._images import ImageDataset, pick, share_of, split_indices
from data._splits import SPLITS, inner_folder, split_folders
from data._stores import Files
from utils.config.ranges import Fraction, Seed
from utils.errors import DataError

__all__ = ["ImageFolder"]


class ImageFolder(ImageDataset):
    """Pictures of your own in one folder for each class, such as `train/cat/1.jpg` and `train/dog/2.jpg`.

    The folders of the splits are known by their names in any case: train, training, val, valid, validation, dev, test,
    testing, seg_train and the like; `splits` names others, as {train: DIR, val: DIR, test: DIR}. Without one for train,
    class folders directly in `root` are the training set. Without one for val, a seeded `val_fraction` of the training
    pictures is for validation. Pictures directly in the test folder, or directly in a `root` that is only for the test,
    have no labels. `exclude` holds patterns of names that are left out, as ["*.gif", "cat/9*"].
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        transform: Callable | None = None,
        val_fraction: Fraction = 0.3,
        seed: Seed = 0,
        splits: Mapping[str, str] | None = None,
        exclude: Sequence[str] = (),
        classes: Sequence[str] | None = None,
        whole: bool = False,
        folds: Folds | None = None,
    ) -> None:
        root = existing_folder(root, split)
        folders = _folders(root, splits)
        if folds and "val" in folders:
            folds.refuse(
                f"{folders['val']} is for validation; leave one out, or data.dataset.splits={{train: DIR}} does"
            )
        folder = folders.get(split) or (folders.get("train", root) if split != "test" else root)
        self.facts = Facts(folder)
        if split == "test" and (flat := list_images(folder, facts=self.facts, exclude=exclude)):
            super().__init__(Files(folder, flat), flat, None, classes or [], transform)
            return
        classes = classes or _sure_classes(root, folders, split)
        found = _class_folders(root, folder, folders)
        _tell_deeper(self.facts, folder, found)
        self.facts.leave_out("a picture beside the class folders", list_images(folder, exclude=exclude))
        names, labels = labelled_images(folder, classes, found, self.facts, exclude)
        _check(folder, split, classes, names, labels)
        note_odd(self.facts, folder, names)
        if split != "test" and "val" not in folders:
            chosen = split_indices(len(names), split, val_fraction, seed, whole, folds, labels)
            names, labels = pick(names, chosen), pick(labels, chosen)
            self.facts.source = share_of(folder, split, val_fraction, seed, whole, folds)
        _tell_splits(self.facts, root, folders)
        super().__init__(Files(folder, names), names, labels, classes, transform)


def _folders(root: str, splits: Mapping[str, str] | None) -> dict[str, str]:
    """Return the folders of the splits, each the innermost one of that split (seg_train/seg_train).

    Raises DataError where a folder may be a split or a class.
    """
    found = split_folders(root, splits)
    for split, folder in found.items() if not splits else ():
        beside = [name for name in list_folders(root) if os.path.join(root, name) not in found.values()]
        if split == "train" and beside and list_images(folder) and not list_folders(folder):
            name = os.path.basename(folder)
            raise DataError(
                f"{folder} holds pictures directly, and other folders lie beside it ({', '.join(beside[:3])}): is it a "
                f"class or the split '{split}'? Rename the class, or set data.dataset.splits, as "
                f"--data.dataset.splits='{{train: {name}}}'"
            )
    return {split: inner_folder(folder, split) for split, folder in found.items()}


def _class_folders(root: str, folder: str, folders: Mapping[str, str]) -> list[str]:
    """Return the names of the class folders in a folder: all, except those of splits."""
    of_splits = {os.path.relpath(path, root).split(os.sep)[0] for path in folders.values()} if folder == root else set()
    return [name for name in list_folders(folder) if name not in of_splits]


def _class_names(root: str, folders: Mapping[str, str], split: str) -> list[str]:
    """Return the class folders of the training set, or of the split itself if there is no training set.

    Raises DataError when there are fewer than two.
    """
    train = folders.get("train", root)
    own = folders.get(split, train)
    folder = train if _class_folders(root, train, folders) else own
    classes = _class_folders(root, folder, folders)
    if len(classes) >= 2:
        return classes
    found = f"only the class folder {classes[0]}" if classes else "no class folders"
    if not classes and list_images(folder):
        found = "pictures and no class folders (--data.dataset=CSVImages takes labels from a CSV)"
    deeper = os.path.join(folder, classes[0]) if classes else ""
    while deeper and len(inner := list_folders(deeper)) == 1 and not list_images(deeper):
        deeper = os.path.join(deeper, inner[0])  # a zip's folder in a folder
    nested = bool(deeper) and (len(split_folders(deeper)) > 0 or len(list_folders(deeper)) > 1)
    hint = f"; {deeper} holds folders: is it the root?" if nested else ""
    raise DataError(f"{folder} holds {found}, but two are needed at least; set {root_option(split)}{hint}")


def _sure_classes(root: str, folders: Mapping[str, str], split: str) -> list[str]:
    """Return the class folders.

    Raises DataError where folders of one name lie in several, which may be the classes, and for names that mean the
    same.
    """
    classes = _class_names(root, folders, split)
    train = folders.get("train", root)
    folder = train if _class_folders(root, train, folders) else folders.get(split, train)
    inner = [set(list_folders(os.path.join(folder, name))) for name in classes]
    if len(common := set.intersection(*inner)) > 1:
        few, within = ", ".join(classes[:3]), ", ".join(sorted(common)[:3])
        raise DataError(
            f"{folder} holds {few}, and each of them the folders {within}: which are the classes? For {within} set "
            f"data.dataset.splits, as --data.dataset.splits='{{train: FOLDER, val: FOLDER}}', or put all "
            f"pictures of a class into one folder; for {few} set --data.dataset.classes='[{', '.join(classes)}]'"
        )
    if same := alike(classes):
        raise DataError(
            f"{folder}: the folders {same} look like one class written in several ways; make them one, or name all "
            "classes in data.dataset.classes"
        )
    return classes


def _tell_deeper(facts: Facts, folder: str, classes: Sequence[str]) -> None:
    """Note the folders below class folders, whose pictures count for the class above."""
    deeper = [f"{name}/{inner}" for name in classes for inner in list_folders(os.path.join(folder, name))]
    if deeper:
        more = ", …" if len(deeper) > 3 else ""
        facts.lines.append(f"folders in class folders count for the class above: {', '.join(deeper[:3])}{more}")


def _check(folder: str, split: str, classes: Sequence[str], names: Sequence[str], labels: Sequence[int]) -> None:
    """Raises DataError when there is no picture, or a class has none in the training set."""
    if not names:
        raise no_pictures(folder, split)
    for label in set(range(len(classes))) - set(labels) if split == "train" else ():
        raise no_pictures(os.path.join(folder, classes[label]), split)


def _tell_splits(facts: Facts, root: str, folders: Mapping[str, str]) -> None:
    """Note which folders were taken for splits, and which folders beside them are not read."""
    if not folders:
        facts.lines.append(f"classes: the folders in {root} (data.dataset.splits names folders of splits)")
        return
    told = ", ".join(f"{split} {os.path.relpath(folders[split], root)}" for split in SPLITS if split in folders)
    facts.lines.append(f"folders of splits in {root}: {told} (data.dataset.splits)")
    if "train" in folders:
        facts.leave_out("a folder beside those of the splits", _class_folders(root, root, folders))
