"""Optimizers that evaluate a batch several times before they step, such as LBFGS."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from trainer.optim.nonfinite import BufferBackup
from trainer.optim.update import Updates
from utils.blame import place_of_method
from utils.errors import CodeError
from utils.randomness import random_state, set_random_state

__all__ = ["with_closure"]

TrainStep = Callable[[Any, Updates], dict[str, Tensor]]


def with_closure(train_step: TrainStep, task: nn.Module, updates: Updates) -> TrainStep:
    """Return the `train_step` that the loop calls: the task's own, unless the optimizer drives it."""
    lone = next(iter(updates.steps.values())) if len(updates.steps) == 1 else None
    if lone is None or not lone.closure:
        return train_step

    def step(batch: Any, update: Updates) -> dict[str, Tensor]:
        """Evaluate the batch as often as the optimizer asks; random numbers and buffers are those of the first time."""
        drawn, buffers = random_state(), BufferBackup(task.buffers())
        buffers.save()
        scalars = train_step(batch, update)
        if not lone.calls:  # the task passes over this batch
            return scalars
        _refuse_several(lone.calls, task)
        after, evaluated = BufferBackup(task.buffers()), [lone.loss]
        after.save()

        def closure() -> Tensor:
            if evaluated:
                return evaluated.pop()  # its gradients are there
            lone.drop()
            set_random_state(drawn)
            buffers.restore()
            torch.clear_autocast_cache()  # which holds the weights of the time before
            train_step(batch, update)
            return lone.loss

        lone.close(closure)
        after.restore()
        return scalars

    return step


def _refuse_several(calls: int, task: nn.Module) -> None:
    """Raise CodeError for a step that calls `update` several times: no single loss falls, then."""
    if calls > 1:
        place = place_of_method(task, "train_step") or "task"
        raise CodeError(f"{place}: train_step calls update {calls} times, and this optimizer needs one loss a batch")
