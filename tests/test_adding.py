"""A model, a dataset, a task and a loss are each added by one file and one YAML; nothing else is touched."""

import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, rows, state

MODEL = '''"""A network that is not there yet."""

from torch import Tensor, nn

from models.basic_module import BasicModule

__all__ = ["TinyNet"]


class TinyNet(BasicModule):
    """One convolution and a linear layer."""

    def __init__(self, num_classes: int, in_channels: int = 1, width: int = 8):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3, padding=1)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3)))
'''
DATASET = '''"""A dataset that is not there yet."""

import torch
from torch.utils.data import Dataset

__all__ = ["Line"]


class Line(Dataset):
    """Points on y = 2 x - 1."""

    def __init__(self, split: str, size: int = 64):
        generator = torch.Generator().manual_seed({"train": 0, "val": 1, "test": 2}[split])
        self.x = torch.rand(size, 1, generator=generator)
        self.meta = {"features": 1}

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int):
        return self.x[index], 2 * self.x[index] - 1
'''
TASK = '''"""A task that is not there yet."""

from torch import nn
from torch.nn import functional as F

from trainer.task import Task
from utils.meters import Mean

__all__ = ["Fit"]


class Fit(Task):
    """A line through points; it brings its network along, and predicts."""

    metrics = {"mse": "min"}

    def __init__(self, features: int):
        super().__init__()
        self.model = nn.Linear(features, 1)

    def train_step(self, batch, update):
        x, y = batch
        loss = F.mse_loss(self.model(x), y)
        update(loss)
        return {"mse": loss}

    def meters(self):
        return {"mse": Mean()}

    def val_step(self, batch, meters):
        x, y = batch
        meters["mse"].add(F.mse_loss(self.model(x), y), len(x))

    def test_step(self, batch):
        return [{"y": y} for y in self.model(batch[0]).squeeze(1).tolist()]
'''
GAN = '''"""Two networks and two optimizers in one task."""

import torch
from torch import nn
from torch.nn import functional as F

from trainer.task import Task
from utils.meters import Mean

__all__ = ["ToyGAN"]


class ToyGAN(Task):
    """Numbers from noise; the generator learns on every second batch."""

    metrics = {"score": "max"}

    def __init__(self, features: int, g_every: int = 2):
        super().__init__()
        self.generator, self.discriminator = nn.Linear(3, features), nn.Linear(features, 1)
        self.g_every = g_every
        self.register_buffer("noise", torch.randn(8, 3))

    def train_step(self, batch, update):
        real, _ = batch
        fake = self.generator(torch.randn(len(real), 3))
        loss = F.softplus(-self.discriminator(real)).mean() + F.softplus(self.discriminator(fake.detach())).mean()
        update(loss, "discriminator")
        scalars = {"d_loss": loss}
        if update.step % self.g_every == 0:
            scalars["g_loss"] = F.softplus(-self.discriminator(fake)).mean()
            update(scalars["g_loss"], "generator")
        return scalars

    def meters(self):
        return {"score": Mean()}

    def val_step(self, batch, meters):
        meters["score"].add(self.discriminator(self.generator(self.noise)).mean(), len(batch[0]))
'''
GAN_YAML = """# A toy GAN.
task: ToyGAN
model: {}
data: {dataset: Line, batch_size: 10}
optim:
  generator: {name: Adam, lr: 0.002, betas: [0.5, 0.999]}
  discriminator: {name: Adam, lr: 0.0002}
train: {max_epoch: 3, accumulate: 2, clip: 1.0, ema: 0.9}
log: {visdom: false, print_freq: 1}
"""


@pytest.fixture
def house(tmp_path):
    """A copy of the project, and its command line."""
    skip = shutil.ignore_patterns(".venv", ".git", "checkpoints", "tests", "__pycache__", ".*_cache")
    copy = shutil.copytree(ROOT, tmp_path / "house", ignore=skip)

    def command(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "main.py", *arguments], cwd=copy, capture_output=True, text=True)

    return copy, command


def test_a_model(house):
    folder, command = house
    (folder / "models/tiny_net.py").write_text(MODEL)
    (folder / "configs/tiny.yaml").write_text("# Tiny.\nbase: default.yaml\nmodel: {name: TinyNet, width: 4}\n")
    assert "TinyNet              One convolution" in command("help", "models").stdout
    assert "TinyNet takes no" in command("check", "tiny", "--model.widht=3").stderr
    given = command("train", "tiny", "--run=a", "--train.max_steps=3", "--log.visdom=false")
    assert given.returncode == 0, given.stderr
    assert state("a", folder=folder)["model"]["conv.weight"].shape == (4, 1, 3, 3)


