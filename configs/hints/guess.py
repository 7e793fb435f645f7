"""Guess the meaning of an unknown key."""

from collections.abc import Iterable, Sequence

from configs.components import COMPONENTS
from configs.hints.words import SYNONYMS, absent
from configs.keys import argument_types, schema_keys, type_of
from utils.config.convert import Hint
from utils.config.tree import Node
from utils.words import is_slip, like, nearest

__all__ = ["key_hint", "may_take"]


def key_hint(tree: Node, options: Sequence[str] = ()) -> Hint:
    """Return a function that makes the end of the message about an unknown key, from the key and its section's names.

    `options` are the command's own flags, which are no keys.
    """

    def hint(key: str, names: Iterable[str]) -> str:
        section, _, leaf = key.rpartition(".")
        typed = leaf = leaf.replace("-", "_")
        own = [f"{section}.{name}" if section else name for name in names]
        sections = [k.rpartition(".")[0] for k in schema_keys() if "." in k]
        known = [*reversed(argument_types(tree)), *sections, *reversed(schema_keys()), *options, *own]
        leaves = {k.rpartition(".")[2]: k for k in known}  # of two keys with that last name, the later one
        if missing := absent(leaf, leaves):
            return f"; {missing}"
        if leaf.startswith("no_") and leaf[3:] in leaves:
            return f"; '{leaves[leaf[3:]]}' is not true or false, and has no --no- form"
        leaf = SYNONYMS.get(leaf, leaf)
        near = nearest(leaf, [name for name in leaves if leaves[name] in own]) or nearest(leaf, leaves)
        if leaf in leaves:
            near = leaf
        elif not is_slip(leaf, near) and (taking := _components_taking(leaf, tree)):
            return taking if leaf == typed else taking.replace("; it is", f"; {leaf} is")
        elif near and not like(leaf, near):
            near = ""
        return f"; did you mean '{leaves[near]}'?" if near else "; python main.py help lists the keys"

    return hint


def _components_taking(argument: str, tree: Node) -> str:
    """Return the end of the message, if components that were not chosen take an argument of that name."""
    for key, kind in _places(tree).items():
        registry = COMPONENTS[kind]
        taking = [name for name in registry.all_names() if argument in registry.arguments(name)]
        if taking:
            return f"; it is an argument of {' and '.join(taking[:3])}: add --{key}={taking[0]}"
    return ""


def may_take(argument: str, tree: Node) -> bool:
    """Return whether a component whose name is misspelled may take the argument: that name is the mistake, then."""
    for key, kind in _places(tree).items():
        registry = COMPONENTS[kind]
        node = tree.at(key) or Node({}, "")
        lone = isinstance(node.value, str) or "name" in node.entries
        for chosen in [node] if lone else node.entries.values():
            name = (chosen.at("name") or chosen).value
            known = not isinstance(name, str) or name.partition(":")[0] in registry.all_names()
            meant = "" if known else nearest(str(name), registry.all_names())
            if not known and (not meant or argument in registry.arguments(meant)):
                return True
    return False


def _places(tree: Node) -> dict[str, str]:
    """Return the places of components that a config may choose, and their kinds."""
    places = {"schedule": "schedule", "optim": "optim", "data.dataset": "data", "model": "model", "task": "task"}
    return places | {key: kind for key, to in argument_types(tree).items() if (kind := type_of(to)[1])}
