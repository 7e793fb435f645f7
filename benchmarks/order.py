"""The order of many samples, by each rule of data.order: memory, the way to a position, and the cost of a batch.

python -m benchmarks.order FILE RULE SAMPLES      one rule, in a process of its own
"""

import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.processes import answer, ask
from benchmarks.rows import Options, Row, fact, missing
from configs.schema import Data
from data.loading.loader import Loader

__all__ = ["measure"]

SIZES = (10_000_000, 1_000_000_000)
QUICK = (100_000, 1_000_000)
BATCH, BATCHES = 256, 4_000
NEEDED = 12  # bytes a sample that must be free for torch's permutation, which takes 8


class _Empty(Dataset):
    """Samples that cost nothing, so that what is measured is their order."""

    reads_batches = True

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def read(self, indices: Any, seeds: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        return torch.as_tensor(indices), torch.as_tensor(indices)


def measure(options: Options) -> Iterator[Row]:
    """Each rule and size in a process of its own, from the middle of an epoch on."""
    for size in QUICK if options.quick else SIZES:
        for rule in ("exact", "walk"):
            if rule == "exact" and NEEDED * size > _free():
                need = f"it takes {8 * size / 1e9:.0f} GB, and {_free() / 1e9:.0f} GB are free"
                yield missing("order", f"{size:,} samples, {rule}", need)
            else:
                yield from ask("benchmarks.order", rule, str(size))


def _case(rule: Any, size: int) -> list[Row]:
    """What an epoch costs that is resumed in its middle."""
    loader = Loader(_Empty(size), Data(batch_size=BATCH, order=rule), 0, True, say=lambda text: None)
    list(Loader(_Empty(BATCH), Data(batch_size=BATCH), 0, True).epoch(0))  # all that is imported late
    before = _resident("VmRSS")
    with suppress(OSError):  # the peak so far is forgotten
        Path("/proc/self/clear_refs").write_text("5")
    begin = time.process_time()
    epoch = loader.epoch(1, size // BATCH // 2)
    next(epoch)
    first = time.process_time() - begin
    costs = []
    for _ in range(min(BATCHES, size // BATCH // 2 - 1)):
        begin = time.process_time()
        next(epoch)
        costs.append(time.process_time() - begin)
    name = f"{size:,} samples, {rule}"
    return [
        fact("order", f"{name}: memory", "MB", _resident("VmHWM") - before),
        fact("order", f"{name}: to the first batch, in the middle of an epoch", "ms of CPU", 1e3 * first),
        fact("order", f"{name}: a batch of {BATCH}", "µs of CPU", 1e6 * sum(costs) / len(costs), "", len(costs)),
        fact("order", f"{name}: the slowest batch", "µs of CPU", 1e6 * max(costs), "", len(costs)),
    ]


def _resident(field: str) -> float:
    """Memory of this process in MB: VmRSS now, VmHWM at most."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1e3 if found else 0.0


def _free() -> float:
    """Bytes of memory that processes may still take."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return int(found[1]) * 1e3 if found else 0.0


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    answer(sys.argv[1], _case(sys.argv[2], int(sys.argv[3])))
