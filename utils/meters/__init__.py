"""Metrics over a split, exact also when the parts of several processes are merged.

In: predictions and targets, a batch at a time. Out: numbers. `from utils.meters import Mean` loads only its file. Read
classification.py first.
"""

from pathlib import Path
from typing import Any

from utils.config.registry import Registry

registry = Registry(__name__, Path(__file__).parent)


def __getattr__(name: str) -> Any:
    return registry.attribute(name)


def __dir__() -> list[str]:
    return sorted([*globals(), *registry.names()])
