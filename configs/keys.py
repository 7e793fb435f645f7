"""Every key there is: those of the schema, and the arguments of the components that a config has chosen."""

import functools
import typing
from dataclasses import is_dataclass
from typing import Any

from configs.components import COMPONENTS
from configs.schema import Config
from utils.config.convert import Component, Roles
from utils.config.tree import Node

__all__ = ["argument_types", "schema_keys", "type_of"]


@functools.cache
def schema_keys() -> dict[str, Any]:
    """Every dotted key of the schema, sections left out, and its type."""
    return _below(Config, "")


def _below(section: Any, prefix: str) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(section, include_extras=True).items():
        keys |= _below(hint, f"{prefix}{name}.") if is_dataclass(hint) else {prefix + name: hint}
    return keys


def type_of(to: Any) -> tuple[Any, str]:
    """A type without its annotation, and the catalogue that its components come from."""
    if typing.get_origin(to) is typing.Annotated:
        inner, mark = typing.get_args(to)
        return inner, mark if isinstance(mark, str) else ""
    return to, ""


def argument_types(tree: Node) -> dict[str, Any]:
    """Dotted key and type of every argument of the chosen components, written down or not."""
    found: dict[str, Any] = {}
    for key, hint in schema_keys().items():
        inner, catalogue = type_of(hint)
        node = tree.at(key)
        if node and inner == Roles:
            lone = list(node.entries) == ["model"]
            for role, component in node.entries.items():
                found |= _of_component(component, key if lone else f"{key}.{role}", catalogue)
        elif node and inner is Component:
            found |= _of_component(node, key, catalogue)
    return found


def _of_component(node: Node, path: str, catalogue: str) -> dict[str, Any]:
    name = node.at("name")
    if name is None or not isinstance(name.value, str):
        return {}
    written = {f"{path}.{key}": Any for key in node.entries if key != "name"}
    return written | {f"{path}.{key}": p.type for key, p in COMPONENTS[catalogue].arguments(name.value).items()}
