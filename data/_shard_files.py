"""Find the shards of the splits: by patterns with braces, or by their names."""

import glob
import os
import re
from collections.abc import Iterator, Mapping

from data._folders import root_option
from data._splits import SPLITS, split_folders, split_of
from utils.errors import DataError

__all__ = ["expanded", "shards_of"]

SUFFIX = ".tar"
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")
MOST = 1_000_000  # shards that a pattern may name


def shards_of(root: str, split: str, splits: Mapping[str, str] | None) -> dict[str, list[str]]:
    """Return the sorted paths of each split's shards, as far as there are some; at least those of train or of `split`.

    `splits` names them by patterns (the key data.dataset.splits). Otherwise the name of a shard or of its folder tells
    the split, as train-000017.tar or val/000.tar; shards that name none are those of the training, or of a `root` that
    is for the test alone. Raises DataError for a shard that is missing, and where the names leave a doubt.
    """
    if splits:
        named = {split: _named(root, split, pattern) for split, pattern in splits.items()}
        if both := sorted({*named.get("train", ())} & {*named.get("val", ())}):
            raise DataError(f"data.dataset.splits: {both[0]} is in train and in val; leave it out of one of them")
        return named
    found: dict[str, list[str]] = {}
    for path in _in_folder(root):
        found.setdefault(_told(path), []).append(path)
    for name, folder in split_folders(root).items():
        found.setdefault(name, []).extend(_in_folder(folder))
    found = {name: paths for name, paths in found.items() if paths}
    unnamed = found.pop("", [])
    if unnamed and found:
        one = os.path.basename(unnamed[0])
        raise DataError(
            f"{root} holds {one}, whose name tells no split, beside shards of {', '.join(found)}; set "
            f"data.dataset.splits, as --data.dataset.splits='{{train: \"{one}\"}}'"
        )
    if unnamed:
        return {"test" if split == "test" else "train": unnamed}
    if not found:
        raise DataError(f"no shards (*{SUFFIX}) in {root}; set {root_option(split)}")
    return found


def expanded(pattern: str) -> Iterator[str]:
    """Yield the names that a pattern stands for: `a-{000..002}.tar` and `{a,b}.tar` as in a shell."""
    found = BRACES.search(pattern)
    if not found:
        yield pattern
        return
    before, after = pattern[: found.start()], pattern[found.end() :]
    for part in _parts(found[1], pattern):
        yield from expanded(f"{before}{part}{after}")


def _parts(text: str, pattern: str) -> Iterator[str]:
    if match := RANGE.fullmatch(text):
        first, last = int(match[1]), int(match[2])
        if not 0 <= last - first < MOST:
            raise DataError(
                f"data.dataset.splits: {{{text}}} in {pattern} names no shards; the smaller number is first"
            )
        width = max(len(match[1]), len(match[2])) if match[1][0] == "0" or match[2][0] == "0" else 0
        yield from (f"{number:0{width}}" for number in range(first, last + 1))
    else:
        yield from text.split(",")


def _named(root: str, split: str, pattern: str) -> list[str]:
    if split not in SPLITS:
        raise ValueError(f"splits: no split '{split}'; there are {', '.join(SPLITS)}")
    found: list[str] = []
    for name in expanded(pattern):
        path = os.path.join(root, os.path.expanduser(name))
        paths = sorted(glob.glob(path)) if glob.has_magic(path) else [path] if os.path.exists(path) else []
        if not paths:
            raise DataError(f"{path} does not exist, but data.dataset.splits.{split} names it: {pattern}")
        found += _in_folder(path) if os.path.isdir(path) else paths
    if twice := [path for number, path in enumerate(found) if path in found[:number]][:1]:
        raise DataError(f"data.dataset.splits.{split}: {pattern} names {twice[0]} twice")
    return found


def _in_folder(folder: str) -> list[str]:
    names = sorted(entry.name for entry in os.scandir(folder) if entry.name.lower().endswith(SUFFIX))
    return [os.path.join(folder, name) for name in names if name[0] != "."]


def _told(path: str) -> str:
    """Return the split that a shard's name tells, or "". Raises DataError for a name that tells two."""
    words = re.split(r"[\W_\d]+", os.path.basename(path).lower().removesuffix(SUFFIX))
    told = sorted({split for word in words if word and (split := split_of(word))})
    if len(told) > 1:
        raise DataError(f"{path}: is it a shard of {' or of '.join(told)}? Set data.dataset.splits")
    return told[0] if told else ""
