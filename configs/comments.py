"""The meaning of each key: the comments in the schema's source."""

import ast
import itertools
import typing
from dataclasses import fields, is_dataclass
from pathlib import Path

from configs import schema

__all__ = ["key_comments"]


def key_comments() -> dict[str, str]:
    """Return the comment of each key in the schema's source: behind the key, or above it if its line has no room."""
    source = Path(schema.__file__).read_text(encoding="utf-8")
    lines = source.split("\n")
    own = {}
    for node in ast.parse(source).body:
        for item in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(item, ast.AnnAssign) and isinstance(node, ast.ClassDef):
                own[node.name, ast.unparse(item.target)] = _comment(lines, item.lineno - 1, item.end_lineno or 1)
    return _by_key(schema.Config, "", own)


def _comment(lines: list[str], start: int, end: int) -> str:
    """Return the comment of lines[start:end], behind them or above."""
    above = itertools.takewhile(lambda line: line.startswith("#"), map(str.strip, reversed(lines[:start])))
    return lines[end - 1].partition("  # ")[2].strip() or " ".join(line[1:].strip() for line in [*above][::-1])


def _by_key(section: type, prefix: str, own: dict[tuple[str, str], str]) -> dict[str, str]:
    comments: dict[str, str] = {}
    hints = typing.get_type_hints(section)
    for field in fields(section):
        nested = hints[field.name]
        if is_dataclass(nested) and not nested.__module__.startswith("utils"):
            comments |= _by_key(typing.cast(type, nested), f"{prefix}{field.name}.", own)
        else:
            comments[prefix + field.name] = own[section.__name__, field.name]
    return comments
