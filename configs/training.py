"""Check the keys of `train:` that depend on one another or hold patterns: freeze, unfreeze, load."""

from typing import Any

from configs.schema import Train
from utils.config.convert import INVALID
from utils.config.tree import Node, Problems
from utils.words import suggest

__all__ = ["check_training"]


def check_training(train: Train, tree: Node, problems: Problems) -> None:
    """Add a line for each fault that shows without the network."""
    if train is not INVALID:
        _check_unfreeze(train, tree, problems)
        _check_load(train, tree, problems)


def _check_load(train: Train, tree: Node, problems: Problems) -> None:
    """Check that files are named once, for networks that there are, and a run for the optimizer's state."""
    if train.load is INVALID or train.load_model_path is INVALID:
        return
    roles = tree.at("model")
    for role, path in train.load.items():
        if not isinstance(path, str):
            _add(problems, tree, f"load.{role}", "expected a file")
        if roles is not None and "name" not in roles.entries and role not in roles.entries:
            _add(problems, tree, f"load.{role}", f"no network has that role{suggest(role, roles.entries)}")
    if train.load and train.load_model_path is not None:
        _add(
            problems, tree, "load", "names files for networks, and train.load_model_path one for all; give one of them"
        )
    if train.load_optimizer is True and train.load_model_path is None:
        _add(problems, tree, "load_optimizer", "needs train.load_model_path, the run whose optimizer goes on")


def _check_unfreeze(train: Train, tree: Node, problems: Problems) -> None:
    """Check that epochs are whole numbers behind the first one, each with a list of patterns, of frozen layers."""
    if train.unfreeze is INVALID or train.freeze is INVALID:
        return
    if train.unfreeze and not train.freeze:
        _add(problems, tree, "unfreeze", "needs train.freeze, the patterns of the layers that are frozen until then")
    for epoch, patterns in train.unfreeze.items():
        key = f"unfreeze.{epoch}"
        if not epoch.isdecimal() or int(epoch) < 2:
            told = "expected epochs from 2 on, as {3: [layer4.*]}: what learns in the first one is not frozen"
            _add(problems, tree, key, told)
        if not _is_texts(patterns):
            _add(problems, tree, key, "expected a list of patterns, as [layer4.*]")


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _add(problems: Problems, tree: Node, key: str, message: str) -> None:
    node = tree.at(f"train.{key}") or tree.at(f"train.{key.partition('.')[0]}")
    problems.add(node.where if node else "", f"train.{key}: {message}")
