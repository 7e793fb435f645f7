"""Learning-rate schedulers: torch's by name, each stepped in its own unit, and the book's."""

import math
from typing import Any, Literal

from torch.optim import Optimizer

from configs import COMPONENTS, Component
from utils.errors import ConfigError

__all__ = ["DecayOnRise"]

Unit = Literal["step", "epoch", "validation"]

# Every other scheduler of torch counts epochs, as its documentation's examples do.
UNITS: dict[str, Unit] = {
    "OneCycleLR": "step",
    "CyclicLR": "step",
    "ReduceLROnPlateau": "validation",
    "DecayOnRise": "validation",
}


class DecayOnRise:
    """The book's rule: when the validation loss is higher than the time before, lr becomes lr * lr_decay.

    The optimizer is changed in place, so that its momentum is kept (book, section 6.1.8).
    """

    def __init__(self, optimizer: Optimizer, lr_decay: float = 0.5, min_lr: float = 0.0):
        """Raises ValueError unless 0 < lr_decay <= 1."""
        if not 0 < lr_decay <= 1:
            raise ValueError(f"lr_decay must lie above 0 and not above 1, got {lr_decay}")
        self.optimizer, self.lr_decay, self.min_lr = optimizer, lr_decay, min_lr
        self.previous: float | None = None

    def step(self, loss: float) -> None:
        if self.previous is not None and loss > self.previous:
            for group in self.optimizer.param_groups:
                group["lr"] = max(group["lr"] * self.lr_decay, self.min_lr)
        self.previous = loss

    def state_dict(self) -> dict[str, Any]:
        return {"previous": self.previous}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.previous = state["previous"]


class Schedule:
    """One optimizer's scheduler and the unit it counts in."""

    def __init__(self, spec: Component, key: str, optimizer: Optimizer, steps: int, epochs: int, mode: str):
        """Build the scheduler. `steps` and `epochs` are the run's length; `mode`: min or max of the metric.

        Raises ConfigError when the scheduler does not take its arguments.
        """
        self.unit: Unit = UNITS.get(spec.name, "epoch")
        self.length = length = steps if self.unit == "step" else epochs
        lr = optimizer.param_groups[0]["lr"]
        offered: dict[str, Any] = {"total_steps": length, "T_max": length, "total_iters": length, "max_lr": lr}
        if spec.name in ("ConstantLR", "LinearLR"):
            del offered["total_iters"]  # a warm-up: its own short default is meant
        for name in ("step_size", "T_max", "T_0"):  # by which they divide
            if isinstance(spec.args.get(name), (int, float)) and spec.args[name] < 1:
                raise ConfigError(f"{key}.{name}: must be at least 1, got {spec.args[name]}")
        self.monitors = spec.name == "ReduceLROnPlateau"
        if self.monitors:  # its thresholds are shares of the value, so that it must see the metric itself
            offered["mode"] = mode
            if spec.args.get("mode", mode) != mode:
                raise ConfigError(f"{key}.mode: the monitored metric is better at its {mode}; leave it out")
        if spec.name == "OneCycleLR" and spec.args.get("pct_start", 0.3) * length == 1:  # a rise of 0 steps: divided by
            spec = Component(spec.name, {**spec.args, "pct_start": (1 + 1e-9) / length})
        self.scheduler = COMPONENTS["schedule"].build(spec, key, optimizer=optimizer, **offered)
        lengths = [name for name in ("T_max", "total_iters") if name in offered and name not in spec.args]
        self.limit = next((name for name in ("total_steps", *lengths) if hasattr(self.scheduler, name)), None)
        self.taken = 0
        self.held = False  # while train.swa keeps the rate

    @property
    def end(self) -> float:
        """The number of steps the scheduler was built for; afterwards the last rate is kept."""
        return getattr(self.scheduler, self.limit) if self.limit else math.inf

    def after_step(self) -> None:
        """Step a scheduler that counts optimizer steps."""
        if self.unit == "step" and not self.held:
            self._step()

    def after_epoch(self) -> None:
        if self.unit == "epoch" and not self.held:
            self._step()

    def _step(self) -> None:
        if self.taken + 1 < self.end:
            self.scheduler.step()
            self.taken += 1

    def after_validation(self, loss: float, score: float) -> None:
        """Step a scheduler that counts validations; of `loss` and `score`, the monitored metric, smaller is better."""
        if self.unit == "validation" and not self.held:
            own = score if getattr(self.scheduler, "mode", "min") == "min" else -score
            self.scheduler.step(own if self.monitors else loss)

    def state_dict(self) -> dict[str, Any]:
        return {"rule": _plain(self.scheduler.state_dict()), "taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scheduler.load_state_dict(state["rule"])
        self.taken = state["taken"]


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state without bound functions, which no safe loader reads and every constructor sets again."""
    return {key: value for key, value in state.items() if not callable(value) and key != "_scale_fn_ref"}
