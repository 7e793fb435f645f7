"""Packages that a training can go without, and the sentence about those that are missing."""

import importlib.util
from collections.abc import Iterable
from typing import Any

__all__ = ["debugger", "installed", "without"]

# Each package, and the difference that its absence makes.
PARTS = {
    "fire": "flags are read without it",
    "torchnet": "means and matrices are counted without it",
    "tqdm": "no progress bar",
    "matplotlib": "no drawn curves and pictures",
    "tensorboardX": "no event files for TensorBoard",
    "visdom": "no live curves in the browser",
}
NEEDS = {"torchnet": ("visdom",)}  # it imports visdom, whatever is taken from it


def installed(name: str) -> bool:
    """Return whether a package can be found, and those that it cannot be imported without; nothing is imported."""
    try:
        return importlib.util.find_spec(name) is not None and all(map(installed, NEEDS.get(name, ())))
    except (ImportError, ValueError):  # hidden from this process
        return False


def debugger() -> Any:
    """Return the module ipdb where it is installed, pdb otherwise."""
    import pdb

    try:
        return importlib.import_module("ipdb") if installed("ipdb") else pdb
    except Exception:  # its own packages do not fit together
        return pdb


def without(unused: Iterable[str] = ()) -> str:
    """Return the sentence about missing packages, except those that are `unused`; empty if all are there."""
    skipped = set(unused)
    missing = [f"{name} ({part})" for name, part in PARTS.items() if name not in skipped and not installed(name)]
    if not missing:
        return ""
    return f"note: goes on without {', '.join(missing)}; pip install -r requirements.txt installs what is missing"
