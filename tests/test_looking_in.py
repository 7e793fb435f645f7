"""summary, lr_find and features: their numbers are torch's own, and nothing of a run is left or changed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PLAIN, TOY, rows
from torch import nn

from configs import COMPONENTS, Component, ConfigError, load
from trainer.build import build
from trainer.looking.rates import for_range_test, valley
from trainer.looking.summary import summarise, summarise_made
from trainer.task import Task

RESNET = ["--model=torchvision:resnet18", "--model.num_classes=1000", "--input=3,224,224", "--batch-size=2"]


def test_resnet18_has_the_published_numbers(run):
    given = run("summary", *RESNET, "--depth=1")
    assert given.code == 0 and "11,689,512" in given.out and "1.81 G multiply-adds" in given.out, given
    assert max(map(len, given.out.splitlines())) <= 80
    rows_of = {line.split()[0]: line for line in given.out.splitlines() if line.strip()}
    assert "2 x 512 x 7 x 7" in rows_of["layer4"] and "8,393,728" in rows_of["layer4"]
    assert "46.76" in rows_of["gradients"] and "93.52" in rows_of["optimizer"]  # of Adam: twice the weights
    assert "46.76" in run("summary", *RESNET, "--optim=SGD", "--optim.momentum=0.9", "--depth=0").out


def test_a_summary_is_of_one_real_batch(run):
    given = run("summary", "--model=LeNet", "--batch-size=8")
    assert given.code == 0 and "8 x 6 x 28 x 28" in given.out and "batch size 8" in given.out
    assert not Path("checkpoints").exists()
    given = run("summary", "mnist", "--data.dataset.root=nowhere")
    assert given.code == 3 and "--input=C,H,W for a made batch" in given.err


class Two(Task):
    """A linear layer and an LSTM whose losses are taken one after the other."""

    def train_step(self, batch, update):
        loss = self.model(batch[0].flatten(1)).square().mean()
        update(loss)
        return {"loss": loss}


class Lone(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.last = nn.LSTM(16, 32, 2, batch_first=True), nn.Linear(32, 4)

    def forward(self, x):
        return self.last(self.lstm(x)[0][:, -1])


def test_an_lstm_counts(tmp_path):
    cfg = load("default", {"data.batch_size": 4})
    task = Two()
    task.model = Lone()
    lines = {line.name: line for line in summarise_made(cfg, task, (5, 16)).networks["model"]}
    gates = 2 * 5 * 4 * 32 * ((16 + 32) + (32 + 32))  # of five steps: four gates, two layers
    assert lines["lstm"].flops == 4 * gates and lines["last"].flops == 4 * 2 * 32 * 4
    assert lines["model"].flops == lines["lstm"].flops + lines["last"].flops
    assert lines["lstm"].shape == (4, 5, 32) and lines["lstm"].parameters == sum(
        p.numel() for p in task.model.lstm.parameters()
    )


def test_kept_activations_are_those_that_autograd_saves():
    cfg = load("default", {"data.batch_size": 16, "model": "MLP", "model.hidden": [64]})
    parts = build(cfg, lambda text: None)
    memory = summarise(parts).memory
    learning = sum(p.numel() for p in parts.state.task.parameters())
    assert memory["parameters"] == memory["gradients"] == 4 * learning
    layer = nn.Linear(64, 64)
    task = Two()
    task.model = layer
    only = summarise_made(cfg, task, (64,)).memory["activations kept for backward"]
    assert only == 2 * 16 * 64 * 4  # the input of the layer, and its output for the square


@pytest.mark.learns
def test_the_suggested_rate_learns_and_others_do_worse(run):
    flags = ["--model=MLP", "--optim=SGD", "--optim.momentum=0.9"]
    given = run("lr_find", *flags)
    assert given.code == 0 and "suggestion: --lr=" in given.out, given
    found = json.loads(Path("lr_find.json").read_text())
    rates = [point["lr"] for point in found["points"]]
    assert rates == sorted(rates) and rates[0] == pytest.approx(1e-7) and rates[0] < found["suggestion"] < rates[-1]
    assert Path("lr_find.png").read_bytes().startswith(b"\x89PNG") and not Path("checkpoints").exists()
    best = {}
    for name, factor in (("suggested", 1.0), ("low", 1e-3), ("high", 1e3)):
        more = ["--max-epoch=3", f"--lr={found['suggestion'] * factor}", "--train.on_nonfinite=skip", *PLAIN]
        code = run("train", f"--run={name}", *flags, *more, "--schedule=null").code
        best[name] = max([row["accuracy"] for row in rows(name, phase="val")], default=0.0) if code == 0 else 0.0
    assert best["suggested"] > 0.7 and best["suggested"] > max(best["low"], best["high"]) + 0.2, best


QUIET = '''"""A task that names its loss in another way."""

from trainer.tasks.regression import Regression

__all__ = ["Quiet"]


class Quiet(Regression):
    """A regression."""

    def train_step(self, batch, update):
        return {"error": super().train_step(batch, update)["loss"]}
'''


def test_a_range_test_says_where_it_means_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setattr(COMPONENTS["task"], "here", True)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/quiet.py").write_text(QUIET)
    for flags, told in (
        (["anime_gan"], "learn against each other"),
        (["--model=MLP", "--to=1e-6"], "the loss falls at no rate"),
        (["--steps=3"], "--steps at least 10"),
        (["--from=x"], "--from=x: expected a number"),
        (
            ["two_layer", "--task=Quiet"],
            "Quiet logs no 'loss', but error; let its train_step return the loss by that",
        ),
    ):
        given = run("lr_find", *flags)
        assert given.code in (1, 2) and told in given.err and "Traceback" not in given.err, given


def test_the_valley_is_the_middle_of_the_longest_fall():
    losses = [3.0, 3.1, 3.0, 2.9, 2.5, 2.0, 1.5, 1.4, 1.6, 2.5, 5.0]
    assert losses[valley(losses)] == 2.5 and valley([1.0, 2.0, 3.0]) == 0


def trained(run, *flags: str) -> None:
    assert run("train", "--run=a", "--model=LeNet", *TOY[1:], "--train.max_steps=2", *flags).code == 0


def test_features_are_those_that_the_network_gives(run):
    from data.digits import Digits
    from trainer.inference.trained import LoadedRun

    trained(run)
    for layer, place in (("features.3", 4), ("features", 6)):
        given = run("features", "checkpoints/a", f"--layer={layer}", "--out=f.npz")
        assert given.code == 0, given
        found = np.load("f.npz")
        task = LoadedRun("checkpoints/a").load_task([])[1]
        samples = [Digits("val")[i] for i in range(len(Digits("val")))]
        with torch.no_grad():
            by_hand = task.model.features[:place](_prepared(task.model, torch.stack([x for x, _ in samples])))
        assert np.allclose(found["features"], by_hand.numpy(), atol=1e-5)
        assert found["labels"].tolist() == [int(y) for _, y in samples]
        assert found["ids"].shape == (len(samples),) and found["ids"].dtype.kind == "U"


def _prepared(network: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """The input of the network's `features`, as its forward makes it."""
    seen = []
    hook = network.features.register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    network(pictures)
    hook.remove()
    return seen[0]


