"""Learning-rate rules count what they say they count, and look at the metric that is monitored."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from configs import Component, load
from configs.schema import Train
from trainer.optim.schedule import Schedule
from trainer.optim.step import OptimizerStep
from trainer.optim.update import make_updates, optimizer_steps
from utils.errors import ConfigError


def plateau(better: str, **args) -> tuple[Schedule, torch.optim.Optimizer]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    spec = Component("ReduceLROnPlateau", {"patience": 2, **args})
    return Schedule(spec, "schedule", optimizer, steps=10, epochs=10, mode=better), optimizer


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(("change", "falls"), [(0.0, True), (-0.01, True), (0.01, False)])
def test_a_plateau_is_seen_whatever_is_better(mode, change, falls):
    """As torch's own rule with the metric itself: by how much it must get better is a share of it."""
    rule, optimizer = plateau(mode)
    sign = 1 if mode == "max" else -1
    for number in range(20):
        value = 0.5 + sign * change * number
        rule.after_validation(loss=0.0, score=-sign * value)
    assert (optimizer.param_groups[0]["lr"] < 1) == falls


@pytest.mark.parametrize("steps", [2, 5, 10])
def test_a_rise_of_a_single_step_is_no_division_by_zero(steps):
    """`--max-steps=10` with pct_start 0.1: torch divides by the 0 steps between the first one and the top."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    spec = Component("OneCycleLR", {"pct_start": 1 / steps})
    rule = Schedule(spec, "schedule", optimizer, steps=steps, epochs=1, mode="min")
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(steps - 1):
        optimizer.step()
        rule.after_step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(1 / 25) and rates[-1] < 1e-5 and (steps == 2 or max(rates) > 0.8)


def test_a_plateau_the_other_way_round_is_refused():
    assert plateau("max", mode="max")[0].scheduler.mode == "max"
    with pytest.raises(ConfigError, match=r"schedule\.mode: the monitored metric is better at its max"):
        plateau("max", mode="min")


@pytest.mark.parametrize(("monitor", "mode"), [("accuracy", "max"), ("loss", "min")])
def test_the_rule_is_told_what_is_better(monitor, mode):
    cfg = load("default", [])
    rule = {"model": Component("ReduceLROnPlateau")}
    cfg = replace(cfg, schedule=rule, train=replace(cfg.train, monitor=monitor))
    task = torch.nn.ModuleDict({"model": torch.nn.Linear(2, 2)})
    task.metrics = {"accuracy": "max", "loss": "min"}
    assert make_updates(task, cfg, batches=5).schedules()[0].scheduler.mode == mode


@pytest.mark.parametrize(("accumulate", "every"), [*product((1, 2, 3), (1, 2, 5))])
@pytest.mark.parametrize("max_steps", [None, 1, 7, 14, 15, 100])
def test_the_steps_of_a_run_are_known_before(accumulate, every, max_steps):
    batches, epochs = 7, 3
    train = Train(max_epoch=epochs, max_steps=max_steps, accumulate=accumulate)
    net = torch.nn.Linear(1, 1)
    step = OptimizerStep(
        net, torch.optim.SGD(net.parameters(), lr=0.1), replace(load("default", []), train=train), None
    )
    for number in range(batches * epochs):
        if number % every == 0:
            step(net(torch.ones(1, 1)).sum(), 1.0, 1.0, None)
        if (number + 1) % batches == 0:
            step.close()
        if number + 1 == max_steps:  # the trainer ends there, and within an epoch leaves the window open
            break
    assert optimizer_steps(train, batches, every) == step.taken


def test_a_network_that_learns_at_times_has_a_rule_as_long_as_that():
    """A GAN's generator, by default at each fifth step."""
    from trainer.tasks.gan import GAN

    roles = {"generator": torch.nn.Linear(2, 2), "discriminator": torch.nn.Linear(2, 1)}
    roles["generator"].nz = 2
    cfg = load("mnist_gan", [])
    rules = {role: Component("OneCycleLR") for role in roles}
    cfg = replace(cfg, schedule=rules, train=replace(cfg.train, max_epoch=4, max_steps=None))
    updates = make_updates(GAN(**roles, d_every=2), cfg, batches=25)
    assert {role: step.schedule.length for role, step in updates.steps.items()} == {
        "generator": 20,
        "discriminator": 50,
    }


def test_a_run_of_very_many_epochs_is_counted_at_once():
    train = Train(max_epoch=10**9, accumulate=2)
    assert optimizer_steps(train, batches=7, every=5) == 10**9 // 5 * 5
    assert optimizer_steps(train, batches=7) == 4 * 10**9


def test_a_window_of_counted_losses_is_one_large_batch():
    """As of captions: each loss is a mean over words, and batches have other numbers of words."""
    torch.manual_seed(0)
    words, targets = torch.randn(10, 3), torch.randn(10, 1)
    weights = []
    for cuts in ([10], [7, 3]):
        torch.manual_seed(1)
        net = torch.nn.Linear(3, 1)
        cfg = replace(load("default", []), train=Train(accumulate=len(cuts)))
        step = OptimizerStep(net, torch.optim.SGD(net.parameters(), lr=0.1), cfg, None)
        for x, y in zip(words.split(cuts), targets.split(cuts), strict=True):
            step((net(x) - y).square().mean(), 1.0, 1.0, None, weight=float(len(x)))
        assert step.taken == 1
        weights.append(net.weight.detach())
    torch.testing.assert_close(*weights)


def test_max_steps_at_the_end_of_an_epoch_closes_the_window(run):
    """The same run as one that max_epoch ends there: same weights, same optimizer steps."""
    from conftest import TOY, rows, state

    flags = [*[flag for flag in TOY if "epoch" not in flag], "--train.accumulate=3"]
    assert run("train", "--run=epoch", *flags, "--max-epoch=1").code == 0
    steps = rows("epoch")[-1]["step"]
    assert steps % 3, "the last window is a short one"
    assert run("train", "--run=steps", *flags, "--max-epoch=5", f"--train.max_steps={steps}").code == 0
    one, other = (state(name) for name in ("epoch", "steps"))
    assert one["update"]["model"]["taken"] == other["update"]["model"]["taken"] == -(-steps // 3)
    assert all(torch.equal(one["model"][name], other["model"][name]) for name in one["model"])
