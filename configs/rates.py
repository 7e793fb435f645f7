"""The learning rates of a config in words, as far as they are known without torch and without the data."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from configs.components import COMPONENTS
from configs.optimization import AT_ONCE, CONSTANT, IN_TURN
from configs.schema import Config, Train
from configs.training import first_averaged
from utils.config.convert import Component

__all__ = ["rates_in_words"]

MOST = 10_000  # epochs that are looked at
FOLLOWS = ("ReduceLROnPlateau", "DecayOnRise")


def rates_in_words(cfg: Config) -> list[str]:
    """Return a line for each optimizer: its first, highest and last learning rate."""
    lines = []
    for role, spec in cfg.optim.items():
        name, lr = "" if role == "model" else f" of {role}", _value("optim", spec, "lr")
        if isinstance(lr, (int, float)):
            lines.append(f"learning rate{name}: {_course(cfg.schedule.get(role), float(lr), cfg.train)}")
    return lines


def _course(spec: Component | None, lr: float, train: Train) -> str:
    """Return the first, highest and last rate of a schedule in words."""
    # how many epochs max_steps are, only the data tell
    epochs = train.max_epoch if train.max_steps is None else MOST + 1
    kept = [] if train.swa is None else [float(train.swa["lr"])]
    until = first_averaged(train) if kept else epochs
    if spec is None and not kept:
        return f"{lr:.2g} in the whole run"
    spec = spec or Component(CONSTANT)
    warmup = float(spec.args.get("warmup") or 0)
    turns, begin, rates = (spec.args["schedulers"] if spec.name == IN_TURN else (spec,)), math.ceil(warmup), []
    for turn in turns:
        length = turn.args.get("epochs") or max(1, epochs - begin)
        shown = epochs <= MOST and not (kept and turn.name == "OneCycleLR")  # whose list here has no single epochs
        part = _rates(turn, lr, length) if shown else None
        if part is None:
            return f"{lr:.2g} in optim; its course is told when the training begins, and drawn in lr.png"
        rates += part[: max(0, epochs - begin)] if turn.name != "OneCycleLR" else part
        begin += length
    if kept:
        rates = rates[: max(0, until - math.ceil(warmup))] + kept
    follows = turns[-1].name in FOLLOWS
    rises = warmup and until
    first = f"{lr:.2g} / (1 + the optimizer steps in {warmup:g} epochs)" if rises else f"{rates[0]:.2g}"
    highest = max([*rates, *([lr] if rises and warmup < until else [])], default=lr)
    last = "later ones follow the validation" if follows else f"{rates[-1]:.2g} last" if rates else "it is a warm-up"
    return f"{first} first, {highest:.2g} highest, {last}"


def _rates(spec: Component, lr: float, epochs: int) -> list[float] | None:
    """Return the rates of a scheduler, one an epoch; None where they are not known."""
    if spec.name == AT_ONCE:
        return None
    known = EACH_EPOCH.get(spec.name)
    if known is None:
        return None

    def argument(name: str) -> Any:
        value = spec.args.get(name, epochs if name in _offered(spec) else None)
        return _value("schedule", spec, name) if value is None else value

    return known(lr, epochs, argument)


def _offered(spec: Component) -> tuple[str, ...]:
    """Return the arguments whose default is the length of the run."""
    short = spec.name in ("ConstantLR", "LinearLR") and not spec.args.get("epochs")  # warm-ups by themselves
    return ("T_max",) if short else ("T_max", "total_iters")


def _value(kind: str, spec: Component, name: str) -> Any:
    """Return an argument as the config has it, otherwise its default in the source."""
    parameter = COMPONENTS[kind].arguments(spec.name).get(name)
    return spec.args.get(name, parameter.default if parameter else None)


Argument = Callable[[str], Any]


def _constant(lr: float, epochs: int, argument: Argument) -> list[float]:
    return [lr] * epochs


def _step(lr: float, epochs: int, argument: Argument) -> list[float]:
    return [lr * argument("gamma") ** (epoch // argument("step_size")) for epoch in range(epochs)]


def _multi_step(lr: float, epochs: int, argument: Argument) -> list[float]:
    falls = argument("milestones")
    return [lr * argument("gamma") ** sum(epoch >= fall for fall in falls) for epoch in range(epochs)]


def _exponential(lr: float, epochs: int, argument: Argument) -> list[float]:
    return [lr * argument("gamma") ** epoch for epoch in range(epochs)]


def _constant_share(lr: float, epochs: int, argument: Argument) -> list[float]:
    return [lr * (_share(argument("factor")) if epoch < argument("total_iters") else 1) for epoch in range(epochs)]


def _linear(lr: float, epochs: int, argument: Argument) -> list[float]:
    begin, end, length = _share(argument("start_factor")), argument("end_factor"), argument("total_iters")
    done = [min(1.0, epoch / length) if length else 1.0 for epoch in range(epochs)]
    return [lr * (begin + (end - begin) * share) for share in done]


def _share(value: Any) -> float:
    """Return a factor; torch writes its default as 1.0 / 3, which is no literal."""
    return float(value) if isinstance(value, (int, float)) else 1 / 3


def _cosine(lr: float, epochs: int, argument: Argument) -> list[float]:
    least, half = argument("eta_min"), argument("T_max")
    return [least + (lr - least) * (1 + math.cos(math.pi * epoch / half)) / 2 for epoch in range(epochs)]


def _polynomial(lr: float, epochs: int, argument: Argument) -> list[float]:
    power, length = argument("power"), argument("total_iters")
    return [lr * (1 - min(epoch, length) / length) ** power for epoch in range(epochs)]


def _one_cycle(lr: float, epochs: int, argument: Argument) -> list[float]:
    top = argument("max_lr")
    top = float(top) if isinstance(top, (int, float)) else lr
    first = top / argument("div_factor")
    return [first, *[top] * max(1, epochs - 2), first / argument("final_div_factor")]


EACH_EPOCH: Mapping[str, Callable[[float, int, Argument], list[float]]] = {
    "Constant": _constant,
    "StepLR": _step,
    "MultiStepLR": _multi_step,
    "ExponentialLR": _exponential,
    "ConstantLR": _constant_share,
    "LinearLR": _linear,
    "CosineAnnealingLR": _cosine,
    "PolynomialLR": _polynomial,
    "OneCycleLR": _one_cycle,
    **dict.fromkeys(FOLLOWS, _constant),
}
