"""doctor: each planted fault is named, a healthy network has nothing odd, and nothing of it stays."""

import json
import re
from pathlib import Path

import pytest
import torch
from conftest import PLAIN, TOY
from test_configs import SHIPPED, commands
from test_docs import shortened
from tiny_data import make_data, make_photos
from torch import nn
from torch.nn import functional as F

from trainer.looking.vitals import Vitals
from trainer.tasks.classification import Classification

DOCTOR = ["--batch-size=32", "--lr=1e-3", "--optim=Adam"]
HEAD = """
import torch
from torch import nn
from torch.nn import functional as F
from models.basic_module import BasicModule

__all__ = ["Net"]


class Net(BasicModule):
    def __init__(self, num_classes: int = 10):
        super().__init__()
"""


@pytest.fixture
def examine(run, tmp_path):
    """Run doctor on a network of these lines: those of __init__, then those of forward."""

    def command(init: str, forward: str, *flags: str, head: str = HEAD):
        lines = [f"        {line}" for line in init.strip().splitlines()]
        lines += ["", "    def forward(self, x):", *(f"        {line}" for line in forward.strip().splitlines())]
        (tmp_path / "models").mkdir(exist_ok=True)
        (tmp_path / "models" / "net.py").write_text(head + "\n".join(lines) + "\n")
        return run("doctor", "--model=Net", *DOCTOR, *flags)

    return command


DEEP = "self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), {}, nn.Linear(64, num_classes))"
MIDDLE = "*[layer for _ in range({n}) for layer in ({act}, nn.Linear(64, 64))]"


def deep(n: int, act: str) -> str:
    return DEEP.format(f"{MIDDLE.format(n=n, act=act)}, {act}")


