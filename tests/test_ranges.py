"""Numbers outside of their range are refused by check, with what is allowed; not by a traceback in training."""

import pytest

REFUSED = [
    ("default", "--model=MLP --model.hidden=[0]", "model.hidden[0] must be at least 1, got 0"),
    ("default", "--model=MLP --model.hidden=[-1]", "model.hidden[0] must be at least 1, got -1"),
    ("default", "--model=MLP --model.dropout=1.5", "model.dropout must be from 0 to 1, got 1.5"),
    ("default", "--model=MLP --model.dropout=.nan", "model.dropout must be from 0 to 1, got .nan"),
    ("default", "--task.label_smoothing=7", "task.label_smoothing must be from 0 to 1, got 7"),
    ("default", "--task.label_smoothing=-1", "task.label_smoothing must be from 0 to 1, got -1"),
    ("default", "--task.label_smoothing=.nan", "task.label_smoothing must be from 0 to 1, got .nan"),
    ("default", "--num-workers=3000", "data.num_workers must be from 0 to 256, got 3000"),
    ("default", "--data.worker_timeout=1e9", "data.worker_timeout must be from 0 to 1000000, got"),
    ("default", "--data.worker_timeout=.inf", "data.worker_timeout must be from 0 to 1000000, got .inf"),
    ("default", "--lr=-1", "optim.lr must be at least 0 and finite, got -1"),
    ("default", "--lr=.inf", "optim.lr must be at least 0 and finite, got .inf"),
    ("default", "--optim=SGD --optim.momentum=-0.9", "optim.momentum must be from 0 to 1, got -0.9"),
    ("default", "--optim=Adam --optim.betas=[0.9,1.5]", "optim.betas must be from 0 to 1, got [0.9, 1.5]"),
    ("default", "--optim=AdamW --weight-decay=-1", "optim.weight_decay must be at least 0 and finite, got -1"),
    ("default", "--optim=Adam --optim.eps=-1e-8", "optim.eps must be from 0 to 1, got -1e-8"),
    ("default", "--schedule=ExponentialLR --schedule.gamma=-1", "schedule.gamma must be from 0 to 1000, got -1"),
    ("default", "--schedule=ReduceLROnPlateau --schedule.factor=2", "schedule.factor must be from 0 to 1, got 2"),
    ("two_layer", "--model.hidden=0", "model.hidden must be at least 1, got 0"),
    ("poetry", "--model.embedding=-1", "model.embedding must be at least 1, got -1"),
    ("mnist_gan", "--model.generator.nz=0", "model.generator.nz must be at least 1, got 0"),
    ("default", "--data.dataset.seed=-1", "data.dataset.seed must be from 0 to 2147483648, got -1"),
    ("default", "--model.num_classes=9223372036854775808", "model.num_classes: 9223372036854775808 is beyond 64 bits"),
    ("default", "--model=MLP --model.hidden=[8,1e3000]", "model.hidden[1]: expected a whole number"),
    ("default", "--model=LeNet --model.image_size=[8]", "model.image_size: expected a list of 2 whole numbers, got a"),
    ("two_layer", "--data.dataset.in_features=-1", "data.dataset.in_features must be at least 1, got -1"),
    ("two_layer", "--data.dataset.passes=1000000000", "data.dataset.passes must be from 1 to 1000000, got 1000000000"),
    ("two_layer", "--model=DynamicNet --model.max_depth=-1", "model.max_depth must be from 0 to 1000, got -1"),
    ("linear_regression", "--data.dataset.noise=.nan", "data.dataset.noise must be at least 0 and finite, got .nan"),
    ("poetry", "--model.layers=1000000000", "model.layers must be from 1 to 1000, got 1000000000"),
    ("unet", "--data.dataset.val_fraction=-1", "data.dataset.val_fraction must be from 0 to 1, got -1"),
    ("unet", "--model.depth=1000000000", "model.depth must be from 1 to 16, got 1000000000"),
    (
        "style_transfer",
        "--style-path=x --model.blocks=1000000000",
        "model.blocks must be from 0 to 1000, got 1000000000",
    ),
    (
        "cifar10",
        "--data.transform.train=[{name:\u00a0RandAugment,num_ops:\u00a01000000}]",
        "data.transform.train[0].num_ops must be from 0 to 100, got 1000000",
    ),
    ("cifar10", "--data.transform.eval=[{name:\u00a0Resize,size:\u00a00}]", "size must be from 1 to 100000, got 0"),
    (
        "titanic",
        "--data.dataset.statistics={}",
        "'data.dataset.statistics' comes from the trainer",
    ),
    ("default", "--run=../x", "--run=../x: a run's name has letters, digits and ._- only, at most 100 of them"),
    ("default", f"--run={'x' * 300}", "a run's name has letters, digits and ._- only, at most 100 of them"),
    (
        "default",
        "--task.loss={name:\u00a0CrossEntropyLoss,weight:\u00a0[-1,1,1,1,1,1,1,1,1,1]}",
        "task.loss.weight must be at least 0 and finite, and one of them above 0, got [-1, 1",
    ),
    (
        "default",
        "--task.loss={name:\u00a0CrossEntropyLoss,weight:\u00a0[0,0,0,0,0,0,0,0,0,0]}",
        "task.loss.weight must be at least 0 and finite, and one of them above 0, got [0, 0",
    ),
    (
        "default",
        "--task.loss={name:\u00a0FocalLoss,weight:\u00a0[1,.inf]}",
        "task.loss.weight must be at least 0 and finite, and one of them above 0, got [1, inf",
    ),
    (
        "default",
        "--task.loss={name:\u00a0BCEWithLogitsLoss,pos_weight:\u00a0[-2]}",
        "task.loss.pos_weight must be at least 0 and finite, and one of them above 0, got [-2",
    ),
    (
        "default",
        "--task.loss={name:\u00a0MultiMarginLoss,margin:\u00a0-1}",
        "task.loss.margin must be at least 1e-30 and finite, got -1",
    ),
    ("mnist_gan", "--model.generator.ngf=0", "model.generator.ngf must be at least 1, got 0"),
]


@pytest.mark.parametrize(("config", "flags", "message"), REFUSED)
def test_a_number_outside_of_its_range_is_refused(run, config, flags, message):
    given = run("check", config, *(flag.replace("\u00a0", " ") for flag in flags.split(" ")))
    assert given.code == 2 and message in given.err, given


@pytest.mark.parametrize("weight", ["[0,1,1,1,1,1,1,1,1,1]", "balanced", "null"])
def test_weights_of_classes_may_leave_one_out(run, weight):
    assert run("check", "--task.loss=CrossEntropyLoss", f"--task.loss.weight={weight}").code == 0


@pytest.mark.parametrize("flags", ["--model=MLP --model.hidden=[]", "--model=MLP --model.dropout=0", "--lr=0"])
def test_the_ends_of_a_range_are_allowed(run, flags):
    assert run("check", *flags.split()).code == 0


def test_a_range_in_a_users_own_constructor_is_read(run, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/mine.py").write_text(
        "from typing import Annotated\nfrom torch import nn\nfrom utils.config.ranges import Range\n"
        "__all__ = ['Mine']\n"
        "class Mine(nn.Module):\n"
        "    def __init__(self, num_classes: int, heads: Annotated[int, Range(1, 8)] | None = None): ...\n"
    )
    assert run("check", "--model=Mine", "--model.heads=9").err.endswith("model.heads must be from 1 to 8, got 9\n")
    assert run("check", "--model=Mine", "--model.heads=8").code == 0
