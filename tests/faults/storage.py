"""Disks that are full, read-only or broken: at many sizes, and at each call of a save."""

import errno
import functools
import os
import resource
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.faults.campaign import Family, Trial, require
from tests.faults.children import Hook, check_sentence
from tests.faults.runs import DIGITS, RUN, check_same, finish, position, prepare, reference, resume, saving, train
from tests.faults.syscalls import Call, watch
from trainer.checkpointing.store import read_newest

POINTS = 200  # sizes at which the disk is full, from 0 to that of a checkpoint
SIZE = 42_500  # B, not quite a checkpoint
SAVING = [*DIGITS, "--train.save_steps=3"]
CALLS = {"create": 11, "write": 15, "fsync": 15, "replace": 10, "link": 4}  # of each kind: those of two saves
ERRORS = (errno.EIO, errno.ENOSPC)


class Case(NamedTuple):
    """A full disk of so many bytes a file; or the error that a kind of call gives at its so-manieth time."""

    kind: str
    number: int
    error: int = 0


@functools.cache
def cases() -> list[Case]:
    full = [Case("full", SIZE * i // POINTS) for i in range(POINTS)]
    broken = [Case(kind, i, error) for kind, count in CALLS.items() for i in range(count) for error in ERRORS]
    return full + broken + [Case("read-only", i, errno.EROFS) for i in range(10)]


def trial(t: Trial) -> str:
    case = cases()[t.seed % len(cases())]
    save = t.rng.randint(2, 6)  # the first of the saves that fails
    whole = reference(SAVING)
    hooks = [partial(fail, t.folder, case, save)]
    child = train(t.folder, [*SAVING, saving(t)], [BROKEN[t.broken], *hooks] if t.broken else hooks)
    code = child.wait()
    if code != 0 or case.kind in ("full", "read-only"):
        size = ("last.pth", "MB to write", "MB free") if case.kind == "full" else ()
        if "log.jsonl" in child.err():  # a row is written while the failed save has not been told yet
            size = ()
        check_sentence(child, 5, str(RUN), "cannot be written", "--resume", *size)
    check_intact(t.folder, save, case)
    if (t.folder / RUN / "last.pth").exists():
        finish(resume(t.folder))
        check_same(t.folder, whole)
    child.check_orphans()
    return case.kind if code else f"{case.kind}: no such call any more"


def fail(folder: Path, case: Case, save: int) -> None:
    """In a child: from the save of that number on, the disk is as the case says."""
    from trainer.checkpointing.store import Store

    own, count = Store.save, 0

    def save_on(self, *args: object) -> None:
        nonlocal count
        count += 1
        if count == save:
            begin()
        own(self, *args)

    def begin() -> None:
        if case.kind == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (case.number, case.number))
        else:
            watch(folder / RUN, refuse(case))

    Store.save = save_on


def refuse(case: Case) -> Callable[[Call], None]:
    """Raise the error at the call of that kind and number, once; on a read-only disk at each one from there on."""
    count = -1

    def before(call: Call) -> None:
        nonlocal count
        count += case.kind in (call.name, "read-only")
        hit = count >= case.number if case.kind == "read-only" else call.name == case.kind and count == case.number
        if hit:
            raise OSError(case.error, os.strerror(case.error), call.path)

    return before


def check_intact(folder: Path, save: int, case: Case) -> None:
    """Raises Violation unless the last good checkpoint is there, and nothing half-written."""
    # Each third step is saved, after the one before the first step, and those at the ends of the epochs, 13 and 26.
    saved = [0, 3, 6, 9, 12, 13, 15]
    _, path, rejected = read_newest(folder / RUN)
    found = position(folder, path.name)
    require(found >= saved[save - 2], f"saved after step {saved[save - 2]}, but {found} is what is left")
    require(path.name == "last.pth" and not rejected, f"{path.name} had to be read: {rejected}")
    left = [file.name for file in (folder / RUN).iterdir() if file.name.endswith(".tmp")]
    require(not left or case.kind == "read-only", f"half-written files: {left}")


# Broken on purpose


def leave_partial() -> None:
    """What could not be written whole stays."""
    from trainer.checkpointing.store import Store

    Store.remove_partial = lambda self: None
    own = Path.unlink
    Path.unlink = lambda self, missing_ok=False: None if self.suffix == ".tmp" else own(self, missing_ok)


def in_place() -> None:
    """Over the old file."""
    import io

    import torch

    from trainer.checkpointing.store import LAST, Store
    from utils.files import storage_error

    def save(self, state: dict, copies: object = (), last: bool = True) -> None:
        torch.save({"format": 1, **state}, buffer := io.BytesIO())
        try:
            (self.folder / LAST).write_bytes(buffer.getvalue())
        except OSError as error:
            raise storage_error(self.folder / LAST, error, len(buffer.getvalue())) from error

    Store.save = save


def ignore() -> None:
    """A save that fails is passed over in silence."""
    from trainer.checkpointing.store import Store
    from utils.errors import StorageError

    own = Store.save

    def save(self, *args: object) -> None:
        with suppress(StorageError, OSError):
            own(self, *args)

    Store.save = save


BROKEN: dict[str, Hook] = {"partial file left": leave_partial, "written in place": in_place, "errors ignored": ignore}

FAMILY = Family(
    "storage",
    "disk full at 200 points (RLIMIT_FSIZE), read-only, EIO and ENOSPC at each create, write, fsync, rename "
    "and link of a save",
    "what was saved before is intact, partial files removed, one sentence with path and sizes, exit 5; resume exact",
    lambda: len(cases()),
    trial,
    tuple(BROKEN),
    prepare,
)
