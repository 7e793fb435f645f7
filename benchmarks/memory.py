"""What grows: memory and open files over many steps, CPU time over epochs, and a million samples.

python -m benchmarks.memory FILE PART COUNT FOLDER      one part, in a process of its own
"""

import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from benchmarks.processes import answer, ask, started, train_command
from benchmarks.ready import make_trainer
from benchmarks.rows import Options, Row, Sample, alternate, fact, paired, stamp, timed
from configs.schema import Data
from data.dogcat import DogCat
from data.loading.loader import Loader
from trainer.checkpointing.saver import Saver
from trainer.checkpointing.store import Store

__all__ = ["measure"]

STEPS, SAMPLES = 20_000, 1_000_000
BATCH = 32
LOOK = 0.05  # s between two looks at a process
EPOCH = ("--model=MLP", "--batch-size=1", "--print-freq=50")  # 1,258 steps of an epoch of Digits


def measure(options: Options) -> Iterator[Row]:
    """A whole run watched from outside, then parts in processes of their own."""
    yield from _watched(2_000 if options.quick else STEPS)
    yield from ask("benchmarks.memory", "epochs", str(options.times(5, quick=1)), "")
    samples = 20_000 if options.quick else SAMPLES
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        _fill(Path(folder), samples)
        print(f"memory: {samples:,} empty files made in {time.perf_counter() - begin:.0f} s", flush=True)
        yield from ask("benchmarks.memory", "names", str(samples), folder)
    yield from ask("benchmarks.memory", "order", str(samples), "")


# A long run


def _watched(steps: int) -> list[Row]:
    """Memory and open files of `main.py train` with a journal, event files and a visdom server that is not there."""
    flags = [
        *EPOCH,
        "--max-epoch=1000000",
        f"--train.max_steps={steps}",
        "--log.tensorboard=true",
        "--log.visdom-port=9",
    ]
    looks: list[tuple[int, float, int]] = []
    with started(train_command(*flags)) as running:
        running.wait_for(lambda: running.last_step() >= steps // 10)  # everything has been imported and allocated
        while running.process.poll() is None and (step := running.last_step()) < steps:
            if not looks or step > looks[-1][0]:
                looks.append((step, running.megabytes(), running.open_files()))
            time.sleep(LOOK)
        if running.process.wait():
            raise RuntimeError(running.said())
    seen, megabytes, files = zip(*looks, strict=True)
    slope = statistics.linear_regression(seen, megabytes).slope * 1000
    note = (
        f"steps {seen[0]:,} to {seen[-1]:,} with {steps // 1258} validations and saves; {megabytes[-1]:.0f} MB at last"
    )
    grown = f"{min(files)} to {max(files)} were open at {len(looks)} looks"
    return [
        fact("memory", "growth of resident memory", "MB per 1,000 steps", slope, note, len(looks)),
        fact("memory", "open files at the end less those at the start", "files", files[-1] - files[0], grown),
    ]


def _epochs(times: int, _: str) -> list[Row]:
    """Ten epochs against ten times one, in one process, with validation and saves."""
    ten, one = alternate([partial(_fit, 10), partial(_fit, 1)], times)
    tenfold = [Sample(10 * sample.cpu, 10 * sample.wall) for sample in one]
    return [paired("memory", "ten epochs; ten times one", "s of CPU", (ten, tenfold), 1.0)]


def _fit(epochs: int) -> Sample:
    with tempfile.TemporaryDirectory() as folder, closing(make_trainer(*EPOCH, f"--max-epoch={epochs}")) as trainer:
        trainer.saver = Saver(Store(Path(folder)), background=True)
        return timed(trainer.fit)


# A million samples


def _fill(folder: Path, count: int) -> None:
    """Empty files named as Kaggle's cats and dogs are."""
    for number in range(count):
        os.close(os.open(folder / f"{('cat', 'dog')[number % 2]}.{number // 2}.jpg", os.O_CREAT | os.O_WRONLY))


def _names(count: int, folder: str) -> list[Row]:
    """Listing and indexing so many files on disk."""
    made, sample, peak = _kept(lambda: DogCat(folder, "train", val_fraction=0.0))
    assert len(made) == count
    what = f"{count:,} file names in one folder on disk, listed, labelled and put in a split's order"
    return [
        fact("memory", what, "s", sample.wall),
        fact("memory", f"the peak of memory for that, {count:,}", "MB", peak),
    ]


def _order(count: int, _: str) -> list[Row]:
    """How long the first batch of an epoch takes, from its beginning and from far inside."""
    batches = Loader(_Nothing(count), Data(batch_size=BATCH), seed=0, training=True)
    rows, further = [], len(batches) // 20
    for what, start in (("an epoch of", 0), ("resumed at the last tenth of", len(batches) * 9 // 10)):
        reader, sample, peak = _kept(partial(_begun, batches, start))
        samples = f"{what} {count:,} samples, shuffled"
        rows.append(fact("memory", f"{samples}: the first batch", "ms", 1e3 * sample.wall))
        rows.append(fact("memory", f"{samples}: the peak of memory", "MB", peak))
        cost = timed(partial(_take, reader, further)).cpu / further
        rows.append(fact("memory", f"{samples}: each further batch", "µs", 1e6 * cost, n=further))
    return rows


class _Nothing(Dataset):
    """Samples without content."""

    reads_batches = True

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Any, seeds: Sequence[int] = ()) -> int:
        return len(indices)


def _begun(batches: Loader, start: int) -> Iterator[Any]:
    """A reader of epoch 1 that has given its first batch."""
    reader = batches.epoch(1, start)
    next(reader)
    return reader


def _take(reader: Iterator[Any], count: int) -> None:
    for _ in range(count):
        next(reader)


def _kept(call: Callable[[], Any]) -> tuple[Any, Sample, float]:
    """What a call gives, what it cost, and by how many MB memory was above its start at the highest (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    begin = stamp()
    found = call()
    return found, stamp() - begin, _status("VmHWM") - before


def _status(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


PARTS = {"epochs": _epochs, "names": _names, "order": _order}


def _main(file: str, part: str, count: str, folder: str) -> None:
    torch.set_num_threads(1)
    answer(file, PARTS[part](int(count), folder))


if __name__ == "__main__":
    _main(*sys.argv[1:])
