"""Averaged weights, which validation and test use."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from configs.schema import Train
from configs.training import first_averaged
from trainer.checkpointing.weights import network_state
from trainer.optim.step import OptimizerStep
from trainer.optim.update import Updates
from trainer.parallel.divided import divided_like, part_of
from trainer.task import Task
from utils.torch_private import foreach_copy_, foreach_lerp_

__all__ = ["EpochMean", "MovingAverage"]


class MovingAverage:
    """A copy of a task that follows it as an exponential moving average; it follows closely at first.

    Torch's AveragedModel sends its count to the GPU at each step, and waits for that.
    """

    def __init__(self, task: Task, decay: float, twin: Task | None = None):
        """`twin`: a copy that was made before, because the networks are divided among ranks by now."""
        self.module, self.decay = twin or deepcopy(task), decay
        self.count = 0  # how many weights were taken in
        self.followed = 0  # the optimizer steps after which the last ones were

    def follow(self, task: Task, taken: int) -> None:
        """Take in the weights after `taken` optimizer steps, once for each number of them."""
        if taken > self.followed:
            self._take_in(task)
            self.followed = taken

    @torch.no_grad()
    def _take_in(self, task: Task) -> None:
        weight = 1 - min(self.decay, (1 + self.count) / (10 + self.count))
        averaged: tuple[list[Tensor], list[Tensor]] = ([], [])
        copied: tuple[list[Tensor], list[Tensor]] = ([], [])  # counters, and all of the first time
        for own, current in zip(_state(self.module), _state(task), strict=True):
            own_side, side = averaged if self.count and own.is_floating_point() else copied
            own_side.append(part_of(own.detach()))
            side.append(part_of(current.detach()))
        if averaged[0]:
            foreach_lerp_(*averaged, weight)
        if copied[0]:
            foreach_copy_(*copied)
        self.count += 1


class EpochMean:
    """The mean of a task's weights at the ends of the epochs from a share of the run on, at a constant rate.

    Stochastic weight averaging (Izmailov et al., 2018), with the numbers of torch's AveragedModel. BatchNorm's
    statistics are not averaged: they are taken anew when the run is done.
    """

    def __init__(self, train: Train):
        assert train.swa is not None
        self.first = first_averaged(train)
        self.rate = float(train.swa["lr"])
        self.weights: dict[str, Tensor] = {}
        self.count, self.last = 0, -1  # how many epochs it holds; the last of them
        self.begun = False  # whether the rate has been set

    def tell(self, epochs: int) -> str:
        """Return in words which epochs are averaged."""
        if self.first + 1 == epochs:
            return f"train.swa: only the weights of epoch {epochs} are in the mean, at the rate {self.rate:g}"
        return f"train.swa: the weights of epochs {self.first + 1} to {epochs} are averaged, at the rate {self.rate:g}"

    def rates(self, step: OptimizerStep) -> list[float]:
        """Return the rates that the groups keep: in the ratio of those that the config gives, not of the last ones.

        A schedule may have brought these to 0, or to a rate that is the same for all.
        """
        groups = step.schedule.own if step.schedule is not None else step.optimizer.param_groups
        first = float(groups[0]["lr"])
        return [self.rate * (float(group["lr"]) / first) if first else self.rate for group in groups]

    def begin(self, update: Updates, epoch: int) -> None:
        """Keep the rate of an epoch that is averaged, in the ratio of the groups; let go of the schedulers otherwise.

        A longer run goes on to average, once it has begun.
        """
        held = epoch >= self.first or self.count > 0
        for step in update.steps.values():
            rates = self.rates(step) if held and not self.begun else []
            for group, rate in zip(step.optimizer.param_groups, rates, strict=False):
                group["lr"] = rate
            if step.schedule is not None:
                step.schedule.held = held
        self.begun = held

    @torch.no_grad()
    def follow(self, task: Task, epoch: int) -> None:
        """Take in the weights at the end of an epoch, once."""
        if epoch <= self.last or (epoch < self.first and not self.count):
            return
        current = {name: value.detach() for name, value in network_state(task).items()}
        if not self.count:
            self.weights = {name: value.clone() for name, value in current.items()}
        for name, own in self.weights.items():
            if own.is_floating_point() and self.count:
                part_of(own).lerp_(part_of(current[name]), 1 / (self.count + 1))
            elif self.count:
                part_of(own).copy_(part_of(current[name]))
        self.count, self.last = self.count + 1, epoch

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights, "count": self.count, "last": self.last, "begun": self.begun}

    def load_state_dict(self, state: Mapping[str, Any], current: Mapping[str, Tensor]) -> None:
        """Take over a mean; `current` are the weights of now, whose places and parts it takes."""
        copied = {name: value.to(current[name].device, copy=True) for name, value in state["weights"].items()}
        self.weights = {name: divided_like(value, current[name]) for name, value in copied.items()}
        self.count, self.last = state["count"], state["last"]
        self.begun = state.get("begun", self.count > 0)  # unknown to older checkpoints


def _state(task: nn.Module) -> Iterator[Tensor]:
    """Return the parameters and buffers."""
    return chain(task.parameters(), task.buffers())
