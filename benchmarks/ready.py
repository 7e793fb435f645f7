"""The step that everybody takes: one network, one optimizer, batches that lie ready in memory, and their clock."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from benchmarks.rows import Sample, stamp
from configs import load
from models import MLP
from trainer.trainer import Trainer
from trainer.watchers.watcher import Outlets
from utils.config.cli import as_flag
from utils.sinks.console import Console

__all__ = [
    "BATCH",
    "LOG_EVERY",
    "LR",
    "MOMENTUM",
    "Pair",
    "Pass",
    "Stream",
    "as_loader",
    "make_batches",
    "make_trainer",
    "network",
    "sgd",
]

BATCH, INPUTS, HIDDEN, CLASSES = 32, 784, 32, 10
LR, MOMENTUM = 0.01, 0.9
WARM = 20  # batches before the clock starts
LOG_EVERY = 50  # steps between two rows, where rows are written

Pair = tuple[Tensor, Tensor]


def make_batches(steps: int) -> list[Pair]:
    """Inputs float32 [32, 784] and labels int64 [32] for so many steps under the clock."""
    generator = torch.Generator().manual_seed(0)
    draw = (torch.randn(BATCH, INPUTS, generator=generator) for _ in range(WARM + steps + 1))
    return [(x, torch.randint(CLASSES, (BATCH,), generator=generator)) for x in draw]


def network() -> nn.Module:
    """784-32-10, the same for everybody."""
    torch.manual_seed(0)
    return MLP(CLASSES, in_features=INPUTS, hidden=(HIDDEN,))


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that everybody has."""
    return torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, fused=True)


def make_trainer(*flags: str, gpu: bool = False) -> Trainer:
    """This project's trainer, as `main.py train` with these flags has it; it saves nothing and is quiet."""
    cfg = load("default", [as_flag(flag) for flag in (*flags, f"--use-gpu={gpu}")])
    return Trainer(cfg, outlets=Outlets(Console("quiet")))


class Stream(IterableDataset):
    """Ready batches; it takes the time from when the first after the warm-up is asked for until the last one is.

    That is the same number of steps for those who ask for a batch ahead, and leaves out how an epoch begins and ends.
    """

    def __init__(self, batches: Sequence[Pair], shape: Callable[[Tensor, Tensor], Any] | None = None) -> None:
        """`shape` makes of inputs and labels what a framework wants to be given."""
        self.batches: list[Any] = [shape(*batch) for batch in batches] if shape else list(batches)
        self.timed = range(WARM, len(self.batches) - 1)  # the steps under the clock
        self.sample = Sample(0.0, 0.0)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        yield from self.batches[:WARM]
        begin = stamp()
        yield from self.batches[WARM:-1]
        self.sample = stamp() - begin
        yield self.batches[-1]


Pass = tuple[Stream, Callable[[], object]]  # a training over a stream, once through at each call


def as_loader(stream: Any) -> DataLoader:
    """A DataLoader that hands on ready batches, for those who take nothing else."""
    return DataLoader(stream, batch_size=None)
