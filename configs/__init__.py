"""Config files, and the schema that checks them; torch is not imported here.

In: a file or a name, and flags. Out: a Config, or all mistakes in it at once. Read schema.py first: every key.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.components import COMPONENTS
from configs.flags import apply_flags
from configs.hints.guess import key_hint
from configs.keys import argument_types, schema_keys
from configs.layers import find_file, merge, read_layers
from configs.roles import check_roles
from configs.schema import Config, Data, Transforms
from configs.tasks import check_loss, check_metrics, directions, metric_specs, mixed_fault, more_metrics
from configs.training import check_training
from utils.config.cli import Flag, python_flag
from utils.config.convert import INVALID, Component, convert, flatten, to_plain
from utils.config.tree import Node, Problems, to_node
from utils.errors import ConfigError
from utils.words import suggest

if TYPE_CHECKING:
    from utils.config.yaml_text import Faults

__all__ = [
    "COMPONENTS",
    "Component",
    "Config",
    "ConfigError",
    "Resolved",
    "Transforms",
    "differences",
    "direction_fault",
    "directions",
    "known_keys",
    "load",
    "load_stored",
    "metric_specs",
    "more_metrics",
    "mixed_fault",
    "resolve",
]


@dataclass(eq=False, repr=False)
class Resolved:
    """A checked config, and the tree with the place of each value."""

    config: Config
    tree: Node

    def places(self) -> dict[str, str]:
        """Return the place of each key's value, by dotted key: file:line, a flag as it was typed, or "default"."""
        return {key: _deepest(self.tree, key) for key in flatten(to_plain(self.config))}


def load(
    name: str | os.PathLike[str] = "default",
    values: Mapping[str, Any] | Sequence[Flag] = (),
    options: Sequence[str] = (),
    /,
    **keywords: Any,
) -> Config:
    """Read a config by path or by name in configs/, override its keys with `values`, and check everything.

    In Python: `load("default", {"optim.lr": 0.01}, model="LeNet")`. The dict has dotted keys; keywords are sections, or
    last names that are unique, as on the command line. A command passes flags instead of the dict; its `options` are
    its flags that are not keys. Raises ConfigError with one line for each mistake.
    """
    flags = [python_flag(key, value, f"{key}={value!r}") for key, value in keywords.items()]
    if isinstance(values, Mapping):
        flags = [*(python_flag(str(key), value, repr({key: value})) for key, value in values.items()), *flags]
    else:
        flags = [*values, *flags]
    return resolve(os.fspath(name), flags, options).config


def resolve(name: str = "default", flags: Sequence[Flag] = (), options: Sequence[str] = ()) -> Resolved:
    """Return the same as `load`, with the tree of the places."""
    from utils.config.yaml_text import Faults  # PyYAML takes as long to import as the rest of `help`

    faults = Faults()
    layers = read_layers(find_file(name), faults=faults)
    return _check(layers, flags, options, faults)


