"""Averaged weights, which validation and test use."""

from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from trainer.task import Task

__all__ = ["make_averaged"]


def make_averaged(task: Task, decay: float | None) -> AveragedModel | None:
    """A copy of the task that follows it as an exponential moving average; it follows closely at first."""
    if decay is None:
        return None

    def average(own: Any, current: Any, count: Any) -> None:
        n = int(averaged.n_averaged)  # type: ignore[arg-type]  # `count` is the same, but on a GPU one would wait for it
        weight = 1 - min(decay, (1 + n) / (10 + n))
        if own[0].is_floating_point():
            torch._foreach_lerp_(own, current, weight)
        else:
            torch._foreach_copy_(own, current)  # counters

    averaged = AveragedModel(task, multi_avg_fn=average, use_buffers=True)
    return averaged
