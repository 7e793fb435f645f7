"""Batches of data that lie in memory: ours against torch's DataLoader over a TensorDataset."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.rows import Options, Row, Sample, alternate, paired, timed
from configs.schema import Data
from data._images import ImageDataset, Pixels
from trainer.loaders import Batches

__all__ = ["measure"]

SAMPLES = 12_800
CLASSES = [str(i) for i in range(10)]


class _Floats(Dataset):
    """The same tensors as the peer's, served by the block."""

    in_memory = True

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.inputs, self.labels = inputs, labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Any) -> tuple[Tensor, Tensor]:
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


def _ours(dataset: Any, size: int) -> Callable[[], Sample]:
    batches = Batches(dataset, Data(batch_size=size), seed=0, training=True)
    epochs = iter(range(1_000_000))
    return partial(timed, lambda: [_used(batch) for _, batch in batches.epoch(next(epochs))])


def _peer(dataset: TensorDataset, size: int, convert: Callable[[Tensor], Tensor]) -> Callable[[], Sample]:
    loader = DataLoader(dataset, batch_size=size, shuffle=True)
    return partial(timed, lambda: [_used((convert(x), y)) for x, y in loader])


def _used(batch: tuple[Tensor, Tensor]) -> int:
    return len(batch[0])