def load_stored(stored: dict[str, Any], source: Path, flags: Sequence[Flag] = ()) -> Config:
    """Return the config in a checkpoint, with its keys overridden by flags."""
    return _check([to_node(stored, str(source))], flags).config


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Return the differences of two configs: (old, new) by dotted key, in order."""
    one, other = flatten(to_plain(old)), flatten(to_plain(new))
    for these, those in ((one, other), (other, one)):
        for key in [key for key in these if f"{key}.name" in those]:  # a component without arguments is its name
            these[f"{key}.name"] = these.pop(key)
    changed = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    return {key: (one.get(key), other.get(key)) for key in changed}


def known_keys(name: str, flags: Sequence[Flag] = ()) -> dict[str, Any]:
    """Return every key of a config with these flags, and its type; wrong values are ignored.

    Raises ConfigError for a file that cannot be read.
    """
    return schema_keys() | argument_types(
        _merge(read_layers(find_file(name)), flags, Problems([f.typed for f in flags]))
    )


def _merge(layers: Sequence[Node], flags: Sequence[Flag], problems: Problems, options: Sequence[str] = ()) -> Node:
    tree = Node({}, "default")
    for layer in [to_node(to_plain(Config()), "default"), *layers]:
        tree = merge(tree, layer, Config, "", problems)
    return apply_flags(tree, flags, problems, options)


def _check(
    layers: Sequence[Node], flags: Sequence[Flag], options: Sequence[str] = (), faults: "Faults | None" = None
) -> Resolved:
    problems = Problems([flag.typed for flag in flags])
    tree = _merge(layers, flags, problems, options)
    config = convert(tree, Config, "", problems, COMPONENTS, key_hint(tree, ["base"]))
    if faults is None or not faults.unreadable:
        _check_together(config, tree, problems)
    else:  # a flag's key, or a section that another one needs, may stand in the unreadable part
        problems.keep(faults.unreadable)
    for place, message in faults.found if faults else ():
        problems.add(place, message)
    problems.raise_any()
    return Resolved(config, tree)


def _check_together(config: Config, tree: Node, problems: Problems) -> None:
    """Check the values that depend on one another."""
    if isinstance(config.task, Component):
        _check_monitor(config, tree, problems)
        check_loss(config, tree, problems)
        check_metrics(config, tree, problems)
    if isinstance(config.data, Data):
        _check_folds(config.data, tree, problems)
        _check_sampler(config.data, tree, problems)
    _check_profile(config, tree, problems)
    check_roles(config, tree, problems)
    check_training(config.train, tree, problems)


def _check_folds(data: Data, tree: Node, problems: Problems) -> None:
    """Add a line for an impossible data.fold or data.fraction, and for a group without a fold."""
    if INVALID in (data.fold, data.group, data.fraction) or (data.fold and INVALID in data.fold):
        return
    if data.fold is not None and not 0 <= data.fold[0] < data.fold[1] > 1:
        told = f"data.fold={list(data.fold)} must be [k, n]: fold k of n, counted from 0, with n at least 2"
        problems.add(_place(tree, "data.fold"), told)
    if data.fold is not None and isinstance(data.dataset, Component) and _is_given_divided(data.dataset.name):
        told = f"data.fold: {data.dataset.name} does not divide its samples itself: its validation split is given"
        problems.add(_place(tree, "data.fold"), f"{told}; leave data.fold out")
    if data.group is not None and data.fold is None:
        told = f"data.group={data.group}: needs data.fold, as --data.fold=[0,5]: the fold that is held out"
        problems.add(_place(tree, "data.group"), told)
    if data.fraction == 0:
        problems.add(_place(tree, "data.fraction"), "data.fraction must be above 0: nothing is left to train on")


def _check_sampler(data: Data, tree: Node, problems: Problems) -> None:
    """Add a line for two samplers, and for an order that a sampler would decide, or that is none."""
    if data.order == "walk" and data.shuffle is False:
        problems.add(
            _place(tree, "data.order"), "data.shuffle=false leaves data.order=walk nothing to do; leave one out"
        )
    if data.sampler is INVALID or not (data.sampler or data.balance_classes is True):
        return
    name = "data.sampler" if data.sampler else "data.balance_classes"
    if data.sampler and data.balance_classes is True:
        told = "data.balance_classes is data.sampler=ClassBalanced by another name; leave one out"
        problems.add(_place(tree, "data.balance_classes"), told)
    elif data.shuffle is False and data.sampler:
        problems.add(_place(tree, "data.shuffle"), f"{name} decides the order, not data.shuffle=false; leave one out")
    if data.order == "walk":
        problems.add(_place(tree, "data.order"), f"{name} decides the order, not data.order=walk; leave one out")


def _check_profile(config: Config, tree: Node, problems: Problems) -> None:
    """Add a line for steps of train.profile that are none."""
    steps = config.train.profile if config.train is not INVALID else None
    if steps in (None, INVALID) or INVALID in steps:  # type: ignore[operator]
        return
    if not 1 <= steps[0] <= steps[1]:  # type: ignore[index]
        told = f"train.profile={list(steps)} must be [first, last]: steps, counted from 1"  # type: ignore[arg-type]
        problems.add(_place(tree, "train.profile"), told)


def _is_given_divided(dataset: str) -> bool:
    """Return whether a dataset is known not to divide its samples itself."""
    known = COMPONENTS["data"]
    return dataset in known.all_names() and "folds" not in known.signature(dataset).parameters


def direction_fault(metrics: Mapping[str, str]) -> str:
    """Return the fault of metrics that are no dict, or whose direction is neither min nor max; empty if none is."""
    if not isinstance(metrics, Mapping):
        return f"metrics is {metrics!r}; write each with its direction, as {{'loss': 'min'}}"
    wrong = next(((name, way) for name, way in metrics.items() if way not in ("min", "max")), None)
    return f"metrics: '{wrong[0]}' is {wrong[1]!r}; write 'min' or 'max': which is better" if wrong else ""


def _check_monitor(config: Config, tree: Node, problems: Problems) -> None:
    monitor = config.train.monitor if config.train is not INVALID else None
    metrics = COMPONENTS["task"].literal(config.task.name, "metrics")
    if metrics is not None and (fault := direction_fault(metrics)):
        problems.add(_place(tree, "task"), f"task: {config.task.name}.{fault}")
        return
    known = {**(metrics or {}), **more_metrics(config.task)}
    if monitor is not INVALID and monitor is not None and metrics is not None and monitor not in known:
        hint = f"; --task.metrics_too=[{monitor}] adds it" if monitor in directions() else suggest(monitor, known)
        message = f"train.monitor: {config.task.name} has no metric '{monitor}'{hint}"
        problems.add(_place(tree, "train.monitor"), message)


def _place(tree: Node, key: str) -> str:
    node = tree.at(key)
    return node.where if node else ""


def _deepest(node: Node, key: str) -> str:
    """Return the place of a value: that of the deepest node on its path.

    A single component's role is not in the key.
    """
    for name in key.split("."):
        inside = node.entries if name in node.entries else getattr(node.at("model"), "entries", {})
        node = inside.get(name, node)
    for name in ("model", "name"):  # a component without arguments is shown as its name
        node = node.at(name) or node
    return node.where
