"""Find the folders of the splits by their names."""

import os
import re
from collections.abc import Mapping

from utils.errors import DataError

__all__ = ["SPLITS", "inner_folder", "split_folders", "split_of"]

SPLITS = ("train", "val", "test")
WORDS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validate", "validation", "dev", "development", "eval", "evaluation"),
    "test": ("test", "testing", "tst"),
}
BESIDE = {"seg", "set", "data", "dataset", "images", "imgs", "pictures", "photos", "split", "folder", "the", "my"}


def split_of(name: str) -> str:
    """Return the split that a folder's name stands for in any case, such as train for Training or seg_train; or ""."""
    words = [word for word in re.split(r"[\W_\d]+", name.lower()) if word and word not in BESIDE]
    words = [re.sub(r"(?<=.)(set|data|images|imgs)$", "", word) for word in words]
    return next((split for split, known in WORDS.items() if len(words) == 1 and words[0] in known), "")


def split_folders(root: str, splits: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the path of each split's folder in `root`, for the splits that have one.

    `splits` names them (the key data.dataset.splits); without it they are known by their names. Raises DataError for a
    named folder that is missing, and for two folders of one split.
    """
    if splits:
        return {split: _named(root, split, name) for split, name in splits.items()}
    found: dict[str, str] = {}
    for name in sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] not in "._"):
        if not (split := split_of(name)):
            continue
        if split in found:
            both = f"{os.path.basename(found[split])} and {name}"
            raise DataError(
                f"{root} holds {both}, which both look like the split '{split}'; "
                f"set data.dataset.splits, as --data.dataset.splits='{{{split}: {name}}}'"
            )
        found[split] = os.path.join(root, name)
    return found


def inner_folder(folder: str, split: str) -> str:
    """Return the folder itself, or one of the same split that it holds and nothing else: seg_train/seg_train."""
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if entry.name[0] not in "._"]
    if len(found) != 1 or not found[0].is_dir():
        return folder
    name = found[0].name
    words = [word for word in re.split(r"[\W_\d]+", name.lower()) if word]
    if split_of(name) == split or (words and set(words) <= BESIDE):
        return inner_folder(found[0].path, split)
    return folder


def _named(root: str, split: str, name: str) -> str:
    if split not in SPLITS:
        raise ValueError(f"splits: no split '{split}'; there are {', '.join(SPLITS)}")
    path = os.path.join(root, os.path.expanduser(name))
    if not os.path.isdir(path):
        raise DataError(f"{path} does not exist, but data.dataset.splits.{split} names it; change the key")
    return path
