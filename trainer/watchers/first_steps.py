"""FirstSteps: tells which layers do not learn, and outputs that are no logits, after a few steps."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainer.parameters.hidden import find_hidden
from trainer.watchers.watcher import Run, Watcher
from utils.blame import place_of_attribute, place_of_method

__all__ = ["FirstSteps"]

STEPS = 10  # that are looked at: a layer that is used at random, as with stochastic depth, has come by then
FEWEST = 3  # steps of a shorter run or epoch that say enough
LOGARITHMS = "log-probabilities: end with nn.LogSoftmax(1), or take CrossEntropyLoss"
MOST = 5  # layers that are named


class FirstSteps(Watcher):
    """Looks at layers, gradients and outputs in the first steps, and says a line about each thing that is odd."""

    def __init__(self) -> None:
        self.hooks: list[Any] = []
        self.first = 0  # the step that the run goes on from
        self.used: set[nn.Module] = set()
        self.hooked: set[nn.Parameter] = set()  # not those that train.unfreeze lets learn later
        self.taught: set[nn.Parameter] = set()
        self.outputs: dict[str, list[Tensor]] = {}  # of a network: for each step see _summary

    def begin(self, run: Run) -> None:
        """Name hidden layers; hook all others."""
        self.first = run.progress.step
        for role, network in run.task.named_children():
            for hidden in find_hidden(network, role, run.task):
                run.say(f"note: {hidden}")
        if not run.cfg.train.compile:  # hooks would be compiled into the network, and out of it again
            self._hook(run)

    def after_step(self, run: Run, batch: Any, scalars: Mapping[str, Tensor]) -> bool:
        """Judge after so many steps, and let the training go on without hooks."""
        if run.progress.step - self.first >= max([STEPS, *run.task.update_every.values()]):
            self._judge(run)
        return bool(self.hooks)

    def after_validation(self, run: Run, numbers: Mapping[str, float], extras: Mapping[str, Any]) -> None:
        self._judge(run)  # a short epoch, too, may be a night long

    def end(self, run: Run) -> None:
        self._judge(run)

    def close(self) -> None:
        for hook in self.hooks:
            hook.remove()
        self.hooks, self.used, self.hooked, self.taught, self.outputs = [], set(), set(), set(), {}

    def _hook(self, run: Run) -> None:
        for module in run.task.modules():
            self.hooks.append(module.register_forward_hook(lambda used, *rest: self.used.add(used)))
        self.hooked = {parameter for parameter in _learning(run) if parameter.requires_grad}
        for parameter in self.hooked:
            self.hooks.append(parameter.register_post_accumulate_grad_hook(self.taught.add))
        for role, network in run.task.named_children() if run.task.outputs_due() else ():
            hook = network.register_forward_hook(lambda net, given, output, role=role: self._look(role, net, output))
            self.hooks.append(hook)

    def _look(self, role: str, network: nn.Module, output: Any) -> None:
        """Keep a summary of a training step's output; on its device, so that nobody waits for it."""
        output = output[0] if isinstance(output, tuple) and output else output
        if network.training and isinstance(output, Tensor) and output.is_floating_point() and output.ndim > 1:
            self.outputs.setdefault(role, []).append(_summary(output.detach().float()))

    def _judge(self, run: Run) -> None:
        """Say what was seen, once."""
        steps = run.progress.step - self.first
        if self.hooks and steps >= FEWEST:
            lines = [*_without_optimizer(run), *self._idle(run, steps), *self._probabilities(run)]
            self.close()
            for line in lines:
                run.say(f"note: {line}")

    def _idle(self, run: Run, steps: int) -> Iterator[str]:
        """Yield a line for each layer that was never used or got no gradient."""
        missing = self.hooked - self.taught
        found = [part for role, net in run.task.named_children() for part in _largest(role, net, missing)]
        for path, owner, module, count in found[:MOST]:
            place = place_of_attribute(owner, path.rpartition(".")[2])
            used = module is None or any(part in self.used for part in module.modules())
            kind = "" if module is None else f"{type(module).__name__}, "
            reason = "got no gradient: is it left out, detached, or used under torch.no_grad?"
            reason = reason if used else "was never used: does forward leave it out?"
            told = f"{path} ({kind}{count:,} parameters) {reason} ({steps} steps)"
            yield f"{place}: {told}" if place else told
        if len(found) > MOST:
            yield f"{len(found) - MOST} more layers got no gradient"

    def _probabilities(self, run: Run) -> Iterator[str]:
        """Yield a line for each network whose outputs cannot be of the kind that the task's loss asks for."""
        logits = run.task.outputs_due() == "logits"
        for role, summaries in self.outputs.items():
            seen = (_no_logits if logits else _no_logarithms)(
                torch.stack(summaries[:FEWEST])
            )  # later ones may have died
            if seen:
                place = place_of_method(run.task.get_submodule(role), "forward")
                due = "logits: leave out its last activation" if logits else LOGARITHMS
                told = f"{role} gives numbers {seen}; the loss asks for {due}"
                yield f"{place}: {told}" if place else told


