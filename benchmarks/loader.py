"""Batches of data that lie in memory: ours against torch's DataLoader over a TensorDataset."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.rows import Options, Row, Sample, alternate, paired, timed
from configs import Component
from configs.schema import Data
from data._images import ImageDataset
from data._stores import Pixels
from data.loading.loader import Loader
from data.loading.transforms import make_transform

__all__ = ["measure"]

SAMPLES = 12_800
CLASSES = [str(i) for i in range(10)]


class _Floats(Dataset):
    """The same tensors as the peer's, served by the block."""

    reads_batches = True

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.inputs, self.labels = inputs, labels

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: Any, seeds: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(indices)
        return self.inputs.index_select(0, chosen), self.labels.index_select(0, chosen)


def measure(options: Options) -> Iterator[Row]:
    """Whole shuffled epochs, the order included: float inputs as they are, and pixels that become floats."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (SAMPLES, 1, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.randint(10, (SAMPLES,), generator=generator)
    floats = pixels.float() / 255
    ids = [str(i) for i in range(SAMPLES)]
    kinds: dict[str, tuple[Any, TensorDataset, Callable[[Tensor], Tensor]]] = {
        "784 floats a sample": (_Floats(floats, labels), TensorDataset(floats, labels), lambda x: x),
        "28x28 pixels in uint8, batches in float": (
            ImageDataset(Pixels(pixels), ids, labels, CLASSES, None),
            TensorDataset(pixels, labels),
            lambda x: x.float().div_(255),
        ),
    }
    for what, (dataset, peer, convert) in kinds.items():
        for size in (32, 256):
            sides = alternate([_ours(dataset, size), _peer(peer, size, convert)], options.times(15))
            scale = 1e6 / (SAMPLES // size)
            yield paired("loader", f"batches of {size}, {what}; torch's DataLoader", "µs a batch", sides, scale)
    yield from _augmented(options)


def _augmented(options: Options) -> Iterator[Row]:
    """Pictures of CIFAR's size, shifted and flipped, beside torchvision's v1 transforms, one picture after another."""
    from torchvision import transforms as T

    pixels = torch.randint(
        256, (SAMPLES // 8, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    labels = torch.zeros(len(pixels), dtype=torch.int64)
    chain = [Component("RandomCrop", {"size": 32, "padding": 4}), Component("RandomHorizontalFlip", {})]
    ours = make_transform([*chain, Component("Normalize", {"mean": [0.5], "std": [0.25]})], fast=True)
    theirs = T.Compose([T.RandomCrop(32, 4), T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize([0.5], [0.25])])
    ids = [str(i) for i in range(len(pixels))]
    pictures = _Pictures(pixels.permute(0, 2, 3, 1).numpy(), theirs)
    sides = [_ours(ImageDataset(Pixels(pixels), ids, labels, CLASSES, ours), 32), _peer(pictures, 32, lambda x: x)]
    what = "batches of 32, 32x32 RGB pixels, RandomCrop, flip, normalise; torchvision's v1 transforms, DataLoader"
    yield paired("loader", what, "µs a batch", alternate(sides, options.times(9)), 1e6 / (len(pixels) // 32))


class _Pictures(Dataset):
    """As torchvision's CIFAR10 has them in memory: a Pillow picture at a time, transformed."""

    def __init__(self, pixels: Any, transform: Callable) -> None:
        self.pixels, self.transform = pixels, transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), 0


def _ours(dataset: Any, size: int) -> Callable[[], Sample]:
    batches = Loader(dataset, Data(batch_size=size, pin_memory=False), seed=0, training=True)
    epochs = iter(range(1_000_000))
    return partial(timed, lambda: [_used(batch) for _, batch in batches.epoch(next(epochs))])


def _peer(dataset: Dataset, size: int, convert: Callable[[Tensor], Tensor]) -> Callable[[], Sample]:
    loader = DataLoader(dataset, batch_size=size, shuffle=True)
    return partial(timed, lambda: [_used((convert(x), y)) for x, y in loader])


def _used(batch: tuple[Tensor, Tensor]) -> int:
    return len(batch[0])
