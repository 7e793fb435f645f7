"""Configs as trees of nodes that remember their places."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from utils.errors import ConfigError
from utils.words import shortened

__all__ = ["Node", "Problems", "plain_value", "scalar", "to_node"]

# The numbers of YAML 1.2. PyYAML follows 1.1, where 1e-3 is text, 010 is 8 and 12:30 is 750.
INTEGER = re.compile(r"[-+]?[0-9]+(_[0-9]+)*")
NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(_[0-9]+)*(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "true": True, "false": False}
WORDS |= {".inf": float("inf"), "+.inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan")}
MAX_DIGITS = 100  # a longer number is a mistake, and Python refuses to read one of more than 4,300 digits


@dataclass(repr=False)
class Node:
    """A scalar's text, a list of nodes or a mapping of them, and the place of it."""

    value: "str | list[Node] | dict[str, Node]"
    where: str  # "configs/dogcat.yaml:12", or a flag as it was typed
    quoted: bool = False
    # the text on the command line, before its brackets were read as a list or a mapping; or a text from Python
    text: str = ""

    @property
    def entries(self) -> "dict[str, Node]":
        """The mapping; empty for any other value."""
        return self.value if isinstance(self.value, dict) else {}

    def at(self, key: str) -> "Node | None":
        """Return the node at a dotted key; None if there is none."""
        node: Node | None = self
        for name in key.split("."):
            node = node.entries.get(name) if node else None
        return node


class Problems:
    """Collects all mistakes to report them together: those in files line by line, then those in flags as typed."""

    def __init__(self, flags: Sequence[str] = ()) -> None:
        self.flags = list(flags)
        self.found: list[tuple[str, str]] = []  # place and message

    def add(self, where: str, message: str) -> None:
        """Record a mistake: its place (file:line, or a flag as it was typed), and a message."""
        if (where, message) not in self.found:
            self.found.append((where, message))

    def keep(self, files: Collection[str]) -> None:
        """Forget all mistakes except those on a line of one of these files."""
        self.found = [one for one in self.found if one[0].rpartition(":")[0] in files]

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


def to_node(value: Any, where: str, loose: bool = False) -> Node:
    """Return the node of a plain Python value; `where` is the place of all its nodes.

    `loose`: a text may be read like a flag's text if the type is not text, so that "1e-3" becomes a number.
    """
    if isinstance(value, dict):
        return Node({str(key): to_node(item, where, loose) for key, item in value.items()}, where)
    if isinstance(value, (list, tuple)):
        return Node([to_node(item, where, loose) for item in value], where)
    if isinstance(value, str):
        return Node(value, where, quoted=True, text=value if loose else "")
    special = {"None": "null", "True": "true", "False": "false", "inf": ".inf", "-inf": "-.inf", "nan": ".nan"}
    return Node(special.get(repr(value), repr(value)), where)


def plain_value(node: Node) -> Any:
    """Return a node's value if no type is asked for: a number, true, false or null, otherwise text."""
    if isinstance(node.value, list):
        return [plain_value(item) for item in node.value]
    if isinstance(node.value, dict):
        return {key: plain_value(item) for key, item in node.value.items()}
    return node.value if node.quoted else scalar(node.value)


def scalar(text: str) -> Any:
    """Return the value of text without quotes: a number, true, false or null, otherwise the text itself."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    if len(text) > MAX_DIGITS or not NUMBER.fullmatch(text):
        return text
    number = int(text) if INTEGER.fullmatch(text) else float(text)
    return text if abs(number) == float("inf") else number  # 1e999
