"""Inspector: histograms of weights and gradients, for the sinks that show them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from trainer.watchers.watcher import Run, Watcher

__all__ = ["Inspector"]

MOST_VALUES = 100_000  # of a tensor, evenly, that a histogram is made of


class Inspector(Watcher):
    """Looks at the weights each so many steps, and at the gradients of the step after that; it changes nothing."""

    def __init__(self, every: int = 100):
        """`every`: steps between two looks."""
        self.every = every
        self.due = every
        self.gradients: dict[str, np.ndarray] = {}
        self.hooks: list[Any] = []

    def begin(self, run: Run) -> None:
        self.due = self.every * math.ceil((run.progress.step + 1) / self.every)

    def after_step(self, run: Run, batch: Any, scalars: Mapping[str, Tensor]) -> bool:
        """Tell the gradients of this step, if they were looked at, and the weights, if they are due."""
        step, shown = run.progress.step, run.logger.shown("histograms")
        if self.gradients:
            names = [name for name, _ in run.task.named_parameters() if name in self.gradients]
            run.logger.histograms("gradients", step, {name: self.gradients[name] for name in names})
            self.close()
        if shown and step >= self.due:
            self.due = self.every * (step // self.every + 1)
            run.logger.histograms("weights", step, {name: _values(p) for name, p in run.task.named_parameters()})
            self._hook(run)
        return shown

    def close(self) -> None:
        for hook in self.hooks:
            hook.remove()
        self.hooks, self.gradients = [], {}

    def _hook(self, run: Run) -> None:
        """Gradients are gone after a step, so they are looked at while the next one makes them."""

        def look(name: str, parameter: Tensor) -> None:
            if name not in self.gradients and parameter.grad is not None:
                self.gradients[name] = _values(parameter.grad)

        for name, parameter in run.task.named_parameters():
            if parameter.requires_grad:
                hook = parameter.register_post_accumulate_grad_hook(lambda p, name=name: look(name, p))
                self.hooks.append(hook)


def _values(tensor: Tensor) -> np.ndarray:
    """Return a copy of at most MOST_VALUES of its values, evenly."""
    flat = tensor.detach().flatten()
    return flat[:: math.ceil(max(1, len(flat)) / MOST_VALUES)].float().cpu().numpy().copy()
