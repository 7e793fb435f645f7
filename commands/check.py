"""check: every mistake in file, flags and names at once; starts nothing, looks at no data."""

from collections.abc import Sequence

from configs import resolve
from configs.flags import schema_keys
from utils.cli import Flag
from utils.config import flatten, to_plain
from utils.tree import Node, dump_yaml

__all__ = ["run"]

LINE_END = "\n...\n"  # how YAML closes a lone scalar


def run(name: str, flags: Sequence[Flag], show: bool) -> None:
    """Print that the config is right, and with `show` all of it with the place of each value."""
    resolved = resolve(name, flags)
    if show:
        places = {key: _place(resolved.tree, key) for key in schema_keys()}
        values = flatten(to_plain(resolved.config))
        for key, place in places.items():
            for path, value in values.items():
                if path == key or path.startswith(f"{key}."):
                    print(f"{path}: {dump_yaml(value).split(LINE_END)[0].strip()}  # {place}")
    print(f"{name}: no mistakes found")


def _place(tree: Node, key: str) -> str:
    """Where the value of a key was written."""
    node = tree.at(key)
    return node.where if node else "default"
