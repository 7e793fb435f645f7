"""Keys, arguments and names of a config, changed at random into others that may still be right."""

import typing
from collections.abc import Callable
from random import Random
from typing import Any, Literal, NamedTuple

from configs import COMPONENTS, known_keys
from configs.keys import type_of
from utils.config.cli import to_flags
from utils.config.convert import Component
from utils.config.ranges import Range
from utils.config.yaml_text import dump_line

__all__ = ["Mutated", "mutated"]

NAN, INF = float("nan"), float("inf")
INTS = [0, -1, 1, 1, 2, 3, 5, 8, 10**6, 10**9, 2**31, 2**63, 10**18, 10**30]
FLOATS = [0.0, -1.0, 1.0, 0.5, 0.1, 1e-3, 1e-12, 2.0, 1e6, 1e30, 1e300, NAN, INF, -INF]
TEXTS = ["", "x", "0", "deep/down", "../x", "*", "{", "é深", "a" * 300, "none", "a,b"]
LEAVES = "train.max_steps train.compile train.load_model_path train.use_gpu log.visdom log.visdom_host log.pictures "
LEFT = frozenset((LEAVES + "data.dataset.download data.dataset.root data.train_data_root").split())
# Names that are taken for another, where each trains in a second; with what it needs.
NAMES = {
    "model": ["MLP", "LeNet", "AlexNet", "SqueezeNet", "SequenceClassifier", "LinearRegression", "TwoLayerNet", "UNet"],
    "task": ["Classification", "Regression", "Segmentation", "LanguageModel"],
    "data": ["Digits", "RandomRegression", "StraightLine"],
}
NAMES["model"] += ["ResNet34", "CharRNN", "DynamicNet", "torchvision:squeezenet1_1", "torchvision:mobilenet_v3_small"]
RUN_NAMES = ["../x", "a" * 300, "", ".", "a b", "-x", "é", "b", "b.1", "a/b", "0", "null"]


class Mutated(NamedTuple):
    """A config with its flags, and the numbers among the flags."""

    config: str
    flags: list[str]
    numbers: list[float]


def mutated(config: str, flags: list[str], rng: Random) -> Mutated:
    """Return the config with one to four changes."""
    flags, numbers = list(flags), []
    for _ in range(rng.choice([1, 1, 2, 2, 3, 4])):
        flags += rng.choices(CHANGES, WEIGHTS)[0](config, flags, rng, numbers)
    return Mutated(config, flags, numbers)


def key(config: str, flags: list[str], rng: Random, numbers: list[float]) -> list[str]:
    """Return a flag for a key of the schema or an argument, more often the latter."""
    known = known_keys(config, to_flags(dict(flag[2:].split("=", 1) for flag in flags)))
    arguments = [name for name in known if name.startswith(("task.", "model.", "data.dataset.", "optim.", "schedule."))]
    names = arguments if arguments and rng.random() < 0.7 else list(known)
    names = [name for name in names if name not in LEFT and not _mark(known[name])]
    name = rng.choice(names)
    return [f"--{name}={_written(value(known[name], rng, numbers))}"]


def component(config: str, flags: list[str], rng: Random, numbers: list[float]) -> list[str]:
    """Return flags that take another component, perhaps with an argument of its own."""
    kind = rng.choice(["model", "optim", "optim", "schedule", "schedule", "task", "data"])
    name = rng.choice(NAMES.get(kind) or COMPONENTS[kind].all_names())
    where = {"data": "data.dataset"}.get(kind, kind)
    taken = [f"--{where}={name}"]
    arguments = {k: p for k, p in COMPONENTS[kind].arguments(name).items() if not _mark(p.type)}
    wanted = [k for k, p in arguments.items() if p.required]
    for k in dict.fromkeys([*wanted, *rng.sample(sorted(arguments), min(len(arguments), rng.choice([0, 1, 2])))]):
        if k not in ("root", "max_lr", "download"):
            taken.append(f"--{where}.{k}={_written(value(arguments[k].type, rng, numbers))}")
    return taken


def transforms(config: str, flags: list[str], rng: Random, numbers: list[float]) -> list[str]:
    """Return flags with other transforms."""
    registry, listed = COMPONENTS["transform"], []
    for _ in range(rng.choice([1, 1, 2])):
        name = rng.choice(registry.all_names())
        arguments = registry.arguments(name)
        chosen = [k for k, p in arguments.items() if p.required or rng.random() < 0.3]
        given = {k: value(arguments[k].type, rng, numbers) for k in chosen}
        listed.append({"name": name, **given})
    splits = rng.choice([["train"], ["eval"], ["train", "eval"]])
    return [f"--data.transform.{split}={_written(listed)}" for split in splits]


def run_name(config: str, flags: list[str], rng: Random, numbers: list[float]) -> list[str]:
    return [f"--run={rng.choice(RUN_NAMES)}"]


Change = Callable[[str, list[str], Random, list[float]], list[str]]
CHANGES: list[Change] = [key, component, transforms, run_name]
WEIGHTS = [12, 3, 2, 1]


def value(to: Any, rng: Random, numbers: list[float]) -> Any:
    """Return a value for a type: mostly one of it, at its ends and far beyond, seldom one of another type."""
    if rng.random() < 0.05:
        to = rng.choice([int, float, str, bool, None, list[int], list[float]])
    inner, bounds = to, Range()
    if typing.get_origin(to) is typing.Annotated:
        inner, mark = typing.get_args(to)
        bounds = mark if isinstance(mark, Range) else bounds
    found = _value(inner, rng, numbers)
    for _ in range(4):  # the ends of a range are worth more than what check refuses at once
        if not isinstance(found, (int, float)) or bounds.least <= found <= bounds.largest or rng.random() < 0.05:
            break
        found = _value(inner, rng, numbers)
    if isinstance(found, (int, float)):
        numbers.append(float(found))
    return found


def _value(to: Any, rng: Random, numbers: list[float]) -> Any:
    origin, inner = typing.get_origin(to), typing.get_args(to)
    if origin is Literal:
        return rng.choice(inner)
    if origin in (list, tuple):
        count = rng.choice([0, 1, 2, 2, 3]) if origin is list or inner[1:] == (...,) else len(inner)
        types = [inner[0]] * count if origin is list or inner[1:] == (...,) else inner
        return [value(one, rng, numbers) for one in types]
    if inner:  # a union
        return value(rng.choice(inner), rng, numbers)
    if to is Any:
        return value(rng.choice([int, float, str, bool, list[int], list[float]]), rng, numbers)
    simple = {int: INTS, float: FLOATS, str: TEXTS, bool: [True, False], dict: [{}, {"a": 1}, {"plus": ["x"]}]}
    return rng.choice(simple.get(to, [None]))


def _mark(to: Any) -> bool:
    """Return whether a type is a component's, for which there is another change."""
    inner, kind = type_of(to)
    return bool(kind) or inner is Component


def _written(found: Any) -> str:
    return dump_line(found)
