"""From a tree of nodes to typed, frozen dataclasses: each value is checked, each mistake is reported."""

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, Protocol

from utils.config.ranges import LONGEST, Range
from utils.config.tree import Node, Problems, plain_value
from utils.words import is_slip, nearest, shortened, suggest

__all__ = [
    "INVALID",
    "Catalogue",
    "Component",
    "Hint",
    "Roles",
    "convert",
    "describe",
    "flatten",
    "is_component",
    "to_plain",
]

INVALID: Any = object()  # the result for a value whose mistake was recorded


@dataclass(frozen=True)
class Component:
    """A class to build: its name and its constructor's arguments."""

    name: str
    args: Mapping[str, Any] = dataclasses.field(default_factory=dict)


Roles = dict[str, Component]  # components by the roles of the networks; a single one has the role "model"


class Catalogue(Protocol):
    """A source of components that checks a component's name and arguments without importing it."""

    def check(self, name: Node, args: dict[str, Node], key: str, problems: Problems) -> dict[str, Any]:
        """Return the converted arguments; mistakes go to `problems`."""


# the end of the message about an unknown key, from the key and the names of its section
Hint = Callable[[str, Iterable[str]], str]


def _near(key: str, names: Iterable[str]) -> str:
    section, _, leaf = key.rpartition(".")
    return suggest(leaf, names, f"{section}." if section else "")


def convert(
    node: Node,
    to: Any,
    key: str,
    problems: Problems,
    catalogues: Mapping[str, Catalogue],
    hint: Hint = _near,
) -> Any:
    """Return the value of `node` as type `to`, or INVALID after recording the mistake. `key` is its dotted name."""
    return _Converter(problems, catalogues, hint).value(node, to, key)


@dataclass(eq=False, repr=False)
class _Converter:
    """Walks through a tree of nodes and a type at the same time."""

    problems: Problems
    catalogues: Mapping[str, Catalogue]
    hint: Hint

    def value(self, node: Node, to: Any, key: str) -> Any:
        to = _range_outside(to)
        if typing.get_origin(to) is typing.Annotated:
            return self._annotated(node, to, key)
        if is_dataclass(to):
            return self._section(node, typing.cast(type, to), key)
        value = _match(node, to)
        if value is not INVALID:
            return value if _is_storable(value) else self._wrong(node, f"{key}: {_got(node)} is beyond 64 bits")
        items = _items(to, len(node.value)) if isinstance(node.value, list) else None
        if not isinstance(node.value, list) or items is None:
            return self._wrong(node, f"{key}: expected {describe(to)}, got {_quoted(node)}{_suggestion(node, to)}")
        return tuple(self.value(v, t, f"{key}[{i}]") for i, (v, t) in enumerate(zip(node.value, items, strict=True)))

    def _annotated(self, node: Node, to: Any, key: str) -> Any:
        """Return a range-checked number, or a component of the catalogue that the annotation names."""
        inner, mark = typing.get_args(to)
        if isinstance(mark, str):
            return self._components(node, inner, key, self.catalogues[mark])
        value = self.value(node, inner, key)
        numbers = [v for v in (value if isinstance(value, tuple) else [value]) if isinstance(v, (int, float))]
        if not mark.holds(numbers):
            return self._wrong(node, f"{key} must be {mark}, got {_got(node)}")
        return value

    def _components(self, node: Node, to: Any, key: str, catalogue: Catalogue) -> Any:
        """Return one component, a list of them, or several by role; None for null if the type allows it."""
        if type(None) in _options(to) and _as(node, None) is None:
            return None
        if is_component(to):
            return self._component(node, key, catalogue)
        if isinstance(node.value, list) and to != Roles:
            return tuple(self._component(item, f"{key}[{i}]", catalogue) for i, item in enumerate(node.value))
        if isinstance(node.value, dict) and to == Roles:
            prefix = {role: key if list(node.value) == ["model"] else f"{key}.{role}" for role in node.value}
            return {role: self._component(item, prefix[role], catalogue) for role, item in node.value.items()}
        return self._wrong(node, f"{key}: expected {describe(to)}, got {_quoted(node)}")

    def _component(self, node: Node, key: str, catalogue: Catalogue) -> Any:
        args = dict(node.value) if isinstance(node.value, dict) else {"name": node}
        name = args.pop("name", None)
        if name is None:
            slips = [k for k in args if is_slip(k, "name")]
            message = f"no key '{slips[0]}'; did you mean 'name'?" if slips else "needs a name, as in {name: ResNet34}"
            return self._wrong(node, f"{key}: {message}")
        if not isinstance(name.value, str) or name.value in ("", "null", "~"):
            return self._wrong(name, f"{key}: expected a name, got {_quoted(name)}")
        return Component(name.value, catalogue.check(name, args, key, self.problems))

    def _section(self, node: Node, to: type, key: str) -> Any:
        hints = typing.get_type_hints(to, include_extras=True)
        prefix = f"{key}." if key else ""
        if not isinstance(node.value, dict):
            return self._wrong(
                node, f"{key}: expected a section of keys, as {prefix}{next(iter(hints))}, got {_quoted(node)}"
            )
        for name, item in node.value.items():
            if name not in hints:
                self._wrong(item, f"no key '{shortened(prefix + name)}'{self.hint(prefix + name, hints)}")
        return to(**{k: self.value(v, hints[k], prefix + k) for k, v in node.value.items() if k in hints})

    def _wrong(self, node: Node, message: str) -> Any:
        self.problems.add(node.where, message)
        return INVALID


