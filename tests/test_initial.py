"""Weights to begin with: how many are taken is told, too few are refused; several files; the optimizer's state."""

from pathlib import Path

import pytest
import torch
from conftest import TOY, state
from torch import nn

from configs import ConfigError, load
from models.dcgan import DCGANDiscriminator, DCGANGenerator
from models.mlp import MLP
from trainer.checkpointing.initial import load_initial
from trainer.tasks.classification import Classification
from trainer.tasks.gan import GAN
from utils.errors import CheckpointError


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def net() -> nn.Module:
    return MLP(in_features=3, hidden=[4, 4, 4], num_classes=2)


def loaded(weights: dict, **train) -> tuple[Classification, list[str]]:
    """A task that began with these weights, and the lines about it."""
    torch.save(weights, "w.pth")
    torch.manual_seed(1)
    task, said = Classification(net(), ["a", "b"]), []
    load_initial(task, load("default", {"train.load_model_path": "w.pth", **train}).train, said.append)
    return task, said


def test_each_kind_of_tensor_is_counted_and_named():
    weights = {name: torch.full_like(tensor, 7) for name, tensor in net().state_dict().items()}
    first, *_, last = weights
    assert loaded(weights)[1] == ["weights of MLP from w.pth: 8 of 8 tensors taken"]
    weights[last] = torch.zeros(5)
    weights["head.bias"] = torch.zeros(2)
    weights[first] = weights[first][:, :, None, None]  # a 1x1 convolution
    del weights[list(weights)[1]]
    task, said = loaded(weights)
    assert said == [
        "weights of MLP from w.pth: 6 of 8 tensors taken",
        f"  taken in another form (1): {first} (4, 3, 1, 1) as (4, 3)",
        f"  left as they were, of another shape in the file (1): {last} (5,) there and (2,) here",
        f"  left as they were, missing in the file (1): {list(net().state_dict())[1]} (4,)",
        "  not used, unknown here (1): head.bias (2,)",
    ]
    assert torch.equal(task.model.state_dict()[first], torch.full((4, 3), 7.0))
    assert not (task.model.state_dict()[last] == 0).any()


def test_less_than_half_is_refused_unless_it_is_meant():
    whole = net().state_dict()
    names = list(whole)
    half, less = ({name: whole[name] for name in names[:count]} for count in (4, 3))
    assert loaded(half)[1][0].endswith("4 of 8 tensors taken")
    with pytest.raises(CheckpointError) as error:
        loaded(less)
    told = str(error.value)
    assert told.startswith(
        f"w.pth fits only 3 of 8 tensors of MLP: left as they were, missing in the file (5): {names[3]}"
    )
    assert told.endswith("it is another network's file, or give --train.load_partly, which takes what fits")
    task, said = loaded(less, **{"train.load_partly": True})
    assert said[0] == "weights of MLP from w.pth: 3 of 8 tensors taken"
    assert torch.equal(task.model.state_dict()[names[0]], whole[names[0]])
    with pytest.raises(CheckpointError, match="nothing in w.pth fits MLP"):
        loaded({"other": torch.zeros(2)}, **{"train.load_partly": True})


def test_the_command_exits_with_4(run):
    torch.save({"layers.0.weight": torch.zeros(128, 64)}, "w.pth")
    given = run("train", *TOY, "--load-model-path=w.pth")
    assert given.code == 4 and "fits only 1 of 4 tensors of MLP" in given.err, given.err
    given = run("train", *TOY, "--load-model-path=w.pth", "--train.load_partly", "--train.max_steps=1")
    assert given.code == 0 and "1 of 4 tensors taken" in given.out


def gan() -> GAN:
    size = {"image_size": (28, 28), "in_channels": 1}
    return GAN(DCGANGenerator(nz=4, ngf=2, **size), DCGANDiscriminator(ndf=2, **size))


def test_several_networks_from_several_files():
    torch.manual_seed(5)
    first, second = gan(), gan()
    first.generator.save("g.pth")
    torch.save({f"module.{name}": value for name, value in second.discriminator.state_dict().items()}, "d.pth")
    both = {f"{role}.{n}": v for role, net in first.named_children() for n, v in net.state_dict().items()}
    torch.save(both, "both.pth")
    roles = {"model": {"generator": "DCGANGenerator", "discriminator": "DCGANDiscriminator"}, "schedule": None}
    roles |= {"optim": {"generator": "SGD", "discriminator": "SGD"}}

    def begun(values: dict) -> tuple[GAN, list[str]]:
        task, said = gan(), []
        load_initial(task, load("default", {**roles, **values}, task="GAN").train, said.append)
        return task, said

    def equal(one: nn.Module, other: nn.Module) -> bool:
        return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())

    task, said = begun({"train.load": {"generator": "g.pth", "discriminator": "d.pth"}})
    assert equal(task.generator, first.generator) and equal(task.discriminator, second.discriminator)
    count = len(first.generator.state_dict())
    assert said[0] == f"weights of DCGANGenerator from g.pth: {count} of {count} tensors taken" and len(said) == 2
    task, _ = begun({"train.load": {"discriminator": "both.pth"}})  # its part of a file of several
    assert equal(task.discriminator, first.discriminator) and not equal(task.generator, first.generator)
    task, said = begun({"train.load_model_path": "both.pth"})
    assert equal(task.discriminator, first.discriminator) and equal(task.generator, first.generator)
    assert "of the networks generator, discriminator from both.pth" in said[0]
    with pytest.raises(CheckpointError, match="each network is named so: --train.load={generator: FILE}"):
        begun({"train.load_model_path": "g.pth"})
    with pytest.raises(ConfigError, match="train.load.generater: no network has that role; did you mean 'generator'"):
        begun({"train.load": {"generater": "g.pth"}})
    with pytest.raises(ConfigError, match="train.load: names files for networks, and train.load_model_path one for"):
        begun({"train.load": {"generator": "g.pth"}, "train.load_model_path": "g.pth"})


