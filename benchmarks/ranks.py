"""Several processes: two of one thread beside one of two, messages that are hidden, the stall of a save, the start."""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from itertools import repeat
from pathlib import Path
from typing import Any

import torch

from benchmarks.processes import ROOT, started, train_command
from benchmarks.ready import make_trainer
from benchmarks.rows import Options, Row, Sample, alternate, fact, missing, paired, timed
from trainer.checkpointing.saver import NoSaver, Saver
from trainer.checkpointing.store import Store
from utils import dist

__all__ = ["measure"]

GLOBAL_BATCH, SIZE, CLASSES = 64, 64, 10
FLAGS = ("--model=ResNet34", "--model.in_channels=3", "--optim=SGD", "--lr=0.01", "--schedule=null")
FLAGS += ("--model.stem=imagenet", "--print-freq=1000000000", "--batch-size=64", "--train.rehearse=false")
STEPS = 6  # of a sample
HIDDEN_STEPS = 5
WHAT = f"ResNet34, {SIZE} px, global batch {GLOBAL_BATCH}"


def measure(options: Options) -> Iterator[Row]:
    """On the CPU, and on a GPU if there is one."""
    with workers(1, threads=2) as one, workers(2, threads=1) as two:
        samples = alternate([partial(steps, two), partial(steps, one)], options.times(9))
        name = f"{WHAT}: 2 processes x 1 thread; 1 process x 2 threads"
        yield paired("ranks", name, "images a second", samples, STEPS * GLOBAL_BATCH, clock="wall", better="more")
    with workers(2, 1, "watched") as two:
        hidden = [answers(two, f"hidden {HIDDEN_STEPS}") for _ in range(options.times(5))]
        shares = [share for found in hidden for share in found]
        note = (
            f"{min(shares):.0%} to {max(shares):.0%}; seconds from a bucket to its mean, before the last bucket is full"
        )
        share = 100 * statistics.median(shares)
        yield fact("ranks", f"{WHAT}: reductions hidden behind backward", "% of their time", share, note, len(shares))
    yield _stalls(options)
    sides = [partial(until_first_row, "--train.processes=2"), partial(until_first_row)]
    begun = alternate(sides, options.times(7))
    name = "`main.py train --model=MLP` on Digits to its first step: `--train.processes=2`; one process"
    yield paired("ranks", name, "s", begun, 1.0, clock="wall")
    yield from on_gpu(options)


def _stalls(options: Options) -> Row:
    """How long two processes stand still for a save: each for its part, or both until the first has copied all."""
    with (
        tempfile.TemporaryDirectory() as place,
        tempfile.TemporaryDirectory() as other,
        workers(2, 1, "parts", f"saves={place}") as divided,
        workers(2, 1, f"saves={other}") as plain,
    ):
        samples = alternate([partial(stall, divided), partial(stall, plain)], options.times(9))
    name = "the stall of a save, ResNet34 with its momentum, 2 processes: in parts with `train.shard: full`; one file"
    return paired("ranks", name, "ms on the wall", samples, 1e3, clock="wall")


def on_gpu(options: Options) -> Iterator[Row]:
    """A group of one GPU, its network in DistributedDataParallel, beside the plain one."""
    name = f"{WHAT}, one GPU: in DistributedDataParallel; plain"
    if not torch.cuda.is_available():
        yield missing("ranks", name, "torch finds no GPU")
        return
    with workers(1, 1, "gpu", "wrapped") as one, workers(1, 1, "gpu") as plain:
        samples = alternate([partial(steps, one, 200), partial(steps, plain, 200)], options.times(9))
        yield paired("ranks", name, "ms a step", samples, 1e3 / 200, clock="wall")


def until_first_row(*flags: str) -> Sample:
    """From the command to the first row, which is written after the first step."""
    with started(train_command("--model=MLP", "--print-freq=1", *flags)) as running:
        running.wait_for(lambda: running.journal() is not None)
        return running.cost()


# The processes that are measured


