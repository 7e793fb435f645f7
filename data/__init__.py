"""The datasets: `from data import DogCat` finds the class in the file that defines it, and loads only that file.

In: files. Out: samples, and the facts about them that networks need. Read protocol.py first.
"""

from pathlib import Path
from typing import Any

from utils.config.registry import Registry

registry = Registry(__name__, Path(__file__).parent, here=True)


def __getattr__(name: str) -> Any:
    return registry.attribute(name)


def __dir__() -> list[str]:
    return sorted([*globals(), *registry.names()])
