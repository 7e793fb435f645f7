"""Vitals: the outputs of layers, the zeros of ReLUs and the gradients of parameters, over a few batches."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from trainer.looking.opened import names_of, networks_of
from trainer.task import Task

__all__ = ["Layer", "Moments", "Vitals", "first_tensor"]

RECTIFIERS = {F.relu, F.relu6, F.hardtanh, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}


@dataclass
class Moments:
    """Mean and spread of numbers that come in parts."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    largest: float = 0.0  # of the absolute values

    def add(self, values: Tensor) -> None:
        """Add the values of a tensor."""
        values = values.detach()
        values = (values.coalesce().values() if values.is_sparse else values).double()
        if values.numel():
            self.count += values.numel()
            self.total += float(values.sum())
            self.squares += float(values.square().sum())
            self.largest = max(self.largest, float(values.abs().max()), key=_above)

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else math.nan

    @property
    def spread(self) -> float:
        """The standard deviation."""
        if not self.count or not math.isfinite(self.squares):
            return math.nan
        return math.sqrt(max(0.0, self.squares / self.count - self.mean**2))

    @property
    def size(self) -> float:
        """The root of the mean square."""
        return math.sqrt(self.squares / self.count) if self.count else math.nan

    @property
    def finite(self) -> bool:
        return math.isfinite(self.squares)


def _above(value: float) -> float:
    return math.inf if math.isnan(value) else value


@dataclass
class Layer:
    """A layer: its outputs, and of a ReLU the units that were ever above zero."""

    name: str
    kind: str
    outputs: Moments = field(default_factory=Moments)
    alive: dict[int, Tensor] = field(default_factory=dict)  # by the number of the ReLU's call in a batch
    samples: int = 0

    @property
    def dead(self) -> float | None:
        """The share of units that were zero on all samples; None of a layer that is no ReLU."""
        units = torch.cat(list(self.alive.values())) if self.alive else None
        return None if units is None else 1 - float(units.double().mean())


class Vitals(TorchFunctionMode):
    """Within `with`, looks at all that a task computes; it changes nothing, and takes its hooks away afterwards."""

    def __init__(self, task: Task):
        super().__init__()
        self.task = task
        self.names = {layer: name for name, layer in names_of(task).items()}
        self.layers: dict[Any, Layer] = {}  # in the order of their first use
        self.inputs: dict[str, Moments] = {}  # of networks, by role
        self.across: dict[str, float] = {}  # share of the outputs' spread that lies between samples, by role
        self.gradients: dict[str, Moments] = {}
        self.hooks: list[Any] = []
        self.inside: list[nn.Module] = []
        self.calls: dict[Any, int] = {}  # of ReLUs in this batch

    def __enter__(self) -> "Vitals":
        networks = {network: role for role, network in networks_of(self.task).items()}
        for layer in self.names:
            self.hooks.append(layer.register_forward_pre_hook(lambda used, given: self.inside.append(used)))
            if layer in networks:
                self.hooks.append(layer.register_forward_pre_hook(self._look_in))
            self.hooks.append(layer.register_forward_hook(self._look_out, always_call=False))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for hook in self.hooks:
            hook.remove()
        self.hooks = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at the result of a ReLU, in whatever way it is written."""
        result = func(*args, **(kwargs or {}))
        if func in RECTIFIERS and self.inside and (func is not F.hardtanh or isinstance(self.inside[-1], nn.ReLU6)):
            self._look_rectified(self.inside[-1], result)
        return result

    def next_batch(self, scale: float = 1.0) -> None:
        """Take in the gradients of a batch, which are `scale` times as large as they should be."""
        self.inside, self.calls = [], {}
        for name, parameter in learning(self.task):
            if parameter.grad is not None:
                self.gradients.setdefault(name, Moments()).add(parameter.grad / scale)

    def _look_in(self, network: nn.Module, given: Any) -> None:
        tensor = first_tensor(given)
        if tensor is not None:
            self.inputs.setdefault(self.names[network], Moments()).add(tensor)

    def _look_out(self, layer: nn.Module, given: Any, output: Any) -> None:
        if self.inside and self.inside[-1] is layer:
            self.inside.pop()
        tensor, whole = first_tensor(output), layer in networks_of(self.task).values()
        if tensor is None or not (whole or next(layer.children(), None) is None):
            return
        name = self.names[layer]
        self.layers.setdefault(layer, Layer(name, type(layer).__name__)).outputs.add(tensor)
        if whole and tensor.ndim > 1 and len(tensor) > 1:
            self.across[name] = _between_samples(tensor.detach().double())

    def _look_rectified(self, owner: nn.Module, result: Any) -> None:
        lone = next(owner.children(), None) is None and isinstance(owner, nn.ReLU | nn.ReLU6)
        call = self.calls[owner] = self.calls.get(owner, 0) + 1
        if not isinstance(result, Tensor) or result.ndim < 2:
            return
        key, name = (owner, self.names[owner]) if lone else ((owner, call), f"{self.names[owner]} ReLU {call}")
        layer = self.layers.setdefault(key, Layer(name, "ReLU"))
        unit = 1 if result.ndim != 3 else 2  # of [B, C, …] a channel, of [B, T, F] a feature
        others = [place for place in range(result.ndim) if place != unit]
        alive = (result.detach() > 0).sum(others).cpu() > 0
        before = layer.alive.get(call if lone else 1)
        layer.alive[call if lone else 1] = alive if before is None or before.shape != alive.shape else before | alive
        layer.samples += len(result)
        if not lone:
            layer.outputs.add(result)

    def in_order(self) -> list[Layer]:
        """Return the layers in the order of their first use; a network's own output follows its layers."""
        return [layer for layer in self.layers.values() if layer.outputs.count]


def learning(task: Task) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters that learn, by the names that last.pth gives them."""
    networks = networks_of(task)
    for role, network in networks.items():
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                yield (name if len(networks) == 1 else f"{role}.{name}"), parameter


def first_tensor(given: Any) -> Tensor | None:
    """Return the first tensor of numbers with a point in it; None if there is none."""
    if isinstance(given, Tensor):
        return given if given.is_floating_point() and given.numel() else None
    parts = given.values() if isinstance(given, Mapping) else given if isinstance(given, tuple | list) else ()
    return next((found for part in parts if (found := first_tensor(part)) is not None), None)


def _between_samples(output: Tensor) -> float:
    """Return the largest spread of a number of the output over the samples, as a share of the numbers' size."""
    return float(output.std(0).max() / output.abs().max().clamp(min=1e-30))
