"""Find pictures by the names that a text file has for them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from data._folders import SUFFIXES, list_folders
from data._splits import split_of

__all__ = ["Finder", "picture_folders"]

ENDINGS = ["", *SUFFIXES, *(suffix.upper() for suffix in SUFFIXES)]  # a text file may leave the suffix out
BESIDE = 8  # folders beside those that are known; among more of them none is looked into


@dataclass(frozen=True)
class Finder:
    """Finds a picture's file from its name, with or without its suffix, and with folders that may be elsewhere now."""

    root: str
    folders: list[str]  # below root, in the order of the search

    def find(self, name: str) -> str:
        """Return the path below root; empty if no file is found."""
        if "\0" in name:
            return ""
        endings = [""] if name.lower().endswith(SUFFIXES) else ENDINGS
        for part in _parts(name):
            for folder, ending in product(self.folders, endings):
                path = os.path.join(folder, part + ending)
                if os.path.isfile(os.path.join(self.root, path)):
                    return path
        return ""

    def missing(self, name: str) -> str:
        """Return the fault of a name whose file is missing."""
        folders = ", ".join(os.path.normpath(os.path.join(self.root, folder)) for folder in self.folders[:5])
        return f"no picture '{name}' (looked in {folders}); add it or remove the row"


def picture_folders(root: str, images: str) -> list[str]:
    """Return the folders below root in which pictures are looked for: the named one, root, train, and others beside."""
    beside = [name for name in list_folders(root) if split_of(name) not in ("test", "val")]
    return list(dict.fromkeys([images, "", "train", *(beside if len(beside) <= BESIDE else [])]))


def _parts(name: str) -> Sequence[str]:
    """Return a name, then its ends, each without one more folder: a/b/c, b/c, c."""
    steps = [step for step in name.replace("\\", "/").split("/") if step]
    return [name, *("/".join(steps[i:]) for i in range(len(steps)))] if len(steps) > 1 else [name] if name else []
