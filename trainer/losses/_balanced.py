"""Weights of classes in a config: `balanced` becomes numbers of the training split, and lists become tensors."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from configs import Component, Config
from data.protocol import label_table_of, labels_of
from utils.errors import ConfigError, DataError

__all__ = ["tensors_in", "with_balance"]

BALANCED = "balanced"
NAMES = ("weight", "pos_weight")
FAR = 6  # digits that a weight has


def with_balance(cfg: Config, dataset: Any, meta: Mapping[str, Any], say: Callable[[str], None]) -> Config:
    """Return the config with the weights that its losses ask for as `balanced`, computed from a training split.

    Raises DataError for a split without class numbers, or without a sample of a class.
    """
    task = _mapped(cfg.task, "task", lambda key, value: _balance(key, value, dataset, meta, say))
    return cfg if task is cfg.task else replace(cfg, task=task)


def tensors_in(task: Component) -> Component:
    """Return a task whose losses have their weights as tensors, as torch takes them."""

    def to_tensor(key: str, value: Any) -> Any:
        if value == BALANCED:
            raise ConfigError(
                f"{key}: {BALANCED}: the weights come from a training split, which is not there; list them"
            )
        return value if value is None else torch.tensor(value, dtype=torch.float32)

    return _mapped(task, "task", to_tensor)


def _mapped(spec: Component, key: str, change: Callable[[str, Any], Any], inner: bool = False) -> Component:
    """Return a component whose weights, and those of the components in it, are changed; itself if none is."""
    args: dict[str, Any] = {}
    for name, value in spec.args.items():
        place = f"{key}.{name}"
        if isinstance(value, Component):
            args[name] = _mapped(value, place, change, inner=True)
        elif isinstance(value, tuple) and any(isinstance(one, Component) for one in value):
            args[name] = tuple(_mapped(one, f"{place}[{i}]", change, inner=True) for i, one in enumerate(value))
        else:
            args[name] = change(place, value) if inner and name in NAMES else value
    return spec if all(args[name] is spec.args[name] for name in args) else Component(spec.name, args)


def _balance(key: str, value: Any, dataset: Any, meta: Mapping[str, Any], say: Callable[[str], None]) -> Any:
    """Return the weights for `balanced`, and other values as they are."""
    if value != BALANCED:
        return value
    names = [str(name) for name in meta.get("classes", ())]
    found = _positives(key, dataset, names) if key.endswith("pos_weight") else _weights(key, dataset, names)
    weights = tuple(float(f"{weight:.{FAR}g}") for weight in found)
    told = names[-len(weights) :] if len(names) >= len(weights) else range(len(weights))
    shown = ", ".join(f"{name} {weight:g}" for name, weight in zip(told, weights, strict=True))
    say(f"{key}: {BALANCED} over {len(dataset):,} training samples: {shown}")
    return weights


def _weights(key: str, dataset: Any, names: list[str]) -> list[float]:
    """Return samples / (classes * samples of the class), for each class, as scikit-learn's `balanced`."""
    labels = labels_of(dataset)
    if labels is None or not len(labels) or int(labels.min()) < 0:
        raise DataError(
            f"{key}: {BALANCED}: {type(dataset).__name__} has no class numbers as `labels`; list the weights"
        )
    counts = torch.bincount(labels, minlength=len(names)).tolist()
    _check(key, counts, names, "of the class")
    return [len(labels) / (len(counts) * count) for count in counts]


def _positives(key: str, dataset: Any, names: list[str]) -> list[float]:
    """Return negatives / positives: of each label, or of the second of two classes."""
    table, labels = label_table_of(dataset), labels_of(dataset)
    if table is None and labels is not None and len(labels) and 0 <= int(labels.min()) <= int(labels.max()) <= 1:
        table, names = labels[:, None], names[1:]
    if table is None or not len(table):
        two = f" of two classes, or of 0 and 1 for each label; {type(dataset).__name__} has others" * (
            labels is not None
        )
        raise DataError(
            f"{key}: {BALANCED}: needs `labels`{two or f', and {type(dataset).__name__} has none'}; list it"
        )
    positives = table.double().sum(0).tolist()
    _check(key, positives, names, "with the label")
    return [(len(table) - count) / count for count in positives]


def _check(key: str, counts: list[float], names: list[str], kind: str) -> None:
    """Raises DataError for a class without a sample: no weight would do."""
    if empty := [i for i, count in enumerate(counts) if not count]:
        name = names[empty[0]] if empty[0] < len(names) else empty[0]
        raise DataError(f"{key}: {BALANCED}: no training sample {kind} {name}; add some, or list the weights")
