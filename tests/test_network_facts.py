"""How a run tells that a network does not learn as a whole, is asked for something else, or learns nothing."""

import math

import pytest
import torch
from conftest import PLAIN
from torch import nn

from trainer.parameters.hidden import find_hidden

RUN = ["--run=a", "--max-epoch=1", "--train.max_steps=12", "--batch-size=64", *PLAIN]
IMPORTS = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"
HEAD = f'"""Mine."""\n\n{IMPORTS}\n__all__ = ["Mine"]\n\n\n'
CLASS = "class Mine(nn.Module):\n    def __init__(self, num_classes: int):\n        super().__init__()\n"


def network(layers: str, forward: str) -> str:
    """Return a file with a model: lines of its constructor and of forward, each statement ended by `;`."""

    def lines(code: str) -> str:
        return "".join(f"        {line.strip()}\n" for line in code.split(";"))

    return HEAD + CLASS + lines(layers) + "    def forward(self, x):\n        x = x.flatten(1)\n" + lines(forward)


FC = "self.fc = nn.Linear(64, num_classes)"
NETWORKS = {
    "half in a list": (
        network(f"self.layers = [nn.Linear(64, 64)]; {FC}", "return self.fc(self.layers[0](x))"),
        "note: models/mine.py:13: model.layers is a Python list: its 1 layer (4,160 parameters) neither learns nor is "
        "saved; make it an nn.ModuleList",
    ),
    "in a dict of lists": (
        network(f'self.heads = {{"a": [nn.Linear(64, 64)]}}; {FC}', 'return self.fc(self.heads["a"][0](x))'),
        "note: models/mine.py:13: model.heads is a Python dict: its 1 layer (4,160 parameters) neither learns nor is "
        "saved; make it an nn.ModuleDict",
    ),
    "a list of parameters": (
        network(f"self.scales = [nn.Parameter(torch.ones(64))]; {FC}", "return self.fc(x * self.scales[0])"),
        "model.scales is a Python list: its contents (64 parameters) neither learn nor are saved; make it an "
        "nn.ParameterList",
    ),
    "never used": (
        network(f"self.extra = nn.Sequential(nn.Linear(64, 8), nn.ReLU()); {FC}", "return self.fc(x)"),
        "note: models/mine.py:13: model.extra (Sequential, 520 parameters) was never used: does forward leave it out? "
        "(10 steps)",
    ),
    "detached": (
        network(f"self.stem = nn.Linear(64, 64); {FC}", "return self.fc(self.stem(x).detach())"),
        "note: models/mine.py:13: model.stem (Linear, 4,160 parameters) got no gradient: is it left out, detached, or "
        "used under torch.no_grad? (10 steps)",
    ),
    "a lone parameter": (
        network(f"self.scale = nn.Parameter(torch.ones(64)); {FC}", "return self.fc(x)"),
        "note: models/mine.py:13: model.scale (64 parameters) got no gradient",
    ),
    "made in forward": (
        network(f"self.late = None; {FC}", "self.late = self.late or nn.Linear(64, 64); return self.fc(self.late(x))"),
        "model.late.weight (4,096 parameters) is in no optimizer and does not learn; make it in __init__",
    ),
    "softmax": (
        network(FC, "return self.fc(x).softmax(1)"),
        "note: models/mine.py:14: model gives numbers between 0 and 1 whose sum is 1, as after softmax; the loss "
        "asks for logits: leave out its last activation",
    ),
    "sigmoid": (
        network(FC, "return self.fc(x).sigmoid()"),
        "model gives numbers between 0 and 1, as after sigmoid; the loss",
    ),
    "relu": (
        network(FC, "return F.relu(self.fc(10 * x))"),
        "model gives numbers of which none is below 0 and some are 0, as after ReLU",
    ),
    "large outputs": (
        network(FC, "return 300 * self.fc(x)"),
        "where a guess has 2.3; are the inputs scaled, as data.transform's Normalize does, and the outputs plain",
    ),
}


@pytest.fixture
def train(run, tmp_path):
    def command(text: str, *flags: str):
        (tmp_path / "models").mkdir(exist_ok=True)
        (tmp_path / "models/mine.py").write_text(text)
        return run("train", "--model=Mine", *RUN, *flags)

    return command


def notes(given) -> list[str]:
    return [line for line in given.out.splitlines() if line.startswith("note:") and "training loss is" not in line]


@pytest.mark.parametrize("kind", NETWORKS)
def test_what_does_not_learn_is_told_in_one_line(train, kind):
    text, expected = NETWORKS[kind]
    given = train(text)
    assert given.code == 0, given.err
    found = [line for line in notes(given) if expected in line]
    assert len(found) == 1, given.out


def test_a_network_without_a_fault_is_told_nothing(train):
    given = train(network(f"self.stem = nn.Linear(64, 64); {FC}", "return self.fc(F.relu(self.stem(x)))"))
    assert given.code == 0 and not notes(given), given.out


def test_all_layers_in_a_list_is_an_error_that_says_so(train):
    text = network("self.layers = [nn.Linear(64, num_classes)]", "return self.layers[0](x)")
    given = train(text)
    assert given.code == 2 and "the network 'model' has nothing to learn; models/mine.py:13: " in given.err
    assert "model.layers is a Python list" in given.err and "nn.ModuleList" in given.err


