"""Learning-rate schedules: a warm-up, then one scheduler, several in turn, or several at once."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch.optim import Optimizer

from configs import Component
from configs.optimization import AT_ONCE, IN_TURN
from trainer.optim.part import Part, Unit
from utils.torch_private import mark_as_stepped

__all__ = ["Schedule"]


class Phase(NamedTuple):
    """The schedulers that act from one epoch on until the next phase begins."""

    specs: tuple[Component, ...]
    key: str
    begin: float  # epochs from the beginning of the run
    end: float
    warm: int = 0  # of a warm-up: its length in optimizer steps, after which the next phase begins


class Schedule:
    """One optimizer's schedulers, each in its own unit; each phase begins with the rates that the config gives."""

    def __init__(
        self,
        spec: Component,
        key: str,
        optimizer: Optimizer,
        steps: int,
        epochs: int,
        mode: str,
        steps_of: Callable[[int], int] | None = None,
    ):
        """Begin the first phase. `steps` and `epochs` are the run's length; `mode`: min or max of the metric.

        `steps_of` tells how many optimizer steps the first epochs of the run have.
        Raises ConfigError when a scheduler does not take its arguments.
        """
        self.optimizer, self.steps, self.epochs, self.mode = optimizer, steps, epochs, mode
        self.steps_of = steps_of or (lambda first: round(steps * first / epochs))
        self.spec, self.key = spec, key
        self.phases = _phases(spec, key, epochs, self.steps_of)
        self.own = _options(optimizer)  # as the config gives them
        self.counted: dict[str, int] = {"step": 0, "epoch": 0}
        self.held = False  # while train.swa keeps the rate
        self._begin(0)

    def _begin(self, number: int) -> None:
        """Build the schedulers of a phase."""
        self.number, phase = number, self.phases[number]
        _set_options(self.optimizer, self.own)
        begin, end = math.ceil(phase.begin), math.ceil(phase.end)
        steps = (self.steps if end == self.epochs else self.steps_of(end)) - self._steps_before(number)
        length, unit = (max(1, steps), max(1, end - begin), self.mode), ("step" if phase.warm else None)
        self.parts = [Part(spec, phase.key, self.optimizer, *length, unit) for spec in phase.specs]  # type: ignore[arg-type]

    def _steps_before(self, number: int) -> int:
        """Return how many optimizer steps come before a phase."""
        warm = self.phases[0].warm if number == 1 else 0
        return warm or self.steps_of(math.ceil(self.phases[number].begin))

    def imagined(self) -> "Schedule":
        """Return the same schedule at its beginning, of an optimizer that learns nothing: to look at its rates."""
        groups = [{"params": [torch.zeros(1)], **own} for own in self.own]
        optimizer = torch.optim.SGD(groups)
        mark_as_stepped(optimizer)
        optimizer.defaults = dict(self.optimizer.defaults)  # schedulers ask them whether there is a momentum
        return Schedule(self.spec, self.key, optimizer, self.steps, self.epochs, self.mode, self.steps_of)

    def rising_floors(self) -> Iterator[str]:
        """Yield a note for each `eta_min` above a group's rate, which a cosine would raise to it."""
        least = min(float(own["lr"]) for own in self.own)
        for phase in self.phases:
            for floor in [spec.args.get("eta_min") or 0 for spec in phase.specs]:
                if floor > least:
                    yield (
                        f"note: {phase.key}.eta_min {floor:.3g} is above a learning rate, {least:.3g}, which then "
                        "rises; give a smaller one"
                    )

    @property
    def active(self) -> Part:
        """The scheduler that acts now; of several at once the first."""
        return self.parts[0]

    @property
    def counts_steps(self) -> bool:
        """Whether each optimizer step may change the rate."""
        return any(part.unit == "step" for part in self.parts)

    def pass_over(self, steps: int) -> None:
        """Count optimizer steps that change nothing."""
        assert not self.counts_steps
        self.counted["step"] += steps

    def rates(self) -> list[float]:
        """Return the present rate of each group."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    @property
    def scheduler(self) -> Any:
        return self.active.scheduler

    @property
    def unit(self) -> Unit:
        return self.active.unit

    @property
    def length(self) -> int:
        """The length of the present phase in its unit, as the config gives it."""
        return self.active.length

    @property
    def end(self) -> float:
        """The number of steps the present scheduler was built for; afterwards the last rate is kept."""
        return self.active.end

    def after_step(self) -> None:
        """Count an optimizer step: step the schedulers that count these, or end the warm-up."""
        if self.held:
            return
        self.counted["step"] += 1
        warm = self.phases[self.number].warm
        if warm and self.counted["step"] >= warm and self.number + 1 < len(self.phases):
            self._begin(self.number + 1)
        else:
            self._count("step")

    def after_epoch(self) -> None:
        """Count an epoch: step the schedulers that count these, or begin the next phase."""
        if self.held:
            return
        self.counted["epoch"] += 1
        epoch, ahead = self.counted["epoch"], self.phases[self.number + 1 :]
        if ahead and not self.phases[self.number].warm and epoch >= ahead[0].begin:
            self._begin(self.number + 1)
        elif epoch > math.ceil(self.phases[self.number].begin):  # after the first epoch that it has seen whole
            self._count("epoch")

    def _count(self, unit: Unit) -> None:
        for part in self.parts:
            part.count(unit)

    def after_validation(self, loss: float, score: float) -> None:
        """Step schedulers that count validations; of `loss` and `score`, the monitored metric, smaller is better."""
        for part in self.parts if not self.phases[self.number].warm and not self.held else ():
            part.after_validation(loss, score)

    def state_dict(self) -> dict[str, Any]:
        parts = [part.state_dict() for part in self.parts]
        return {"phase": self.number, **self.counted, "own": [float(own["lr"]) for own in self.own], "parts": parts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where the state was taken. The optimizer has its own state, with its rates, already."""
        if "rule" in state:  # of a version with one scheduler a run
            state = {"phase": 0, **self.counted, "parts": [state]}
        for own, lr in zip(self.own, state.get("own", ()), strict=False):
            own["lr"] = lr  # that the run was given meanwhile
        kept = _options(self.optimizer)
        if state["phase"] != self.number:
            self._begin(state["phase"])
        self.counted = {unit: state[unit] for unit in self.counted}
        for part, own in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(own)
        _set_options(self.optimizer, kept)