@pytest.mark.learns
def test_a_dataset_and_a_task(house):
    folder, command = house
    (folder / "data/line.py").write_text(DATASET)
    (folder / "trainer/tasks/fit.py").write_text(TASK)
    text = (
        "# A line.\ntask: Fit\nmodel: {}\ndata: {dataset: Line}\noptim: {name: Adam, lr: 0.1}\ntrain: {max_epoch: 40}\n"
    )
    (folder / "configs/line.yaml").write_text(text)
    assert "Fit has no metric 'accuracy'" in command("check", "line", "--train.monitor=accuracy").stderr
    given = command("train", "line", "--run=a", "--log.visdom=false")
    assert given.returncode == 0, given.stderr
    assert rows("a", folder, "val")[-1]["mse"] < 1e-3
    assert command("test", "checkpoints/a").returncode == 0
    assert (folder / "checkpoints/a/submission.csv").read_text().startswith("id,y\n0,")


@pytest.mark.slow
def test_a_task_with_two_networks_keeps_every_guarantee(house):
    """Accumulation, clipping, averaging and exact resume, without a line of the task's own for them."""
    folder, command = house
    (folder / "data/line.py").write_text(DATASET)
    (folder / "trainer/tasks/toy_gan.py").write_text(GAN)
    (folder / "configs/toy.yaml").write_text(GAN_YAML)
    assert command("train", "toy", "--run=whole").returncode == 0
    assert command("train", "toy", "--run=cut", "--train.max_steps=10").returncode == 0
    given = command("train", "--resume=checkpoints/cut", "--train.max_steps=null")
    assert given.returncode == 0, given.stderr
    assert rows("cut", folder) == rows("whole", folder)
    from conftest import same_run

    whole = state("whole", folder=folder)
    assert same_run(state("cut", folder=folder), whole)
    assert {"generator.weight", "discriminator.weight"} <= whole["model"].keys()
    assert whole["buffers"].keys() == {"noise"}
    taken = {role: part["taken"] for role, part in whole["update"].items()}
    assert taken["discriminator"] > taken["generator"] > 0
    assert {"d_loss", "lr_generator", "lr_discriminator"} <= rows("whole", folder)[0].keys()
    ambiguous = command("check", "toy", "--lr=1")
    assert "optim.generator.lr" in ambiguous.stderr and "optim.discriminator.lr" in ambiguous.stderr


def test_a_broken_file_breaks_nobody_else(house):
    folder, command = house
    (folder / "models/broken.py").write_text("class Oops(:\n")
    assert command("check").returncode == 0
    given = command("check", "--model=Oops")
    assert given.returncode == 2
    assert "broken.py was left out" in given.stderr


LOSS = '''"""A loss that is not there yet."""

from torch import nn

__all__ = ["Fourth"]


class Fourth(nn.Module):
    """The fourth power of the difference."""

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale = scale

    def forward(self, output, target):
        return (self.scale * (output - target)).pow(4).mean()
'''


@pytest.mark.slow
def test_a_loss(house):
    folder, command = house
    (folder / "trainer/losses/fourth.py").write_text(LOSS)
    assert "The fourth power" in command("help", "losses").stdout
    line = ["linear_regression", "--task.loss=Fourth"]
    assert "did you mean 'task.loss.scale'" in command("check", *line, "--task.loss.sclae=2").stderr
    given = command("train", *line, "--task.loss.scale=0.1", "--run=a", "--max-epoch=1", "--log.visdom=false")
    assert given.returncode == 0, given.stderr
    assert command("val", "checkpoints/a").returncode == 0
    (folder / "trainer/losses/fourth.py").write_text(LOSS.replace("self.scale * (", "self.skale * ("))
    given = command("train", *line, "--run=b", "--log.visdom=false")
    assert given.returncode == 10 and given.stderr.startswith("trainer/losses/fourth.py:16: in forward: AttributeError")


WATCHER = '''
"""Counts steps and validations."""

from trainer.watchers.watcher import Watcher

__all__ = ["Counter"]


class Counter(Watcher):
    """Counts what it hears."""

    def __init__(self, word: str = "heard"):
        self.word, self.steps, self.validations = word, 0, 0

    def after_step(self, run, batch, scalars):
        self.steps += 1

    def after_validation(self, run, numbers, extras):
        self.validations += 1

    def end(self, run):
        run.say(f"{self.word} {self.steps} steps and {self.validations} validations")
'''


def test_a_watcher(house):
    folder, command = house
    (folder / "trainer/watchers/counter.py").write_text(WATCHER)
    assert "Counter              Counts what it hears" in command("help", "watchers").stdout
    assert "Counter takes no" in command("check", "--log.watchers=[{name: Counter, wrod: saw}]").stderr
    flags = ["--model=MLP", "--max-epoch=2", "--train.max_steps=50", "--log.visdom=false", "--log.pictures=false"]
    given = command("train", "--run=a", *flags, "--log.watchers=[{name: Counter, word: saw}]")
    assert given.returncode == 0 and "saw 50 steps and 2 validations" in given.stdout, given.stderr
