"""A training step: the network's work is the same for all, the rest is what a framework costs.

python -m benchmarks.step FILE PEER STEPS TIMES      one peer, in a process of its own, since some change torch for all
"""

import contextlib
import importlib.metadata
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.peers import PEERS
from benchmarks.processes import answer, ask
from benchmarks.ready import BATCH, LOG_EVERY, Pair, Pass, Stream, make_batches, make_trainer, network, sgd
from benchmarks.rows import Options, Row, Sample, alternate, missing, paired
from trainer.progress import Progress
from utils.sinks.journal import Journal
from utils.sinks.logger import Logger

__all__ = ["by_hand", "measure", "ours", "scale_of", "side_of"]

STEPS = 400  # a repetition
LOOP = "a hand-written loop"
FLAGS = (
    *("--model=MLP", "--model.in_features=784", "--model.hidden=[32]", "--schedule=null", "--max-epoch=1"),
    *("--optim=SGD", "--optim.lr=0.01", "--optim.momentum=0.9", "--optim.fused=true"),
)


def measure(options: Options) -> Iterator[Row]:
    """A row for the hand-written loop, two for each peer."""
    times, steps = options.times(15, quick=1), 50 if options.quick else STEPS
    for name in (LOOP, *PEERS):
        if name in PEERS and not _installed(name):
            yield missing("step", name, f"{name} is not installed; pip install -r benchmarks/requirements.txt")
            continue
        # the loop's rows are close to 1 and want more, shorter rounds; a peer has to set itself up in each
        shape = (steps, times) if name in PEERS else (steps // 2, 2 * times + 1)
        try:
            yield from ask("benchmarks.step", name, *map(str, shape))
        except RuntimeError as error:
            yield missing("step", name, str(error))


def _installed(name: str) -> bool:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return bool(importlib.metadata.version(name))
    return False


def _main(file: str, name: str, steps: str, times: str) -> None:
    """The child process: what a peer prints goes nowhere that matters."""
    torch.set_num_threads(1)
    batches = make_batches(int(steps))
    compare = _against_loop if name == LOOP else partial(_against_peer, name)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        answer(file, compare(batches, Path(folder), int(times)))


def _against_loop(batches: list[Pair], folder: Path, times: int) -> list[Row]:
    passes = [by_hand(batches), by_hand(batches, look=True), ours(batches, folder, False), ours(batches, folder, True)]
    bare, looking, own, logged = alternate([side_of(p) for p in passes], times)
    row = partial(paired, "step", unit="µs a step", scale=scale_of(batches))
    return [
        row(f"bare; {LOOP}", sides=(own, bare)),
        row(f"bare; {LOOP} that looks at each loss too", sides=(own, looking)),
        row(f"a row each {LOG_EVERY} steps; {LOOP} without", sides=(logged, bare)),
    ]


def _against_peer(name: str, batches: list[Pair], folder: Path, times: int) -> list[Row]:
    rows = []
    label = f"{name} {importlib.metadata.version(name)}"
    for logged, what in ((False, "bare"), (True, f"a row each {LOG_EVERY} steps")):
        passes = [by_hand(batches), ours(batches, folder, logged), PEERS[name](batches, folder, logged)]
        loop, own, peer = alternate([side_of(p) for p in passes], times)
        over = [[a - b for a, b in zip(side, loop, strict=True)] for side in (own, peer)]
        rows.append(paired("step", f"{what}; {label}", "µs a step more than the loop", over, scale_of(batches)))
    return rows


def scale_of(batches: list[Pair]) -> float:
    return 1e6 / len(Stream(batches).timed)


def side_of(one: Pass) -> Callable[[], Sample]:
    stream, run = one

    def side() -> Sample:
        run()
        return stream.sample

    return side


def by_hand(batches: Sequence[Pair], look: bool = False) -> Pass:
    """What one writes by hand; `look`: it ends at a loss that is not finite, as ours does."""
    stream, net = Stream(batches), network().to(batches[0][0].device)
    optimizer = sgd(net)

    def run() -> None:
        net.train()
        for x, y in stream:
            loss = F.cross_entropy(net(x), y)
            if look and not math.isfinite(loss.item()):
                raise ValueError("the loss is not finite")
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return stream, run


class _Ready:
    """A stream in the place of the trainer's own batches."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.dataset, self.size = stream, stream, BATCH * len(stream)
        self.indices = list(range(BATCH))

    def __len__(self) -> int:
        return len(self.stream)

    def weights(self, number: int, samples: int) -> tuple[float, float]:
        return 1.0, 1.0

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[list[int], Any]]:
        return zip(repeat(self.indices), self.stream)

    def close(self) -> None:
        """Nothing is open."""


def ours(batches: Sequence[Pair], folder: Path, logged: bool) -> Pass:
    """This project's loop as it is, but for where batches come from."""
    flags = [*FLAGS, f"--print-freq={LOG_EVERY if logged else 1_000_000_000}"]
    stream, trainer = Stream(batches), make_trainer(*flags, gpu=batches[0][0].is_cuda)
    trainer.train_loader = _Ready(stream)  # type: ignore[assignment]
    if logged:
        trainer.logger = Logger([trainer.console], Journal(folder / "journal.jsonl"))

    def run() -> None:
        trainer.state.progress = Progress()
        trainer.state.means.means()
        assert trainer.train_epoch()

    return stream, run


if __name__ == "__main__":
    _main(*sys.argv[1:])