def _phases(spec: Component, key: str, epochs: int, steps_of: Callable[[int], int]) -> list[Phase]:
    """Return the phases of a run: a warm-up, then the schedulers one after the other."""
    warmup, found = float(spec.args.get("warmup") or 0), []
    if warmup:
        whole = math.ceil(warmup)
        steps = max(1, round(steps_of(whole) * warmup / whole))
        rise = Component("LinearLR", {"start_factor": 1 / (steps + 1), "total_iters": steps})
        found = [Phase((rise,), f"{key}.warmup", 0, warmup, steps)]
    turns, begin = (spec.args["schedulers"] if spec.name == IN_TURN else (spec,)), warmup
    for number, turn in enumerate(turns):
        end = begin + turn.args["epochs"] if turn.args.get("epochs") else max(float(epochs), begin)
        at_once = turn.args["schedulers"] if turn.name == AT_ONCE else (turn,)
        found.append(Phase(tuple(at_once), f"{key}.schedulers[{number}]" if len(turns) > 1 else key, begin, end))
        begin = end
    return found


def _options(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return the settings of each group, without its parameters."""
    return [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]


def _set_options(optimizer: Optimizer, options: list[dict[str, Any]]) -> None:
    """Give each group exactly these settings."""
    for group, own in zip(optimizer.param_groups, options, strict=True):
        for name in [name for name in group if name != "params" and name not in own]:
            del group[name]
        group.update(own)