def test_frozen_layers_in_a_list_and_known_ones_are_no_fault():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.teacher = [nn.Linear(2, 2).requires_grad_(False)]
            self.activations, self.fc = [nn.ReLU()], nn.Linear(2, 2)
            self.order = [self.fc, self.fc.weight]

    assert not find_hidden(Net(), "model")


def test_layers_in_an_object_that_is_no_module_are_found():
    class Block:
        def __init__(self):
            self.fc = nn.Linear(2, 2)

        def __call__(self, x):
            return self.fc(x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.fc = Block(), nn.Linear(2, 2)

    (found,) = find_hidden(Net(), "model")
    expected = "model.block is a Block, which is no nn.Module: its 1 layer (6 parameters) neither learns nor is saved"
    assert str(found).endswith(f"{expected}; make it an nn.Module")


def test_a_run_at_chance_says_so_with_what_to_try(run):
    given = run("train", "--model=MLP", "--run=a", "--max-epoch=2", "--lr=1e-9", "--schedule=null", *PLAIN)
    said = [line for line in notes(given) if "no better than a guess" in line]
    assert given.code == 0 and len(said) == 2, given.out
    assert "where the most frequent class alone gives" in said[0] and "--lr=" in said[0]
    learns = run("train", "--model=MLP", "--run=b", "--optim=Adam", "--lr=1e-3", "--max-epoch=2", *PLAIN)
    assert learns.code == 0 and not notes(learns), learns.out


def test_rare_classes_alone_are_no_chance():
    """A classifier of rare events has the accuracy of a guess and a far smaller loss."""
    from types import SimpleNamespace

    from trainer.watchers.chance import _at_chance

    task = SimpleNamespace(at_chance=lambda: {"loss": math.log(2)})
    optim = {"model": SimpleNamespace(args={"lr": 0.1})}  # the schedule's rate at the end is another one
    run = SimpleNamespace(task=task, cfg=SimpleNamespace(optim=optim), folder=None)
    confusion = torch.tensor([[990, 0], [10, 0]])
    assert not _at_chance(run, {"loss": 0.02}, {"confusion": confusion})
    told = _at_chance(run, {"loss": 0.056}, {"confusion": confusion})
    assert "predicts one class only" in told and told.endswith("try --lr=1 and --lr=0.01 (now 0.1)")


def test_a_run_that_has_hardly_learned_says_so_at_its_end():
    from types import SimpleNamespace

    from trainer.watchers.chance import Chance

    said = []
    task = SimpleNamespace(at_chance=lambda: {"loss": math.log(10)})
    run = SimpleNamespace(
        task=task,
        folder=None,
        progress=SimpleNamespace(step=50, epoch=1, batch=0),
        train_loader=range(10),
        cfg=SimpleNamespace(train=SimpleNamespace(max_epoch=6), optim={"model": SimpleNamespace(args={"lr": 0.02})}),
        say=said.append,
    )
    for accuracy, told in ((0.21, 1), (0.5, 0)):
        right = int(1000 * accuracy / 10)
        confusion = torch.full((10, 10), (100 - right) // 9).fill_diagonal_(right)
        watcher = Chance()
        watcher.after_validation(run, {"loss": 1.9}, {"confusion": confusion})
        watcher.end(run)
        assert len(said) == told, said
        said.clear()


def test_a_validation_of_one_class_is_not_told_to_be_a_guess(run):
    from types import SimpleNamespace

    from trainer.watchers.chance import _at_chance

    cfg = SimpleNamespace(optim={"model": SimpleNamespace(args={"lr": 0.1})})
    run = SimpleNamespace(task=SimpleNamespace(at_chance=lambda: {"loss": 0.69}), cfg=cfg, folder=None)
    assert not _at_chance(run, {"loss": 0.6}, {"confusion": [[5, 0], [0, 0]]})
    assert _at_chance(run, {"loss": 0.7}, {"confusion": [[5, 0], [5, 0]]})


@pytest.mark.parametrize("loss", ["FocalLoss", "{name: CrossEntropyLoss, weight: balanced}", "NLLLoss"])
def test_whatever_the_loss_a_run_at_chance_says_so(run, loss):
    slow = ["--model=MLP", "--max-epoch=2", "--lr=1e-9", "--schedule=null", f"--task.loss={loss}", *PLAIN]
    given = run("train", "--run=a", *slow)
    said = [line for line in notes(given) if "no better than a guess: mean recall" in line]
    assert given.code == 0 and len(said) == 2, given.out
    assert any("asks for log-probabilities" in line for line in notes(given)) == (loss == "NLLLoss")


def test_recalls_judge_whatever_the_shares_of_the_classes():
    """With weights a good classifier of rare events has a lower accuracy than the most frequent class alone."""
    from types import SimpleNamespace

    from trainer.watchers.chance import _at_chance

    optim = {"model": SimpleNamespace(args={"lr": 0.1})}
    run = SimpleNamespace(task=SimpleNamespace(at_chance=dict), cfg=SimpleNamespace(optim=optim), folder=None)
    assert not _at_chance(run, {}, {"confusion": torch.tensor([[900, 90], [2, 8]])})
    assert "mean recall" in _at_chance(run, {}, {"confusion": torch.tensor([[890, 100], [9, 1]])})
    assert not _at_chance(run, {}, {"confusion": torch.tensor([[50, 0], [0, 0]])})
