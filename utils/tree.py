"""YAML text as a tree of nodes that remember where they were written."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from utils.errors import ConfigError
from utils.words import shortened

__all__ = [
    "Node",
    "Problems",
    "dump_line",
    "dump_yaml",
    "flag_node",
    "parse_text",
    "plain_value",
    "read_yaml",
    "scalar",
    "to_node",
]

MAX_BYTES, MAX_DEPTH = 1_000_000, 20

# The numbers of YAML 1.2. PyYAML follows 1.1, where 1e-3 is text, 010 is 8 and 12:30 is 750.
INTEGER = re.compile(r"[-+]?[0-9]+(_[0-9]+)*")
NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(_[0-9]+)*(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "true": True, "false": False}
WORDS |= {".inf": float("inf"), "+.inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan")}
MAX_DIGITS = 100  # what is longer is no number that anybody meant, and Python refuses to read it from 4,300 on

# What PyYAML says, and what one does about it.
REMEDIES = {
    "found character '\\t'": "indent with spaces, not with tabs",
    "cannot start any token": "put text that begins with it in quotes",
    "unknown escape character": "in single quotes a backslash is just a backslash",
    "mapping values are not allowed": "check the indent, and the space behind the ':' above; or quote the text",
    "could not find expected ':'": "the line above has no ': ' behind its key",
    "end of stream": "a quote was not closed",
    "<stream end>": "a bracket was not closed",
    "but got": "a bracket was not closed, or text with ': ' in it needs quotes",
    "expected alphabetic or numeric": "put text that begins with * or & in quotes",
    "expected <block end>": "the indent does not fit the lines above",
    "<document start>": "the indent does not fit the lines above",
    "another document": "a config is one document: remove the line ---",
}


@dataclass
class Node:
    """A scalar's text, a list of nodes or a mapping of them, and the place it was written."""

    value: "str | list[Node] | dict[str, Node]"
    where: str  # "configs/dogcat.yaml:12", or a flag as it was typed
    quoted: bool = False
    text: str = ""  # what stood on the command line, before brackets in it were read as a list or a mapping

    @property
    def entries(self) -> "dict[str, Node]":
        """The mapping; empty where the value is none."""
        return self.value if isinstance(self.value, dict) else {}

    def at(self, key: str) -> "Node | None":
        """The node under a dotted key."""
        node: Node | None = self
        for name in key.split("."):
            node = node.entries.get(name) if node else None
        return node


class Problems:
    """Collects every mistake, so that they can be told together: files line by line, then flags as they were typed."""

    def __init__(self, flags: Sequence[str] = ()) -> None:
        self.flags = list(flags)
        self.found: list[tuple[str, str]] = []  # place and message

    def add(self, where: str, message: str) -> None:
        """Note a mistake: its place, which is a flag as it was typed or file:line, and what is wrong there."""
        if (where, message) not in self.found:
            self.found.append((where, message))

    def raise_any(self) -> None:
        """Raise one ConfigError with a line for each mistake, if there is any."""
        if self.found:
            raise ConfigError("\n".join(map(self._line, sorted(self.found, key=self._order))))

    def _line(self, problem: tuple[str, str]) -> str:
        where = shortened(problem[0]) if problem[0] in self.flags else problem[0]
        return f"{where}: {problem[1]}" if where else problem[1]

    def _order(self, problem: tuple[str, str]) -> tuple[int, str, int]:
        where = problem[0]
        if where in self.flags:
            return self.flags.index(where) + 1, "", 0
        file, _, line = where.rpartition(":")
        return 0, file, int(line) if line.isdecimal() else 0


