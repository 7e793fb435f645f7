"""Settings that looked right and taught something else: each gives the numbers of plain torch, or is told."""

from pathlib import Path

import pytest
import torch
from conftest import PLAIN, state
from torch import nn

from configs import Component, load
from data.loading.part import with_fraction
from data.loading.sampling.weighted import Weighted
from data.loading.transforms import make_transform
from data.tabular import Tabular
from trainer.losses.focal import FocalLoss
from trainer.optim.average import EpochMean
from trainer.optim.schedule import Schedule
from trainer.parameters.groups import Groups, learnable
from trainer.schedules.decay_on_rise import DecayOnRise
from utils.config.choices import choices
from utils.config.cli import Flag
from utils.errors import ConfigError, DataError

SMALL = ["--model=MLP", "--model.hidden=[8]", "--train.rehearse=false", *PLAIN]


def rates(spec: Component, epochs: int = 6) -> list[float]:
    """The rate in each epoch."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = Schedule(spec, "schedule", optimizer, 5 * epochs, epochs, "min")
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        schedule.after_epoch()
    return found


def torchs(make, epochs: int = 6) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler, found = make(optimizer), []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("name", "args"), [("LinearLR", {"start_factor": 0.1}), ("ConstantLR", {"factor": 0.5}), ("LinearLR", {})]
)
def test_a_schedule_shorter_than_the_run_comes_to_its_end(name, args):
    kind = getattr(torch.optim.lr_scheduler, name)
    expected = torchs(lambda optimizer: kind(optimizer, total_iters=3, **args))
    assert rates(Component(name, {**args, "epochs": 3})) == pytest.approx(expected)


def test_a_cosine_shorter_than_the_run_stays_at_its_end():
    assert rates(Component("CosineAnnealingLR", {"epochs": 2})) == pytest.approx([0.1, 0.05, 0, 0, 0, 0], abs=1e-12)


def test_a_rule_of_epochs_that_max_steps_cuts_short_is_told(run):
    flags = ["train", *SMALL, "--schedule=CosineAnnealingLR", "--max-epoch=50", "--train.max_steps=3"]
    given = run(*flags)
    told = "train.max_steps ends the run in epoch 1: CosineAnnealingLR is made for 50 epochs"
    assert given.code == 0 and told in given.out, given
    assert "max_steps ends" not in run(*flags, "--schedule=OneCycleLR").out


def test_a_lowest_rate_above_the_first_one_is_told(run):
    flags = ["train", *SMALL, "--schedule=CosineAnnealingLR", "--schedule.eta_min=1e-3", "--train.max_steps=3"]
    told = "note: schedule.eta_min 0.001 is above a learning rate, 0.0001, which then rises; give a smaller one"
    assert told in run(*flags, "--lr=1e-4").out
    assert "eta_min" not in run(*flags, "--lr=1e-2").out


def test_a_decay_never_raises_a_rate():
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [parameters[0]], "lr": 0.1}, {"params": [parameters[1]], "lr": 1e-3}])
    rule = DecayOnRise(optimizer, lr_decay=0.5, min_lr=0.01)
    for loss in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0):
        rule.step(loss)
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 1e-3]


def test_a_rate_that_was_asked_for_while_weights_are_averaged_stays():
    """As by ctl; a resume within an epoch, or the next epoch, does not take it back."""
    from types import SimpleNamespace

    train = load("default", {"train.swa": {"from": 0.0, "lr": 0.01}}).train
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    update = SimpleNamespace(steps={"model": SimpleNamespace(optimizer=optimizer, schedule=None)})
    mean = EpochMean(train)
    mean.begin(update, 0)
    assert optimizer.param_groups[0]["lr"] == 0.01
    optimizer.param_groups[0]["lr"] = 0.2
    again = EpochMean(train)
    again.load_state_dict(mean.state_dict(), {})
    for one in (mean, again):
        one.begin(update, 0)
        one.begin(update, 1)
    assert optimizer.param_groups[0]["lr"] == 0.2


def test_biases_of_attention_are_biases():
    net = nn.TransformerEncoderLayer(8, 2, 16)
    groups = Groups(Component("AdamW", {"no_decay": ("bias",), "weight_decay": 0.1}), "optim", net, learnable(net))
    plain = [group["params"] for group in groups.for_torch() if group.get("weight_decay") == 0]
    assert {id(p) for p in plain[0]} == {id(p) for name, p in net.named_parameters() if "bias" in name}


@pytest.mark.parametrize("count", [2, 13])
def test_weights_of_other_classes_are_refused(run, count):
    with pytest.raises(ValueError, match=f"weight has {count} numbers, and there are 10 classes"):
        FocalLoss(weight=torch.ones(count))(torch.zeros(3, 10), torch.zeros(3, dtype=torch.int64))
    weight = [1] * count
    given = run("train", *SMALL, f"--task.loss={{name: FocalLoss, weight: {weight}}}")
    assert given.code == 2 and "there are 10 classes" in given.err, given


def test_averaged_weights_are_those_that_are_loaded(run):
    assert run("train", "--run=a", *SMALL, "--train.ema=0.5", "--max-epoch=1").code == 0
    stored = state("a", "best.pth")
    given = run("train", "--run=b", *SMALL, "--train.load_model_path=checkpoints/a", "--lr=0", "--train.max_steps=1")
    assert given.code == 0 and "averaged weights (train.ema) of MLP" in given.out, given
    loaded = state("b")["model"]
    assert all(torch.equal(loaded[name], stored["ema"][name]) for name in loaded)


def test_an_optimizer_of_two_parts_goes_on(run):
    two = ["--optim.name=Muon", "--optim.rest=AdamW", "--max-epoch=1"]
    assert run("train", "--run=a", *SMALL, *two).code == 0
    load = ["--train.load_model_path=checkpoints/a", "--train.load_optimizer=true"]
    given = run("train", "--run=b", *SMALL, *two, *load)
    assert given.code == 0 and "state of Muon from" in given.out and "state of AdamW from" in given.out, given
    given = run("train", *SMALL, "--optim.name=Muon", "--optim.rest=SGD", *load)
    assert given.code in (0, 4), given
    given = run("train", *SMALL, "--optim=AdamW", *load)
    assert given.code == 4 and "does not fit" in given.err, given
    assert run("train", *SMALL, "--train.load_partly=true").code == 2


def test_a_share_of_a_table_is_drawn_by_its_column(tmp_path):
    rows = [f"{i % 5},{i % 3},{i % 2}" for i in range(100)]
    (tmp_path / "train.csv").write_text("\n".join(["w,x,y", *rows]) + "\n")
    whole = Tabular(str(tmp_path), "train", "y", fold=(0, 5))
    part = with_fraction(whole, 0.5, 0)
    cells = [float(text) for _, text in whole.cells().table.cells("w")]
    assert Weighted(part, column="w").weights.tolist() == [cells[i] for i in part.chosen]


NORMALIZE = Component("Normalize", {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)})


@pytest.mark.parametrize("name", ["ColorJitter", "RandAugment", "GaussianNoise", "RandomPosterize"])
def test_what_takes_values_from_0_to_1_stands_before_normalize(name):
    args = {"bits": 2} if name == "RandomPosterize" else {}
    with pytest.raises(ConfigError, match=rf"data.transform\[1\]: {name} takes values from 0 to 1; put it before"):
        make_transform([NORMALIZE, Component(name, args)])
    with pytest.raises(ConfigError, match=r"data.transform\[1\].transforms\[0\]"):
        make_transform([NORMALIZE, Component("RandomApply", {"transforms": [{"name": name, **args}]})])
    make_transform([Component(name, args), NORMALIZE])
    make_transform([NORMALIZE, Component("GaussianNoise", {"clip": False})])


def test_means_of_pictures_from_0_to_255_are_refused():
    large = Component("Normalize", {"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)})
    with pytest.raises(ConfigError, match=r"data.transform\[1\]: Normalize has the mean 123.7, .* by 255"):
        make_transform([Component("RandomHorizontalFlip"), large])
    make_transform([Component("PILToTensor"), Component("ToDtype", {"dtype": "float32"}), large])  # as they are
    make_transform([Component("Normalize", {"mean": (0.0,), "std": (1 / 255,)}), large])  # made large before


def test_one_named_column_leaves_the_other_one(run, tmp_path):
    from data.text_lines import _places

    rows = [(1, ["text", "file"]), (2, ["12", "a.png"])]
    assert _places("t.csv", rows, ("file", None), None) == ([1, 0], 1)
    assert _places("t.csv", rows, (None, "text"), None) == ([1, 0], 1)
    with pytest.raises(DataError, match="pictures and texts in one column"):
        _places("t.csv", rows, ("file", "file"), None)


def test_equal_numbers_are_listed_twice():
    with pytest.raises(ConfigError, match="1e-2 is listed twice"):
        choices(Flag("optim.lr", "0.01,1e-2", "--optim.lr=0.01,1e-2"))


def test_a_list_of_pictures_with_a_short_row(run, tmp_path):
    from trainer.deploy.inputs import _listed

    Path("a.png").write_bytes(b"")
    Path("list.csv").write_text("x,path\n1,a.png\n2\n")
    with pytest.raises(DataError, match="the row '2' has no column 2, path; mend it"):
        _listed("list.csv")
    Path("list.csv").write_text("x,path\n1,a.png\n2,none.png\n")
    assert [Path(one).name for one in _listed("list.csv")] == ["a.png", "none.png"]
