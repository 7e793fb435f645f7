"""From a tree of nodes to typed, frozen dataclasses: every value checked, every mistake named."""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, Protocol

from utils.tree import INTEGER, NUMBER, SPECIAL, WORDS, Node, Problems, plain_value, suggest

__all__ = ["BAD", "Catalogue", "Component", "Range", "Roles", "convert", "describe", "flatten", "to_plain"]

BAD: Any = object()  # what a value becomes whose mistake has been noted


@dataclass(frozen=True)
class Component:
    """A class to build: its name, and the arguments that its constructor takes."""

    name: str
    args: Mapping[str, Any] = dataclasses.field(default_factory=dict)


Roles = dict[str, Component]  # one component a network, by the network's role; a lone one has the role "model"


@dataclass(frozen=True)
class Range:
    """The least and the largest value allowed, in `Annotated[int, Range(1)]`."""

    least: float = float("-inf")
    largest: float = float("inf")

    def __str__(self) -> str:
        if self.largest == float("inf"):
            return f"at least {self.least:g}"
        return f"from {self.least:g} to {self.largest:g}"


class Catalogue(Protocol):
    """Where a component's name is looked up, and its arguments are checked, without importing it."""

    def check(self, name: Node, args: dict[str, Node], key: str, problems: Problems) -> dict[str, Any]:
        """The arguments, converted; mistakes go to `problems`."""


def convert(node: Node, to: Any, key: str, problems: Problems, catalogues: Mapping[str, Catalogue]) -> Any:
    """The value of `node` as type `to`, or BAD with the mistake noted. `key` is its dotted name."""
    to = _range_outside(to)
    if typing.get_origin(to) is typing.Annotated:
        return _annotated(node, to, key, problems, catalogues)
    if to is Any:
        return plain_value(node)
    if is_dataclass(to):
        return _dataclass(node, typing.cast(type, to), key, problems, catalogues)
    if isinstance(node.value, dict) and typing.get_origin(to) is dict:
        element = typing.get_args(to)[1]
        return {k: convert(v, element, f"{key}.{k}", problems, catalogues) for k, v in node.value.items()}
    value = _match(node, to)
    if value is not BAD or not isinstance(node.value, list) or not _element(to):
        return value if value is not BAD else _wrong(node, to, key, problems)
    return tuple(convert(v, _element(to), f"{key}[{i}]", problems, catalogues) for i, v in enumerate(node.value))


def _range_outside(to: Any) -> Any:
    """`Annotated[int, Range(1)] | None` as `Annotated[int | None, Range(1)]`; other types as they are."""
    marked = [option for option in typing.get_args(to) if typing.get_origin(option) is typing.Annotated]
    if not _is_union(to) or not marked:
        return to
    inner, mark = typing.get_args(marked[0])
    return typing.Annotated[inner | None, mark]


def _annotated(node: Node, to: Any, key: str, problems: Problems, catalogues: Mapping[str, Catalogue]) -> Any:
    """A range-checked number, or a component of the catalogue that the annotation names."""
    inner, mark = typing.get_args(to)
    if isinstance(mark, str):
        return _components(node, inner, key, problems, catalogues[mark])
    value = convert(node, inner, key, problems, catalogues)
    if isinstance(value, (int, float)) and not mark.least <= value <= mark.largest:
        problems.add(node.where, f"{key} must be {mark}, got {node.value}")
        return BAD
    return value


def _components(node: Node, to: Any, key: str, problems: Problems, catalogue: Catalogue) -> Any:
    """One component, a list of them, or several by role."""
    if to is Component:
        return _component(node, key, problems, catalogue)
    if isinstance(node.value, list) and to != Roles:
        return tuple(_component(item, f"{key}[{i}]", problems, catalogue) for i, item in enumerate(node.value))
    if isinstance(node.value, dict) and to == Roles:
        prefix = {role: key if list(node.value) == ["model"] else f"{key}.{role}" for role in node.value}
        return {r: _component(item, prefix[r], problems, catalogue) for r, item in node.value.items()}
    problems.add(node.where, f"{key}: expected a list of components, got {_shown(node)}")
    return BAD


def _component(node: Node, key: str, problems: Problems, catalogue: Catalogue) -> Any:
    if not isinstance(node.value, dict):
        node = Node({"name": node}, node.where)
    args = dict(typing.cast(dict, node.value))
    name = args.pop("name", None)
    if name is None or not isinstance(name.value, str):
        problems.add(node.where, f"{key} needs a name, as in {{name: ResNet34}}")
        return BAD
    return Component(name.value, catalogue.check(name, args, key, problems))


