"""check: every mistake in file, flags and names at once; starts nothing, looks at no data."""

from collections.abc import Sequence

from configs import resolve
from utils.config.cli import Flag
from utils.config.convert import flatten, to_plain
from utils.config.tree import Node
from utils.config.yaml_text import dump_line

__all__ = ["run"]


def run(name: str, flags: Sequence[Flag], options: Sequence[str], show: bool) -> None:
    """Print that the config is right, and with `show` all of it with the place where each value was written.

    `options` are what the command takes besides keys. Raises ConfigError with a line for each mistake.
    """
    resolved = resolve(name, flags, options)
    for key, value in flatten(to_plain(resolved.config)).items() if show else ():
        print(f"{key}: {dump_line(value)}  # {_place(resolved.tree, key)}")
    print(f"{name}: no mistakes found")


def _place(node: Node, key: str) -> str:
    """Where a value was written: by the deepest node on the way to it; a lone component's role is not in the key."""
    for name in key.split("."):
        inside = node.entries if name in node.entries else getattr(node.at("model"), "entries", {})
        node = inside.get(name, node)
    for name in ("model", "name"):  # a component without arguments is shown as its name
        node = node.at(name) or node
    return node.where
