"""What grows with the number of processes: `python -m benchmarks.growth [WORLD …]`, for docs/scale.md.

Each world is that of a run's own messages: joining the group, the comparison of configs and versions, a signal's
agreement; and the bytes that each process adds to a checkpoint. On one machine, so that a message costs no wire.
"""

import os
import pickle
import socket
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch

from configs import load
from utils import dist
from utils.config.convert import flatten, to_plain
from utils.randomness import random_state
from utils.runs import record

AGREEMENTS = 50
HEAD = (
    "| processes | join, s | compare, ms | agree on a signal, ms | compared by each, kB | added to a checkpoint, kB |"
)


def main(words: Sequence[str]) -> None:
    """Measure each world; a line for each."""
    torch.set_num_threads(1)
    facts = flatten(to_plain(load("default", {}, model="ResNet34")))
    facts |= {"versions": record.versions(), "the program's code": dict(record.hashes(record.code_files()))}
    print(HEAD, "|--:|--:|--:|--:|--:|--:|", sep="\n")
    for world in map(int, words or ("1", "2", "4", "8", "16")):
        join, compare, agree = measure(world, facts)
        compared, kept = (len(pickle.dumps(value)) / 1e3 for value in (facts, saved_by_each()))
        figures = f"{join:.2f} | {compare * 1e3:.1f} | {agree * 1e3:.2f} | {compared * world:.0f} | {kept * world:.0f}"
        print(f"| {world} | {figures} |", flush=True)


def saved_by_each() -> dict[str, Any]:
    """What a checkpoint keeps of each process, apart from the shares of its weights."""
    return {"random": {key: _plain(value) for key, value in random_state().items()}, "window": {}}


def _plain(value: Any) -> Any:
    return value.numpy().tobytes() if isinstance(value, torch.Tensor) else value


def measure(world: int, facts: Any) -> tuple[float, float, float]:
    """Seconds that joining, comparing and agreeing take the first of so many processes."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = str(place.getsockname()[1])
    reading, writing = os.pipe()
    pids = []
    for rank in range(world):
        pids.append(pid := os.fork())
        if pid == 0:
            names = {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            os.environ.update(names)
            told = _in_group(facts)
            if rank == 0:
                os.write(writing, repr(told).encode())
            os._exit(0)
    for pid in pids:
        os.waitpid(pid, 0)
    join, compare, agree = os.read(reading, 1000).decode().strip("()").split(",")
    return float(join), float(compare), float(agree)


def _in_group(facts: Any) -> tuple[float, float, float]:
    begin = time.perf_counter()
    dist.start(torch.device("cpu"))
    joined = time.perf_counter()
    dist.gather(facts)
    compared = time.perf_counter()
    times = []
    for _ in range(AGREEMENTS):
        now = time.perf_counter()
        dist.largest(0, 0, 1)
        times.append(time.perf_counter() - now)
    dist.stop()
    return joined - begin, compared - joined, statistics.median(times)


if __name__ == "__main__":
    main(sys.argv[1:])
