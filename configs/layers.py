"""The layers of a config, each overriding the one before: schema defaults, base files, the file, the command line."""

import os
import typing
from collections.abc import Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.components import COMPONENTS
from configs.keys import kind_of_argument, named, type_of
from configs.optimization import CONSTANT, IN_TURN
from utils.config.convert import Roles, is_component
from utils.config.places import here
from utils.config.tree import Node, Problems, plain_value
from utils.errors import ConfigError
from utils.words import is_slip, suggest

if TYPE_CHECKING:
    from utils.config.yaml_text import Faults

__all__ = ["config_files", "find_file", "merge", "nested", "read_layers"]

FOLDER = Path(__file__).parent


def config_files() -> dict[str, Path]:
    """Return the configs by name: the shipped ones, overridden by those in configs/ of the current folder."""
    return {path.stem: path for folder in reversed(_folders()) for path in sorted(folder.glob("*.yaml"))}


def _folders() -> list[Path]:
    """Return the folders in which a config's name is searched."""
    return [*filter(None, [here(FOLDER)]), FOLDER]


def find_file(name: str, beside: Path | None = None) -> Path:
    """Return the config file of that path, or of that name in configs/ of the current folder, or the shipped one.

    `beside` is a folder that is searched first. Raises ConfigError, with the nearest names, when there is none.
    """
    places = [folder / file for folder in _folders() for file in (name, f"{name}.yaml")]
    if beside is not None:
        places = [beside / name, beside / f"{name}.yaml", *places]
    elif os.path.basename(name) == name and not Path(name).suffix:  # a bare word is a name, even if a file is called so
        places.append(Path(name))
    else:
        places.insert(0, Path(name))
    for path in places:
        if os.path.isfile(path):  # not Path.is_file, which fails on a name that is too long
            return path
    if os.path.isfile(Path(name, "config.yaml")):
        raise ConfigError(f"no config '{name}'; did you mean '{Path(name, 'config.yaml')}'?")
    for kind in ("model", "task", "optim"):
        if name in COMPONENTS[kind].all_names():
            raise ConfigError(f"no config '{name}'; did you mean --{kind}={name}?")
    hint = (
        suggest(Path(name).stem, config_files())
        or ": no such file, and none of that name in configs/ (see help configs)"
    )
    raise ConfigError(f"no config '{name}'{hint}")


def read_layers(path: Path, above: Sequence[Path] = (), faults: "Faults | None" = None) -> list[Node]:
    """Return a file's tree after the trees of its bases; `above` are the files that led here.

    `faults` collects those that leave the rest of a file to be read.
    Raises ConfigError for a file that cannot be read, and for a file that is its own base.
    """
    from utils.config.yaml_text import read_yaml  # PyYAML takes as long to import as the rest of `help`

    tree = read_yaml(path, _name(path), faults)
    if not isinstance(tree.value, dict):
        raise ConfigError(f"{tree.where}: a config holds keys and values, as 'model: ResNet34' with a space behind ':'")
    base = tree.value.pop("base", None)
    if base is None:
        return [tree]
    above = [*above, path.resolve()]
    below = _base_file(base, path)
    if below.resolve() in above:
        raise ConfigError(f"{base.where}: base: {_name(below)} is built on this file; a config cannot be its own base")
    return [*read_layers(below, above, faults), tree]


def _base_file(base: Node, path: Path) -> Path:
    """Return the file that `base:` names: beside the file with that line, otherwise in configs/."""
    if not isinstance(base.value, str) or not base.value:
        raise ConfigError(f"{base.where}: base: expected the name of one config file")
    try:
        return find_file(base.value, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{base.where}: base: {error}") from error


def _name(path: Path) -> str:
    """Return the path relative to the current folder, if the file is in it."""
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)


def merge(base: Node | None, over: Node, to: Any, key: str, problems: Problems) -> Node:
    """Return `base` with the values of `over`, both of type `to`.

    Only sections and components are merged, others replaced.
    """
    inner, catalogue = type_of(to)
    if catalogue and is_component(inner):
        if type(None) in typing.get_args(inner) and _is_null(over):
            return over
        return _merge_component(base, named(over), catalogue)
    if inner == Roles:
        return _merge_roles(base, over, catalogue, key, problems)
    if is_dataclass(inner) and isinstance(over.value, dict):
        hints = typing.get_type_hints(inner, include_extras=True)
        merged = dict(base.entries) if base else {}
        for name, node in over.value.items():
            path = f"{key}.{name}" if key else name
            merged[name] = merge(merged.get(name), node, hints.get(name, Any), path, problems)
        return Node(merged, over.where)
    if inner is dict and base is not None and over.where.lstrip("-").startswith(f"{key}."):
        return Node({**base.entries, **over.entries}, over.where)  # a flag names one entry of it
    return over