def _range_outside(to: Any) -> Any:
    """Return `Annotated[int, Range(1)] | None` as `Annotated[int | None, Range(1)]`, and other types unchanged."""
    marked = [option for option in typing.get_args(to) if typing.get_origin(option) is typing.Annotated]
    if not _is_union(to) or not marked:
        return to
    inner, mark = typing.get_args(marked[0])
    return typing.Annotated[inner | None, mark]


def _match(node: Node, to: Any) -> Any:
    """Return a node's value as the first type of a union that fits, otherwise INVALID; the caller handles lists."""
    for option in sorted(_options(to), key=_rank):
        value = _as(node, option)
        if value is not INVALID:
            return value
    return _match(Node(node.value, node.where), to) if node.quoted and node.text else INVALID


def _is_storable(value: Any) -> bool:
    """Return whether a value, or each in it, is no whole number beyond those that torch and numpy hold."""
    if isinstance(value, (list, tuple, dict)):
        return all(map(_is_storable, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int) or -LONGEST <= value <= LONGEST


def _rank(option: Any) -> int:
    """Return an option's rank: null before text "null", 3 before 3.0, and text last."""
    return {int: 1, float: 2, str: 3, Any: 4}.get(option, 0)


def _as(node: Node, to: Any) -> Any:
    """Return a node's value as one type that is no union, otherwise INVALID."""
    if to is Any or (to is dict and isinstance(node.value, dict)):
        return plain_value(node)
    text = node.value if isinstance(node.value, str) else node.text
    if to is str and (text or node.value == ""):
        return text
    if not isinstance(node.value, str):
        return INVALID
    plain = plain_value(node)
    if typing.get_origin(to) is Literal:
        return next((a for a in typing.get_args(to) if a == text or (a == plain and type(a) is type(plain))), INVALID)
    if to is float and type(plain) is int:
        return float(plain)
    return plain if type(plain) is (type(None) if to is None else to) and to is not str else INVALID


def _options(to: Any) -> tuple[Any, ...]:
    return typing.get_args(to) if _is_union(to) else (to,)


def is_component(to: Any) -> bool:
    """Return whether a value of the type is one component; the type may also allow null."""
    return Component in _options(to)


def _items(to: Any, count: int) -> list[Any] | None:
    """Return the types of a list's items; None if the type allows no list of that length."""
    for option in _options(to):
        inner = typing.get_args(option)
        if typing.get_origin(option) is list or (typing.get_origin(option) is tuple and inner[1:] == (...,)):
            return [inner[0]] * count
        if typing.get_origin(option) is tuple and len(inner) == count:
            return list(inner)
    return None


def _is_union(to: Any) -> bool:
    return typing.get_origin(to) in (typing.Union, types.UnionType)


BOOLEANS = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}


def _suggestion(node: Node, to: Any) -> str:
    """Return a proposal for the value; empty if there is none."""
    if not isinstance(node.value, str):
        return ""
    if node.value.startswith("[") and _items(to, 1):
        return '; in brackets, text that begins with * or & needs quotes, as ["*.weight"]'
    if node.quoted and _match(Node(node.value, node.where), to) is not INVALID:
        return " (without the quotes it would be one)"
    choices = [_word(a) for one in _options(to) if typing.get_origin(one) is Literal for a in typing.get_args(one)]
    meant = BOOLEANS.get(node.value.lower(), "") if bool in _options(to) or "true" in choices else ""
    meant = meant or nearest(node.value, choices)
    return f"; did you mean '{meant}'?" if meant else ""


def _quoted(node: Node) -> str:
    if isinstance(node.value, str):
        return f"'{shortened(node.value, 60)}'" if node.value else "nothing"
    return f"a list of {len(node.value)}" if isinstance(node.value, list) else "keys and values"


def _got(node: Node) -> str:
    return shortened(node.value if isinstance(node.value, str) else str(plain_value(node)), 60)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    dict: "keys and values",
}
NAMES |= {None: "null", type(None): "null", Any: "any value", Component: "a component (a name, or name and arguments)"}
NAMES |= {Roles: "a component (a name, or name and arguments), or several by role"}
PLURALS = {int: "whole numbers", float: "numbers", str: "texts", bool: "true or false"}


def describe(to: Any) -> str:
    """Return a type in words: `int` is "a whole number"."""
    origin, inner = typing.get_origin(to), typing.get_args(to)
    if origin is typing.Annotated:
        return f"{describe(inner[0])}, {inner[1]}" if isinstance(inner[1], Range) else describe(inner[0])
    if _is_union(to):
        return " or ".join(dict.fromkeys(map(describe, sorted(inner, key=lambda one: typing.get_origin(one) is list))))
    if origin is Literal:
        return "one of " + ", ".join(map(_word, inner))
    if origin not in (list, tuple):
        return NAMES.get(to, NAMES[Component])
    count = f"{len(inner)} " if origin is tuple and inner[1:] != (...,) else ""
    item = typing.get_args(inner[0])[0] if typing.get_origin(inner[0]) is typing.Annotated else inner[0]
    return "a list" if item is Any else f"a list of {count}{PLURALS.get(item, 'components')}"


def to_plain(value: Any) -> Any:
    """Return dataclasses, components and tuples as dicts and lists, as a config file would hold them."""
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
    """Return nested dicts as one dict with dotted keys; lists stay whole."""
    if not isinstance(tree, Mapping) or not tree:
        return {prefix: tree}
    return {k: v for key, sub in tree.items() for k, v in flatten(sub, f"{prefix}.{key}" if prefix else key).items()}
