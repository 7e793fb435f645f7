"""train.init: first weights by layer type or name, drawn by the functions of torch.nn.init."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch

from configs import COMPONENTS, Component, ConfigError
from configs.components import LAYERS
from configs.schema import Train
from configs.training import init_component
from trainer.checkpointing.weights import saved_names
from trainer.parameters.names import matching, unknown
from trainer.task import Task
from utils.randomness import mix
from utils.words import count_of

__all__ = ["initialise"]

SHOWN = 3  # names that are told of each entry


@torch.no_grad()
def initialise(task: Task, train: Train, say: Callable[[str], None]) -> None:
    """Draw the weights that the entries of `train.init` name, the first entry that matches each; say what each took.

    A weight is a function of the seed and its name: another entry, device or order of layers does not change it.
    Raises ConfigError for an entry that takes nothing, or whose function does not suit a tensor.
    """
    if not train.init:
        return
    parameters = dict(task.named_parameters())
    names = {short: name for name, short in saved_names(task).items() if name in parameters}
    free = dict(names)
    for key, value in train.init.items():
        chosen = _chosen(key, task, names)
        taken = [name for name in chosen if name in free]
        if not taken:
            raise ConfigError(f"train.init.{key}: entries before it take all {len(chosen)} tensors; put it first")
        for name in taken:
            parameter = parameters[free.pop(name)]
            parameter.copy_(_drawn(init_component(value), key, name, parameter, train.seed))
        numbers = sum(parameters[names[name]].numel() for name in taken)
        few = ", ".join(taken[:SHOWN]) + (", …" if len(taken) > SHOWN else "")
        say(f"init {key}: {_told(value)}: {count_of(len(taken), 'tensor')}, {count_of(numbers, 'number')} ({few})")


def _chosen(key: str, task: Task, names: Mapping[str, str]) -> list[str]:
    """Return the names of the weights that an entry is for."""
    kind, _, part = key.partition(".")
    if kind not in LAYERS.names():
        return matching(key, names, "train.init")
    shorts, found = {name: short for short, name in names.items()}, []
    for path, module in task.named_modules():
        if any(base.__name__ == kind for base in type(module).__mro__):  # MLP has a Linear of its own
            own = {name: shorts.get(f"{path}.{name}") for name, _ in module.named_parameters(recurse=False)}
            found += [short for name, short in own.items() if short and _is_part(name, part)]
    if not found:
        kinds = {type(module).__name__ for module in task.modules()} & set(LAYERS.names())
        told = f"{kind} has no such weight" if kind in kinds else f"there is no {kind}"
        raise ConfigError(f"train.init.{key}: {told} in the networks{unknown(kind, names, kinds)}")
    return found


def _is_part(name: str, part: str) -> bool:
    """Return whether a layer's own weight is meant: without a part, each weight that is no bias."""
    return fnmatchcase(name, part) if part else "weight" in name


def _drawn(spec: Component, key: str, name: str, parameter: torch.Tensor, seed: int) -> torch.Tensor:
    """Return the first values of a tensor, drawn on the CPU, so that a GPU begins with the same."""
    draws = torch.Generator().manual_seed(mix(seed, *name.encode()))
    values = torch.zeros(parameter.shape, dtype=parameter.dtype)
    try:
        return COMPONENTS["init"].build(spec, f"train.init.{key}", values, generator=draws)
    except ConfigError as error:
        raise ConfigError(f"{error}; it was to fill {name} {list(parameter.shape)}: narrow the entry") from error


def _told(value: Any) -> str:
    if isinstance(value, str):
        return value
    rest = ", ".join(f"{k} {v}" for k, v in value.items() if k != "name")
    return f"{value['name']} ({rest})" if rest else str(value["name"])