def test_flags_name_one_file_each(run):
    roles = ["--task=GAN", "--model={generator: MLP, discriminator: MLP}", "--schedule=null"]
    roles += ["--optim={generator: SGD, discriminator: SGD}"]
    given = run("check", *roles, "--train.load.generator=a", "--train.load.discriminator=b", "--print")
    assert given.code == 0 and "train.load.generator: a " in given.out and "train.load.discriminator: b " in given.out


# Weights and optimizer together


def test_weights_and_the_optimizers_state(run):
    assert run("train", "--run=a", *TOY).code == 0
    old = state("a")["update"]["model"]["optimizer"]
    toy = [flag for flag in TOY if not flag.startswith("--lr")]
    flags = [*toy, "--load-model-path=checkpoints/a/last.pth", "--lr=0.5", "--train.max_steps=1"]
    given = run("train", "--run=b", *flags, "--train.load_optimizer")
    assert given.code == 0 and "state of Adam from checkpoints/a/last.pth: 4 tensors' moments" in given.out, given.err
    new = state("b")["update"]["model"]["optimizer"]
    assert new["state"][0]["step"] == old["state"][0]["step"] + 1 and new["param_groups"][0]["lr"] == 0.5
    near = 0.9 * old["state"][0]["exp_avg_sq"]  # of which the new one keeps 0.999
    assert (new["state"][0]["exp_avg_sq"] >= near).all() and near.any()
    assert run("train", "--run=c", *flags).code == 0
    assert state("c")["update"]["model"]["optimizer"]["state"][0]["step"] == 1


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        (["--optim=SGD"], 4, "does not fit: it is that of Adam, and optim is SGD; leave load_optimizer out"),
        (["--train.freeze=[layers.0.*]"], 4, "does not fit: it is of 4 tensors in 1 groups, and 2 in 1 learn here"),
        (["--model.hidden=[9]", "--train.load_partly"], 4, "layers.0.weight is (128, 64) there and (9, 64) here"),
        (
            ["--optim.groups=[{match: layers.0.weight, lr: 1e-4}]"],
            4,
            "it is of 4 tensors in 1 groups, and 4 in 2 learn here",
        ),
        (["--load-model-path=bare.pth"], 4, "bare.pth holds weights alone; name a run's folder or last.pth"),
        (["--load-model-path=null"], 2, "train.load_optimizer: needs train.load_model_path"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(run, flags, code, told):
    assert run("train", "--run=a", *TOY, "--train.max_steps=2").code == 0
    torch.save(state("a")["model"], "bare.pth")
    path = [] if any("load-model" in flag for flag in flags) else ["--load-model-path=a"]
    toy = [flag for flag in TOY if not flag.startswith("--optim")] if "--optim=SGD" in flags else TOY
    given = run("train", *toy, *path, *flags, "--train.load_optimizer")
    assert given.code == code and told in given.err, given.err
    assert not [path for path in Path("checkpoints").iterdir() if path.name != "a"]


def test_a_state_of_other_weights_of_the_same_shapes_is_refused(run):
    """The state knows its weights by number: moments of one layer would go to another."""
    toy = [*TOY, "--model.hidden=[8,8,8]", "--train.max_steps=2"]
    assert run("train", "--run=a", *toy, "--train.freeze=[layers.3.*]").code == 0
    flags = ["--load-model-path=checkpoints/a", "--train.load_optimizer"]
    given = run("train", "--run=b", *toy, *flags, "--train.freeze=[layers.6.*]")
    assert given.code == 4 and "tensor 2 is layers.6.weight there and layers.3.weight here" in given.err, given.err
    assert run("train", "--run=c", *toy, *flags, "--train.freeze=[layers.3.*]").code == 0


@pytest.mark.parametrize("optimizer", ["Adafactor", "LBFGS"])
def test_a_state_without_tensors_of_the_weights_shapes_goes_on(run, optimizer):
    toy = [*(flag for flag in TOY if not flag.startswith("--optim")), f"--optim={optimizer}", "--train.max_steps=2"]
    assert run("train", "--run=a", *toy).code == 0
    given = run("train", "--run=b", *toy, "--load-model-path=checkpoints/a", "--train.load_optimizer")
    assert given.code == 0, given.err
    old, new = (state(name)["update"]["model"]["optimizer"]["state"][0] for name in "ab")
    steps = "step" if optimizer == "Adafactor" else "n_iter"
    assert new[steps] == 2 * old[steps]
