"""An optimizer, a schedule and a transform of one's own: one file each, used from YAML, resumed exactly."""

from conftest import PLAIN, rows, same_run, state

OPTIMIZER = '''
"""The sign of the momentum, as Lion (Chen et al., 2023)."""

import torch
from torch.optim import Optimizer

__all__ = ["SignSGD"]


class SignSGD(Optimizer):
    """Steps of one length."""

    def __init__(self, params, lr: float = 1e-3, momentum: float = 0.9):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                    mean.lerp_(p.grad, 1 - group["momentum"])
                    p.add_(mean.sign(), alpha=-group["lr"])
'''
SCHEDULE = '''
"""A rate that falls with the root of the steps."""

from torch.optim.lr_scheduler import LRScheduler

__all__ = ["InverseRoot"]


class InverseRoot(LRScheduler):
    """As of the Transformer (Vaswani et al., 2017)."""

    unit = "step"

    def __init__(self, optimizer, after: int = 1):
        self.after = after
        super().__init__(optimizer)

    def get_lr(self):
        return [lr * max(1.0, self.last_epoch / self.after) ** -0.5 for lr in self.base_lrs]
'''
TRANSFORM = '''
"""Noise on the pixels."""

import torch

__all__ = ["Salt"]


class Salt(torch.nn.Module):
    """Some pixels are white."""

    def __init__(self, share: float = 0.1):
        super().__init__()
        self.share = share

    def forward(self, picture):
        picture = torch.as_tensor(picture) if isinstance(picture, torch.Tensor) else to_tensor(picture)
        return torch.where(torch.rand(picture.shape[-2:]) < self.share, picture.max(), picture)


def to_tensor(picture):
    from torchvision.transforms.v2.functional import pil_to_tensor

    return pil_to_tensor(picture)
'''
YAML = """# Own parts.
data: {dataset: {name: ImageFolder, root: photos}, batch_size: 4, transform: {train: [{name: Salt, share: 0.3}]}}
model: {name: MLP, image_size: [8, 8], in_channels: 3, hidden: [8]}
optim: {name: SignSGD, lr: 0.003, groups: [{match: 'layers.3.*', momentum: 0.5}]}
schedule: {name: InverseRoot, after: 2, warmup: 0.5}
train: {max_epoch: 3}
log: {visdom: false, pictures: false, print_freq: 1}
"""


def own_parts(folder) -> None:
    """Files of one's own, and some pictures."""
    import numpy as np
    from PIL import Image

    for room, name, text in (
        ("optimizers", "sign_sgd", OPTIMIZER),
        ("schedules", "inverse_root", SCHEDULE),
        ("transforms", "salt", TRANSFORM),
    ):
        (folder / room).mkdir()
        (folder / room / f"{name}.py").write_text(text)
    random = np.random.default_rng(0)
    for split, label in [(split, label) for split in ("train", "val") for label in ("cat", "dog")]:
        (folder / "photos" / split / label).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / split / label / f"{number}.png")
    (folder / "own.yaml").write_text(YAML)


def test_parts_of_ones_own_are_a_file_each_and_go_on_exactly(run, tmp_path):
    own_parts(tmp_path)
    assert run("check", "own.yaml").code == 0
    wrong = run("check", "own.yaml", "--optim.momentun=1", "--schedule.aftr=2")
    assert "SignSGD takes no 'optim.momentun'; did you mean 'optim.momentum'?" in wrong.err
    assert "InverseRoot takes no 'schedule.aftr'; did you mean 'schedule.after'?" in wrong.err
    whole = run("train", "own.yaml", "--run=whole")
    assert whole.code == 0 and "optim.groups[0] layers.3.*: 2 tensors, momentum 0.5" in whole.out, whole.err
    assert run("train", "own.yaml", "--run=cut", "--train.max_steps=8").code == 0
    resumed = run("train", "--resume=checkpoints/cut", "--train.max_steps=null")
    assert resumed.code == 0, resumed.err
    assert rows("cut", phase="train") == rows("whole", phase="train")
    assert same_run(state("cut"), state("whole"))
    rates = [row["lr"] for row in rows("whole", phase="train")]
    # a row is written after the step, with the rate of the next one
    assert rates[0] == 0.003 * 2 / 4 and rates[-1] < 0.003 / 2 and len(rates) == 18
    assert "SignSGD" in run("help", "optimizers").out and "Salt" in run("help", "transforms").out


def test_a_file_of_ones_own_that_is_broken_is_told_where(run, tmp_path):
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "optimizers" / "mine.py").write_text("__all__ = ['Mine']\nclass Mine(:\n")
    given = run("train", "--optim=Mine", *PLAIN)
    assert given.code == 2 and "optimizers/mine.py" in given.err
