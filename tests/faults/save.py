"""kill -9 inside a save: at a random moment, or at a random system call of it."""

import io
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch

from tests.faults.campaign import Family, Trial, require
from tests.faults.children import forked, reap
from tests.faults.syscalls import Call, watched
from trainer.checkpointing.store import Store, read, read_newest
from utils.errors import CheckpointError

NAMES = ("last.pth", "previous.pth", "best.pth")
FILES = {name + ending for name in NAMES for ending in ("", ".sha256")}
FOREIGN = {"notes.txt": b"mine", "mine.tmp": b"my own temporary file", "last.pth.bak": b"a copy", "data.7.tmp": b"7"}
CALLS = 60  # about as many as three saves make
ROUNDS = 3  # kills in a trial, at most


def trial(t: Trial) -> str:
    folder = t.folder / "run"
    folder.mkdir()
    for name, content in FOREIGN.items():
        (folder / name).write_bytes(content)
    by_call = t.rng.random() < 0.5
    for _ in range(t.rng.randint(1, ROUNDS)):
        began, done, best = kill_saving(t, folder, by_call)
        check_newest(folder, began, done)
        check_best(folder, began, best)
        check_folder(folder)
    return "at a system call" if by_call else "at a moment"


def kill_saving(t: Trial, folder: Path, by_call: bool) -> tuple[int, int, int]:
    """Kill a process that saves and saves; the saves that it began, that were done, and the last one of the best."""
    log, place, seed = t.folder / "log", t.rng.randint(1, CALLS), t.rng.random()
    pid = forked(lambda: save_on(folder, log, BROKEN.get(t.broken), place if by_call else 0, Random(seed)))
    if not by_call:
        end = time.monotonic() + 30
        while not log.exists() and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(t.rng.random() * 0.1)
        os.kill(pid, signal.SIGKILL)
    require(reap(pid) == -signal.SIGKILL, "the saving process ended by itself")
    lines = [line.split() for line in log.read_text().splitlines()]
    began, done = ([int(number) for word, number in lines if word == kind] for kind in ("begins", "done"))
    return max(began, default=0), max(done, default=0), max((i for i in done if is_best(i)), default=0)


def save_on(folder: Path, log: Path, broken: Callable | None, place: int, rng: Random) -> None:
    """In a child: sweep as a run's owner does, and save for ever; or until the call of that number."""
    if broken:
        broken()
    store, number = Store(folder), 0

    def count(call: Call) -> None:
        nonlocal number
        number += 1
        if number == place:
            if call.name == "write":
                call.stream.write(call.data[: rng.randint(0, len(call.data))])
                call.stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    with open(log, "a", buffering=1) as lines, watched(folder, count):
        store.remove_partial()
        before = max((int(line.split()[1]) for line in log.read_text().splitlines()), default=0)
        for i in range(before + 1, before + 500):
            lines.write(f"begins {i}\n")
            store.save(state(i), copies=["best.pth"] if is_best(i) else [])
            lines.write(f"done {i}\n")


def state(i: int) -> dict:
    """A small state that tells in every part which one it is."""
    return {"model": {"w": torch.full((3000,), float(i))}, "config": {}, "meta": {}, "progress": {"step": i}}


def is_best(i: int) -> bool:
    return i % 3 == 1


def check_newest(folder: Path, began: int, done: int) -> None:
    """Raises Violation unless the save that is read is the last one that was done, or the one that was interrupted."""
    try:
        found, _, _ = read_newest(folder)
    except CheckpointError as error:
        require(not done, f"save {done} was done, but nothing is left: {error}")
        return
    check_whole(found)
    step = found["progress"]["step"]
    require(done <= step <= began, f"save {done} was done and {began} begun, but {step} is read")


def check_best(folder: Path, began: int, best: int) -> None:
    if best or (folder / "best.pth").exists():
        try:
            found = read(folder / "best.pth")
        except CheckpointError as error:
            require(not best, f"the best of save {best} is lost: {error}")
            return
        check_whole(found)
        step = found["progress"]["step"]
        require(is_best(step) and best <= step <= began, f"best.pth is of save {step}, not of {best}")


def check_whole(found: dict) -> None:
    values = torch.cat([*found["model"].values()]).unique().tolist()
    require(values == [found["progress"]["step"]], f"a mixture: weights of {values}, step {found['progress']['step']}")


def check_folder(folder: Path) -> None:
    """Raises Violation when files pile up, a half-written one is never swept, or one that is not ours is."""
    names = {path.name for path in folder.iterdir()}
    stale = names - FILES - FOREIGN.keys()
    require(len(stale) <= len(FILES), f"files pile up: {sorted(stale)}")
    Store(folder).remove_partial()
    left = {path.name for path in folder.iterdir()} - FILES - FOREIGN.keys()
    require(not left, f"half-written files that are never swept: {sorted(left)}")
    for name, content in FOREIGN.items():
        require((folder / name).exists(), f"{name}, which is not ours, was deleted")
        require((folder / name).read_bytes() == content, f"{name}, which is not ours, was changed")


# Broken on purpose


def in_place() -> None:
    """Over the old file, as torch.save does it."""

    def save(self, state, copies=(), last=True):
        for name in [*copies, "last.pth"]:
            with open(self.folder / name, "wb") as stream:
                torch.save({"format": 1, **state}, buffer := io.BytesIO())
                stream.write(buffer.getvalue())

    Store.save = save


def remove_first() -> None:
    """The old ones are deleted to make room."""
    own = Store.save

    def save(self, state, copies=(), last=True):
        for name in NAMES:
            (self.folder / name).unlink(missing_ok=True)
            (self.folder / f"{name}.sha256").unlink(missing_ok=True)
        own(self, state, copies, last)

    Store.save = save


def sweep_all() -> None:
    """Every file that looks temporary is swept, whosesoever it is."""
    Store.remove_partial = lambda self: [path.unlink() for path in self.folder.glob("*.tmp")]


def new_digest_only() -> None:
    """The checksum file is replaced at once, not first by one that fits old and new."""
    from trainer.checkpointing import store as checkpoint

    own = checkpoint._put_digests
    checkpoint._put_digests = lambda path, digests: own(path, digests[:1])


BROKEN = {
    "written in place": in_place,
    "old ones removed first": remove_first,
    "foreign files swept": sweep_all,
    "checksum of the new one only": new_digest_only,
}

FAMILY = Family(
    "save",
    "`kill -9` inside a save: at a random moment, or at a random system call, writes cut short",
    "the newest or the previous checkpoint loads; the folder is bounded; half-written files are swept, others never",
    500,
    trial,
    tuple(BROKEN),
)
