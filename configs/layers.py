"""Layers of a config laid over one another: schema defaults, base files, the file, the command line."""

import typing
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from configs.components import COMPONENTS
from configs.schema import Config
from utils.config import Component, Roles
from utils.errors import ConfigError
from utils.tree import Node, Problems, read_yaml, suggest

__all__ = ["find_file", "merge", "named", "nested", "read_file", "type_of"]

FOLDER = Path(__file__).parent
MAX_BASES = 10


def find_file(name: str, folder: Path = FOLDER) -> Path:
    """The config file of that path, or of that name in configs/.

    Raises ConfigError, with the nearest names, when there is none.
    """
    for path in (Path(name), folder / name, folder / f"{name}.yaml"):
        if path.is_file():
            return path
    known = [path.stem for path in sorted(folder.glob("*.yaml"))]
    raise ConfigError(f"no config '{name}'{suggest(Path(name).stem, known)}")


def read_file(path: Path, problems: Problems, depth: int = 0) -> Node:
    """A file's tree, laid over the file that its `base:` names, and so on down."""
    tree = read_yaml(path, _shown(path))
    if not isinstance(tree.value, dict):
        raise ConfigError(f"{tree.where}: a config holds keys and values")
    base = tree.value.pop("base", None)
    if base is None:
        return tree
    if depth >= MAX_BASES or not isinstance(base.value, str):
        raise ConfigError(f"{base.where}: base must name one file, and {MAX_BASES} of them are the most in a row")
    try:
        below = read_file(find_file(base.value, path.parent), problems, depth + 1)
    except ConfigError as error:
        raise ConfigError(f"{base.where}: base: {error}" if "no config" in str(error) else str(error)) from error
    return merge(below, tree, Config, "", problems)


def _shown(path: Path) -> str:
    """The path from here, if the file lies below."""
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)


def type_of(to: Any) -> tuple[Any, str]:
    """A type without its annotation, and the catalogue that its components come from."""
    if typing.get_origin(to) is typing.Annotated:
        inner, mark = typing.get_args(to)
        return inner, mark if isinstance(mark, str) else ""
    return to, ""


def merge(base: Node | None, over: Node, to: Any, key: str, problems: Problems) -> Node:
    """`over` laid over `base`, both values of type `to`. What is not a section or a component is replaced."""
    inner, catalogue = type_of(to)
    if inner is Component:
        return _merge_component(base, named(over))
    if inner == Roles:
        return _merge_roles(base, over, catalogue, key, problems)
    if is_dataclass(inner) and isinstance(over.value, dict):
        hints = typing.get_type_hints(inner, include_extras=True)
        merged = dict(base.entries) if base else {}
        for name, node in over.value.items():
            path = f"{key}.{name}" if key else name
            merged[name] = merge(merged.get(name), node, hints.get(name, Any), path, problems)
        return Node(merged, over.where)
    return over


def named(node: Node) -> Node:
    """A component's short form, its bare name, as a mapping."""
    return Node({"name": node}, node.where) if isinstance(node.value, str) else node


def _merge_component(base: Node | None, over: Node) -> Node:
    """Arguments are inherited only while the name stays the same."""
    if base is None or not isinstance(over.value, dict):
        return over
    name, old = over.at("name"), base.at("name")
    if name is not None and old is not None and name.value != old.value:
        return over
    return Node({**base.entries, **over.entries}, over.where)


def _merge_roles(base: Node | None, over: Node, catalogue: str, key: str, problems: Problems) -> Node:
    """One component a role; a component without a role is the role "model"."""
    old = base.entries if base else {}
    if isinstance(over.value, list):
        return over
    if not _has_roles(over, old, catalogue):
        single = named(over)
        several = [role for role in old if role != "model"]
        if several and (over.where.startswith("--") or "name" not in single.entries):
            problems.add(
                over.where, f"{key} has several roles: say which, {' or '.join(f'{key}.{r}' for r in several)}"
            )
            return typing.cast(Node, base)
        return Node({"model": _merge_component(old.get("model"), single)}, over.where)
    kept = {} if "model" in old and "model" not in over.entries else old
    return Node({**kept, **{r: _merge_component(old.get(r), named(n)) for r, n in over.entries.items()}}, over.where)


def _has_roles(node: Node, old: dict[str, Node], catalogue: str) -> bool:
    """Whether a mapping's keys are roles, not the arguments of a single component."""
    if not node.entries or "name" in node.entries:
        return node.value == {}
    if any(role in old for role in node.entries):
        return True
    known = COMPONENTS[catalogue].all_names()
    return any("name" in n.entries or n.value in known for n in node.entries.values())


def nested(path: list[str], node: Node) -> Node:
    """The tree that holds just this value: ["optim", "lr"] gives {optim: {lr: …}}."""
    for name in reversed(path):
        node = Node({name: node}, node.where)
    return node
