"""Components in configs: their arguments, checked from source; what a new name inherits; several by role."""

from pathlib import Path

import pytest
from config_text import at

from configs import Component, Config


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


FROM_TRAINER = "comes from the trainer; no config can set it"


@pytest.mark.parametrize(
    "text, message",
    [
        ("optim: {name: Adam, lr: fast}", "optim.lr: expected a number, got 'fast'"),  # annotated float | Tensor
        ("optim: {name: Adam, betas: [0.9]}", "optim.betas: expected a list of 2 numbers, got a list of 1"),
        ("optim: {name: Adam, betas: 0.9}", "optim.betas: expected a list of 2 numbers, got '0.9'"),
        ("optim: {name: Adam, betas: [0.9, x]}", "optim.betas[1]: expected a number, got 'x'"),
        ("optim: {name: Adam, amsgrad: yes}", "optim.amsgrad: expected true or false, got 'yes'; did you mean 'true'?"),
        ("optim: {name: Adam, lr: [1]}", "optim.lr: expected a number, got a list of 1"),
        ("optim: {params: 3}", f"'optim.params' {FROM_TRAINER}"),
        ("data: {dataset: {name: DogCat, split: val}}", f"'data.dataset.split' {FROM_TRAINER}"),
        ("data: {dataset: {transform: x}}", f"'data.dataset.transform' {FROM_TRAINER}"),
        ("task: {model: x}", f"'task.model' {FROM_TRAINER}"),
        ("task: {output: label}", f"'task.output' {FROM_TRAINER}"),
        ("schedule: {name: StepLR, step_size: 1, optimizer: x}", f"'schedule.optimizer' {FROM_TRAINER}"),
        ("schedule: StepLR", "StepLR needs 'schedule.step_size'"),
        (
            "schedule: {name: MultiStepLR, milestones: [1, x]}",
            "schedule.milestones[1]: expected a whole number, got 'x'",
        ),
        (
            "schedule: {name: ReduceLROnPlateau, mode: mni}",
            "schedule.mode: expected one of min, max, got 'mni'; did you mean 'min'?",
        ),
        ("schedule: none", "schedule: no 'none' in torch.optim.lr_scheduler; for none write null"),
        ("model: {stem: smal}", "model.stem: expected one of auto, imagenet, small, got 'smal'; did you mean 'small'?"),
        ("model: {name: MLP, hidden: 3}", "model.hidden: expected a list of whole numbers, got '3'"),
        ("model: torchvision:resnet81", "model: no 'resnet81' in torchvision; did you mean 'torchvision:resnet18'?"),
        ("model: torchvision", "model: torchvision needs a variant, as torchvision:alexnet"),
        ("model: resnet18", "model: no 'resnet18' in models; did you mean 'torchvision:resnet18'?"),
        ("model: resnet34", "model: no 'resnet34' in models; did you mean 'ResNet34'?"),
        (
            "model: torchvison:resnet18",
            "model: no 'torchvison:resnet18' in models; did you mean 'torchvision:resnet18'?",
        ),
        ("model: ResNet34:x", "model: no 'ResNet34:x' in models; did you mean 'ResNet34'?"),
        (
            "model: ResidualBlock",
            "model: no 'ResidualBlock' in models; "
            "resnet34.py defines it, but its __all__ does not name it: add it there",
        ),
        (
            "data: {transform: {eval: [Scale]}}",
            "data.transform.eval[0]: no 'Scale' in torchvision.transforms.v2; it is now called 'Resize'",
        ),
        ("data: {transform: {eval: [Resize]}}", "Resize needs 'data.transform.eval[0].size'"),
        (
            "data: {transform: {eval: [{name: Resize, size: big}]}}",
            "data.transform.eval[0].size: expected a whole number or null or a list of whole numbers, got 'big'",
        ),
        (
            "data: {transform: {train: [{name: RandomApply, transforms: [RandomRotatoin]}]}}",
            "data.transform.train[0].transforms[0]: "
            "no 'RandomRotatoin' in torchvision.transforms.v2; did you mean 'RandomRotation'?",
        ),
        (
            "train: {monitor: acuracy}",
            "train.monitor: Classification has no metric 'acuracy'; did you mean 'accuracy'?",
        ),
        ("schedule: {generator: OneCycleLR}", "schedule.generator: there is no optimizer of that role; there is model"),
    ],
)
def test_arguments_of_components_are_checked_from_their_source(text, message):
    assert at(text) == [f"a.yaml:1: {message}"]


