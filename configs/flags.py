"""Find the key of a flag: dotted, or a last name that is unique in the schema or among the components."""

import typing
from collections.abc import Sequence
from typing import Any

from configs.hints.guess import key_hint, may_take
from configs.hints.words import absent
from configs.keys import argument_types, schema_keys, type_of
from configs.layers import merge, nested
from configs.schema import Config
from utils.config.cli import Flag, flag_node
from utils.config.tree import Node, Problems

__all__ = ["apply_flags"]

ROOTS = TRAIN, TEST = "data.train_data_root", "data.test_data_root"
ROOT = "data.dataset.root"
NOT_ALONE = ("epochs", "steps_per_epoch")  # of schedule, which must be written in full: --epochs means max_epoch


def apply_flags(tree: Node, flags: Sequence[Flag], problems: Problems, options: Sequence[str] = ()) -> Node:
    """Return the tree with the flags applied; `options` are the command's own flags, which are no keys.

    Shorter keys are applied before longer ones, in any typed order, so that a component with a new name starts without
    the old one's arguments. A last name that is not in the schema comes after all of them: it may name an argument of a
    component that a flag has chosen. If that argument is itself a component, its name comes before the keys below it.
    """
    given: dict[str, Flag] = {}  # by key
    early = {flag: keys for flag in flags if (keys := _in_schema(flag))}
    late = [flag for flag in flags if flag not in early]
    typed = {keys[0] for keys in early.values()}
    for flag, keys in sorted(early.items(), key=lambda item: (item[1][0] in ROOTS, _depth(item[1][0]))):
        if _depth(keys[0]) > 1:
            tree = _apply_names(tree, late, given, problems)
        if keys[0] in ROOTS:
            tree = _apply_root(tree, flag, keys[0], typed, given, problems)
        else:
            tree = _apply(tree, flag, keys, given, problems)
    tree = _apply_names(tree, late, given, problems)
    arguments = argument_types(tree) if late else {}
    for flag in late:
        keys = [key for key in _keys_ending(flag, arguments) if not _must_be_full(key)]
        if not keys and not may_take(flag.key.rpartition(".")[2], tree):
            problems.add(flag.typed, f"no key '{flag.key}'{key_hint(tree, options)(flag.key, ())}")
        tree = _apply(tree, flag, keys, given, problems)
    return tree


def _must_be_full(key: str) -> bool:
    return key.startswith("schedule.") and key.rpartition(".")[2] in NOT_ALONE


def _depth(key: str) -> int:
    return key.removesuffix(".name").count(".")


def _apply_names(tree: Node, late: list[Flag], given: dict[str, Flag], problems: Problems) -> Node:
    """Apply the flags that name a component in an argument, and remove them from `late`.

    Each may add arguments, which the next flag may name.
    """
    while late:
        types = argument_types(tree)
        meant = {flag: keys for flag in late if (keys := _keys_ending(flag, types))}
        names = [flag for flag, keys in meant.items() if any(type_of(types[key])[1] for key in keys)]
        if not names:
            break
        flag = min(names, key=lambda one: _depth(meant[one][0]))
        late.remove(flag)
        tree = _apply(tree, flag, meant[flag], given, problems)
    return tree


def _apply_root(tree: Node, flag: Flag, key: str, typed: set[str], given: dict[str, Flag], problems: Problems) -> Node:
    """Set a split's folder, so that the flag always has an effect on that split, and never on the other.

    The dataset's own root, which its config gives for all splits, has priority. So a flag for training alone sets that
    root. If the config has the same folder for both splits, the flag sets both.
    """
    own, alone, keys = tree.at(ROOT), not typed.issuperset(ROOTS), [key]
    if own is not None and ROOT not in typed and own.where not in problems.flags:
        dataset = tree.at("data.dataset")
        if alone and key == TRAIN:
            return _apply(tree, flag, [ROOT], given, problems)
        if alone:
            tree = merge(tree, nested(TRAIN.split("."), own), Config, "", problems)
        assert dataset is not None
        del dataset.entries["root"]
    elif alone and key == TRAIN and own is None:
        one, other = map(tree.at, ROOTS)
        keys = [*ROOTS] if one and other and one.value == other.value != "null" else keys
    for each in keys:
        tree = _apply(tree, flag, [each], given, problems)
    return tree


def _in_schema(flag: Flag) -> list[str]:
    """Return the keys that a flag may mean.

    A dotted key or a section means itself, any other name the schema's keys with that last name.
    """
    sections = typing.get_type_hints(Config)
    first = flag.key.partition(".")[0]
    if "." in flag.key and first not in sections and first.startswith("no_") and first[3:] in sections:
        return [flag.key[3:]]
    return [flag.key] if "." in flag.key or flag.key in sections else _keys_ending(flag, schema_keys())


def _keys_ending(flag: Flag, types: dict[str, Any]) -> list[str]:
    """Return the keys with the flag's last name; for `--no-x` also the keys x that are true or false."""
    found = [key for key in types if key.rpartition(".")[2] == flag.key]
    if found or not flag.key.startswith("no_"):
        return found
    return [key for key, to in types.items() if key.rpartition(".")[2] == flag.key[3:] and _takes(to, bool)]


def _apply(tree: Node, flag: Flag, keys: list[str], given: dict[str, Flag], problems: Problems) -> Node:
    """Apply a flag to the tree, unless it is unclear or the key was set before."""
    if len(keys) > 1:
        meant = " or ".join(f"{flag.dashes}{key}" for key in sorted(keys))
        problems.add(
            flag.typed, f"could be {meant}: write it in full{f'; {told}' if (told := absent(flag.key)) else ''}"
        )
    if len(keys) != 1:
        return tree
    key = keys[0]
    before = given.setdefault(key.removesuffix(".name"), flag)
    negated = flag.key.startswith("no_") and not key.endswith(flag.key)
    if before is not flag:
        problems.add(flag.typed, f"is the same key as {before.typed}; leave one out")
    elif message := flag.wrong or _value_fault(flag, key, negated, tree):
        problems.add(flag.typed, message)
    else:
        node = flag_node("false" if negated else flag.text, flag.typed) if negated or not flag.node else flag.node
        return merge(tree, nested(key.split("."), node), Config, "", problems)
    return tree


def _value_fault(flag: Flag, key: str, negated: bool, tree: Node) -> str:
    """Return the fault of a flag without a value, or of its --no- form, for the key's type; empty if it is good."""
    bare = "=" not in flag.typed and not flag.node
    to = (schema_keys() | argument_types(tree)).get(key, Any) if bare or negated else Any
    if negated and (flag.text != "true" or not _takes(to, bool)):
        return f"only a key that is true or false has a --no- form, and it takes no value; write --{key}=…"
    if bare and not any(_takes(to, kind) for kind in (bool, str, Any)):
        return f"needs a value: {flag.typed}=…"
    return ""


def _takes(to: Any, kind: Any) -> bool:
    """Return whether a type is the kind, or has it among its choices; a choice of true or false takes bool."""
    inner, catalogue = type_of(to)
    options = [inner] if typing.get_origin(inner) in (None, list, tuple, dict) else [inner, *typing.get_args(inner)]
    return not catalogue and (kind in options or (kind is bool and any(isinstance(a, bool) for a in options)))
