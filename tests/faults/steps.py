"""Stopped after each step and resumed: every position of an epoch, every kind of rule and network, workers or none."""

import json
import os
import random
import signal
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

from tests.faults import campaign
from tests.faults.campaign import Family, Trial, require
from tests.faults.children import Hook, warm
from tests.faults.runs import (
    DIGITS,
    PLAIN,
    check_reads,
    check_same,
    finish,
    noted,
    position,
    prepare,
    reference,
    resume,
    train,
)

STOPPED = 128 + signal.SIGTERM
WORKERS = [(0, 0), (2, 2), (0, 2), (2, 0)]  # before and after
SCHEDULES = {
    "ConstantLR": ["--schedule.total_iters=2"],
    "CosineAnnealingLR": [],
    "CosineAnnealingWarmRestarts": ["--schedule.T_0=2"],
    "CyclicLR": ["--schedule.base_lr=1e-3", "--schedule.step_size_up=4", "--schedule.cycle_momentum=false"],
    "DecayOnRise": ["--lr=0.3"],
    "ExponentialLR": ["--schedule.gamma=0.8"],
    "LinearLR": ["--schedule.total_iters=3"],
    "MultiStepLR": ["--schedule.milestones=[1,2]"],
    "OneCycleLR": [],
    "PolynomialLR": ["--schedule.total_iters=4"],
    "ReduceLROnPlateau": ["--schedule.patience=0", "--lr=0.3"],
    "StepLR": ["--schedule.step_size=1"],
}


class Setting(NamedTuple):
    """A training of some steps: its flags, what makes its data, what must be done in the process."""

    arguments: list[str]
    steps: int
    make: Callable[[Path], object] | None = None
    hooks: tuple[Hook, ...] = ()


class Case(NamedTuple):
    """A setting, the step after which it is stopped (0: drawn), and the workers before and after."""

    setting: str
    step: int = 0
    workers: tuple[int, int] = (0, 0)


def trial(t: Trial) -> str:
    case = cases()[t.seed % len(cases())]
    setting = settings()[case.setting]
    step = case.step or t.rng.randint(1, setting.steps - 1)
    whole = reference(setting.arguments, setting.make, setting.hooks)
    if setting.make:
        setting.make(t.folder)
    broken = [BROKEN[t.broken]] if t.broken else []
    before, after = case.workers
    arguments = [*setting.arguments, f"--num-workers={before}"]
    first = train(t.folder, arguments, [*setting.hooks, *broken, partial(stop_after, step)])
    require(first.wait() == STOPPED, f"exit code {first.code}, not {STOPPED}: {first.err()[-400:]}")
    require(position(t.folder) == step, f"stopped after step {step}, but saved after {position(t.folder)}")
    reads = len(noted(t.folder, "reads"))
    second = finish(resume(t.folder, [f"--num-workers={after}"], [*setting.hooks, *broken]))
    check_reads(t.folder, whole, step, reads)
    check_same(t.folder, whole)
    for child in (first, second):
        child.check_orphans()
    return case.setting


def stop_after(step: int) -> None:
    """In a child: SIGTERM when this step has been taken, as a cluster might send it."""
    from trainer.trainer import Trainer

    own = Trainer.after_step

    def after_step(self, *arguments: object) -> None:
        if self.state.progress.step + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)
        own(self, *arguments)

    Trainer.after_step = after_step


# The trainings


def settings() -> dict[str, Setting]:
    """By name; an epoch of each has batches that are not full, and validations."""
    bare = ["--model=MLP", "--model.hidden=[16]", "--batch-size=100", "--max-epoch=2", *PLAIN]
    adam = [*bare, "--optim=Adam", "--lr=1e-2"]
    own = {
        "pictures": Setting([*PICTURES, "--data.pixels=exact"], 52, make_photos, (small_network,)),
        "fast pixels": Setting(PICTURES, 52, make_photos, (small_network,)),
        "accumulation": Setting(DIGITS, 26),
        "bf16": Setting([*adam, "--train.precision=bf16", "--model.dropout=0.2"], 26),
        "GAN": Setting(GAN, 24, make_photos),
        "CharRNN": Setting(POEMS, 24, make_poems),
    }
    sgd = [*bare[:-1], "--optim=SGD", "--optim.momentum=0.9"]
    ruled = {}
    for rule, more in SCHEDULES.items():
        rate = [] if any(flag.startswith("--lr=") for flag in more) else ["--lr=1e-2"]
        arguments = [*sgd, PLAIN[-1], f"--schedule={rule}", *more, *rate]
        ruled[rule] = Setting([a.replace("--max-epoch=2", "--max-epoch=4") for a in arguments], 52)
    return own | ruled


def cases() -> list[Case]:
    """48 steps with each change of workers; then the other settings, each at two steps that are drawn.

    On a GPU, where a process takes seconds to begin, each twelfth of the 48.
    """
    steps = range(1, 49, 12 if campaign.DEVICE else 1)
    pictures = [Case("pictures", step, workers) for step, workers in product(steps, WORKERS)]
    return pictures + [Case(name) for name in [*settings()][1:] for _ in range(2)]


