"""Warm-up, schedulers in turn and at once: torch's own rates, told and drawn before, and the same after a resume."""

import warnings

import pytest
import torch
from conftest import PLAIN, rows, same_run, state
from torch.optim import SGD, lr_scheduler

from configs import Component, load
from configs.rates import rates_in_words
from trainer.checks.rates import course
from trainer.optim.schedule import Schedule
from trainer.optim.step import OptimizerStep
from utils.errors import ConfigError

COSINE = Component("CosineAnnealingLR")


def sgd(*rates: float, **args) -> torch.optim.Optimizer:
    return SGD([{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in rates or (1.0,)], **args)


def rates_of(spec: Component, optimizer, epochs: int, batches: int = 1) -> list[list[float]]:
    """The rate of each group at each optimizer step, as the loop calls the schedule."""
    schedule, found = Schedule(spec, "schedule", optimizer, epochs * batches, epochs, "min"), []
    for _ in range(epochs):
        for _ in range(batches):
            found.append(schedule.rates())
            optimizer.step()
            schedule.after_step()
        schedule.after_validation(1.0, 1.0)
        schedule.after_epoch()
    return found


def by_torch(scheduler, optimizer, steps: int) -> list[list[float]]:
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's SequentialLR warns of itself
        for _ in range(steps):
            found.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            scheduler.step()
    return found


def close(one, other) -> None:
    torch.testing.assert_close(torch.tensor(one), torch.tensor(other), rtol=1e-9, atol=1e-12)


def test_a_warm_up_and_a_cosine_are_torchs():
    own = rates_of(Component(COSINE.name, {"warmup": 4.0}), sgd(1.0, 0.1), epochs=12)
    optimizer = sgd(1.0, 0.1)
    warm = lr_scheduler.LinearLR(optimizer, 1 / 5, total_iters=4)
    both = lr_scheduler.SequentialLR(optimizer, [warm, lr_scheduler.CosineAnnealingLR(optimizer, 8)], [4])
    close(own, by_torch(both, optimizer, 12))
    close([rates[0] for rates in own[:5]], [0.2, 0.4, 0.6, 0.8, 1.0])


def test_schedulers_in_turn_are_torchs():
    parts = (Component("LinearLR", {"epochs": 3}), Component("StepLR", {"step_size": 2, "epochs": 5}), COSINE)
    own = rates_of(Component("SequentialLR", {"schedulers": parts}), sgd(), epochs=12)
    optimizer = sgd()
    turns = [
        lr_scheduler.LinearLR(optimizer, total_iters=3),
        lr_scheduler.StepLR(optimizer, 2),
        lr_scheduler.CosineAnnealingLR(optimizer, 4),
    ]
    close(own, by_torch(lr_scheduler.SequentialLR(optimizer, turns, [3, 8]), optimizer, 12))


def test_schedulers_at_once_are_torchs():
    parts = (Component("ExponentialLR", {"gamma": 0.9}), Component("ConstantLR", {"factor": 0.5}))
    own = rates_of(Component("ChainedScheduler", {"schedulers": parts}), sgd(), epochs=8)
    optimizer = sgd()
    both = [lr_scheduler.ExponentialLR(optimizer, 0.9), lr_scheduler.ConstantLR(optimizer, 0.5)]
    close(own, by_torch(lr_scheduler.ChainedScheduler(both), optimizer, 8))


def test_a_cycle_after_a_warm_up_is_as_long_as_what_is_left():
    own = rates_of(Component("OneCycleLR", {"warmup": 2.0}), sgd(momentum=0.9), epochs=6, batches=5)
    optimizer = sgd(momentum=0.9)
    alone = by_torch(lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=21), optimizer, 20)
    assert len(own) == 30 and own[9][0] == pytest.approx(10 / 11)
    close(own[10:], by_torch(lr_scheduler.OneCycleLR(o := sgd(momentum=0.9), 1.0, total_steps=20), o, 19) + own[-1:])
    assert own[-1][0] < alone[-1][0]


def test_a_warm_up_counts_optimizer_steps_and_half_an_epoch_is_half_of_them():
    own = [rates[0] for rates in rates_of(Component("StepLR", {"step_size": 1, "warmup": 0.5}), sgd(), 3, batches=8)]
    close(own[:5], [0.2, 0.4, 0.6, 0.8, 1.0])
    close(own[5:], [1.0] * 11 + [0.1] * 8)  # the first epoch that it has seen whole is the second one


