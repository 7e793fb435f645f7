"""Python source, read as text and parsed without being imported; each file once until it changes."""

import ast
import functools
import re
import warnings
from pathlib import Path
from typing import Any

__all__ = [
    "Stamp",
    "attributes_set",
    "defined",
    "defined_in_library",
    "fault",
    "import_of",
    "literal_in",
    "matches",
    "public_names",
    "stamp",
]

Stamp = tuple[int, int, int]
# An `__all__` of plain names, which can be read without parsing the whole file.
PLAIN_NAMES = re.compile(r"^__all__(?:: [^=\n]+)? = ([\[(][^\[\]()#]*[\])])$", re.MULTILINE)


def stamp(path: Path) -> Stamp:
    """Return the values that change when a file is edited: its time, its size and its inode."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


@functools.cache
def _read(path: Path, state: Stamp) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _text(path: Path) -> str:
    return _read(path, stamp(path))  # a notebook's user edits files between two calls


@functools.cache
def _parse(text: str) -> ast.Module | str:
    """Return the tree; for text that is not Python, the reason."""
    try:
        with warnings.catch_warnings(action="ignore"):  # a stray backslash in a library's docstring is not our concern
            return ast.parse(text)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    except ValueError as error:
        return str(error)


def fault(path: Path) -> str:
    """Return the reason why a file is not Python; empty if it is."""
    tree = _parse(_text(path))
    return tree if isinstance(tree, str) else ""


def defined(path: Path, name: str) -> ast.ClassDef | ast.FunctionDef | None:
    """Return the class or function of that name at the top level of a file."""
    return _named(_parse(_text(path)), name)


def defined_in_library(path: Path, name: str) -> ast.ClassDef | ast.FunctionDef | None:
    """Return the same as `defined`, but parse only that part: a library's file may have thousands of lines."""
    text = _text(path)
    start = re.search(rf"^(class|def) {re.escape(name)}\b", text, re.MULTILINE)
    if start is None:
        return None
    end = re.compile(r"^[^\s)\]}#\"']", re.MULTILINE).search(text, start.end())
    part = text[start.start() : end.start() if end else len(text)]
    return _named(_parse(part), name) or defined(path, name)  # a docstring may have hidden the end


def _named(tree: ast.Module | str, name: str) -> ast.ClassDef | ast.FunctionDef | None:
    for node in getattr(tree, "body", []):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node
    return None


def import_of(path: Path, name: str) -> tuple[str, str] | None:
    """Return module and name of a file's `from module import name`, with a dot for each level of a relative import."""
    for node in getattr(_parse(_text(path)), "body", []):
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            if name == (alias.asname or alias.name):
                return "." * node.level + (node.module or ""), alias.name
    return None


def public_names(path: Path) -> list[str]:
    """Return the literal `__all__` of a file; most files are not parsed for it, so the rest may be broken."""
    return _public_names(_text(path))


@functools.cache
def _public_names(text: str) -> list[str]:
    plain = PLAIN_NAMES.findall(text)
    if len(plain) == text.count("__all__") == 1:
        return _names(plain[0])
    for node in getattr(_parse(text), "body", []):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(getattr(target, "id", "") == "__all__" for target in targets):
            return _names(node.value)
    return []


def _names(value: ast.expr | str) -> list[str]:
    try:
        return [str(name) for name in ast.literal_eval(value)]
    except (ValueError, TypeError, SyntaxError):
        return []


@functools.cache
def matches(folder: Path | None, pattern: str) -> dict[str, Path]:
    """Return the names that a pattern finds in the source of an installed library, each with its file."""
    if folder is None:
        return {}
    files = [folder] if folder.is_file() else sorted(folder.glob("*.py"))
    return {name: path for path in files for name in re.findall(pattern, _text(path), re.MULTILINE)}


def literal_in(node: ast.AST, attribute: str) -> list[Any]:
    """Return the value of a class's attribute in a list, None if it is known only at run time; [] without it."""
    for item in getattr(node, "body", []):
        targets = item.targets if isinstance(item, ast.Assign) else [getattr(item, "target", None)]
        if any(getattr(target, "id", "") == attribute for target in targets):
            try:
                return [ast.literal_eval(item.value) if item.value is not None else None]
            except (ValueError, TypeError):
                return [None]
    return []


@functools.cache
def attributes_set(node: ast.AST) -> frozenset[str]:
    """Return the attributes that a class sets on self (`self.net = …`)."""
    found = (one for one in ast.walk(node) if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Store))
    return frozenset(one.attr for one in found if getattr(one.value, "id", "") == "self")
