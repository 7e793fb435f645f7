"""The learning rate set by hand while a run trains, so that its schedule goes on from there."""

from collections.abc import Iterator
from typing import Any

from torch.optim import Optimizer

from trainer.optim.update import Updates

__all__ = ["set_rate"]

PLANNED = ("initial_lr", "max_lr", "min_lr")  # rates in an optimizer's group that a scheduler computes others from
BASES = ("base_lrs", "max_lrs")  # the same in a scheduler, one a group


def set_rate(updates: Updates, lr: float) -> None:
    """Set the present rate of every group of every optimizer.

    Its schedule goes on from there: a scheduler that multiplies the rate (StepLR, ExponentialLR, DecayOnRise, …) does
    it with the new one; CosineAnnealingLR falls from it to its eta_min; one that computes rates from others (LambdaLR,
    OneCycleLR, CyclicLR, …) has these multiplied by new over old, and so all later rates. A rate of 0 has no such
    factor: then later rates are those of before.
    """
    for step in updates.steps.values():
        factors = [lr / float(group["lr"]) if group["lr"] else 1.0 for group in step.optimizer.param_groups]
        _set_groups(step.optimizer, lr, factors)
        for own in step.schedule.own if step.schedule else ():
            own["lr"] = lr  # a later scheduler of a list begins with it, and the one behind a warm-up
        for part in step.schedule.parts if step.schedule else ():
            for scheduler in _nested(part.scheduler):
                _scale(scheduler, lr, factors)


def _set_groups(optimizer: Optimizer, lr: float, factors: list[float]) -> None:
    for group, factor in zip(optimizer.param_groups, factors, strict=True):
        group["lr"] = lr
        group.update({name: group[name] * factor for name in PLANNED if name in group})


def _nested(scheduler: Any) -> Iterator[Any]:
    """Yield a scheduler and all that it is made of."""
    yield scheduler
    for inner in getattr(scheduler, "_schedulers", ()):  # of torch's SequentialLR and ChainedScheduler
        yield from _nested(inner)


def _scale(scheduler: Any, lr: float, factors: list[float]) -> None:
    for name in BASES:
        if hasattr(scheduler, name):
            bases = zip(getattr(scheduler, name), factors, strict=True)
            setattr(scheduler, name, [base * factor for base, factor in bases])
    if hasattr(scheduler, "_last_lr"):
        scheduler._last_lr = [lr] * len(factors)
