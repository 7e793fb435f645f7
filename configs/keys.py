"""All keys: those of the schema, and the arguments of the components that a config has chosen."""

import functools
import typing
from dataclasses import is_dataclass
from typing import Any

from configs.components import COMPONENTS
from configs.schema import Config
from utils.config.convert import Roles, is_component
from utils.config.tree import Node

__all__ = ["argument_types", "kind_of_argument", "named", "schema_keys", "type_of"]


@functools.cache
def schema_keys() -> dict[str, Any]:
    """Return every dotted key of the schema, without sections, and its type."""
    return _below(Config, "")


def _below(section: Any, prefix: str) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(section, include_extras=True).items():
        keys |= _below(hint, f"{prefix}{name}.") if is_dataclass(hint) else {prefix + name: hint}
    return keys


def type_of(to: Any) -> tuple[Any, str]:
    """Return a type without its annotation, and the catalogue of its components; empty if it has none."""
    if typing.get_origin(to) is typing.Annotated:
        inner, mark = typing.get_args(to)
        return inner, mark if isinstance(mark, str) else ""
    return to, ""


def argument_types(tree: Node) -> dict[str, Any]:
    """Return dotted key and type of every argument of the chosen components, set or not, and of components in them."""
    found: dict[str, Any] = {}
    for key, hint in schema_keys().items():
        inner, catalogue = type_of(hint)
        node = tree.at(key)
        if node and inner == Roles:
            lone = list(node.entries) == ["model"]
            for role, component in node.entries.items():
                found |= _of_component(component, key if lone else f"{key}.{role}", catalogue)
        elif node and is_component(inner):
            found |= _of_component(node, key, catalogue)
    return found


def _of_component(node: Node, path: str, catalogue: str) -> dict[str, Any]:
    node = named(node)
    name = node.at("name")
    if name is None or not isinstance(name.value, str):
        return {}
    found: dict[str, Any] = {f"{path}.{key}": Any for key in node.entries if key != "name"}
    for key, parameter in COMPONENTS[catalogue].arguments(name.value).items():
        found[f"{path}.{key}"] = parameter.type
        inner, kind = type_of(parameter.type)
        if kind and is_component(inner) and key in node.entries:
            found |= _of_component(node.entries[key], f"{path}.{key}", kind)
    return found


def named(node: Node) -> Node:
    """Return a component's short form, its bare name, as a mapping."""
    return Node({"name": node}, node.where) if isinstance(node.value, str) else node


def kind_of_argument(catalogue: str, name: Node | None, argument: str) -> str:
    """Return the kind of an argument that is a single component; empty for any other argument."""
    parameter = COMPONENTS[catalogue].arguments(str(name.value)).get(argument) if name else None
    inner, kind = type_of(parameter.type) if parameter else (None, "")
    return kind if is_component(inner) else ""
