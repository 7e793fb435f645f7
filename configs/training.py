"""Check the keys of `train:` that depend on one another or hold patterns: init, freeze, unfreeze, load, swa."""

import math
from typing import Any

from configs.components import COMPONENTS, LAYERS
from configs.schema import Train
from utils.config.convert import INVALID, Component
from utils.config.tree import Node, Problems
from utils.words import is_slip, nearest, suggest

__all__ = ["check_training", "first_averaged", "init_component"]


def check_training(train: Train, tree: Node, problems: Problems) -> None:
    """Add a line for each fault that shows without the network."""
    if train is not INVALID:
        _check_unfreeze(train, tree, problems)
        _check_load(train, tree, problems)
        _check_init(tree, problems)
        _check_swa(train, tree, problems)


def first_averaged(train: Train) -> int:
    """Return the first epoch, from 0, whose weights train.swa averages; at least the last one is."""
    assert train.swa is not None
    return min(math.ceil(train.swa["from"] * train.max_epoch), train.max_epoch - 1)


def _check_swa(train: Train, tree: Node, problems: Problems) -> None:
    """Check both numbers, and that no other key averages."""
    if train.swa is INVALID or train.swa is None:
        return
    for key in train.swa:
        if key not in ("from", "lr"):
            _add(problems, tree, f"swa.{key}", f"is not known{suggest(key, ('from', 'lr'))}")
    share: Any = train.swa.get("from")
    rate: Any = train.swa.get("lr")
    if not _is_number(share) or not 0 <= share < 1:
        _add(problems, tree, "swa.from", "expected the share of the epochs before it, as 0.75")
    if not _is_number(rate) or rate <= 0:
        _add(problems, tree, "swa.lr", "expected the constant rate of the epochs that are averaged, as 1e-2")
    for other in ("ema", "average_last"):
        if getattr(train, other) not in (None, INVALID):
            _add(problems, tree, "swa", f"train.{other} averages, too; leave one of them out")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def init_component(value: Any) -> Component:
    """Return the function of torch.nn.init that an entry of train.init names, whose last _ may be left out."""
    args = dict(value) if isinstance(value, dict) else {"name": value}
    name = str(args.pop("name", ""))
    return Component(name if name.endswith("_") else f"{name}_", args)


def _check_init(tree: Node, problems: Problems) -> None:
    """Check the functions and their arguments, and types of layers that are misspelled."""
    node = tree.at("train.init")
    for key, entry in node.entries.items() if node else ():
        kind = key.partition(".")[0]
        near = nearest(kind, LAYERS.names()) if kind[:1].isupper() and not set(kind) & set("*?[") else ""
        if near and near != kind and (near.lower() == kind.lower() or is_slip(kind, near)):
            problems.add(entry.where, f"train.init.{key}: torch.nn has no layer '{kind}'; did you mean '{near}'?")
        name = entry.at("name") or entry
        if not isinstance(name.value, str) or not name.value:
            problems.add(entry.where, f"train.init.{key}: needs a name, as in {{name: normal, std: 0.01}}")
            continue
        function = init_component(name.value).name
        if function not in (known := COMPONENTS["init"].all_names()):
            hint = suggest(name.value.rstrip("_"), [one.rstrip("_") for one in known])
            problems.add(name.where, f"train.init.{key}: torch.nn.init has no '{name.value}'{hint}")
            continue
        args = {k: v for k, v in entry.entries.items() if k != "name"}
        COMPONENTS["init"].check(Node(function, name.where), args, f"train.init.{key}", problems)


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
    if train.load_partly is True and train.load_model_path is None and not train.load:
        _add(problems, tree, "load_partly", "needs train.load_model_path, the file that is taken in part")


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
