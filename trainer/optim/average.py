"""Averaged weights, which validation and test use."""

from collections.abc import Iterator
from copy import deepcopy
from itertools import chain

import torch
from torch import Tensor, nn

from trainer.task import Task
from utils.torch_private import foreach_copy_, foreach_lerp_

__all__ = ["MovingAverage"]


class MovingAverage:
    """A copy of a task that follows it as an exponential moving average; it follows closely at first.

    Torch's AveragedModel sends its count to the GPU at each step, and waits for that.
    """

    def __init__(self, task: Task, decay: float):
        self.module, self.decay = deepcopy(task), decay
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
            own_side.append(own.detach())
            side.append(current.detach())
        if averaged[0]:
            foreach_lerp_(*averaged, weight)
        if copied[0]:
            foreach_copy_(*copied)
        self.count += 1


def _state(task: nn.Module) -> Iterator[Tensor]:
    """Return the parameters and buffers."""
    return chain(task.parameters(), task.buffers())
