"""The networks: every public class of this folder by its name; its file is imported only when it is used.

In: the facts of a dataset, and a config's arguments. Out: networks. Read basic_module.py first.
"""

from pathlib import Path

from utils.config.registry import Registry

registry = Registry(__name__, Path(__file__).parent, here=True)


def __getattr__(name: str) -> object:
    return registry.attribute(name)


def __dir__() -> list[str]:
    return sorted([*globals(), *registry.names()])