@contextmanager
def workers(world: int, threads: int, *words: str) -> Iterator[list[subprocess.Popen]]:
    """A group of processes that wait for orders."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    group = []
    for rank in range(world):
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        env |= {"RANK": str(rank), "WORLD_SIZE": str(world)} if world > 1 or "wrapped" in words else {}
        command = [sys.executable, "-m", "benchmarks.ranks", str(threads), *words]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        group.append(subprocess.Popen(command, cwd=ROOT, env=env, **pipes))  # type: ignore[call-overload]
    try:
        answers(group, "steps 1")  # once all of them are there
        yield group
    finally:
        for process in group:
            process.kill()
            process.communicate()


def answers(group: Sequence[subprocess.Popen], order: str) -> list[float]:
    """What each process of the group has to tell; raises RuntimeError when one has ended."""
    for process in group:
        assert process.stdin is not None
        process.stdin.write(order + "\n")
        process.stdin.flush()
    told = [process.stdout.readline() for process in group if process.stdout is not None]
    if not all(told):
        raise RuntimeError("a process of the group has ended")
    return [json.loads(line) for line in told]


def steps(group: Sequence[subprocess.Popen], count: int = STEPS) -> Sample:
    seconds = max(answers(group, f"steps {count}"))
    return Sample(seconds, seconds)


def stall(group: Sequence[subprocess.Popen]) -> Sample:
    """Of the slower process, as the next step needs both."""
    seconds = max(answers(group, "stall 1"))
    return Sample(seconds, seconds)


class _Ready:
    """A batch in memory in the place of the trainer's own, so many times."""

    def __init__(self, batch: Any, size: int):
        self.batch, self.dataset, self.size, self.count = batch, batch, size, 1
        self.indices = list(range(size))

    def __len__(self) -> int:
        return self.count

    def weights(self, number: int, samples: int) -> tuple[float, float]:
        return 1.0, 1.0

    def taken(self, batches: int) -> int:
        return batches * self.size

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[list[int], Any]]:
        return repeat((self.indices, self.batch), self.count)

    def close(self) -> None:
        """Nothing is open."""


def _main(threads: str, *words: str) -> None:
    """A process of a group, which takes N steps: for `steps N` it tells their seconds, for `hidden N` the share hidden.

    For `stall N` it tells how long it stands still for a save after them.
    """
    from trainer.parallel import ddp
    from trainer.progress import Progress

    torch.set_num_threads(int(threads))
    if "wrapped" in words:
        ddp.world_size = lambda: 2  # it would leave a group of one alone
    messages = Messages()
    if "watched" in words:  # costs time of its own
        ddp.DistributedDataParallel = messages.watch(ddp.DistributedDataParallel)  # type: ignore[misc]
    parts = ("--optim.momentum=0.9", "--train.shard=full") if "parts" in words else ("--optim.momentum=0.9",)
    place = next((word.partition("=")[2] for word in words if word.startswith("saves=")), "")
    trainer = make_trainer(*FLAGS, *(parts if place else ()), gpu="gpu" in words)
    if place:
        trainer.saver = _saver(Path(place), "parts" in words)
    size = GLOBAL_BATCH // int(os.environ.get("WORLD_SIZE", "1"))
    generator = torch.Generator().manual_seed(0)
    batch = (
        torch.randn(size, 3, SIZE, SIZE, generator=generator),
        torch.randint(CLASSES, (size,), generator=generator),
    )
    device = next(trainer.state.task.parameters()).device
    ready = _Ready(tuple(part.to(device) for part in batch), size)
    trainer.train_loader = ready  # type: ignore[assignment]
    for line in sys.stdin:
        kind, count = line.split()
        ready.count, messages.seen = int(count), []
        trainer.state.progress = Progress()
        trainer.state.means.means()
        begin = time.perf_counter()
        trainer.train_epoch()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - begin
        if kind == "stall":
            seconds = timed(partial(trainer.save, [])).wall
            trainer.saver.wait()
        print(json.dumps(messages.hidden() if kind == "hidden" else seconds), flush=True)


def _saver(place: Path, parts: bool) -> Saver:
    """What a run of several processes saves with, in the background."""
    from trainer.checkpointing.sharded import ShardedSaver

    first = dist.rank() == 0
    if parts:
        return ShardedSaver(place, first, background=True)
    return Saver(Store(place), background=True) if first else NoSaver()


class Messages:
    """When each bucket of gradients was full, and when its mean was there."""

    def __init__(self) -> None:
        self.seen: list[tuple[bool, float, float]] = []  # whether it was the step's last

    def watch(self, plain: Any) -> Any:
        """Return what wraps a network as before, and notes the times of its messages."""

        @wraps(plain)
        def wrap(net: Any, **options: Any) -> Any:
            wrapped = plain(net, **options)
            wrapped.register_comm_hook(None, lambda state, bucket: self._reduce(bucket))
            return wrapped

        return wrap

    def _reduce(self, bucket: Any) -> Any:
        import torch.distributed as dist

        full, last = time.perf_counter(), bucket.is_last()
        future = dist.all_reduce(bucket.buffer(), async_op=True).get_future()

        def done(reduced: Any) -> Any:
            self.seen.append((last, full, time.perf_counter()))
            return reduced.value()[0].div_(dist.get_world_size())

        return future.then(done)

    def hidden(self) -> float:
        """The share of the messages' time that lay before the last bucket of their step was full."""
        before = whole = 0.0
        open_: list[tuple[float, float]] = []
        for last, full, done in sorted(self.seen, key=lambda times: times[1]):
            open_.append((full, done))
            if last:
                end = max(done for _, done in open_)
                first = min(full for full, _ in open_)
                whole, before, open_ = whole + end - first, before + full - first, []
        return before / whole if whole else 0.0


if __name__ == "__main__":
    _main(*sys.argv[1:])
