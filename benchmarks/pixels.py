"""From JPEG files to batches: this project's pipeline against ImageFolder with Pillow and v1 transforms."""

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.rows import Options, Row, alternate, missing, paired, timed
from configs import load
from data.loading.loader import Loader
from trainer.build import build_dataset
from utils.config.cli import as_flag

__all__ = ["measure"]

PHOTOS = 384  # a repetition
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
UNIT = "images a core-second"
TRAIN, SEEN = "RandomResizedCrop, flip, normalise", "Resize, CenterCrop, normalise"
KINDS = [  # split, what differs from the defaults, words
    ("train", "", TRAIN),
    ("val", "", SEEN),
    ("train", "--data.pixels=exact", f"{TRAIN}, pixels exact"),
    ("train", "--data.cache=ram", f"{TRAIN}, from the cache"),
]


def measure(options: Options) -> Iterator[Row]:
    """The transforms of configs/dogcat_small.yaml at 64 px, one thread, no worker processes."""
    names = sorted(path.name for path in options.photos.glob("*.jpg")) if options.photos.is_dir() else []
    classes = [[name for name in names if name.startswith(kind)] for kind in ("cat.", "dog.")]
    if not all(classes):
        yield missing("pixels", "JPEG photos", f"no cat.N.jpg and dog.N.jpg in {options.photos}; set --photos=FOLDER")
        return
    half = options.times(PHOTOS, quick=64) // 2
    with tempfile.TemporaryDirectory() as place:
        _link(options.photos.absolute(), [few[:half] for few in classes], Path(place))
        done = sum(len(few[:half]) for few in classes)
        for split, way, what in KINDS:
            sides = [_ours(f"{place}/flat", split, way), _peer(f"{place}/nested", split)]
            name = f"{what}, 64 px, {done} photos; ImageFolder, Pillow, v1 transforms"
            samples = alternate([partial(timed, side) for side in sides], options.times(9))
            yield paired("pixels", name, UNIT, samples, done, better="more", note=_decoder() if not way else "")


def _link(source: Path, classes: list[list[str]], place: Path) -> None:
    """The same photos twice: in one folder, as ours reads them, and in a folder for each class."""
    for kind, names in zip(("cat", "dog"), classes, strict=True):
        for folder in (place / "flat", place / "nested" / kind):
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                os.symlink(source / name, folder / name)


def _decoder() -> str:
    return "JPEG by simplejpeg" if find_spec("simplejpeg") else "JPEG by Pillow; simplejpeg is not installed"


def _ours(folder: str, split: str, way: str) -> Callable[[], int]:
    """An epoch as the trainer reads it."""
    fraction = 0.0 if split == "train" else 1.0  # all photos are in that split
    flags = [f"--data.dataset.root={folder}", f"--data.dataset.val_fraction={fraction}", "--num-workers=0"]
    flags += [way] if way else []
    cfg = load("dogcat_small", [as_flag(flag) for flag in flags])
    batches = Loader(
        build_dataset(cfg, split, {}), replace(cfg.data, pin_memory=False), seed=0, training=split == "train"
    )
    epochs = count()
    return lambda: _read(batch for _, batch in batches.epoch(next(epochs)))


def _peer(folder: str, split: str) -> Callable[[], int]:
    """An epoch of ImageFolder, with the transforms of torchvision's own examples."""
    crop: list[Any] = [transforms.Resize(72), transforms.CenterCrop(64)]
    if split == "train":
        crop = [transforms.RandomResizedCrop(64, (0.35, 1.0)), transforms.RandomHorizontalFlip()]
    steps = transforms.Compose([*crop, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    loader = DataLoader(ImageFolder(folder, steps), batch_size=32, shuffle=split == "train", num_workers=0)
    return lambda: _read(loader)


def _read(batches: Any) -> int:
    return sum(len(labels) for _, labels in batches)
