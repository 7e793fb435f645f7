"""A loss or a gradient that is not finite, at a random batch: stop, skip and rollback."""

from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.faults.campaign import Family, Trial, require
from tests.faults.children import Child, check_sentence
from tests.faults.runs import (
    DIGITS,
    RUN,
    check_journal,
    check_same,
    finish,
    noted,
    position,
    prepare,
    reference,
    resume,
    train,
)
from tests.faults.steps import stop_after
from trainer.checkpointing.compare import TIMES, state_difference
from trainer.checkpointing.store import read

POLICIES = ("stop", "skip", "rollback")
FAULTS = ("loss nan", "loss inf", "gradient nan", "gradient inf")
SAVES = 4  # steps between two saves
ARGUMENTS = [*[argument for argument in DIGITS if "accumulate" not in argument], f"--train.save_steps={SAVES}"]

Batch = tuple[int, int]  # epoch and number


def trial(t: Trial) -> str:
    policy, fault = POLICIES[t.seed % len(POLICIES)], t.rng.choice(FAULTS)
    accumulate = f"--train.accumulate={t.rng.choice((1, 1, 3)) if fault.startswith('loss') else 1}"
    whole = reference([*ARGUMENTS, accumulate])
    count = 1 if policy == "stop" else t.rng.randint(1, 3)
    order = noted(whole, "order")
    steps = sorted(t.rng.sample(range(1, len(order) + 1), count))
    bad = [(epoch, number) for epoch, number, _ in (order[step - 1] for step in steps)]
    hooks = [*([BROKEN[t.broken]] if t.broken else []), partial(spoil, fault, bad)]
    child = train(t.folder, [*ARGUMENTS, accumulate, f"--train.on_nonfinite={policy}"], hooks)
    child.wait()
    check_finite(t.folder)
    if policy == "stop":
        check_stopped(t, child, steps[0], fault, whole, accumulate)
    else:
        check_left_out(t, child, bad, policy, accumulate)
    return f"{policy}, {fault}"


def check_stopped(t: Trial, child: Child, step: int, fault: str, whole: Path, accumulate: str) -> None:
    """Exit 6 with all that helps; what is saved is the run before that step, and goes on as if nothing had been."""
    from data.digits import Digits

    first = Digits("train").ids[noted(whole, "order")[step - 1][2][0]]
    facts = ["lr ", f"samples {first}, ", *(["gradient norm "] if step > 3 else [])]  # none before a window is full
    check_sentence(child, 6, f"step {step}: the {fault.split()[0]}", *facts)
    if step == 1:
        require(not (t.folder / RUN).exists(), "nothing was learned, but the run's name is taken")
        return
    saved = position(t.folder)
    require(step - 1 - SAVES < saved < step, f"not finite at step {step}, but saved after {saved}")
    if saved % 13:  # at the end of an epoch a stopped run saves before validation
        before = t.folder / "before"
        stopped = train(before, [*ARGUMENTS, accumulate], [partial(stop_after, saved)])
        stopped.wait()
        found = state_difference(read(before / RUN / "last.pth"), read(t.folder / RUN / "last.pth"))
        require(not found, f"what is saved is not the run before step {step}: {found}")
    finish(resume(t.folder))
    check_same(t.folder, whole)


def check_left_out(t: Trial, child: Child, bad: list[Batch], policy: str, accumulate: str) -> None:
    """Finished, and equal to a run that was never given those batches (rollback) or learned nothing of them (skip)."""
    finish(child)
    told = {"skip": "its batch is left out", "rollback": "without its batch"}[policy]
    require(child.out().count(told) == len(bad), f"{len(bad)} bad batches, but told is: {child.out()[-600:]}")
    check_journal(t.folder)
    state = read(t.folder / RUN / "last.pth")
    require([tuple(one) for one in state["progress"]["skipped"]] == bad, f"left out: {state['progress']['skipped']}")
    if policy == "skip" and accumulate[-1] != "1":
        return  # the other batches of the window go with it
    other = t.folder / "other"
    finish(train(other, [*ARGUMENTS, accumulate], [partial(avoid if policy == "rollback" else ignore, bad)]))
    found = state_difference(read(other / RUN / "last.pth"), state, [*TIMES, "skipped"])
    require(not found, f"not the run without the batches {bad}: {found}")


def check_finite(folder: Path) -> None:
    """Raises Violation when a file holds a number that is not finite."""
    for path in sorted((folder / RUN).glob("*.pth")):
        state = read(path)
        for part in ("model", "ema", "update"):
            require(_finite(state[part]), f"{path.name} holds a number that is not finite in its {part}")


def _finite(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return not value.is_floating_point() or bool(value.isfinite().all())
    if isinstance(value, dict | list | tuple):
        return all(map(_finite, value.values() if isinstance(value, dict) else value))
    return True


# In a child


def spoil(fault: str, bad: list[Batch]) -> None:
    """Whenever one of these batches is learned from, its loss or gradient is not finite."""
    from trainer.optim.update import Updates

    own, value = Updates.__call__, float(fault.split()[1])
    here = follow()

    def update(self, loss, role="model"):
        if here["batch"] in bad and fault.startswith("loss"):
            loss = loss * value
        elif here["batch"] in bad:
            loss.register_hook(lambda gradient: gradient * value)
        own(self, loss, role)

    Updates.__call__ = update


def ignore(bad: list[Batch]) -> None:
    """These batches are looked at, but nothing is learned."""
    from trainer.optim.update import Updates

    own, here = Updates.__call__, follow()
    Updates.__call__ = lambda self, loss, role="model": None if here["batch"] in bad else own(self, loss, role)


def avoid(bad: list[Batch]) -> None:
    """These batches are not even looked at."""
    from trainer.tasks.classification import Classification

    own, here = Classification.train_step, follow()
    Classification.train_step = lambda self, batch, update: {} if here["batch"] in bad else own(self, batch, update)


def follow() -> dict[str, Batch]:
    """What knows which batch is in work."""
    from data.loading.loader import Loader

    own, here = Loader.epoch, {"batch": (-1, -1)}

    def epoch(self, number: int, start: int = 0):
        for i, pair in enumerate(own(self, number, start), start):
            if self.training:
                here["batch"] = (number, i)
            yield pair

    Loader.epoch = epoch
    return here


# Broken on purpose


def unseen() -> None:
    """Nobody looks whether a loss or a gradient is finite, nor whether weights are."""
    import math

    from trainer.checkpointing import store as checkpoint
    from trainer.optim import step, update

    class Blind:
        def __getattr__(self, name):
            return (lambda value: True) if name == "isfinite" else getattr(math, name)

    update.math = step.math = Blind()
    checkpoint._check_finite = lambda weights: None


def learned_first() -> None:
    """The optimizer steps before the gradient is looked at."""
    from trainer.optim.step import OptimizerStep

    own = OptimizerStep.close

    def close(self):
        if self.calls:
            self.optimizer.step()
        own(self)

    OptimizerStep.close = close


def not_back() -> None:
    """A rollback only leaves the batch out."""
    from trainer.state import RunState

    RunState.roll_back = lambda self, saver, logger: None


BROKEN = {"not looked at": unseen, "learned before it is looked at": learned_first, "no way back": not_back}

FAMILY = Family(
    "nonfinite",
    "a loss or a gradient that is NaN or infinite at random batches, 50 each with on_nonfinite stop, skip and rollback",
    "no update applied, no number that is not finite in any file; stop: exit 6 with step, lr, gradient norm, sample "
    "ids, resume exact; skip and rollback: equal to a run without those batches",
    150,
    trial,
    tuple(BROKEN),
    prepare,
)
