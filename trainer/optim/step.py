"""One network's optimizer, and everything done around its step."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from configs import Config
from trainer.optim.schedule import Schedule
from utils import dist
from utils.errors import NonFiniteError

__all__ = ["OptimizerStep"]


class OptimizerStep:
    """One network's optimizer; called with a loss, it learns from it, every `accumulate` calls at once.

    A window of several batches has the gradient of their mean over samples, also the last, shorter one.
    """

    def __init__(self, net: nn.Module, optimizer: torch.optim.Optimizer, cfg: Config, schedule: Schedule | None):
        self.params = [p for p in net.parameters() if p.requires_grad]
        self.optimizer, self.schedule, self.step = optimizer, schedule, bare_step(optimizer)
        self.accumulate, self.clip = cfg.train.accumulate, cfg.train.clip
        self.norm: Tensor | None = None  # of the last gradient, where it is computed
        device = self.params[0].device.type
        check = cfg.train.check_gradients  # on a GPU reading the norm would make the host wait
        waits = device == "cpu" or cfg.train.on_nonfinite != "stop"  # which looks at each loss
        self.check = check if check is not None else bool(self.clip) and waits
        self.scaler = torch.amp.GradScaler(device, enabled=cfg.train.precision == "fp16")
        self.weighted = self.accumulate > 1 or dist.world_size() > 1
        self.calls, self.weight, self.taken = 0, 0.0, 0  # of the open window; optimizer steps so far
        self.window: list[int] = []  # the training steps, of this process, whose losses it has gathered

    def __call__(self, loss: Tensor, share: float, fullness: float, inputs: Sequence[Tensor] | None) -> None:
        """Backward; step when the window is full.

        `share` is this rank's samples over those of a full batch, `fullness` the mean of the ranks' shares:
        ranks average their gradients.
        """
        if self.weighted:
            loss = loss * share
        if self.scaler.is_enabled():
            loss = self.scaler.scale(loss)
        loss.backward(inputs=inputs)
        self.calls += 1
        self.weight += fullness
        if self.calls >= self.accumulate:
            self.close()

    @torch.no_grad()
    def close(self) -> None:
        """Step with what the open window has gathered.

        Raises NonFiniteError, and takes no step, for a gradient that is not finite, where that is looked at.
        """
        if not self.calls:
            return
        if self.weighted and self.weight != 1:
            torch._foreach_div_([p.grad for p in self.params if p.grad is not None], self.weight)
        if self.clip or self.check:
            self.scaler.unscale_(self.optimizer)
            self.norm = nn.utils.clip_grad_norm_(self.params, self.clip) if self.clip else self._gradient_norm()
            # a scaler looks at gradients itself: those that are not finite are its way to find its scale
            if self.check and not self.scaler.is_enabled() and not math.isfinite(self.norm):
                raise NonFiniteError(f"the gradient's norm is {self.norm.item()}", steps=self.window)
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.step()
        self.drop()
        self.taken += 1
        if self.schedule is not None:
            self.schedule.after_step()

    def drop(self) -> None:
        """Empty the window."""
        for parameter in self.params:  # the optimizer's zero_grad() does the same, and 30 µs of bookkeeping
            parameter.grad = None
        self.calls, self.weight, self.window = 0, 0.0, []

    def _gradient_norm(self) -> Tensor:
        return nn.utils.get_total_norm([p.grad for p in self.params if p.grad is not None])

    @property
    def lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Optimizer, schedule, scaler and the open window with its gradients."""
        gradients = [p.grad for p in self.params] if self.calls else []
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "scaler": self.scaler.state_dict(),
            "window": {"calls": self.calls, "weight": self.weight, "gradients": gradients},
            "taken": self.taken,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(deepcopy(state["optimizer"]))  # whose tensors may lie in a file
        if self.schedule:
            self.schedule.load_state_dict(state["schedule"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
            self.scaler.scale(torch.zeros((), device=self.params[0].device))  # else an open window could not be closed
        window = state["window"]
        self.calls, self.weight, self.taken = window["calls"], window["weight"], state["taken"]
        self.window = []
        for parameter, gradient in zip(self.params, window["gradients"], strict=False):
            parameter.grad = None if gradient is None else gradient.to(parameter.device, copy=True)


def bare_step(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    """An optimizer's step without torch's wrappers for profiler, hooks and compiler; to be called under no_grad.

    The wrappers take 30 to 70 µs a step, and import torch's compiler, which takes longer than many a first epoch.
    """
    optimizer._opt_called = True  # type: ignore[attr-defined]  # schedules look here whether steps are taken
    return partial(inspect.unwrap(type(optimizer).step), optimizer)


def spare_compiler() -> None:
    """Let an optimizer's other methods run as they are: torch imports its compiler only to be told to stay away."""
    kind = torch.optim.Optimizer
    for method in (kind.add_param_group, kind.state_dict, kind.load_state_dict, kind.zero_grad):
        own = inspect.unwrap(method)
        setattr(own, "__dynamo_disable", own)  # where torch keeps what it found
