"""One scheduler, torch's or another, stepped in its own unit."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from configs import COMPONENTS, Component
from configs.optimization import SCHEDULE_KEYS
from utils.blame import refuse_other
from utils.errors import ConfigError

__all__ = ["Part", "Unit"]

Unit = Literal["step", "epoch", "validation"]

SCHEDULER = ("step", "state_dict", "load_state_dict")  # all that is asked of one, torch's or not
# Every other scheduler of torch counts epochs, as its documentation's examples do; another one says so in `unit`.
UNITS: dict[str, Unit] = {"OneCycleLR": "step", "CyclicLR": "step", "ReduceLROnPlateau": "validation"}


class Part:
    """A scheduler and the unit it counts in."""

    def __init__(
        self,
        spec: Component,
        key: str,
        optimizer: Optimizer,
        steps: int,
        epochs: int,
        mode: str,
        unit: Unit | None = None,
    ):
        """Build the scheduler. `steps` and `epochs` are its length; `mode`: min or max of the metric.

        Raises ConfigError when the scheduler does not take its arguments.
        """
        own = getattr(COMPONENTS["schedule"].get(spec.name, key), "unit", UNITS.get(spec.name, "epoch"))
        self.unit: Unit = unit or own
        self.length = length = steps if self.unit == "step" else epochs
        fixed = spec.args.get("epochs") is not None
        spec = Component(spec.name, {k: v for k, v in spec.args.items() if k not in SCHEDULE_KEYS})
        rates = [group["lr"] for group in optimizer.param_groups]
        offered: dict[str, Any] = {"total_steps": length, "T_max": length, "total_iters": length}
        offered["max_lr"] = rates if len(rates) > 1 else rates[0]
        if spec.name in ("ConstantLR", "LinearLR") and not fixed:
            del offered["total_iters"]  # a warm-up: its own short default is meant
        for name in ("step_size", "T_max", "T_0"):  # by which they divide
            if isinstance(spec.args.get(name), (int, float)) and spec.args[name] < 1:
                raise ConfigError(f"{key}.{name}: must be at least 1, got {spec.args[name]}")
        self.monitors = spec.name == "ReduceLROnPlateau"
        if self.monitors:  # its thresholds are shares of the value, so that it must see the metric itself
            offered["mode"] = mode
            if spec.args.get("mode", mode) != mode:
                raise ConfigError(f"{key}.mode: the monitored metric is better at its {mode}; leave it out")
        spec = Component(spec.name, _for_each_group(_risen(spec, length), rates))
        self.scheduler = COMPONENTS["schedule"].build(spec, key, optimizer=optimizer, **offered)
        if not all(hasattr(self.scheduler, name) for name in SCHEDULER):
            refuse_other(self.scheduler, LRScheduler)
        lengths = [name for name in ("T_max", "total_iters") if name in offered and name not in spec.args]
        self.limit = next((name for name in ("total_steps", *lengths) if hasattr(self.scheduler, name)), None)
        self.taken = 0
        self.rests = fixed and self.limit != "total_steps"  # its last step reaches the rate that stays

    @property
    def end(self) -> float:
        """The number of steps the scheduler was built for; afterwards the last rate is kept."""
        return getattr(self.scheduler, self.limit) if self.limit else math.inf

    def count(self, unit: Unit) -> None:
        """Step the scheduler if it counts in that unit, steps or epochs."""
        if self.unit == unit and self.taken + 1 < self.end + self.rests:
            self.scheduler.step()
            self.taken += 1

    def after_validation(self, loss: float, score: float) -> None:
        """Step a scheduler that counts validations; of `loss` and `score`, the monitored metric, smaller is better."""
        if self.unit == "validation":
            own = score if getattr(self.scheduler, "mode", "min") == "min" else -score
            self.scheduler.step(own if self.monitors else loss)

    def state_dict(self) -> dict[str, Any]:
        return {"rule": _plain(self.scheduler.state_dict()), "taken": self.taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.scheduler.load_state_dict(state["rule"])
        self.taken = state["taken"]


def _risen(spec: Component, length: int) -> Mapping[str, Any]:
    """Return the arguments without a rise of 0 steps, by which OneCycleLR divides."""
    if spec.name == "OneCycleLR" and spec.args.get("pct_start", 0.3) * length == 1:
        return {**spec.args, "pct_start": (1 + 1e-9) / length}
    return spec.args


def _for_each_group(args: Mapping[str, Any], rates: list[float]) -> dict[str, Any]:
    """Return the arguments with a rate for each group: the first group's is given, the others keep their ratio."""

    def spread(value: Any) -> Any:
        single = isinstance(value, (int, float)) and len(rates) > 1 and rates[0] > 0
        return [value * rate / rates[0] for rate in rates] if single else value

    return {name: spread(value) if name in ("max_lr", "base_lr") else value for name, value in args.items()}


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state without bound functions, which no safe loader reads and every constructor sets again."""
    return {key: value for key, value in state.items() if not callable(value) and key != "_scale_fn_ref"}
