"""Power cuts: every state of the disk that one may leave, worked out from the recorded calls of real saves."""

import errno
import functools
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.faults import campaign
from tests.faults.campaign import Family, Trial, Violation, require
from tests.faults.disk import Disk, Held, Model, fill
from tests.faults.save import check_best, check_newest, is_best, state
from tests.faults.syscalls import Call, watched
from trainer.checkpointing.store import Store, read_newest
from utils.errors import CheckpointError

SAVES = 5  # the first and the fourth are the best so far
NEXT = 10  # the save after a kill; the best so far, too
RECOVER = 10  # in each so-manieth state a further save is tried


class Bounds(NamedTuple):
    """What must be found in a state: the last save that was done at least, the last one begun at most."""

    done: int
    began: int
    best: int


class Mark(NamedTuple):
    """A line between two calls: a save begins, or it is done."""

    word: str
    number: int


@functools.cache
def states() -> list[tuple[Disk, Bounds]]:
    """Every different state that the real code may leave, with what must be found in it."""
    found: dict[Disk, Bounds] = {}
    for disk, bounds in explore(""):
        old = found.get(disk, bounds)
        found[disk] = Bounds(max(old.done, bounds.done), min(old.began, bounds.began), max(old.best, bounds.best))
    return sorted(found.items())


def explore(broken: str) -> Iterator[tuple[Disk, Bounds]]:
    """The states after each call; and, from where a kill after that call leaves the folder, those of the next save.

    With hard links, and on a file system without them.
    """
    for links in (True, False):
        model, bounds, seen = Model(), Bounds(0, 0, 0), set()
        root, trace = record(broken, links, (), range(1, SAVES + 1))
        for step in trace:
            if isinstance(step, Mark):
                bounds = _after(bounds, step)
            else:
                model.apply(step, root)
            yield from ((disk, bounds) for disk in model.states())
            if model.held() not in seen:
                seen.add(model.held())
                yield from _explore_next(broken, links, model.held())


def _explore_next(broken: str, links: bool, held: Held) -> Iterator[tuple[Disk, Bounds]]:
    """A further save by the next owner, who sweeps first; what it found must be kept until that one is done."""
    root, trace = record(broken, links, held, [NEXT])
    model = Model.of(held)
    bounds = Bounds(*_found(root, held))
    for step in trace:
        if isinstance(step, Mark):
            bounds = _after(bounds, step)
        else:
            model.apply(step, root)
        yield from ((disk, bounds) for disk in model.states())


def _found(folder: Path, held: Held) -> tuple[int, int, int]:
    """Of what is read from such a folder: the newest save, the last one begun, the best."""
    fill(folder, held)
    steps = []
    for names in (("last.pth", "previous.pth"), ("best.pth",)):
        try:
            steps.append(int(read_newest(folder, names)[0]["progress"]["step"]))
        except CheckpointError:
            steps.append(0)
    shutil.rmtree(folder)
    return steps[0], max(steps), steps[1]  # a copy for the best may be of a save that was not done


def _after(bounds: Bounds, mark: Mark) -> Bounds:
    if mark.word == "begins":
        return bounds._replace(began=mark.number)
    return bounds._replace(done=mark.number, best=mark.number if is_best(mark.number) else bounds.best)


def record(broken: str, links: bool, held: Held, saves: Iterable[int]) -> tuple[Path, list[Call | Mark]]:
    """The calls of some saves by the real code, in a folder that holds this before; where it was.

    Raises Violation if the calls do not explain what the folder holds then.
    """
    campaign.SCRATCH.mkdir(parents=True, exist_ok=True)
    root, trace = Path(tempfile.mkdtemp(dir=campaign.SCRATCH)).resolve(), list[Call | Mark]()
    fill(root, held)

    def note(call: Call) -> None:
        if call.name == "link" and not links:
            raise OSError(errno.EOPNOTSUPP, "no hard links here")
        trace.append(call)

    with BROKEN[broken]() if broken else Patched({}), watched(root, note, sync=False):
        Store(root).remove_partial()
        for i in saves:
            trace.append(Mark("begins", i))
            Store(root).save(state(i), copies=["best.pth"] if is_best(i) else [])
            trace.append(Mark("done", i))
    model = Model.of(held)
    for call in trace:
        if isinstance(call, Call):
            model.apply(call, root)
    there = {path.name: path.read_bytes() for path in root.iterdir()}
    require(there == {name: file.written for name, file in model.names.items()}, "not every call was recorded")
    shutil.rmtree(root)
    return root, trace


