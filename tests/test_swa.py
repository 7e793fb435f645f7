"""train.swa: stochastic weight averaging, with torch's own as the oracle."""

from pathlib import Path

import pytest
import torch
from conftest import PLAIN, TOY, rows, same, same_run, state
from test_freezing import NET
from torch.optim.swa_utils import AveragedModel, update_bn

from configs import load
from trainer.build import build
from trainer.inference.trained import LoadedRun

TRAIN = [
    *(flag for flag in TOY if not flag.startswith("--max-epoch")),
    "--max-epoch=4",
    "--train.swa={from: 0.5, lr: 2e-3}",
]
NORMED = ["--model=Normed", "--optim=SGD", "--optim.lr=0.05", "--max-epoch=4", "--print-freq=20", *PLAIN]
NORMED += ["--train.swa={from: 0.5, lr: 0.03}"]


@pytest.fixture
def net(run):
    Path("models").mkdir()
    Path("models/normed.py").write_text(NET)


def test_the_mean_is_torchs_and_its_statistics_are_renewed(net, run):
    given = run("train", "--run=a", *NORMED, "--train.keep_every=1")
    assert given.code == 0, given.err
    assert "train.swa: the weights of epochs 3 to 4 are averaged, at the rate 0.03" in given.out
    assert "mean of the last 2 epochs, accuracy 0." in given.out and ": checkpoints/a/averaged.pth" in given.out
    parts = build(LoadedRun("checkpoints/a").stored, print)
    net = parts.state.task.model
    for epoch in (3, 4):
        net.load_state_dict(state("a", f"epoch-00{epoch}.pth")["model"])
        if epoch == 3:
            theirs = AveragedModel(net)
        theirs.update_parameters(net)
    found = state("a", "averaged.pth")["model"]
    for name, value in theirs.module.named_parameters():
        torch.testing.assert_close(found[name], value.detach(), rtol=1e-6, atol=1e-8)
    assert not torch.equal(found["fc.weight"], state("a")["model"]["fc.weight"])
    for layer in theirs.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0  # the second norm's statistics depend on the draws: only the first one's are compared
    update_bn(((batch[0],) for _, batch in parts.train_loader.epoch(4)), theirs)
    for part in ("running_mean", "running_var"):
        torch.testing.assert_close(found[f"first.1.{part}"], theirs.module.state_dict()[f"first.1.{part}"])
    measured = run("val", "checkpoints/a/averaged.pth").out
    told = given.out.partition("mean of the last 2 epochs, accuracy ")[2].partition(",")[0]
    assert float(dict(line.split() for line in measured.splitlines()[1:])["accuracy"]) == pytest.approx(
        float(told), abs=1e-3
    )
    parts.train_loader.close()


def test_the_rate_is_constant_from_there_on(run):
    given = run("train", "--run=a", *TRAIN, "--schedule={name: StepLR, step_size: 1, gamma: 0.5}")
    assert given.code == 0, given.err
    by_epoch = {row["epoch"]: row["lr"] for row in rows("a", phase="train")}
    assert [by_epoch[epoch] for epoch in sorted(by_epoch)] == pytest.approx([1e-3, 5e-4, 2e-3, 2e-3])


@pytest.mark.slow
def test_a_schedule_of_steps_rests_too(run):
    assert run("train", "--run=a", *TRAIN, "--schedule=OneCycleLR").code == 0
    held = {row["lr"] for row in rows("a", phase="train") if row["epoch"] >= max(r["epoch"] for r in rows("a")) - 1}
    assert held == {2e-3}


@pytest.mark.parametrize("steps", [100, pytest.param(150, marks=pytest.mark.slow)])
def test_a_run_stopped_within_goes_on_to_the_same_mean(run, steps):
    """45 steps an epoch: within the first averaged epoch, and within the second."""
    flags = [*TRAIN, "--schedule={name: StepLR, step_size: 1}"]
    assert run("train", "--run=whole", *flags).code == 0
    assert run("train", "--run=cut", *flags, f"--train.max_steps={steps}").code == 0
    assert run("train", "--resume=checkpoints/cut", "--train.max_steps=100000").code == 0
    assert same_run(state("cut"), state("whole")) and same(state("cut")["swa"], state("whole")["swa"])
    assert same(state("cut", "averaged.pth")["model"], state("whole", "averaged.pth")["model"])


def test_frozen_statistics_are_not_renewed(net, run):
    assert run("train", "--run=a", *NORMED, "--train.freeze=[first.*]").code == 0
    found, last = state("a", "averaged.pth")["model"], state("a")["model"]
    assert all(torch.equal(found[name], last[name]) for name in found if name.startswith("first."))
    assert not torch.equal(found["second.1.running_mean"], last["second.1.running_mean"])


def test_a_run_that_ends_before_says_so(run):
    given = run("train", "--run=a", *TRAIN, "--train.max_steps=20")
    assert given.code == 0 and "note: train.swa: the run ended before epoch 3 was done, from which on it" in given.out
    assert not Path("checkpoints/a/averaged.pth").exists()


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--train.swa={from: 1, lr: 1}", "train.swa.from: expected the share of the epochs before it, as 0.75"),
        ("--train.swa={from: 0.5}", "train.swa.lr: expected the constant rate of the epochs that are averaged"),
        ("--train.swa={from: 0.5, lr: 1e-2, rl: 1}", "train.swa.rl: is not known; did you mean 'lr'?"),
        (
            "--train.swa={from: 0.5, lr: 1e-2} --train.ema=0.9",
            "train.swa: train.ema averages, too; leave one of them out",
        ),
        ("--train.swa={from: 0.5, lr: 1e-2} --train.average_last=2", "train.average_last averages, too"),
    ],
)
def test_mistakes_are_told(run, flag, told):
    given = run("check", *flag.replace(" --", "\n--").split("\n"))
    assert given.code == 2 and told in given.err, given.err


def test_groups_keep_their_ratio():
    from trainer.optim.average import EpochMean
    from trainer.tasks.classification import Classification

    task = Classification(torch.nn.Linear(2, 2), ["a", "b"])
    cfg = load(
        "default", {"optim.lr": 0.1, "train.swa": {"from": 0.5, "lr": 0.01}, "train.max_epoch": 2}, schedule=None
    )
    from trainer.optim.update import make_updates

    update = make_updates(task, cfg, 5)
    groups = next(iter(update.steps.values())).optimizer.param_groups
    groups.append({**groups[0], "params": [], "lr": 0.4})
    mean = EpochMean(cfg.train)
    mean.begin(update, 0)
    assert [group["lr"] for group in groups] == [0.1, 0.4]
    for _ in range(2):
        mean.begin(update, 1)
        assert groups[0]["lr"] == 0.01 and groups[1]["lr"] == pytest.approx(0.04)


def test_groups_keep_their_ratio_behind_a_schedule_that_ends_at_0(run):
    flags = [
        *TRAIN,
        "--schedule=[{name: CosineAnnealingLR, epochs: 2}]",
        "--optim.groups=[{match: '*.bias', lr: 1e-4}]",
    ]
    given = run("train", "--run=a", *flags)
    assert given.code == 0 and "learning rate: 0.001 first, 0.002 highest, 0.002 last" in given.out, given.err
    groups = state("a")["update"]["model"]["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == pytest.approx([2e-3, 2e-4])


def test_a_share_behind_the_last_epoch_means_the_last():
    from configs.schema import Train
    from trainer.optim.average import EpochMean

    assert [EpochMean(Train(max_epoch=n, swa={"from": 0.99, "lr": 0.1})).first for n in (1, 4)] == [0, 3]
