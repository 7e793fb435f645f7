"""Averaged weights, which validation and test use."""

from typing import Any

from torch.optim.swa_utils import AveragedModel

from trainer.task import Task
from utils.torch_private import foreach_copy_, foreach_lerp_

__all__ = ["MovingAverage"]


class MovingAverage(AveragedModel):
    """A copy of a task that follows it as an exponential moving average; it follows closely at first."""

    def __init__(self, task: Task, decay: float):
        super().__init__(task, multi_avg_fn=self._average, use_buffers=True)
        self.decay, self.followed = decay, 0

    def follow(self, task: Task, taken: int) -> None:
        """Take in the weights after `taken` optimizer steps, once for each number of them."""
        if taken > self.followed:
            self.update_parameters(task)
            self.followed = taken

    @property
    def count(self) -> int:
        """How many weights were taken in."""
        return int(self.n_averaged)  # type: ignore[arg-type]

    def _average(self, own: Any, current: Any, count: Any) -> None:
        n = self.count  # `count` is the same, but on a GPU one would wait for it
        weight = 1 - min(self.decay, (1 + n) / (10 + n))
        if own[0].is_floating_point():
            foreach_lerp_(own, current, weight)
        else:
            foreach_copy_(own, current)  # counters