INIT = "for p in self.parameters():\n    if p.ndim > 1: nn.init.normal_(p, std={})\n    else: nn.init.zeros_(p)"
PLANTED = {
    "exploding": (deep(6, "nn.ReLU()") + "\n" + INIT.format(4.0), "return self.body(x)", "the outputs explode: "),
    "fading": (deep(6, "nn.Tanh()") + "\n" + INIT.format(0.001), "return self.body(x)", "the outputs fade: "),
    "sigmoids": (
        deep(9, "nn.Sigmoid()"),
        "return self.body(x)",
        r"gradients vanish: that of body.1.weight is .*nn?orm",
    ),
    "constant": (deep(9, "nn.Sigmoid()"), "return self.body(x)", "model gives the same output for every sample"),
    "dead": (
        deep(1, "nn.ReLU()") + "\nnn.init.constant_(self.body[3].bias, -100)",
        "return self.body(x)",
        r"dead units: 100% of body.4 \(ReLU\) are zero on all 160 samples",
    ),
    "dead in forward": (
        "self.a, self.b = nn.Linear(64, 64), nn.Linear(64, num_classes)\nnn.init.constant_(self.a.bias, -100)",
        "return self.b(F.relu(self.a(x.flatten(1))))",
        r"dead units: 100% of model ReLU 1 are zero.*\n(.*\n)*.*the gradient of a.weight, a.bias, b.weight is 0 in",
    ),
    "hidden": (
        "self.layers = [nn.Linear(64, 64)]\nself.last = nn.Linear(64, num_classes)",
        "return self.last(self.layers[0](x.flatten(1)))",
        r"models/net.py:\d+: model.layers is a Python list: its 1 layer \(4,160 parameters\) neither learns",
    ),
    "detached": (
        "self.a, self.b = nn.Linear(64, 64), nn.Linear(64, num_classes)",
        "return self.b(self.a(x.flatten(1)).detach())",
        r"model.a \(Linear, 4,160 parameters\) got no gradient",
    ),
    "softmax": (
        "self.a = nn.Linear(64, num_classes)",
        "return self.a(x.flatten(1)).softmax(1)",
        "model gives numbers between 0 and 1 whose sum is 1",
    ),
    "large loss": (
        "self.a = nn.Linear(64, num_classes)\nnn.init.normal_(self.a.weight, std=30)",
        "return self.a(x.flatten(1))",
        r"the first loss is \d+, where a guess has 2.3",
    ),
    "norm": (
        "self.n, self.a = nn.BatchNorm2d(1).eval(), nn.Linear(64, num_classes)\n"
        "self.n.train = lambda mode=True: self.n",
        "return self.a(self.n(x).flatten(1))",
        r"model.n \(BatchNorm2d\) is used in evaluation mode while the network trains",
    ),
    "overflow": (
        "self.a, self.b = nn.Linear(64, 64), nn.Linear(64, num_classes)",
        "return self.b(torch.exp(1e3 + self.a(x.flatten(1))))",
        r"overflow: from b \(Linear\) on the outputs are not finite",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_named(name, examine):
    init, forward, told = PLANTED[name]
    given = examine(init, forward)
    assert re.search(told, given.out), given
    assert given.code == (6 if name == "overflow" else 0), given


def test_a_healthy_network_has_nothing_odd(run):
    given = run("doctor", "--model=LeNet")
    assert (given.code, given.err) == (0, "") and "verdict: nothing odd" in given.out
    assert re.search(r"loss of the first batch 2\.[2-4]\d*; a guess has 2\.303 \(ln 10\)", given.out)
    assert max(map(len, given.out.splitlines())) <= 80
    told = json.loads(Path("doctor.json").read_text())
    assert told["verdict"] == "nothing odd" and told["losses"]["loss"] > 2 and told["odd"] == told["faults"] == []
    assert all(layer["spread"] > 0 for layer in told["layers"])
    assert not Path("checkpoints").exists()


OWN_DATA = """
import torch
__all__ = ["Own"]


class Own(torch.utils.data.Dataset):
    meta = {{"in_channels": 1, "image_size": [8, 8], "classes": ["a", "b"], "num_classes": 2}}

    def __init__(self, split: str):
        self.split = split

    def __len__(self):
        return 64

    def __getitem__(self, i):
        return {}
"""


@pytest.mark.parametrize(
    "sample, code, told",
    [
        ("torch.zeros(1, 8, 8), i / 2", 3, r"data/own.py:\d+: Own.__getitem__ gives labels of type float64"),
        ("torch.zeros(1, 8, 8), i % 2", 0, "the inputs of model are all 0"),
        (
            "255 * torch.rand(1, 8, 8), i % 2",
            0,
            r"the inputs of model have mean 12\d and spread 7[\d.]+: they are not sc",
        ),
    ],
)
def test_data_that_spoil_a_training_are_named(sample, code, told, run, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "own.py").write_text(OWN_DATA.format(sample))
    given = run("doctor", "--model=LeNet", "--data.dataset=Own")
    assert given.code == code and re.search(told, given.out + given.err) and "Traceback" not in given.err, given
    found = json.loads(Path("doctor.json").read_text())
    assert bool(found["faults"]) == bool(code) and found["verdict"] == "odd"


def test_a_run_is_looked_at_with_its_weights(run, tmp_path):
    assert run("train", "--run=a", *TOY[:-3], "--max-epoch=6", *PLAIN).code == 0
    before = {path.name: path.read_bytes() for path in Path("checkpoints/a").iterdir()}
    given = run("doctor", "checkpoints/a")
    assert given.code == 0 and "checkpoints/a/best.pth" in given.out and "verdict: nothing odd" in given.out, given
    told = json.loads(Path("checkpoints/a/doctor.json").read_text())
    assert told["losses"]["loss"] < 1.5, "the weights have learned"
    after = {path.name: path.read_bytes() for path in Path("checkpoints/a").iterdir() if path.name != "doctor.json"}
    assert after == before
    given = run("doctor", "checkpoints/b")
    assert given.code in (2, 4) and "checkpoints/b" in given.err, given


def test_a_gan_has_both_networks_in_its_table(run, tmp_path):
    make_photos(tmp_path / "data")
    small = ["--model.generator.ngf=8", "--model.discriminator.ndf=8"]
    flags = ["anime_gan", "--data.dataset.root=data/anime_faces", "--batch-size=4", *small]
    given = run("doctor", *flags)
    assert given.code == 0 and "verdict: nothing odd" in given.out, given
    names = {one["name"].partition(".")[0] for one in json.loads(Path("doctor.json").read_text())["gradients"]}
    assert names == {"generator", "discriminator"}


class Net(Classification):
    """A task around one network."""


def test_the_numbers_are_torchs_own():
    torch.manual_seed(0)

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.relu, self.b = nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)

        def forward(self, x):
            return self.b(F.relu(self.relu(self.a(x)) - 0.3))

    task = Net(Small(), classes=["a", "b", "c"])
    batches = [torch.randn(4, 6) for _ in range(3)]
    with Vitals(task) as vitals:
        for x in batches:
            task.zero_grad()
            task.model(x).square().sum().backward()
            vitals.next_batch()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in task.modules())
    layers = {layer.name: layer for layer in vitals.in_order()}
    assert list(layers) == ["a", "relu", "model ReLU 1", "b", "model"]
    hidden = task.model.a(torch.cat(batches))
    assert layers["a"].outputs.mean == pytest.approx(hidden.mean().item(), rel=1e-5)
    assert layers["a"].outputs.spread == pytest.approx(hidden.std(correction=0).item(), rel=1e-5)
    assert layers["relu"].dead == float((hidden.relu() == 0).all(0).double().mean())
    assert layers["model ReLU 1"].dead == float(((hidden.relu() - 0.3).relu() == 0).all(0).double().mean())
    gradients = []
    for x in batches:
        task.zero_grad()
        task.model(x).square().sum().backward()
        gradients.append(task.model.b.weight.grad.clone())
    told = torch.stack(gradients)
    assert vitals.gradients["b.weight"].mean == pytest.approx(float(told.mean()), rel=1e-5)
    assert vitals.gradients["b.weight"].spread == pytest.approx(float(told.std(correction=0)), rel=1e-5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The folder data/ with tiny data for every config."""
    folder = tmp_path_factory.mktemp("healthy")
    make_data(folder / "data")
    return folder / "data"


@pytest.mark.slow
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_config_has_nothing_odd(path, run, data, tmp_path):
    (tmp_path / "data").symlink_to(data)
    words = next(words for words in commands(path) if words[0] == "train")
    own = ("max_steps", "--run", "log.", "print")
    flags = [word for word in shortened(["python", "main.py", *words])[3:] if not any(part in word for part in own)]
    given = run("doctor", *flags)
    assert given.code == 0 and "verdict: nothing odd" in given.out, given
