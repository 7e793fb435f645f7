"""Layers that a network holds where torch does not look: in a Python list, a dict or a plain object."""

from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from torch import nn

from utils.blame import place_of_attribute

__all__ = ["Hidden", "find_hidden"]

DEEPEST = 4  # lists in lists that are looked into
REMEDY = {
    "list": "an nn.ModuleList",
    "tuple": "an nn.ModuleList",
    "dict": "an nn.ModuleDict",
    "set": "an nn.ModuleList",
}


class Hidden(NamedTuple):
    """An attribute whose layers torch does not know."""

    name: str  # of the attribute, as model.layers
    kind: str  # of the container: list, tuple, dict, set, or the class of a plain object
    layers: int
    parameters: int
    place: str  # file:line of the assignment; empty without source

    def __str__(self) -> str:
        container = f"a Python {self.kind}" if self.kind in REMEDY else f"a {self.kind}, which is no nn.Module"
        layers = "1 layer" if self.layers == 1 else f"{self.layers} layers"
        if not self.layers:
            layers = "contents"
        remedy = REMEDY.get(self.kind, "an nn.Module")
        remedy = remedy.replace("Module", "Parameter", 1) if not self.layers and self.kind in REMEDY else remedy
        fate = "neither learns nor is saved" if self.layers == 1 else "neither learn nor are saved"
        told = f"{self.name} is {container}: its {layers} ({self.parameters:,} parameters) {fate}"
        return f"{self.place + ': ' if self.place else ''}{told}; make it {remedy}"


def find_hidden(network: nn.Module, role: str, task: nn.Module | None = None) -> list[Hidden]:
    """Return the attributes of a network, and of its layers, that hold parameters which torch does not know.

    Frozen layers do not count: a teacher network is often kept in a list on purpose. Those of the whole `task` are known.
    """
    whole = network if task is None else task
    known = {id(part) for part in (*whole.modules(), *whole.parameters())}
    found = []
    for path, module in network.named_modules(prefix=role):
        for name, value in vars(module).items():
            if name in OWN or isinstance(value, nn.Module | nn.Parameter):
                continue
            parts = {id(part): part for part in _parts(value, DEEPEST) if id(part) not in known}
            layers = [part for part in parts.values() if isinstance(part, nn.Module) and _learnable(part)]
            loose = [part for part in parts.values() if isinstance(part, nn.Parameter) and part.requires_grad]
            if layers or loose:
                count = sum(p.numel() for layer in layers for p in layer.parameters()) + sum(p.numel() for p in loose)
                place = place_of_attribute(module, name)
                found.append(Hidden(f"{path}.{name}", type(value).__name__, len(layers), count, place))
    return found


OWN = set(vars(nn.Module()))  # torch's own attributes


def _learnable(layer: nn.Module) -> bool:
    return any(p.requires_grad for p in layer.parameters())


def _parts(value: Any, depth: int) -> Iterator[Any]:
    """Yield the layers and parameters in a container."""
    if isinstance(value, nn.Module | nn.Parameter):
        yield value
    elif depth and isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield from _parts(part, depth - 1)
    elif depth and isinstance(value, dict):
        yield from _parts(list(value.values()), depth)
    elif depth and hasattr(value, "__dict__") and not isinstance(value, type | ModuleType | FunctionType):
        yield from _parts(list(vars(value).values()), depth - 1)
