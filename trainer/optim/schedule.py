"""Learning-rate rules: torch's schedulers by name, each stepped in its own unit, and the book's."""

import math
from typing import Any, Literal

from torch.optim import Optimizer

from configs import COMPONENTS, Component
from utils.errors import ConfigError

__all__ = ["DecayOnRise"]

Unit = Literal["step", "epoch", "validation"]

# Every other rule of torch counts epochs, as its documentation's examples do.
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
    """One optimizer's rule and the unit it counts in."""

    def __init__(self, spec: Component, key: str, optimizer: Optimizer, steps: int, epochs: int, mode: str):
        """`steps` and `epochs` are the run's length, for the rules that must know it; `mode`: min or max of the metric.

        Raises ConfigError when the rule does not take its arguments.
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
        self.rule = COMPONENTS["schedule"].build(spec, key, optimizer=optimizer, **offered)
        lengths = [name for name in ("T_max", "total_iters") if name in offered and name not in spec.args]
        self.limit = next((name for name in ("total_steps", *lengths) if hasattr(self.rule, name)), None)
        self.taken = 0

    @property
    def end(self) -> float:
        """How many steps a rule knows that was made for a run of so many; after them its last rate stays."""
        return getattr(self.rule, self.limit) if self.limit else math.inf

    def after_step(self) -> None:
        """Once an optimizer step."""
        if self.unit == "step":
            self._step()

    def after_epoch(self) -> None:
        if self.unit == "epoch":
            self._step()

    def _step(self) -> None:
        if self.taken + 1 < self.end:
            self.rule.step()
            self.taken += 1

    def after_validation(self, loss: float, score: float) -> None:
        """`loss` is the validation loss, `score` the monitored metric, smaller being better."""
        if self.unit == "validation":
            own = score if getattr(self.rule, "mode", "min") == "min" else -score
            self.rule.step(own if self.monitors else loss)

    def state_dict(self) -> dict[str, Any]:
        return {"rule": _plain(self.rule.state_dict()), "taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rule.load_state_dict(state["rule"])
        self.taken = state["taken"]


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Without bound functions, which no safe loader reads and every constructor sets again."""
    return {key: value for key, value in state.items() if not callable(value) and key != "_scale_fn_ref"}
