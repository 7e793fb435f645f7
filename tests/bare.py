"""Surroundings in which packages are missing: hidden from this process, or an environment that never had them."""

import importlib
import os
import re
import sys
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

KAGGLE = ("torch", "torchvision", "numpy", "matplotlib", "tqdm", "pyyaml", "filelock")
OPTIONAL = ("fire", "torchnet", "visdom", "tensorboardX", "matplotlib", "tqdm", "sklearn")


class Hidden:
    """Another finder, which knows no package of some names."""

    def __init__(self, names: tuple[str, ...], finder: Any):
        self.names, self.finder = names, finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.finder, name)

    def find_spec(self, name: str, *more: Any) -> Any:
        return None if name.partition(".")[0] in self.names else self.finder.find_spec(name, *more)


def hide(monkeypatch, *names: str) -> None:
    """Let packages be as if they were not installed, until the test ends."""
    for name in [name for name in sys.modules if name.partition(".")[0] in names]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Hidden(names, finder) for finder in sys.meta_path])
    importlib.invalidate_caches()


def bare_environment(folder: Path, packages: tuple[str, ...] = KAGGLE) -> Path:
    """Make an environment with these packages, and those that they need; return its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/*/site-packages")
    for name in _closure(packages):
        files = distribution(name).files or []
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            if not (site / top).exists():
                os.symlink(Path(str(distribution(name).locate_file(top))), site / top)
    return folder / "bin" / "python"


def _closure(names: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    due = list(names)
    while due:
        name = due.pop()
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:  # of another system, or an extra
            continue
        if name not in found:
            found.add(name)
            due += [match[0] for need in needs if (match := re.match(r"[\w.-]+", need)) and "extra ==" not in need]
    return found
