"""Find pictures by the names that a text file has for them."""

import os
import unicodedata
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
    listed: dict[str, dict[str, str]] = field(default_factory=dict)  # by folder: its names, which are read once
    plain: dict[str, str] = field(default_factory=dict)  # paths by names without capitals and suffix

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
                    found = names.get(base + ending) or names.get(_composed(base + ending), "")
                    if found and os.path.isfile(os.path.join(self.root, path, found)):
                        return os.path.join(path, found)
        return ""

    def _names(self, folder: str) -> dict[str, str]:
        """Return the names in a folder, also by their composed form, as macOS writes an accent apart from its letter.

        They are read at once: a look at the disk for each ending of each name would take minutes.
        """
        if folder not in self.listed:
            try:
                names = os.listdir(os.path.join(self.root, folder))
            except OSError:  # no such folder
                names = []
            self.listed[folder] = {_composed(name): name for name in names} | {name: name for name in names}
        return self.listed[folder]

    def missing(self, name: str) -> str:
        """Return the fault of a name whose file is missing."""
        folders = ", ".join(os.path.normpath(os.path.join(self.root, folder)) for folder in self.folders[:5])
        if near := self._near(name):
            return (
                f"no picture '{name}' (looked in {folders}); there is {near}, whose name has other capitals or another "
                "suffix; make the names the same"
            )
        return f"no picture '{name}' (looked in {folders}); add it or remove the row"

    def _near(self, name: str) -> str:
        """Return a picture whose name differs in nothing but capitals and suffix; empty if there is none."""
        if not self.plain:
            for folder, names in self.listed.items():
                pictures = [found for found in names.values() if found.lower().endswith(SUFFIXES)]
                self.plain.update({_plain(found): os.path.join(folder, found) for found in pictures})
        return self.plain.get(_plain(name), "")


def _composed(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _plain(name: str) -> str:
    name = os.path.basename(name).lower()
    return _composed(os.path.splitext(name)[0] if name.endswith(SUFFIXES) else name)


def picture_folders(root: str, images: str) -> list[str]:
    """Return the folders below root in which pictures are looked for: the named one, root, train, and others beside."""
    beside = [name for name in list_folders(root) if split_of(name) not in ("test", "val")]
    return list(dict.fromkeys([images, "", "train", *(beside if len(beside) <= BESIDE else [])]))


def _parts(name: str) -> Sequence[str]:
    """Return a name, then its ends, each without one more folder: a/b/c, b/c, c."""
    steps = [step for step in name.replace("\\", "/").split("/") if step]
    return [name, *("/".join(steps[i:]) for i in range(len(steps)))] if len(steps) > 1 else [name] if name else []