def test_a_warm_up_alone_ends_at_the_rate():
    assert [rates[0] for rates in rates_of(Component("Constant", {"warmup": 1.0}), sgd(), 3, 2)] == [
        pytest.approx(rate) for rate in (1 / 3, 2 / 3, 1, 1, 1, 1)
    ]


def test_a_plateau_begins_with_the_validation_at_the_end_of_the_warm_up():
    spec = Component("ReduceLROnPlateau", {"patience": 0, "factor": 0.5, "warmup": 2.0})
    assert [rates[0] for rates in rates_of(spec, sgd(), 5)][2:] == [1.0, 0.5, 0.25]


@pytest.mark.parametrize("spec", [Component("OneCycleLR"), Component("CyclicLR", {"base_lr": 0.1, "max_lr": 1.0})])
def test_groups_keep_their_ratio(spec):
    own = torch.tensor(rates_of(spec, sgd(1.0, 0.1, momentum=0.9), epochs=4, batches=5))
    torch.testing.assert_close(own[:, 0], 10 * own[:, 1])
    assert own[:, 0].max() > own[:, 0].min()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{name: LinearLR}, StepLR]", r"schedule.schedulers\[0\].epochs: how many epochs it takes is missing"),
        ("[]", "schedule: the list of schedulers is empty; for none write null"),
        (
            "{name: ChainedScheduler, schedulers: [OneCycleLR]}",
            "OneCycleLR sets the rate itself, and cannot act at once",
        ),
        ("[{name: LinearLR, epochs: 2, warmup: 1}, StepLR]", "warmup: the warm-up comes before all of them"),
        ("[{name: LinaerLR, epochs: 2}, {name: StepLR, step_size: 1}]", "did you mean 'LinearLR'"),
        ("{warmup: -1}", "schedule.warmup must be at least 0"),
        (
            "{name: LambdaLR}",
            "LambdaLR takes a function, which no config can hold; write a scheduler of your own in schedules/",
        ),
    ],
)
def test_a_faulty_list_is_told_with_its_line(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(f"# A.\nschedule: {text}\n")
    with pytest.raises(ConfigError, match=rf"a\.yaml:2: .*{message}"):
        load(tmp_path / "a.yaml")


def test_each_role_may_have_a_list_and_a_warm_up():
    turns = [{"name": "LinearLR", "epochs": 2}, {"name": "StepLR", "step_size": 1}]
    cfg = load("mnist_gan", {"schedule.generator": turns, "schedule.discriminator.warmup": 1})
    assert cfg.schedule["generator"].name == "SequentialLR" and cfg.schedule["discriminator"].args["warmup"] == 1


def test_the_course_of_a_run_is_the_one_that_is_trained(run):
    """First, highest and last rate are told, lr.png is drawn, and the journal has these rates."""
    flags = ["--model=MLP", "--lr=0.01", "--max-epoch=4", "--data.fraction=0.2", "--print-freq=1", "--log.visdom=false"]
    given = run("train", "--run=a", *flags, "--schedule=OneCycleLR", "--warmup=1")
    assert given.code == 0 and (state("a")["update"]["model"]["schedule"]["phase"]) == 1
    rates = [row["lr"] for row in rows("a", phase="train")]
    told = f"learning rate: {0.01 / 9:.2g} first, 0.01 highest, {rates[-1]:.2g} last"
    assert told in given.out
    with open("checkpoints/a/lr.png", "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"


def test_the_course_has_the_rates_of_the_loop():
    cfg = load("default", {"train.max_epoch": 4, "model": "MLP"})
    parts = (Component("LinearLR", {"epochs": 2}), Component("OneCycleLR"))
    spec = Component("SequentialLR", {"schedulers": parts, "warmup": 1.0})
    optimizer = sgd(momentum=0.9)
    step = OptimizerStep(torch.nn.Linear(1, 1), optimizer, cfg, Schedule(spec, "schedule", optimizer, 20, 4, "min"))
    found = course(step, cfg, batches=5)
    loop = rates_of(spec, sgd(momentum=0.9), epochs=4, batches=5)
    known = dict(zip((round(5 * place, 6) for place in found.places[::-1]), found.first[::-1], strict=True))
    assert known[0] == loop[0][0] and found.whole and not found.follows
    for number in (3, 5, 17, 19):
        place = max(place for place in known if place <= number)
        assert known[place] == loop[number][0], number


def test_the_course_sees_a_warm_up_that_ends_within_an_epoch():
    cfg = load("default", {"train.max_epoch": 2, "model": "MLP"})
    spec = Component("StepLR", {"step_size": 1, "gamma": 0.5, "warmup": 0.4})
    optimizer = sgd()
    step = OptimizerStep(torch.nn.Linear(1, 1), optimizer, cfg, Schedule(spec, "schedule", optimizer, 10, 2, "min"))
    found = course(step, cfg, batches=5)
    rates = dict(zip((round(5 * place, 6) for place in found.places), found.first, strict=True))
    loop = [rates[0] for rates in rates_of(spec, sgd(), epochs=2, batches=5)]
    assert [rates[max(place for place in rates if place <= number)] for number in range(5)] == loop[:5]


@pytest.mark.parametrize("cut", [3, 11, 19])
@pytest.mark.parametrize(
    "schedule",
    [
        ["--schedule=CosineAnnealingLR", "--warmup=1"],
        ["--schedule=[{name: LinearLR, epochs: 1}, {name: StepLR, step_size: 1, gamma: 0.5}]", "--schedule.warmup=0.5"],
    ],
    ids=["cosine", "list"],
)
def test_stopped_and_resumed_it_is_the_same_run(run, schedule, cut):
    """In the warm-up, after it, and after the switch."""
    flags = ["--model=MLP", "--lr=0.01", "--max-epoch=3", "--data.fraction=0.2", "--print-freq=1", *PLAIN, *schedule]
    assert run("train", "--run=whole", *flags).code == 0
    assert run("train", "--run=cut", *flags, f"--train.max_steps={cut}").code == 0
    assert run("train", "--resume=checkpoints/cut", "--train.max_steps=null").code == 0
    assert rows("cut", phase="train") == rows("whole", phase="train")
    assert same_run(state("cut"), state("whole"))


@pytest.mark.parametrize("swa", [None, {"from": 0.5, "lr": 0.02}, {"from": 0, "lr": 0.3}], ids=["", "swa", "from 0"])
@pytest.mark.parametrize(
    "schedule",
    [
        None,
        {"name": "StepLR", "step_size": 2, "gamma": 0.5},
        {"name": "MultiStepLR", "milestones": [1, 3]},
        {"name": "ExponentialLR", "gamma": 0.9},
        "ConstantLR",
        "LinearLR",
        {"name": "CosineAnnealingLR", "eta_min": 0.001},
        {"name": "PolynomialLR", "power": 2},
        "OneCycleLR",
        [{"name": "LinearLR", "epochs": 3}, "CosineAnnealingLR"],
    ],
)
def test_check_tells_the_rates_that_the_run_will_have(schedule, swa):
    """Without torch, as the schedulers themselves give them."""
    changes = {"schedule": schedule, "optim": {"name": "SGD", "lr": 0.1}, "train.max_epoch": 7, "train.swa": swa}
    cfg = load("default", changes)
    optimizer = sgd(0.1, momentum=0.9)
    spec = cfg.schedule.get("model")
    own = Schedule(spec, "schedule", optimizer, 7 * 20, 7, "min") if spec else None
    found = course(OptimizerStep(torch.nn.Linear(1, 1), optimizer, cfg, own), cfg, batches=20)
    (told,) = rates_in_words(cfg)
    unknown = spec is None and not swa, bool(swa) and schedule == "OneCycleLR"
    assert told == f"learning rate: {found.told()}" or (any(unknown) and told.startswith("learning rate: 0.1 in "))


def test_check_prints_the_rates_that_it_knows(run):
    told = run("check", "--schedule=CosineAnnealingLR", "--warmup=2", "--print").out
    assert "# learning rate: 0.002 / (1 + the optimizer steps in 2 epochs) first, 0.002 highest, 0.00029 last\n" in told
    told = run("check", "--schedule={name: CyclicLR, base_lr: 0.1, max_lr: 1}", "--print").out
    assert "# learning rate: 0.002 in optim; its course is told when the training begins, and drawn in lr.png\n" in told
    assert (
        "# learning rate: 0.002 first, 0.002 highest, later ones follow the validation\n" in run("check", "--print").out
    )
