"""kill -9 of all processes inside a save in parts: at a random moment, or one of them at a random system call."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch

from tests.faults.campaign import Family, Trial, require
from tests.faults.children import forked, reap
from tests.faults.save import FOREIGN, check_best, check_newest, is_best
from tests.faults.syscalls import Call, watched

RANKS = 2
CALLS = 160  # about as many as three saves make in a process
ROUNDS = 2  # kills in a trial, at most
LATE = 0.05  # s that the last process may live longer than the first, at most
FOLDERS = {"last", "previous", "last.new", "last.tmp", "previous.tmp"}
FILES = {"best.pth", "best.pth.sha256"}


def prepare() -> None:
    """Read what the children need once, before they are forked."""
    for name in ("torch.distributed.device_mesh", "torch.distributed.tensor", "trainer.checkpointing.sharded"):
        import_module(name)


def trial(t: Trial) -> str:
    prepare()
    folder = t.folder / "run"
    folder.mkdir()
    for name, content in FOREIGN.items():
        (folder / name).write_bytes(content)
    by_call = t.rng.random() < 0.5
    for number in range(t.rng.randint(1, ROUNDS)):
        began, done, best = kill_saving(t, folder, by_call, number)
        check_newest(folder, began, done)
        check_best(folder, began, best)
        check_folder(folder)
    return "at a system call" if by_call else "at a moment"


def kill_saving(t: Trial, folder: Path, by_call: bool, number: int) -> tuple[int, int, int]:
    """Kill processes that save and save; the saves that they began, that were done, and the last one of the best."""
    log, place, victim = t.folder / "log", t.rng.randint(1, CALLS), t.rng.randrange(RANKS)
    meeting, background = t.folder / f"meeting{number}", t.rng.random() < 0.5

    def child(rank: int) -> Callable[[], None]:
        call = place if by_call and rank == victim else 0
        return lambda: save_on(folder, log, meeting, rank, (background, BROKEN.get(t.broken)), call)

    pids = [forked(child(rank), t.folder / f"words{rank}") for rank in range(RANKS)]
    end = time.monotonic() + 60
    while not (log.exists() and f"round {number}" in log.read_text()) and time.monotonic() < end:
        time.sleep(0.001)
    if by_call:  # it kills itself
        require(reap(pids[victim]) == -signal.SIGKILL, "the saving process ended by itself")
    time.sleep(t.rng.random() * (LATE if by_call else 0.5))
    for pid in pids if victim else pids[::-1]:
        if not by_call or pid != pids[victim]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            time.sleep(t.rng.random() * LATE * t.rng.randrange(2))
            reap(pid)
    lines = [line.split() for line in log.read_text().splitlines()]
    began, done = ([int(number) for word, number in lines if word == kind] for kind in ("begins", "done"))
    return max(began, default=0), max(done, default=0), max((i for i in done if is_best(i)), default=0)


def save_on(
    folder: Path, log: Path, meeting: Path, rank: int, how: tuple[bool, Callable[[], None] | None], place: int
) -> None:
    """In a child: join the others, and save for ever; or until the call of that number."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    from trainer.checkpointing.sharded import ShardedSaver

    background, broken = how
    if broken:
        broken()
    dist.init_process_group("gloo", store=dist.FileStore(str(meeting), RANKS), rank=rank, world_size=RANKS)
    mesh, saver = init_device_mesh("cpu", (RANKS,)), ShardedSaver(folder, rank == 0, background)
    number = 0

    def count(call: Call) -> None:
        nonlocal number
        number += 1
        if number == place:
            os.kill(os.getpid(), signal.SIGKILL)

    if rank == 0:
        saver.store.remove_partial()
    before = max((int(line.split()[1]) for line in log.read_text().splitlines()), default=0) if log.exists() else 0
    dist.barrier()
    with open(log, "a", buffering=1) as lines, watched(folder, count):
        if rank == 0:
            lines.write(f"round {meeting.name.removeprefix('meeting')}\n")
        for i in range(before + 1, before + 500):
            told = lines.write if rank == 0 else len
            told(f"begins {i}\n")
            saver.save(state(i, mesh), copies=["best.pth"] if is_best(i) else [])
            saver.wait()
            told(f"done {i}\n")


def state(i: int, mesh: object) -> dict:
    """A small state that tells in every part which one it is."""
    from torch.distributed.tensor import Shard, distribute_tensor

    parts = [distribute_tensor(torch.full((n,), float(i)), mesh, [Shard(0)], src_data_rank=None) for n in (3000, 7)]
    model = {"w": parts[0], "b": parts[1], "plain": torch.full((2,), float(i))}
    return {"model": model, "config": {}, "meta": {}, "progress": {"step": i}}


def check_folder(folder: Path) -> None:
    """Raises Violation when folders pile up, a half-written one is never swept, or one that is not ours is."""
    from trainer.checkpointing.store import Store

    names = {path.name for path in folder.iterdir()} - FOREIGN.keys()
    stale = {name for name in names - FILES - FOLDERS if not name.startswith(("best.pth", "last.pth"))}
    require(not stale, f"files pile up: {sorted(stale)}")
    Store(folder).remove_partial()
    left = {path.name for path in folder.iterdir()} - FILES - FOREIGN.keys() - {"last", "previous", "last.new"}
    require(not left, f"half-written ones that are never swept: {sorted(left)}")
    for name, content in FOREIGN.items():
        require((folder / name).exists() and (folder / name).read_bytes() == content, f"{name}, not ours, was changed")


# Broken on purpose


def in_place() -> None:
    """The parts are written into the folder of the save before."""
    from trainer.checkpointing import folders, sharded

    def publish(run: Path, sums: dict) -> None:
        lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
        (run / "last" / folders.CHECKSUMS).write_text(lines)

    sharded.WRITTEN, sharded.publish = "last", publish
    Path.mkdir = lambda self, *args, **kwargs: os.makedirs(self, exist_ok=True)


def remove_first() -> None:
    """The one before goes before the new one is written."""
    from trainer.checkpointing import folders, sharded

    sharded.name_newest = lambda run: folders.remove(run / "last", run / "previous", run / "last.new")


BROKEN = {"written in place": in_place, "old ones removed first": remove_first}

FAMILY = Family(
    "parts",
    "`kill -9` of two processes that save in parts (`train.shard: full`), together or one a moment later: at a random "
    "moment, or at a random system call of one of them; in the background or not",
    "the newest or the previous checkpoint loads, whole; the folder is bounded; half-written ones are swept",
    200,
    trial,
    tuple(BROKEN),
    prepare,
)
