"""The networks: every public class of this folder by its name, its file imported only when asked for.

In: what a dataset tells of itself, and arguments of a config. Out: networks. Read basic_module.py first.
"""

from pathlib import Path

from utils.config.registry import Registry

registry = Registry(__name__, Path(__file__).parent, here=True)


def __getattr__(name: str) -> object:
    if name not in registry.names():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return registry.get(name)


def __dir__() -> list[str]:
    return sorted([*globals(), *registry.names()])