def _summary(output: Tensor) -> Tensor:
    """Return [smallest, largest, mean, farthest sum over classes from 1] of outputs [B, C], [B, C, H, W], [B, T, C]."""
    sums = output.sum(-1 if output.ndim == 3 else 1)
    return torch.stack([*output.aminmax(), output.mean(), (sums - 1).abs().amax()])


def _no_logits(summaries: Tensor) -> str:
    """Return why outputs with these summaries [steps, 4] are no logits; empty if they may be.

    Logits of a new network are often small and of one sign, so that their range alone says nothing.
    """
    low, high, off = float(summaries[:, 0].min()), float(summaries[:, 1].max()), float(summaries[:, 3].max())
    inside = low >= 0 and high <= 1
    if inside and off < 1e-2:
        return "between 0 and 1 whose sum is 1, as after softmax"
    if inside and float((summaries[:, 2] - 0.5).abs().max()) < 0.15:
        return "between 0 and 1, as after sigmoid"
    return "of which none is below 0 and some are 0, as after ReLU" if low == 0 and high > 0 else ""


def _no_logarithms(summaries: Tensor) -> str:
    """Return why outputs with these summaries are no logarithms of probabilities; empty if they may be."""
    return "above 0" if float(summaries[:, 1].max()) > 1e-3 else ""


def _learning(run: Run) -> Iterator[nn.Parameter]:
    """Yield the parameters that have an optimizer."""
    for step in run.updates.steps.values():
        yield from step.params  # type: ignore[misc]


def _without_optimizer(run: Run) -> Iterator[str]:
    """Yield a line for each parameter that asks for gradients and has no optimizer."""
    learning = set(_learning(run))
    for name, parameter in run.task.named_parameters():
        role = name.partition(".")[0]
        if parameter.requires_grad and parameter not in learning and role not in run.task.unsaved:
            owner = run.task.get_submodule(name.rpartition(".")[0])
            place = place_of_attribute(owner, name.rpartition(".")[2])
            remedy = "make it in __init__" if "." in name else "give it to a network"
            told = f"{name} ({parameter.numel():,} parameters) is in no optimizer and does not learn; {remedy}"
            yield f"{place}: {told}" if place else told


def _largest(
    path: str, module: nn.Module, missing: set[nn.Parameter], owner: nn.Module | None = None
) -> Iterator[tuple[str, nn.Module, nn.Module | None, int]]:
    """Yield path, owner, layer (None for a lone parameter) and parameters of the largest parts that miss all."""
    own = [p for p in module.parameters() if p.requires_grad]
    if own and missing.issuperset(own):
        yield path, owner or module, module, sum(p.numel() for p in own)
        return
    for name, parameter in module.named_parameters(recurse=False):
        if parameter in missing:
            yield f"{path}.{name}", module, None, parameter.numel()
    for name, child in module.named_children():
        yield from _largest(f"{path}.{name}", child, missing, module)
