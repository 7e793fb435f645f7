"""Find pictures by the names that a text file has for them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

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
    listed: dict[str, frozenset[str]] = field(default_factory=dict)  # by folder: its names, which are read once

    def find(self, name: str) -> str:
        """Return the path below root; empty if no file is found."""
        if "\0" in name:
            return ""
        endings = [""] if name.lower().endswith(SUFFIXES) else ENDINGS
        for part in _parts(name):
            inner, base = os.path.split(part)
            for folder in self.folders:
                path = os.path.join(folder, inner) if inner else folder
                names = self._names(path)
                for ending in endings:
                    found = base + ending
                    if found in names and os.path.isfile(os.path.join(self.root, path, found)):
                        return os.path.join(path, found)
        return ""

    def _names(self, folder: str) -> frozenset[str]:
        """Return the names in a folder: a look at the disk for each ending of each name would take minutes."""
        if folder not in self.listed:
            try:
                self.listed[folder] = frozenset(os.listdir(os.path.join(self.root, folder)))
            except OSError:  # no such folder
                self.listed[folder] = frozenset()
        return self.listed[folder]

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
