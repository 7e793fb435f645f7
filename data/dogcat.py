"""Kaggle's Dogs vs Cats."""

import os
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

from data._facts import Facts
from data._folders import existing_folder, list_images, no_pictures, note_odd, root_option
from data._folds import Folds
from data._images import ImageDataset, pick, share_of, split_indices
from data._stores import Files
from utils.config.ranges import Fraction, Seed
from utils.errors import DataError

__all__ = ["DogCat"]

CLASSES = ["cat", "dog"]
LABELS = {"cat.": 0, "dog.": 1}


class DogCat(ImageDataset):
    """Dogs vs Cats as Kaggle gives it: one flat folder, in which each file's name begins with its class.

    Train and val share a folder of `cat.0.jpg`, `dog.0.jpg`, …, and get 70 % and 30 % of it by a seeded permutation.
    The test folder holds `1.jpg`, `2.jpg`, …, without labels; the numbers are the ids. `root` is that folder, or the
    one above it with `train` and `test` inside. `exclude` holds patterns of names that are left out.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        transform: Callable | None = None,
        val_fraction: Fraction = 0.3,
        seed: Seed = 0,
        exclude: Sequence[str] = (),
        whole: bool = False,
        folds: Folds | None = None,
    ) -> None:
        folder = _folder(existing_folder(root, split), split)
        self.facts = Facts(share_of(folder, split, val_fraction, seed, whole, folds))
        names = list_images(folder, facts=self.facts, exclude=exclude)
        if not names:
            raise no_pictures(folder, split)
        if split == "test":
            names = _numbered(folder, names)
            super().__init__(Files(folder, names), Stems(names), None, CLASSES, transform)
        else:
            names, labels = _labelled(folder, names)
            note_odd(self.facts, folder, names)
            chosen = split_indices(len(names), split, val_fraction, seed, whole, folds, labels)
            names = pick(names, chosen)
            super().__init__(Files(folder, names), names, pick(labels, chosen), CLASSES, transform)

    @property
    def meta(self) -> dict[str, Any]:
        """The facts of every picture dataset, and the class whose probability Kaggle asks for."""
        return super().meta | {"positive": "dog"}


class Stems(Sequence[str]):
    """File names without their suffix, made when they are read: a second list would double the memory."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        return Stems(self.names[index]) if isinstance(index, slice) else os.path.splitext(self.names[index])[0]


def _folder(root: str, split: str) -> str:
    inner = os.path.join(root, "test" if split == "test" else "train")
    return inner if os.path.isdir(inner) else root


def _labelled(folder: str, names: list[str]) -> tuple[list[str], list[int]]:
    """Return the names sorted by class and number, and their labels; the folder's name has no influence."""
    labels, numbers = bytearray(), []  # a list of pairs would take 100 MB for a million names
    for name in names:
        label, number = _class_and_number(folder, name)
        labels.append(label)
        numbers.append(number)
    order = sorted(range(len(names)), key=numbers.__getitem__)
    order.sort(key=labels.__getitem__)
    if labels[order[0]] == labels[order[-1]]:
        missing = CLASSES[1 - labels[0]]
        raise DataError(f"{folder} holds only {CLASSES[labels[0]]}s; put pictures named {missing}.N.jpg beside them")
    return pick(names, order), pick(labels, order)


def _class_and_number(folder: str, name: str) -> tuple[int, int]:
    kind, number = name[:4], name[4:-4]
    if kind in LABELS and number.isdecimal():  # true for nearly all names; the pattern takes twice the time
        return LABELS[kind], int(number)
    match = re.match(r"([a-z]*)\D*(\d*)", name.lower())
    assert match, "the pattern fits every name"
    prefix, number = match.groups()
    if prefix not in CLASSES:
        path = os.path.join(folder, name)
        raise DataError(f"{path} has no label, as its name does not begin with cat. or dog.; rename or remove it")
    return CLASSES.index(prefix), int(number or 0)


def _numbered(folder: str, names: list[str]) -> list[str]:
    """Return the names of a test folder sorted by number.

    Raises DataError for a name without a number, or for a number that occurs twice.
    """
    for name in names:
        if not os.path.splitext(name)[0].isdecimal():
            path = os.path.join(folder, name)
            raise DataError(f"{path} is not named N.jpg as test pictures are; remove it or set {root_option('test')}")
    names = sorted(names, key=_number)
    for one, two in pairwise(names):
        if _number(one) == _number(two):
            raise DataError(f"{os.path.join(folder, two)} has the same number as {one}; remove one of them")
    return names


def _number(name: str) -> int:
    return int(os.path.splitext(name)[0])