def _dataclass(node: Node, to: type, key: str, problems: Problems, catalogues: Mapping[str, Catalogue]) -> Any:
    if not isinstance(node.value, dict):
        problems.add(node.where, f"{key or 'a config'}: expected keys and values, got {_shown(node)}")
        return BAD
    hints = typing.get_type_hints(to, include_extras=True)
    prefix = f"{key}." if key else ""
    for name in node.value.keys() - hints.keys():
        problems.add(node.value[name].where, f"no key '{prefix}{name}'{suggest(name, hints)}")
    given = {k: convert(v, hints[k], prefix + k, problems, catalogues) for k, v in node.value.items() if k in hints}
    for field in fields(to):
        if field.name not in given and field.default is field.default_factory is dataclasses.MISSING:
            problems.add(node.where, f"'{prefix}{field.name}' is missing")
            given[field.name] = BAD
    return to(**given)


def _match(node: Node, to: Any) -> Any:
    """A scalar or an unchecked list as the first type of a union that it fits, else BAD."""
    options = typing.get_args(to) if _is_union(to) else (to,)
    for option in sorted(options, key=lambda o: o is str):  # "null" is null where null is allowed, else text
        value = _scalar(node, option)
        if value is not BAD:
            return value
    return BAD


def _scalar(node: Node, to: Any) -> Any:
    text = node.value if isinstance(node.value, str) else node.text
    if to is str and (isinstance(node.value, str) or node.text):
        return text
    if to is Any:
        return plain_value(node)
    if not isinstance(node.value, str):
        return BAD
    if typing.get_origin(to) is Literal:
        plain = plain_value(node)
        return next((a for a in typing.get_args(to) if a == text or (a == plain and type(a) is type(plain))), BAD)
    if node.quoted:
        return BAD
    if to in (None, type(None)):
        return None if WORDS.get(text.lower(), BAD) is None else BAD
    if to is bool:
        return WORDS[text.lower()] if text.lower() in ("true", "false") else BAD
    if to is int:
        return int(text) if INTEGER.match(text) else BAD
    if to is float:
        return float(text) if NUMBER.match(text) else SPECIAL.get(text.lower(), BAD)
    return BAD


def _element(to: Any) -> Any:
    """The element type of a list type, or of the list type within a union; None if there is none."""
    for option in typing.get_args(to) if _is_union(to) else (to,):
        if typing.get_origin(option) in (list, tuple, Sequence):
            return typing.get_args(option)[0]
    return None


def _is_union(to: Any) -> bool:
    return typing.get_origin(to) in (typing.Union, types.UnionType)


def _wrong(node: Node, to: Any, key: str, problems: Problems) -> Any:
    hint = ""
    if node.quoted and _match(Node(node.value, node.where), to) is not BAD:
        hint = " (without the quotes it would be one)"
    elif typing.get_origin(to) is Literal and isinstance(node.value, str):
        hint = suggest(node.value, map(_word, typing.get_args(to)), listed=False)
    problems.add(node.where, f"{key}: expected {describe(to)}, got {_shown(node)}{hint}")
    return BAD


def _shown(node: Node) -> str:
    if isinstance(node.value, str):
        return f"'{node.value}'" if node.value else "nothing"
    return "a list" if isinstance(node.value, list) else "keys and values"


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def describe(to: Any) -> str:
    """A type in words: `int` is "a whole number"."""
    if typing.get_origin(to) is typing.Annotated:
        inner, mark = typing.get_args(to)
        return f"{describe(inner)} ({mark})" if isinstance(mark, Range) else describe(inner)
    if _is_union(to):
        return " or ".join(dict.fromkeys(map(describe, typing.get_args(to))))
    if typing.get_origin(to) is Literal:
        return "one of " + ", ".join(map(_word, typing.get_args(to)))
    if _element(to):
        return f"a list, each {describe(_element(to))}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return names.get(to, "a component (a name, or name and arguments)")


def to_plain(value: Any) -> Any:
    """Dataclasses, components and tuples as dicts and lists, as a config file would hold them."""
    if isinstance(value, Component):
        return {"name": value.name, **{k: to_plain(v) for k, v in value.args.items()}} if value.args else value.name
    if is_dataclass(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        if list(value) == ["model"] and isinstance(value["model"], Component):
            return to_plain(value["model"])
        return {k: to_plain(v) for k, v in value.items()}
    return [to_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict with dotted keys; lists stay whole."""
    if not isinstance(tree, Mapping) or not tree:
        return {prefix: tree}
    return {k: v for key, sub in tree.items() for k, v in flatten(sub, f"{prefix}.{key}" if prefix else key).items()}