def _is_null(node: Node) -> bool:
    return node.value in ("null", "~") and not node.quoted


def _merge_component(base: Node | None, over: Node, catalogue: str) -> Node:
    """Merge two components: arguments are inherited only while the name stays the same, and so in components within."""
    if base is None or not isinstance(over.value, dict):
        return over
    name, old = over.at("name"), base.at("name")
    if name is not None and old is not None and name.value != old.value:
        return over
    merged = {**base.entries, **over.entries}
    for key in base.entries.keys() & over.entries.keys():
        before, after = base.entries[key], over.entries[key]
        if (before.entries or after.entries) and (kind := kind_of_argument(catalogue, name or old, key)):
            kept = before if plain_value(before) is not None else Node({}, before.where)
            merged[key] = after if plain_value(after) is None else _merge_component(named(kept), named(after), kind)
    return Node(merged, over.where)


def _merge_roles(base: Node | None, over: Node, catalogue: str, key: str, problems: Problems) -> Node:
    """Merge components by role; a single one has the role "model", and null or {} means none."""
    old = base.entries if base else {}
    if over.value == {} or _is_null(over):
        return Node({}, over.where)
    if catalogue == "schedule":
        over = _written_out(over)
    if isinstance(over.value, list):
        return over
    lone = list(old) in ([], ["model"])
    if _has_roles(over, old, catalogue):
        kept = {} if lone and "model" not in over.entries else old
        full = _written_out if catalogue == "schedule" else named
        own = {
            role: _merge_component(old.get(role), named(full(node)), catalogue) for role, node in over.entries.items()
        }
        own = {role: _with_name(node) for role, node in own.items()} if catalogue == "schedule" else own
        return Node({**kept, **own}, over.where)
    single = named(over)
    if not lone and (over.where in problems.flags or "name" not in single.entries):
        rest = "" if "name" in single.entries else f".{next(iter(single.entries))}"
        meant = " or ".join(f"{key}.{role}{rest}" for role in old)
        problems.add(over.where, f"{key} has several roles: say which, {meant}")
        return Node(old, over.where)
    merged = _merge_component(old.get("model"), single, catalogue)
    return Node({"model": _with_name(merged) if catalogue == "schedule" else merged}, over.where)


def _written_out(node: Node) -> Node:
    """Return a list of schedulers as the component that it stands for; other nodes unchanged."""
    if not isinstance(node.value, list):
        return node
    return Node({"name": Node(IN_TURN, node.where), "schedulers": node}, node.where)


def _with_name(node: Node) -> Node:
    """Return a warm-up alone as the component that it stands for; other nodes unchanged."""
    if "warmup" not in node.entries or any(map(_is_name, node.entries)):
        return node
    return Node({"name": Node(CONSTANT, node.where), **node.entries}, node.where)


def _has_roles(node: Node, old: dict[str, Node], catalogue: str) -> bool:
    """Return whether a mapping's keys are roles, and not the arguments of a single component."""
    if any(_is_name(key) and not n.entries for key, n in node.entries.items()):
        return False
    if any(role in old for role in node.entries):
        return True
    chosen = old["model"].at("name") if "model" in old else None
    if any(kind_of_argument(catalogue, chosen, key) for key in node.entries):
        return False
    if catalogue == "schedule" and any(_is_schedule(key, n) for key, n in node.entries.items()):
        return True
    return any(any(map(_is_name, n.entries)) or _is_known(n, catalogue) for n in node.entries.values())


def _is_schedule(key: str, node: Node) -> bool:
    """Return whether a node is a schedule in short form: a warm-up alone, or a list of schedulers."""
    listed = key != "schedulers" and isinstance(node.value, list)
    return "warmup" in node.entries or (listed and any(item.at("name") for item in node.value))  # type: ignore[union-attr]


def _is_known(node: Node, catalogue: str) -> bool:
    return str(node.value).partition(":")[0] in COMPONENTS[catalogue].all_names()


def _is_name(key: str) -> bool:
    """Return whether a key is `name`, or a slip of it."""
    return key == "name" or is_slip(key, "name")


def nested(path: list[str], node: Node) -> Node:
    """Return the tree that holds just this value: ["optim", "lr"] gives {optim: {lr: …}}."""
    for name in reversed(path):
        node = Node({name: node}, node.where)
    return node