PICTURES = [
    "--data.dataset=DogCat",
    "--train-data-root=photos",
    "--model=LeNet",
    "--data.transform.train=[{name: RandomResizedCrop, size: 12}, RandomHorizontalFlip]",
    "--data.transform.eval=[{name: Resize, size: [12, 12]}]",
    "--optim=Adam",
    "--lr=1e-2",
    "--batch-size=3",
    "--max-epoch=4",
    *PLAIN,
]
GAN = [
    "--task=GAN",
    "--task.g_every=2",
    "--schedule=null",
    "--model={generator: {name: DCGANGenerator, nz: 8, ngf: 2}, discriminator: {name: DCGANDiscriminator, ndf: 2}}",
    "--optim={generator: {name: Adam, lr: 1e-3}, discriminator: {name: Adam, lr: 1e-3}}",
    "--data.dataset=Photos",
    "--train-data-root=photos",
    "--data.transform.train=[{name: RandomCrop, size: 28}, RandomHorizontalFlip]",
    "--batch-size=6",
    "--max-epoch=3",
    "--train.ema=0.9",
    *PLAIN,
]
POEMS = [
    "poetry",
    "--model.embedding=8",
    "--model.width=8",
    "--data.dataset.root=poems",
    "--data.dataset.length=8",
    "--data.dataset.val_fraction=0.25",
    "--batch-size=4",
    "--max-epoch=2",
    "--train.max_steps=24",
    *PLAIN,
]


def make_photos(folder: Path) -> None:
    """56 pictures that differ, as Kaggle names cats and dogs; 39 of them are for training."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    for i, (name, level) in product(range(28), (("cat", 60), ("dog", 160))):
        pixels = rng.integers(0, 60, (32, 40, 3)) + level
        Image.fromarray(pixels.astype("uint8")).save(folder / "photos" / f"{name}.{i}.jpg")


def make_poems(folder: Path) -> None:
    """49 different poems of four lines."""
    lines = [
        "春眠不覺曉，",
        "處處聞啼鳥。",
        "夜來風雨聲，",
        "花落知多少。",
        "白日依山盡，",
        "黃河入海流。",
        "學習千里目，",
    ]
    poems = [[lines[i % 7], lines[(i // 7 + 1) % 7], lines[i % 7], lines[3]] for i in range(49)]
    (folder / "poems").mkdir(parents=True, exist_ok=True)
    text = json.dumps([{"paragraphs": poem} for poem in poems], ensure_ascii=False)
    (folder / "poems" / "poet.tang.0.json").write_text(text, encoding="utf-8")


def small_network() -> None:
    """In a child: LeNet is a network of a thousand weights with batch norm and dropout."""
    from torch import nn

    import models.lenet
    from models.basic_module import BasicModule

    class Small(BasicModule):
        def __init__(self, num_classes, in_channels):
            super().__init__()
            layers = [nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten()]
            self.layers = nn.Sequential(*layers, nn.Linear(4 * 10 * 10, num_classes))

        def forward(self, x):
            return self.layers(x)

    models.lenet.LeNet = Small


def prepare_all() -> None:
    prepare()
    make_photos(campaign.SCRATCH)
    flags = [arg.replace("=photos", f"={campaign.SCRATCH / 'photos'}") for arg in PICTURES]
    warm(campaign.SCRATCH, "train", "--run=pictures", *flags, "--max-steps=2")


# Broken on purpose


def shared_random() -> None:
    """Augmentation draws from whatever generator there is, not from one of (seed, epoch, index)."""
    from data.loading import samples

    samples.seed_all = lambda seed: None


def forget_statistics() -> None:
    """Batch norm's running means are not stored, as where only parameters are saved."""
    from trainer import state

    own = state.network_state
    state.network_state = lambda task: {
        name: value * 0 if "running" in name else value for name, value in own(task).items()
    }


def replay() -> None:
    """Batches before the position are read and thrown away, as many trainers do it."""
    from data.loading.loader import Loader

    own = Loader.epoch

    def epoch(self, number: int, start: int = 0):
        for i, pair in enumerate(own(self, number, 0)):
            if i >= start:
                yield pair

    Loader.epoch = epoch


def forget_order() -> None:
    """The order is drawn anew by each process."""
    from data.loading import samplers

    samplers.mix = lambda *numbers: random.SystemRandom().getrandbits(60)


BROKEN = {
    "augmentation from shared random numbers": shared_random,
    "running statistics forgotten": forget_statistics,
    "batches replayed": replay,
    "order drawn anew": forget_order,
}

FAMILY = Family(
    "steps",
    "stopped after each of 48 steps, with 0, 2, 0 → 2 and 2 → 0 workers (augmentation, dropout, batch norm); "
    "fast pixels, accumulation, bf16, each schedule, the GAN and the CharRNN at random steps",
    "every resumed run bit-identical; no sample read before the resumed position, none twice",
    lambda: len(cases()),
    trial,
    tuple(BROKEN),
    prepare_all,
)
