"""The size of a network: its layers, shapes, parameters and FLOPs, and the memory of a step at the batch size."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from configs import Config
from trainer.build import Parts
from trainer.checks.memory import copied
from trainer.looking.opened import few_batches, names_of, networks_of
from trainer.looking.vitals import first_tensor
from trainer.optim.update import Updates, make_updates
from trainer.task import Task, Weight
from utils.device import autocast

__all__ = ["Line", "Summary", "summarise", "summarise_made"]

Call = tuple[tuple[Any, ...], dict[str, Any]]  # the arguments of a network


@dataclass
class Line:
    """A layer: its place in the network, the shape of its output, its parameters and its FLOPs, those inside too."""

    name: str
    kind: str
    depth: int
    parameters: int
    shape: tuple[int, ...] | None = None  # of its last output; None of a layer that is never called
    flops: int = 0
    samples: int = 1  # that the FLOPs are for


@dataclass
class Summary:
    """The lines by network, and bytes by their use."""

    batch: int
    networks: dict[str, list[Line]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)


class _Kept:
    """An `update` that counts the bytes that are kept for a backward pass, before it lets the network learn."""

    def __init__(self, update: Updates, own: set[int]):
        """`own`: the addresses of weights, which are no activations."""
        self.update, self.own, self.most = update, own, 0
        self.step = update.step
        self.kept: dict[int, int] = {}

    def __call__(self, loss: Tensor, role: str = "model", weight: Weight = None) -> None:
        self.most = max(self.most, sum(self.kept.values()))
        self.kept = {}
        self.update(loss, role, weight)
        self.kept = {}  # a penalty on gradients saves while it goes backward

    def note(self, tensor: Tensor) -> Tensor:
        """Count the storage of a saved tensor once."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.own:
            self.kept[storage.data_ptr()] = storage.nbytes()
        return tensor


def summarise(parts: Parts) -> Summary:
    """Return the summary of a training at its batch size. Raises the errors of a step."""
    state, cfg = copied(parts), parts.cfg
    steps = max([1, *state.task.update_every.values()])
    batches = [(indices, batch) for _, indices, batch in few_batches(parts.train_loader, steps)]

    def step(number: int, update: _Kept) -> None:
        indices, batch = batches[number]
        state.update.begin(number, *parts.train_loader.weights(0, len(indices)))
        with autocast(parts.device, cfg.train.precision):
            state.task.train_step(batch, update)

    return _summarised(state.task, state.update, len(batches[0][0]), steps, step)


def summarise_made(cfg: Config, task: Task, size: tuple[int, ...]) -> Summary:
    """Return the summary of a task with one network for a made batch of inputs, [B, *size]; the loss is made, too."""
    batch = 32 if cfg.data.batch_size == "auto" else cfg.data.batch_size
    update, network = make_updates(task, cfg, 1), next(iter(networks_of(task).values()))

    def step(number: int, kept: _Kept) -> None:
        update.begin(number, 1.0, 1.0)
        with autocast(torch.device("cpu"), cfg.train.precision):
            output = first_tensor(network(torch.rand(batch, *size)))
        assert output is not None, "a network gives numbers"
        kept(output.float().square().mean())

    return _summarised(task, update, batch, 1, step)


def _summarised(task: Task, update: Updates, batch: int, steps: int, step: Callable[[int, _Kept], None]) -> Summary:
    """Take the steps of a copy, and each network's first call in them once more, alone."""
    networks, calls = networks_of(task), dict[str, Call]()
    kept = _Kept(update, {tensor.untyped_storage().data_ptr() for tensor in (*task.parameters(), *task.buffers())})
    hooks = [
        net.register_forward_pre_hook(partial(_keep_call, calls, role), with_kwargs=True)
        for role, net in networks.items()
    ]
    task.train()
    try:
        with torch.autograd.graph.saved_tensors_hooks(kept.note, lambda tensor: tensor):
            for kept.step in range(steps):
                step(kept.step, kept)
    finally:
        for hook in hooks:
            hook.remove()
    summary = Summary(batch, memory=_memory(task, update, kept.most))
    for role, network in networks.items():
        summary.networks[role] = _lines(task, role, network, calls.get(role))
        for line in summary.networks[role]:
            line.samples = batch
    return summary


def _keep_call(calls: dict[str, Call], role: str, network: nn.Module, args: Any, kwargs: Any) -> None:
    calls.setdefault(role, (args, kwargs))


def _memory(task: Task, update: Updates, activations: int) -> dict[str, int]:
    """Return the bytes of a step by their use."""
    learning = [p for step in update.steps.values() for p in step.params]
    states = [step.optimizer.state for step in update.steps.values()]
    held = [value for state in states for of in state.values() for value in of.values() if isinstance(value, Tensor)]
    return {
        "parameters": _bytes(list(task.parameters())),
        "buffers": _bytes(list(task.buffers())),
        "gradients": _bytes(learning),
        "optimizer state": _bytes(held),
        "activations kept for backward": activations,
    }


def _bytes(tensors: list[Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _lines(task: Task, role: str, network: nn.Module, call: Call | None) -> list[Line]:
    """Return the lines of a network; without a call those of its parameters alone."""
    inside = set(network.modules())
    lines = {
        layer: Line(name, type(layer).__name__, _depth(name, role, task), _parameters(layer))
        for name, layer in names_of(task).items()
        if layer in inside
    }
    if call is not None:
        _count(network, lines, call)
    return list(lines.values())


def _depth(name: str, role: str, task: Task) -> int:
    if name == role:
        return 0
    return name.count(".") + (len(networks_of(task)) == 1)


def _parameters(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters())


def _count(network: nn.Module, lines: Mapping[nn.Module, Line], call: Call) -> None:
    """Call a network once more, and note shapes and FLOPs; a layer that is called several times counts each time."""
    before: list[int] = []

    def enter(layer: nn.Module, given: Any) -> None:
        before.append(counter.get_total_flops())

    def leave(layer: nn.Module, given: Any, output: Any) -> None:
        lines[layer].flops += counter.get_total_flops() - before.pop()
        tensor = first_tensor(output)
        lines[layer].shape = None if tensor is None else tuple(tensor.shape)

    hooks = [layer.register_forward_pre_hook(enter) for layer in lines]
    hooks += [layer.register_forward_hook(leave) for layer in lines]
    try:
        # fused cells of an LSTM are products of matrices that nobody could count
        with warnings.catch_warnings(), torch.backends.cudnn.flags(enabled=False), torch.no_grad():
            warnings.simplefilter("ignore")
            with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
                network(*call[0], **call[1])
    finally:
        for hook in hooks:
            hook.remove()
