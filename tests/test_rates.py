"""The learning rate set by hand: every group has it at once, and each of torch's schedulers goes on from there."""

import math
from types import SimpleNamespace

import pytest
import torch
from conftest import same
from torch.optim import lr_scheduler as torch_schedulers

from configs import load
from trainer.optim.rates import set_rate
from trainer.optim.step import OptimizerStep
from trainer.optim.update import Updates, make_updates

# name: arguments beside those that the run's length gives
SCALED = {
    "StepLR": {"step_size": 4, "gamma": 0.5},
    "MultiStepLR": {"milestones": [3, 9], "gamma": 0.1},
    "ExponentialLR": {"gamma": 0.9},
    "PolynomialLR": {"power": 2.0},
    "LinearLR": {"start_factor": 0.5, "total_iters": 10},
    "CosineAnnealingLR": {},
    "CosineAnnealingWarmRestarts": {"T_0": 6},
    "OneCycleLR": {"max_lr": 0.3},
    "CyclicLR": {"base_lr": 0.02, "max_lr": 0.2, "step_size_up": 4, "cycle_momentum": False},
}
EPOCHS, BEFORE = 20, 7


def made(name: str | None, args: dict) -> tuple[Updates, object]:
    """An optimizer with two groups at 0.1 and 0.01, and its schedule, as a run has them."""
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 2)
    groups = [{"params": [net.weight]}, {"params": [net.bias], "lr": 0.01}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    lengths = {"CosineAnnealingLR": {"T_max": EPOCHS}, "PolynomialLR": {"total_iters": EPOCHS}}
    lengths["OneCycleLR"] = {"total_steps": EPOCHS}
    schedule = None
    if name is not None:
        scheduler = getattr(torch_schedulers, name)(optimizer, **lengths.get(name, {}), **args)
        part = SimpleNamespace(scheduler=scheduler)
        schedule = SimpleNamespace(scheduler=scheduler, parts=[part], own=[{}, {}])
    return Updates({"model": OptimizerStep(net, optimizer, load("default"), schedule)}), schedule


def rates(updates: Updates) -> list[float]:
    return [float(group["lr"]) for group in updates.steps["model"].optimizer.param_groups]


def curve(updates: Updates, schedule, steps: int) -> list[list[float]]:
    found = []
    for _ in range(steps):
        updates.steps["model"].optimizer.step()
        schedule.scheduler.step()
        found.append(rates(updates))
    return found


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step")
@pytest.mark.parametrize("name", SCALED)
def test_a_schedule_goes_on_from_the_rate(name):
    planned = curve(*made(name, SCALED[name]), EPOCHS - 1)
    updates, schedule = made(name, SCALED[name])
    curve(updates, schedule, BEFORE)
    set_rate(updates, 0.05)
    assert rates(updates) == [0.05, 0.05]
    found = curve(updates, schedule, EPOCHS - 1 - BEFORE)
    for was, now in zip(planned[BEFORE:], found, strict=True):
        for group in (0, 1):
            factor = 0.05 / planned[BEFORE - 1][group]
            assert now[group] == pytest.approx(was[group] * factor, rel=1e-9, abs=1e-15), (name, group)


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step")
@pytest.mark.parametrize("name", SCALED)
def test_a_schedule_that_was_saved_behind_it_goes_on_the_same(name):
    updates, schedule = made(name, SCALED[name])
    curve(updates, schedule, BEFORE)
    set_rate(updates, 0.05)
    other, again = made(name, SCALED[name])
    other.steps["model"].optimizer.load_state_dict(updates.steps["model"].optimizer.state_dict())
    again.scheduler.load_state_dict(
        {k: v for k, v in schedule.scheduler.state_dict().items() if not callable(v) and k != "_scale_fn_ref"}
    )
    assert same(curve(updates, schedule, 8), curve(other, again, 8))


def test_a_cosine_falls_from_the_new_rate_to_its_own_least_one():
    updates, schedule = made("CosineAnnealingLR", {"eta_min": 0.004})
    curve(updates, schedule, BEFORE)
    set_rate(updates, 0.05)
    for step, now in enumerate(curve(updates, schedule, EPOCHS - BEFORE), BEFORE + 1):
        share = (1 + math.cos(math.pi * step / EPOCHS)) / (1 + math.cos(math.pi * BEFORE / EPOCHS))
        assert now[0] == pytest.approx(0.004 + 0.046 * share, abs=1e-12)


def test_without_a_schedule_and_from_a_rate_of_0():
    updates, _ = made(None, {})
    set_rate(updates, 0.5)
    assert rates(updates) == [0.5, 0.5]
    updates, schedule = made("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 2})
    curve(updates, schedule, 2)
    assert rates(updates) == [0.0, 0.0]
    set_rate(updates, 0.2)
    assert rates(updates) == [0.2, 0.2] and curve(updates, schedule, 1) == [[0.2, 0.2]]


def test_a_rate_that_is_set_in_the_warm_up_stays_behind_it_and_over_a_resume():
    torch.manual_seed(0)
    cfg = load(
        "default", {"optim": {"name": "SGD", "lr": 0.1}, "schedule": {"name": "StepLR", "step_size": 2, "warmup": 2}}
    )

    def made_anew() -> Updates:
        return make_updates(torch.nn.ModuleDict({"model": torch.nn.Linear(3, 2)}), cfg, batches=4)

    def go_on(updates: Updates, steps: int, first: int) -> list[float]:
        found, step = [], updates.steps["model"]
        for number in range(first, first + steps):
            step.optimizer.step()
            step.schedule.after_step()
            if number % 4 == 3:
                step.schedule.after_epoch()
            found.append(step.lr)
        return found

    updates = made_anew()
    go_on(updates, 5, 0)  # of the 8 steps of the warm-up
    set_rate(updates, 0.04)
    stored = updates.state_dict()
    curve = go_on(updates, 15, 5)
    assert curve[2] == 0.04 and curve[-1] == pytest.approx(0.004)  # behind the warm-up, and two epochs later
    again = made_anew()
    again.load_state_dict(stored)
    assert go_on(again, 15, 5) == curve
