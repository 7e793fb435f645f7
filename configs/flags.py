"""From a flag to the key it means: dotted, or a last name that is unique in the schema or among the components."""

import typing
from dataclasses import is_dataclass
from typing import Any

from configs.components import COMPONENTS
from configs.layers import merge, nested, type_of
from configs.schema import Config
from utils.cli import Flag
from utils.config import Component, Roles
from utils.tree import Node, Problems, flag_node, suggest

__all__ = ["apply_flags", "schema_keys"]


def schema_keys(to: Any = Config, prefix: str = "") -> dict[str, Any]:
    """Every dotted key of the schema, sections left out, and its type."""
    keys: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(to, include_extras=True).items():
        section = is_dataclass(hint) and hint is not Component
        keys |= schema_keys(hint, f"{prefix}{name}.") if section else {prefix + name: hint}
    return keys


def apply_flags(tree: Node, flags: list[Flag], problems: Problems) -> Node:
    """The tree with the command line laid over it.

    Names of components come first: a component whose name changes starts without the arguments it would inherit.
    """
    keys = schema_keys()
    placed = [(flag, _in_schema(flag, keys, problems)) for flag in flags]
    named = {flag: key for flag, key in placed if key and key in keys and type_of(keys[key])[0] in (Component, Roles)}
    for flag, key in named.items():
        tree = _set(tree, flag, key, problems)
    for flag, found in placed:
        path = _among_components(flag, tree, problems) if found is None else found
        if path and flag not in named:
            tree = _set(tree, flag, path, problems)
    return tree


def _set(tree: Node, flag: Flag, path: str, problems: Problems) -> Node:
    text = "false" if _negated(flag, path) else flag.text
    return merge(tree, nested(path.split("."), flag_node(text, flag.typed)), Config, "", problems)


def _negated(flag: Flag, path: str) -> bool:
    """Whether a flag was `--no-x` for the key x."""
    return flag.key.startswith("no_") and path.split(".")[-1] == flag.key[3:]


def _in_schema(flag: Flag, keys: dict[str, Any], problems: Problems) -> str | None:
    """The dotted key a flag means; "" if it is ambiguous (noted), None if the schema has no such key."""
    if "." in flag.key or flag.key in keys:
        return flag.key
    for wanted in (flag.key, flag.key[3:] if flag.key.startswith("no_") and flag.text == "true" else ""):
        found = [key for key in keys if key.split(".")[-1] == wanted]
        if wanted != flag.key:
            found = [key for key in found if bool in (keys[key], *_literals(keys[key]))]
        if found:
            return _only(found, flag, problems)
    return None


def _literals(to: Any) -> list[Any]:
    """bool, if a Literal type has True or False among its values."""
    return [bool] if any(isinstance(a, bool) for a in typing.get_args(to)) else []


def _only(found: list[str], flag: Flag, problems: Problems) -> str:
    if len(found) > 1:
        problems.add(flag.typed, f"could be {' or '.join('--' + key for key in sorted(found))}: write it in full")
        return ""
    return found[0]


def _among_components(flag: Flag, tree: Node, problems: Problems) -> str:
    """The argument of a chosen component that a flag means; "" with the mistake noted if there is none or several."""
    arguments = _arguments(tree)
    found = [path for path in arguments if path.split(".")[-1] == flag.key]
    if not found and flag.key.startswith("no_") and flag.text == "true":
        found = [p for p, kind in arguments.items() if p.split(".")[-1] == flag.key[3:] and kind is bool]
    if found:
        return _only(found, flag, problems)
    leaves = {path.split(".")[-1] for path in [*arguments, *schema_keys()]}
    problems.add(flag.typed, f"no key '{flag.key}'{_elsewhere(flag) or suggest(flag.key, leaves)}")
    return ""


def _arguments(tree: Node) -> dict[str, Any]:
    """Dotted path and type of every argument of the chosen components."""
    found: dict[str, Any] = {}
    for key, hint in schema_keys().items():
        inner, catalogue = type_of(hint)
        if inner in (Component, Roles):
            node = tree.at(key)
            roles = {key: node} if inner is Component else _by_role(key, node)
            for path, component in roles.items():
                found |= _arguments_of(component, path, catalogue)
    return found


def _by_role(key: str, node: Node | None) -> dict[str, Node | None]:
    roles = node.entries if node else {}
    return {key if role == "model" else f"{key}.{role}": item for role, item in roles.items()}


def _arguments_of(node: Node | None, path: str, catalogue: str) -> dict[str, Any]:
    if node is None or "name" not in node.entries:
        return {}
    signature = COMPONENTS[catalogue].signature(str(node.entries["name"].value))
    written = {f"{path}.{name}": Any for name in node.entries if name != "name"}
    return written | {f"{path}.{name}": p.type for name, p in signature.parameters.items()}


def _elsewhere(flag: Flag) -> str:
    """A hint when a component that was not chosen takes the argument."""
    for kind in ("schedule", "optim", "task", "model"):
        for name in COMPONENTS[kind].names() or (COMPONENTS[kind].all_names() if kind == "optim" else ()):
            if flag.key in COMPONENTS[kind].signature(name).parameters:
                return f"; it is an argument of {name}: add --{kind}={name}"
    return ""
