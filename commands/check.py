"""check: report all mistakes in a config and its flags, and start nothing.

python main.py check [CONFIG] [--key=value …] [--print]

CONFIG and flags are those of train: replace train by check.

  --print      every key, its value and the place of the value
"""

from collections.abc import Sequence

from commands._arguments import one_word, split
from configs import resolve
from utils.config.cli import Flag
from utils.config.convert import flatten, to_plain
from utils.config.tree import Node
from utils.config.yaml_text import dump_line

__all__ = ["run"]

OPTIONS = ("config", "run", "quiet", "json", "print", "debug")  # with train's options: a user checks that command first


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Print that the config is right; with --print also all its values, each with its place.

    Raises ConfigError with a line for each mistake.
    """
    options, keys = split(flags, OPTIONS)
    name, show = one_word("check", words, options.get("config")) or "default", options.get("print") == "true"
    resolved = resolve(name, keys, OPTIONS)
    for key, value in flatten(to_plain(resolved.config)).items() if show else ():
        print(f"{key}: {dump_line(value)}  # {_place(resolved.tree, key)}")
    print(f"{name}: no mistakes found")


def _place(node: Node, key: str) -> str:
    """Return the place of a value: that of the deepest node on its path.

    A single component's role is not in the key.
    """
    for name in key.split("."):
        inside = node.entries if name in node.entries else getattr(node.at("model"), "entries", {})
        node = inside.get(name, node)
    for name in ("model", "name"):  # a component without arguments is shown as its name
        node = node.at(name) or node
    return node.where
