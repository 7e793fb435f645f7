"""The files of a registry: find them, read their public names, import one when it is needed, and again after an
edit.
"""

import functools
import importlib
import importlib.util
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from utils.config import source

__all__ = ["OWN_FOLDER", "Place", "here", "own_folder", "users_place"]

PACKAGES: dict[str, int] = {}  # by the user's folder: the number of its package
OWN_FOLDER = "DEEPTRAIN_OWN"  # variable: another folder than the current one whose rooms add components
LOADED: dict[str, tuple[source.Stamp, ...]] = {}  # by module: its file and the helpers beside it at the import


class Place(NamedTuple):
    """A folder of Python files, or one file, and the package from which they are imported."""

    package: str
    folder: Path
    ours: bool = True  # a part of the program; otherwise the user's, in the current folder

    def files(self) -> list[Path]:
        """Return the readable files that may hold components: their names do not begin with _ or a dot."""
        if self.folder.is_file():
            return [self.folder]
        found = [self.folder / name for name in _python_files(self.folder) if name[0] not in "_."]
        return found if self.ours else [path for path in found if path.is_file() and os.access(path, os.R_OK)]

    def public(self) -> dict[str, Path]:
        """Return each public name with the first file that defines it."""
        return _public(self, _state(self.folder))

    def clash(self, name: str) -> str:
        """Return the fault of a name that several files define; empty for others."""
        files = [path for path in self.files() if name in source.public_names(path)]
        if len(files) < 2:
            return ""
        return f"{files[1]}: '{name}' is also in {files[0]}; a name may stand in one file only, so rename one of them"

    def shown(self, path: Path) -> str:
        """Return a file's name for messages; a file of the user has its folder in front."""
        return path.name if self.ours else f"{path.parent.name}/{path.name}"

    def module(self, path: Path) -> str:
        """Return the name of a file's module."""
        return self.package if path == self.folder else f"{self.package}.{path.stem}"

    def load(self, path: Path) -> ModuleType:
        """Import a file; run an edited file again in the same module, and before it the edited helpers beside it.

        A file of the user belongs to a package of its own, in which `from ._helper import x` finds the file beside it.
        """
        name, helpers = self.module(path), self._helpers(path)
        now = tuple(map(source.stamp, (path, *helpers.values())))
        if not self.ours and self.package not in sys.modules:
            sys.modules[self.package] = ModuleType(self.package, f"The files in {self.folder}.")
            sys.modules[self.package].__path__ = [str(self.folder)]
        if name not in sys.modules:
            importlib.invalidate_caches()  # the file may be newer than Python's list of the folder
            importlib.import_module(name)
        elif LOADED.get(name, now) != now:
            for helper, file in helpers.items():
                if helper in sys.modules and LOADED.get(helper) != (source.stamp(file),):
                    _reload(helper, file)
            _reload(name, path)
        LOADED.update({helper: (source.stamp(file),) for helper, file in helpers.items()})
        LOADED[name] = now
        return sys.modules[name]

    def _helpers(self, path: Path) -> dict[str, Path]:
        """Return the files beside a file whose names begin with _, by their modules."""
        if path == self.folder:
            return {}
        files = (file for file in sorted(self.folder.glob("_[!_]*.py")) if file.is_file())
        return {f"{self.package}.{file.stem}": file for file in files}


def _python_files(folder: Path) -> list[str]:
    """Return the names of a folder's Python files in their order; none of one that is not there, or is locked."""
    with suppress(OSError):
        return sorted(name for name in os.listdir(folder) if name.endswith(".py"))
    return []


def _state(folder: Path) -> tuple:
    """Return the values that change when a file of a folder, or one file, is edited, made, renamed, locked or gone."""
    found = []
    for path in [folder] if folder.is_file() else [folder / name for name in _python_files(folder)]:
        with suppress(OSError):
            one = os.stat(path)
            found.append((path.name, one.st_ctime_ns, one.st_size, one.st_ino))
    return tuple(found)


@functools.cache
def _public(place: Place, state: tuple) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in place.files():
        for name in source.public_names(path):
            found.setdefault(name, path)
    return found


def _reload(name: str, path: Path) -> None:
    """Run a file again in its module."""
    # the bytecode's time is in whole seconds: an edit in the same second would not be noticed
    with suppress(OSError):
        os.unlink(importlib.util.cache_from_source(str(path)))
    importlib.reload(sys.modules[name])


def own_folder() -> Path:
    """Return the folder whose rooms add components: the current one, unless a run is trained again from its sources."""
    return Path(os.environ.get(OWN_FOLDER, ""))


def here(folder: Path) -> Path | None:
    """Return the current folder's subfolder of that name; None if there is none, or if it is that very folder."""
    found = own_folder() / folder.name
    return found if os.path.isdir(found) and not os.path.samefile(found, folder) else None


def users_place(folder: Path) -> Place | None:
    """Return the user's folder of that name, each folder with its own package; None if there is none."""
    path = here(folder)
    if path is None:
        return None
    path = path.absolute()
    number = PACKAGES.setdefault(str(path), len(PACKAGES))
    return Place(f"{path.name}_here_{number}", path, ours=False)
