"""YAML text: read it as a tree of nodes with their places, and write it so that it reads back the same."""

import itertools
import re
from pathlib import Path
from typing import Any

import yaml

from utils.config.tree import Node, scalar
from utils.errors import ConfigError

__all__ = ["Faults", "dump_line", "dump_yaml", "parse_text", "read_yaml"]

MAX_BYTES, MAX_DEPTH = 1_000_000, 20

# PyYAML's messages, and a remedy for each.
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


class Faults:
    """The faults of YAML files, each with its place, and the names of the files that can be read in part only."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []
        self.unreadable: set[str] = set()

    def add(self, place: str, message: str) -> None:
        self.found.append((place, message))


def read_yaml(path: Path, name: str, faults: Faults | None = None) -> Node:
    """Read a YAML file; messages call it `name`.

    Raises ConfigError for a file that is not YAML, is too large or too deep, gives a key twice or uses aliases. With
    `faults` the last three and unreadable YAML are collected there, and the tree is that of the rest.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ConfigError(f"{name}: is too large for a config, which has at most {MAX_BYTES:,} bytes")
        return parse_text(data.decode("utf-8"), name, faults)
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{name}:{line}: is not UTF-8 text; save the file as UTF-8") from error


def parse_text(text: str, name: str, faults: Faults | None = None) -> Node:
    """Parse YAML text to a tree; an empty text is an empty mapping.

    Raises ConfigError for the first fault, or collects all of them in `faults`.
    """
    try:
        root = yaml.compose(text, _Loader)
    except yaml.YAMLError as error:
        place, message = _fault(error, name)
        if faults is None:
            raise ConfigError(f"{place}: {message}") from error
        faults.add(place, message)
        faults.unreadable.add(name)
        return _readable_part(text, name, faults)
    return _node(root, name, name, faults) if root is not None else Node({}, name)


def _fault(error: yaml.YAMLError, name: str) -> tuple[str, str]:
    """Return the place of PyYAML's error, and a sentence about it."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return name, str(error).splitlines()[0]
    mark = error.problem_mark or error.context_mark
    problem = error.problem or error.context or "not YAML"
    remedy = next((f"; {remedy}" for sign, remedy in REMEDIES.items() if sign in problem), "")
    return (f"{name}:{mark.line + 1}" if mark else name), f"{problem.removeprefix('but ')}{remedy}"


def _readable_part(text: str, name: str, faults: Faults) -> Node:
    """Return the tree of those sections that can be read alone, each from its key at the margin to the next one."""
    lines = text.split("\n")
    starts = [number for number, line in enumerate(lines) if re.match(r"[\w\"']", line)]
    tree: dict[str, Node] = {}
    for start, end in itertools.pairwise([*starts, len(lines)]):
        try:
            root = yaml.compose("\n" * start + "\n".join(lines[start:end]), _Loader)
        except yaml.YAMLError:
            continue  # the first fault of the file is told already
        if isinstance(root, yaml.MappingNode):
            tree |= _node(root, name, name, faults).entries
    return Node(tree, name)


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


def _node(node: yaml.Node, name: str, where: str, faults: Faults | None) -> Node:
    """Turn PyYAML's node into ours; a mapping's value is placed at its key's line. Of a doubled key the last counts."""
    if isinstance(node, yaml.ScalarNode):
        return Node(node.value, where, quoted=node.style is not None)
    if isinstance(node, yaml.SequenceNode):
        return Node([_node(item, name, f"{name}:{item.start_mark.line + 1}", faults) for item in node.value], where)
    assert isinstance(node, yaml.MappingNode)
    tree: dict[str, Node] = {}
    for key, value in node.value:
        place = f"{name}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            message = "a key must be a word"
        elif key.value in tree:
            message = f"'{key.value}' is given twice (first at {tree[key.value].where})"
        else:
            message = ""
        if message and faults is None:
            raise ConfigError(f"{place}: {message}")
        if message and faults is not None:
            faults.add(place, message)
        if isinstance(key, yaml.ScalarNode):
            tree[key.value] = _node(value, name, place, faults)
    return Node(tree, where)


class _Dumper(yaml.SafeDumper):
    """Writes text that `parse_text` reads back as the same value."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if isinstance(scalar(text), str) else "'"
    if re.search("[\x85\u2028\u2029]", text):
        style = '"'  # PyYAML would write these line ends raw, and read them as plain line ends
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _represent_list(dumper: yaml.SafeDumper, items: Any) -> yaml.SequenceNode:
    scalars = all(not isinstance(item, (dict, list, tuple)) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=scalars or None)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(tuple, _represent_list)
_Dumper.ignore_aliases = lambda self, data: True  # type: ignore[method-assign]


def dump_yaml(value: Any) -> str:
    """Return plain values as YAML text, with the keys in order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False)


def dump_line(value: Any) -> str:
    """Return plain values as one line of YAML text, as it stands after a key or in a flag."""
    flow = yaml.dump([value], Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1e9, default_flow_style=True)
    return flow.strip()[1:-1]
