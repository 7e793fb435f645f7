"""Layers that a network holds where torch does not look: in a Python list, a dict, a plain object or tensor."""

from collections.abc import Iterator
from itertools import islice
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from torch import Tensor, nn

from utils.blame import place_of_attribute

__all__ = ["Hidden", "find_hidden"]

MOST = 10_000  # things in an attribute that are looked at: a vocabulary is no place for layers
CONTAINERS = {"list": "List", "tuple": "List", "set": "List", "dict": "Dict"}  # and the end of nn's name for them


class Hidden(NamedTuple):
    """An attribute whose layers torch does not know."""

    name: str  # of the attribute, as model.layers
    kind: str  # of the container: list, tuple, dict, set, or the class of a plain object
    layers: int
    parameters: int
    place: str  # file:line of the assignment; empty without source

    def __str__(self) -> str:
        if self.kind in CONTAINERS:
            container = f"a Python {self.kind}"
            remedy = f"an nn.{'Module' if self.layers else 'Parameter'}{CONTAINERS[self.kind]}"
        elif self.kind == "Tensor":
            container, remedy = "a plain tensor", "an nn.Parameter"
        else:
            container, remedy = f"a {self.kind}, which is no nn.Module", "an nn.Module"
        layers = {0: "contents", 1: "1 layer"}.get(self.layers, f"{self.layers} layers")
        fate = "neither learns nor is saved" if self.layers == 1 else "neither learn nor are saved"
        told = f"{self.name} is {container}: its {layers} ({self.parameters:,} parameters) {fate}"
        return f"{self.place + ': ' if self.place else ''}{told}; make it {remedy}"


def find_hidden(network: nn.Module, role: str, task: nn.Module | None = None) -> list[Hidden]:
    """Return the attributes of a network, and of its layers, that hold parameters which torch does not know.

    Frozen layers do not count: a teacher network is often kept in a list on purpose.
    All layers of `task` are known.
    """
    whole = network if task is None else task
    known = {id(part) for part in (*whole.modules(), *whole.parameters())}
    found = []
    for path, module in network.named_modules(prefix=role):
        for name, value in vars(module).items():
            if name in OWN or isinstance(value, nn.Module | nn.Parameter):
                continue
            parts = {id(part): part for part in _parts(value) if id(part) not in known}
            layers = [part for part in parts.values() if isinstance(part, nn.Module) and _learnable(part)]
            loose = [
                part for part in parts.values() if isinstance(part, Tensor) and part.requires_grad and part.is_leaf
            ]
            if layers or loose:
                count = sum(p.numel() for layer in layers for p in layer.parameters()) + sum(p.numel() for p in loose)
                place = place_of_attribute(module, name)
                found.append(Hidden(f"{path}.{name}", type(value).__name__, len(layers), count, place))
    return found


OWN = set(vars(nn.Module()))  # torch's own attributes


def _learnable(layer: nn.Module) -> bool:
    return any(p.requires_grad for p in layer.parameters())


def _parts(value: Any) -> Iterator[Any]:
    """Yield the layers and tensors in a container, and in containers and objects in it."""
    waiting, seen = [value], set[int]()
    while waiting and len(seen) < MOST:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, nn.Module | Tensor):
            yield part
        elif isinstance(part, list | tuple | set | frozenset):
            waiting += islice(part, MOST)
        elif isinstance(part, dict):
            waiting += islice(part.values(), MOST)
        elif hasattr(part, "__dict__") and not isinstance(part, type | ModuleType | FunctionType):
            waiting += vars(part).values()