def read_yaml(path: Path, name: str) -> Node:
    """Read a YAML file; `name` is what messages call it.

    Raises ConfigError for a file that is not YAML, is too large or too deep, gives a key twice or uses aliases.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ConfigError(f"{name}: is too large for a config, which has at most {MAX_BYTES:,} bytes")
        return parse_text(data.decode("utf-8"), name)
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{name}:{line}: is not UTF-8 text; save the file as UTF-8") from error


def parse_text(text: str, name: str) -> Node:
    """Parse YAML text to a tree; an empty text is an empty mapping."""
    try:
        root = yaml.compose(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        problem = error.problem or error.context or "not YAML"
        remedy = next((f"; {remedy}" for sign, remedy in REMEDIES.items() if sign in problem), "")
        raise ConfigError(f"{place}: {problem.removeprefix('but ')}{remedy}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: {str(error).splitlines()[0]}") from error
    return _node(root, name, name) if root is not None else Node({}, name)


class _Loader(yaml.SafeLoader):
    """A loader without aliases (they can expand without bound), custom tags or deep nesting."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not supported: write it out; text that begins with * needs quotes",
                problem_mark=event.start_mark,
            )
        if getattr(event, "tag", None) not in (None, "!"):
            raise yaml.MarkedYAMLError(problem=f"tag {event.tag} is not supported", problem_mark=event.start_mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH}", problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _node(node: yaml.Node, name: str, where: str) -> Node:
    """Turn PyYAML's node to ours; a mapping's value is placed at its key's line."""
    if isinstance(node, yaml.ScalarNode):
        return Node(node.value, where, quoted=node.style is not None)
    if isinstance(node, yaml.SequenceNode):
        return Node([_node(item, name, f"{name}:{item.start_mark.line + 1}") for item in node.value], where)
    assert isinstance(node, yaml.MappingNode)
    tree: dict[str, Node] = {}
    for key, value in node.value:
        place = f"{name}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{place}: a key must be a word")
        if key.value in tree:
            raise ConfigError(f"{place}: '{key.value}' is given twice (first at {tree[key.value].where})")
        tree[key.value] = _node(value, name, place)
    return Node(tree, where)


def to_node(value: Any, where: str) -> Node:
    """The node of a plain Python value; `where` is the place of all of it."""
    if isinstance(value, dict):
        return Node({str(key): to_node(item, where) for key, item in value.items()}, where)
    if isinstance(value, (list, tuple)):
        return Node([to_node(item, where) for item in value], where)
    if isinstance(value, str):
        return Node(value, where, quoted=True)
    special = {"None": "null", "True": "true", "False": "false", "inf": ".inf", "-inf": "-.inf", "nan": ".nan"}
    return Node(special.get(repr(value), repr(value)), where)


def flag_node(text: str, where: str) -> Node:
    """The node of a flag's text, which may be a list or a mapping in brackets."""
    if text[:1] in ("[", "{"):
        try:
            return Node(_placed(parse_text(text, where), where).value, where, text=text)
        except ConfigError:
            pass  # then it is text that begins with a bracket
    return Node(text, where)


def _placed(node: Node, where: str) -> Node:
    """The same tree with one place for all of it: a command line has no lines."""
    if isinstance(node.value, dict):
        return Node({key: _placed(item, where) for key, item in node.value.items()}, where)
    if isinstance(node.value, list):
        return Node([_placed(item, where) for item in node.value], where)
    return Node(node.value, where, node.quoted)


def plain_value(node: Node) -> Any:
    """The Python value a node has where no type asks for another: numbers, true and false, null, else text."""
    if isinstance(node.value, list):
        return [plain_value(item) for item in node.value]
    if isinstance(node.value, dict):
        return {key: plain_value(item) for key, item in node.value.items()}
    return node.value if node.quoted else scalar(node.value)


def scalar(text: str) -> Any:
    """What text without quotes stands for: a number, true, false or null, else itself."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    if len(text) > MAX_DIGITS or not NUMBER.fullmatch(text):
        return text
    number = int(text) if INTEGER.fullmatch(text) else float(text)
    return text if abs(number) == float("inf") else number  # 1e999


class _Dumper(yaml.SafeDumper):
    """Writes what `parse_text` reads back as the same value."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if isinstance(scalar(text), str) else "'"
    if re.search("[\x85\u2028\u2029]", text):
        style = '"'  # PyYAML writes these line ends as they are, and reads a line end
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _represent_list(dumper: yaml.SafeDumper, items: Any) -> yaml.SequenceNode:
    scalars = all(not isinstance(item, (dict, list, tuple)) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=scalars or None)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(tuple, _represent_list)
_Dumper.ignore_aliases = lambda self, data: True  # type: ignore[method-assign]


def dump_yaml(value: Any) -> str:
    """YAML text of plain values, keys in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False)


def dump_line(value: Any) -> str:
    """YAML text of plain values in one line, as one writes it behind a key or in a flag."""
    flow = yaml.dump([value], Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1e9, default_flow_style=True)
    return flow.strip()[1:-1]