@pytest.mark.parametrize(
    "text",
    [
        "optim: {name: AdamW, lr: 1, betas: [0.9, 0.999], foreach: null, fused: true}",
        "optim: {name: Adafactor, eps: [null, 1e-3]}",
        "model: torchvision:resnet18",
        "model: {name: torchvision:resnet18, num_classes: 3, zero_init_residual: true}",  # it takes **arguments
        "data: {transform: {eval: [{name: Resize, size: [32, 32]}, {name: Resize, size: 8, interpolation: bicubic}]}}",
        "data: {transform: {train: [{name: RandomRotation, degrees: 15}, {name: RandomRotation, degrees: [-5, 5]}]}}",
        "data: {transform: {train: [{name: RandomCrop, size: 32, padding: 4, fill: [1, 2, 3]}, RandomHorizontalFlip]}}",
        "data: {transform: {train: [{name: RandomApply, transforms: [{name: RandomRotation, degrees: 5}], p: 0.5}]}}",
        "data: {transform: {train: [{name: ToDtype, dtype: float32, scale: true}]}}",
        "schedule: {name: CyclicLR, base_lr: 1e-4, max_lr: 0.1}",
        "schedule: {name: OneCycleLR, max_lr: [0.1]}",
        "schedule: CosineAnnealingLR",
        "train: {monitor: f1}",
    ],
)
def test_arguments_that_are_right_pass(text):
    assert isinstance(at(text), Config), at(text)


def test_numbers_of_arguments_keep_their_kind():
    cfg = at(
        "data: {transform: {train: [{name: RandomCrop, size: 32}, {name: RandomRotation, degrees: 15}]}}\n"
        "optim: {name: Adam, betas: [0, 1]}"
    )
    crop, turn = cfg.data.transform.train
    assert [crop.args, turn.args] == [{"size": 32}, {"degrees": 15}] and type(turn.args["degrees"]) is int
    assert cfg.optim["model"].args["betas"] == (0.0, 1.0)


# A name that changes, by file or flag, starts afresh

ADAM = "optim: {name: Adam, lr: 0.5, weight_decay: 0.1}\n"


def optim(cfg: Config) -> dict:
    return {"name": cfg.optim["model"].name, **cfg.optim["model"].args}


def test_arguments_are_inherited_only_while_the_name_stays():
    Path("b.yaml").write_text(ADAM)
    assert optim(at("base: b.yaml\noptim: {lr: 0.2}")) == {"name": "Adam", "lr": 0.2, "weight_decay": 0.1}
    assert optim(at("base: b.yaml\noptim: {name: Adam, lr: 0.2}"))["weight_decay"] == 0.1
    assert optim(at("base: b.yaml\noptim: {name: SGD, lr: 0.2}")) == {"name": "SGD", "lr": 0.2}
    assert optim(at("base: b.yaml\noptim: SGD")) == {"name": "SGD"}


@pytest.mark.parametrize("name", ["--optim=SGD", "--optim.name=SGD", "--optim={name: SGD}"])
@pytest.mark.parametrize("lr", ["--lr=0.2", "--optim.lr=0.2", "--momentum=0.2"])
def test_flags_on_arguments_apply_after_flags_on_names_whatever_their_order(name, lr):
    expected = {"name": "SGD", lr.strip("-").partition("=")[0].removeprefix("optim."): 0.2}
    assert optim(at(ADAM, name, lr)) == optim(at(ADAM, lr, name)) == expected
    assert optim(at(ADAM, "--lr=0.2")) == {"name": "Adam", "lr": 0.2, "weight_decay": 0.1}


def test_a_schedule_can_be_left_out():
    Path("b.yaml").write_text("schedule: {name: StepLR, step_size: 2}\n")
    assert at("base: b.yaml").schedule == {"model": Component("StepLR", {"step_size": 2})}
    assert at("base: b.yaml\nschedule: null").schedule == at("base: b.yaml\nschedule: {}").schedule == {}
    assert at("base: b.yaml", "--schedule=null").schedule == at("base: b.yaml", "--schedule={}").schedule == {}


# Roles