def trial(t: Trial) -> str:
    if t.broken:
        for disk, bounds in explore(t.broken):  # until one is refused
            if bounds.done:  # before that nothing can be lost
                check(t.folder, disk, bounds)
        raise RuntimeError("all states were looked at: another trial would find no more")
    disk, bounds = states()[t.seed % len(states())]
    check(t.folder, disk, bounds)
    if t.seed % RECOVER == 0:
        Store(t.folder).remove_partial()
        Store(t.folder).save(state(99))
        check_newest(t.folder, 99, 99)
    return ""


def check(folder: Path, disk: Disk, bounds: Bounds) -> None:
    """Raises Violation unless the state, made in the folder, is read as the save it must be."""
    for path in folder.iterdir():
        path.unlink()
    for name, content in disk:
        (folder / name).write_bytes(content)
    try:
        check_newest(folder, bounds.began, bounds.done)
        check_best(folder, bounds.began, bounds.best)
    except Violation as error:
        held = ", ".join(f"{name} {len(content)} B" for name, content in disk)
        raise Violation(f"{error} (a state with {held})") from error
    if bounds.done:
        read_newest(folder)


# Broken on purpose


class Patched:
    """Attributes of modules or classes replaced for a while."""

    def __init__(self, patches: dict[tuple[object, str], object]):
        self.patches = patches
        self.before = {(where, name): getattr(where, name) for where, name in patches}

    def __enter__(self) -> None:
        for (where, name), new in self.patches.items():
            setattr(where, name, new)

    def __exit__(self, *error: object) -> None:
        for (where, name), old in self.before.items():
            setattr(where, name, old)


def no_fsync() -> Patched:
    """Files are renamed before their content is safe."""
    from trainer.checkpointing import store as checkpoint
    from utils import files

    return Patched({(where, "fsync"): lambda stream: stream.flush() for where in (files, checkpoint)})


def digest_after() -> Patched:
    """The checksum file is written after the rename only."""
    from trainer.checkpointing import store as checkpoint

    own, sync = checkpoint._put_digests, checkpoint.sync_folder

    def publish(self, new, name, *digests):
        new.replace(self.folder / name)
        sync(self.folder)
        own(self.folder / name, list(digests))

    return Patched({(Store, "_publish"): publish})


def in_place() -> Patched:
    """The name is there before the content is."""
    from trainer.checkpointing import store as checkpoint

    own = checkpoint.write_durably

    def publish(self, new, name, *digests):
        own(self.folder / name, new.read_bytes())
        new.unlink()
        checkpoint.sync_folder(self.folder)
        checkpoint._put_digests(self.folder / name, list(digests))

    return Patched({(Store, "_publish"): publish})


def no_folder_sync() -> Patched:
    """A save counts as done before its rename is safe."""
    from trainer.checkpointing import store as checkpoint

    return Patched({(checkpoint, "sync_folder"): lambda folder: None})


BROKEN = {
    "no fsync of the file": no_fsync,
    "checksum after the rename": digest_after,
    "name before the content": in_place,
    "no fsync of the folder": no_folder_sync,
}

FAMILY = Family(
    "crash",
    "power cut: every state of the disk that the recorded system calls of five real saves allow (prefixes; what was "
    "not synced lost, cut, zeroed; renames undone or in another order), also after a kill between any two calls; with "
    "and without hard links",
    "the newest or the previous checkpoint loads, whole; a save goes through again",
    lambda: len(states()),
    trial,
    tuple(BROKEN),
    states,
)
