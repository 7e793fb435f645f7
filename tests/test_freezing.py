"""train.freeze and train.unfreeze: what is frozen keeps every bit, and learns from the epoch on that frees it."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import PLAIN, rows, same_run, state
from test_ddp import two_probed
from torch import nn

from configs import ConfigError, load
from trainer.build import build
from trainer.parameters.freezing import Freezing
from trainer.tasks.gan import GAN

NET = '''
"""A network with norms and dropout, for a test."""

from torch import Tensor, nn

__all__ = ["Normed"]


class Normed(nn.Module):
    """Two blocks with a norm and dropout, and a classifier."""

    def __init__(self, num_classes: int = 10):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2))
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, affine=False), nn.ReLU(), nn.Dropout(0.2))
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.second(self.first(x)).mean((2, 3)))
'''
TRAIN = ["--model=Normed", "--optim=AdamW", "--optim.weight_decay=0.1", "--lr=1e-2", "--print-freq=10", *PLAIN]
FREEZE = ["--train.freeze=[first.*, second.*]", '--train.unfreeze={3: ["second.*"]}', "--max-epoch=3"]


@pytest.fixture
def net(run):
    Path("models").mkdir()
    Path("models/normed.py").write_text(NET)


def digest(weights: dict, part: str) -> str:
    """Of everything in the part, statistics too."""
    tensors = [value for name, value in sorted(weights.items()) if name.startswith(part)]
    assert tensors
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()


def of_config(*changes, **more):
    return build(load("default", {"model": "Normed", "train.freeze": ["first.*"], **dict(changes)}, **more), print)


def test_frozen_weights_and_statistics_keep_every_bit_until_they_are_freed(net, run):
    given = run("train", "--run=a", *TRAIN, *FREEZE, "--train.keep_every=1")
    assert given.code == 0, given.err
    assert "frozen: 196 of 246 parameters (first.*, second.*); 48 from epoch 3 on" in given.out
    assert "epoch 3: frozen: 48 of 246 parameters" in given.out
    first, second, third = (state("a", f"epoch-00{n}.pth")["model"] for n in (1, 2, 3))
    torch.manual_seed(0)
    begun = build(load("default", {"model": "Normed"}), print).state.task.model.state_dict()
    assert digest(begun, "first.") == digest(first, "first.") == digest(third, "first.")
    assert digest(begun, "second.") == digest(second, "second.") != digest(third, "second.")
    assert not torch.equal(second["second.1.running_mean"], third["second.1.running_mean"])
    assert digest(begun, "fc.") != digest(first, "fc.") != digest(second, "fc.")


def test_no_gradient_no_optimizer_state_no_dropout(net):
    parts = of_config(("train.unfreeze", {2: ["first.0.*"]}))
    task, update = parts.state.task, parts.state.update
    parts.state.begin_training(lambda step: step, print)
    task.train()  # as a task of one's own may
    modes = {name: module.training for name, module in task.named_modules() if name.count(".") == 2}
    assert {name for name, training in modes.items() if not training} == {f"model.first.{n}" for n in range(4)}
    _, batch = next(parts.train_loader.epoch(0))
    before = {name: value.clone() for name, value in task.state_dict().items()}
    update.begin(0, 1.0, 1.0)
    task.train_step(batch, update)
    moved = {name for name, value in task.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and not any(name.startswith("model.first.") for name in moved)
    (step,) = update.steps.values()
    frozen = [p for name, p in task.named_parameters() if name.startswith("model.first.")]
    assert not any(p.requires_grad or p.grad is not None or step.optimizer.state.get(p) for p in frozen)
    # those that will learn are known to the optimizer already, the others are not
    known = {id(p) for p in step.params}
    assert [id(p) in known for p in frozen] == [True, True, False, False]
    parts.train_loader.close()


def test_a_run_stopped_while_frozen_goes_on_over_the_epoch_that_frees(net, run):
    assert run("train", "--run=whole", *TRAIN, *FREEZE).code == 0
    assert run("train", "--run=cut", *TRAIN, *FREEZE, "--train.max_steps=50").code == 0
    begun = state("cut")["model"]
    assert run("train", "--resume=checkpoints/cut", "--train.max_steps=200").code == 0
    assert digest(begun, "first.") == digest(state("cut")["model"], "first.")
    assert digest(begun, "second.") != digest(state("cut")["model"], "second.")
    assert same_run(state("cut"), state("whole")) and rows("cut")[-1] == rows("whole")[-1]


def test_a_run_that_goes_on_behind_the_epoch_is_as_it_was(net, run):
    flags = [*TRAIN, *FREEZE[:1], '--train.unfreeze={2: ["second.*"]}', "--max-epoch=3", "--train.ema=0.9"]
    assert run("train", "--run=whole", *flags).code == 0
    assert run("train", "--run=cut", *flags, "--train.max_steps=60").code == 0
    given = run("train", "--resume=checkpoints/cut", "--train.max_steps=100000")
    assert given.code == 0 and "frozen: 48 of 246 parameters" in given.out and "epoch 2: frozen" not in given.out
    assert same_run(state("cut"), state("whole"))


def test_statistics_alone(net):
    parts = of_config(("train.freeze", ["*.running_*"]))
    parts.state.begin_training(lambda step: step, print)
    task = parts.state.task
    assert task.still == {"model.first.1", "model.second.1"}
    assert not task.model.first[1].training and task.model.first[0].training and task.model.first[3].training
    assert all(p.requires_grad for p in task.parameters())
    parts.train_loader.close()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"train.freeze": ["frist.*"]},
            "train.freeze: 'frist.*' matches no name of the networks; did you mean 'first.*",
        ),
        ({"train.freeze": ["first"]}, "'first' matches no name of the networks; did you mean 'first.*'?"),
        ({"train.unfreeze": {2: ["fc.*"]}}, "train.unfreeze.2: 'fc.*' matches no name of the networks"),
        ({"train.freeze": ["*"]}, "train.freeze: all of the network 'model' is frozen in epoch 1, so that it cannot"),
        ({"train.freeze": ["*"], "train.unfreeze": {2: ["fc.*"]}}, "all of the network 'model' is frozen in epoch 1"),
        ({"train.unfreeze": {1: ["first.*"]}}, "expected epochs from 2 on, as {3: [layer4.*]}"),
        ({"train.unfreeze": {2: "first.*"}}, "train.unfreeze.2: expected a list of patterns, as [layer4.*]"),
        ({"train.freeze": [], "train.unfreeze": {2: ["fc.*"]}}, "train.unfreeze: needs train.freeze"),
    ],
)
def test_what_cannot_be_frozen_or_freed_is_told(net, changes, told):
    with pytest.raises(ConfigError) as error:
        of_config(*changes.items())
    assert told in str(error.value)


def test_brackets_with_a_star_that_yaml_cannot_read(run):
    given = run("check", "--train.freeze=[*.weight]")
    assert given.code == 2 and 'text that begins with * or & needs quotes, as ["*.weight"]' in given.err


class Maker(nn.Sequential):
    nz = 3


def test_of_two_networks_each_has_its_own_gradients():
    """backward(inputs=…) takes no weight that is frozen."""
    nets = {"generator": Maker(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 1, 1)), "discriminator": nn.Conv2d(1, 1, 1)}
    task = GAN(nets["generator"], nn.Sequential(nets["discriminator"], nn.Flatten(0)), g_every=1)
    from trainer.optim.update import make_updates

    roles = {"model": {"generator": "MLP", "discriminator": "MLP"}}
    optim = {"optim": {"generator": "SGD", "discriminator": "SGD"}, "schedule": None}
    cfg = load("default", {**roles, **optim, "train.freeze": ["generator.1.*"]}, task="GAN")
    update = make_updates(task, cfg, 5)
    Freezing(task, replace(cfg)).apply(0)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    update.begin(0, 1.0, 1.0)
    task.train_step(torch.rand(4, 1, 1, 1), update)
    moved = {name for name, value in task.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {f"{name}.{part}" for name in ("generator.0", "discriminator.0") for part in ("weight", "bias")}


def test_tied_weights_are_frozen_by_either_name():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.three = nn.Linear(2, 2, False), nn.Linear(2, 2, False), nn.Linear(2, 2)
            self.two.weight = self.one.weight

    from trainer.tasks.classification import Classification

    task = Classification(Tied(), ["a", "b"])
    freezing = Freezing(task, load("default", {"train.freeze": ["two.weight"], "train.unfreeze": {2: ["two.weight"]}}))
    assert freezing.apply(0) and not task.model.one.weight.requires_grad and task.still == {"model.two"}
    assert "frozen: 4 of 10 parameters" in freezing.tell(0)
    assert freezing.apply(1) and task.model.one.weight.requires_grad and not task.still


def test_selftest_measures_what_is_frozen(net, run):
    given = run("selftest", "--only=frozen", *TRAIN, *FREEZE)
    assert given.code == 0, given.err + given.out
    assert "frozen: 196 of 246 parameters; they and their statistics differ by 0.0e+00 after 4" in given.out
    given = run("selftest", "--only=frozen", *TRAIN)
    assert given.code == 0 and "(half of each network: train.freeze is not set); they" in given.out


def test_selftest_tells_what_moves_though_it_is_frozen(net, run, monkeypatch):
    monkeypatch.setattr(Freezing, "apply", lambda self, epoch: False)
    given = run("selftest", "--only=frozen", *TRAIN, *FREEZE)
    assert given.code == 1 and "the optimizer keeps a state of model.second.0.weight" in given.out, given.out
    assert given.out.strip().endswith("WRONG") and "differ by 0.0e+00" not in given.out


@pytest.mark.slow
def test_two_ranks_share_the_gradients_of_what_is_freed(net, tmp_path):
    flags = [arg for arg in TRAIN if not arg.startswith("--optim") and not arg.startswith("--lr")]
    given = two_probed(tmp_path, "train", "run=two", *flags, *FREEZE, "--lr=0.1")
    assert given.returncode == 0, given.stderr[-3000:]
    facts = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert facts[0]["weights"] == facts[1]["weights"] and "epoch 3: frozen: 48 of 246" in given.stdout