def test_features_of_other_splits_and_pooled(run):
    trained(run)
    given = run("features", "checkpoints/a", "--layer=features.3", "--split=train", "--pool")
    assert given.code == 0 and np.load("features.npz")["features"].shape == (1258, 16), given
    given = run("features", "checkpoints/a", "--layer=classifier", "--split=test")
    assert given.code == 0 and set(np.load("features.npz").files) == {"features", "ids"}, given
    for flags, told in (
        (["--layer=featurs"], "did you mean 'features'?"),
        (["--layer=features", "--split=vall"], "did you mean 'val'?"),
        (["--layer=features", "--out=checkpoints/a/best.pth"], "is there, is no npz file, and would be lost"),
        ([], "which layer?"),
    ):
        given = run("features", "checkpoints/a", *flags)
        assert given.code == 2 and told in given.err, given


def test_lbfgs_finds_its_rate_itself():
    cfg = replace(load("default"), optim={"model": Component("LBFGS")})
    with pytest.raises(ConfigError, match="LBFGS finds the length of a step itself"):
        for_range_test(cfg)


def test_a_command_is_understood_with_a_hyphen(run):
    assert "--steps=N" in run("help", "lr-find").out and run("lr-find", "--help").out == run("help", "lr_find").out
    given = run("lr-find", "--steps=3")
    assert given.code == 2 and "--steps at least 10" in given.err


def test_a_file_in_the_place_of_the_range_tests_folder_is_told_before_it_trains(run, tmp_path):
    (tmp_path / "mine.py").write_text("x = 1\n")
    given = run("lr_find", "--model=MLP", "--out=mine.py")
    assert given == (2, "", "--out=mine.py: is no folder for lr_find.png and lr_find.json; name one\n")