GAN = """\
model: {generator: {name: MLP, num_classes: 4}, discriminator: {name: MLP, num_classes: 2}}
optim:
  generator: {name: Adam, lr: 0.1, betas: [0.5, 0.999]}
  discriminator: {name: Adam, lr: 0.2}
task: GAN
"""


def test_each_role_has_its_component():
    cfg = at(GAN)
    assert {role: spec.args["lr"] for role, spec in cfg.optim.items()} == {"generator": 0.1, "discriminator": 0.2}
    assert list(cfg.model) == ["generator", "discriminator"] and cfg.schedule == {}
    cfg = at(GAN, "--optim.generator.lr=0.3", "--model.discriminator.hidden=[3]")
    assert (
        cfg.optim["generator"].args == {"lr": 0.3, "betas": (0.5, 0.999)}
        and cfg.optim["discriminator"].args["lr"] == 0.2
    )
    assert cfg.model["discriminator"].args == {"num_classes": 2, "hidden": (3,)}


@pytest.mark.parametrize("order", [1, -1])
def test_a_roles_name_comes_before_its_arguments(order):
    cfg = at(GAN, *["--optim.generator=SGD", "--optim.generator.momentum=0.9"][::order])
    assert cfg.optim["generator"] == Component("SGD", {"momentum": 0.9})


def test_flags_that_leave_the_role_open_name_the_candidates():
    assert at(GAN, "--lr=0.1", "--model=MLP", "--optim.lr=0.1", "--hidden=[3]") == [
        "--lr=0.1: could be --optim.discriminator.lr or --optim.generator.lr: write it in full",
        "--model=MLP: model has several roles: say which, model.generator or model.discriminator",
        "--optim.lr=0.1: optim has several roles: say which, optim.generator.lr or optim.discriminator.lr",
        "--hidden=[3]: could be --model.discriminator.hidden or --model.generator.hidden: write it in full",
    ]


def test_roles_are_inherited_one_by_one():
    Path("gan.yaml").write_text(GAN)
    cfg = at("base: gan.yaml\noptim: {generator: {lr: 0.7}, discriminator: SGD}\n")
    assert cfg.optim["generator"].args["lr"] == 0.7 and cfg.optim["discriminator"] == Component("SGD")
    assert list(at("base: gan.yaml\ntask: Classification\nmodel: LeNet\noptim: SGD\n").model) == ["model"]
    assert at("base: gan.yaml\nmodel: {genrator: LeNet}\n") == [
        "a.yaml:2: model.genrator: GAN has no network of that role; did you mean 'model.generator'?"
    ]
    assert at("base: gan.yaml\noptim: {lr: 1}\n") == [
        "a.yaml:2: optim has several roles: say which, optim.generator.lr or optim.discriminator.lr"
    ]


def test_a_schedule_without_a_role_says_nothing_of_several_optimizers():
    assert at(GAN + "schedule: OneCycleLR") == [
        "a.yaml:6: schedule: there are several optimizers; say for which it is, schedule.generator or "
        "schedule.discriminator, or write null for none"
    ]


def test_networks_and_optimizers_are_those_of_the_task():
    told = at("task: GAN\nmodel: {generator: LeNet}\noptim: {generator: SGD, descriminator: SGD}\n")
    assert told == [
        "a.yaml:2: model: GAN needs the network model.discriminator",
        "a.yaml:3: optim.descriminator: GAN has no network of that role; did you mean 'optim.discriminator'?",
    ]
    assert at("model: {model: LeNet, modle: LeNet}") == [
        "a.yaml:1: model.modle: Classification has no network of that role; did you mean 'model.model'?"
    ]


def test_mistakes_in_roles_are_told():
    text = GAN + "schedule: {generator: StepLR, discriminatr: OneCycleLR}\n"
    assert at(text.replace("lr: 0.2", "lrr: 0.2").replace("num_classes: 2", "num_classes: x")) == [
        "a.yaml:1: model.discriminator.num_classes: expected a whole number, got 'x'",
        "a.yaml:4: Adam takes no 'optim.discriminator.lrr'; did you mean 'optim.discriminator.lr'?",
        "a.yaml:6: StepLR needs 'schedule.generator.step_size'",
        "a.yaml:6: schedule.discriminatr: there is no optimizer of that role; did you mean 'schedule.discriminator'?",
    ]
