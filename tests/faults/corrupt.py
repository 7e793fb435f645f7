"""Damaged checkpoints: every byte flipped, every truncation, zeroed pages, files that were swapped."""

import functools
import hashlib
import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from random import Random
from typing import BinaryIO, NamedTuple

import torch

from tests.faults import campaign
from tests.faults.campaign import Family, Trial, require
from tests.faults.save import check_whole
from trainer.checkpointing import store as checkpoint
from trainer.checkpointing.store import Store, read_newest
from utils.errors import CheckpointError

PAGE = 512  # bytes that a bad disk zeroes at once
LAST, PREVIOUS, BEST = "last.pth", "previous.pth", "best.pth"


class Case(NamedTuple):
    """What is done: a kind, and the byte, length or page; or what lies under which name."""

    kind: str
    place: int = 0
    files: tuple[tuple[str, str], ...] = ()  # (name, whose content lies there)


@functools.cache
def whole() -> dict[str, bytes]:
    """The files of a run folder after three saves: last is of the third, previous of the second, best of the first."""
    campaign.SCRATCH.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=campaign.SCRATCH))
    for i in (1, 2, 3):
        Store(folder).save(state(i), copies=[BEST] if i == 1 else [])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def state(i: int) -> dict:
    """A state of some kilobytes, whose content tells which one it is."""
    model = {"w": torch.full((700,), float(i)), "b": torch.full((3,), float(i), dtype=torch.float64)}
    return {"model": model, "config": {"name": "small"}, "meta": {}, "progress": {"step": i}}


@functools.cache
def cases() -> list[Case]:
    """All of them; the sidecar of last.pth is damaged too, and every checkpoint once without its sidecar."""
    size, side = len(whole()[LAST]), len(whole()[f"{LAST}.sha256"])
    found = [Case("flip", place) for place in range(size)] + [Case("cut", length) for length in range(size)]
    found += [Case("zero", page) for page in range(0, size, PAGE)]
    found += [Case("flip alone", place) for place in range(size)] + [
        Case("cut alone", length) for length in range(size)
    ]
    found += [Case("flip sidecar", place) for place in range(side)] + [Case("cut sidecar", n) for n in range(side)]
    names = (LAST, PREVIOUS, BEST)
    for data in product(names, repeat=2):
        found += [Case("swap", files=((LAST, data[0]), (PREVIOUS, data[1]), *sides)) for sides in _sidecars(names)]
    return found


def _sidecars(names: tuple[str, ...]) -> list[tuple[tuple[str, str], ...]]:
    given = product(names, repeat=2)
    return [((f"{LAST}.sha256", f"{a}.sha256"), (f"{PREVIOUS}.sha256", f"{b}.sha256")) for a, b in given]


def trial(t: Trial) -> str:
    case = cases()[t.seed % len(cases())]
    files = dict(whole())
    if case.kind == "swap":
        files |= {name: whole()[other] for name, other in case.files}
    else:
        name = f"{LAST}.sha256" if "sidecar" in case.kind else LAST
        files[name] = damaged(files[name], case, t.rng)
        if "alone" in case.kind:
            del files[f"{LAST}.sha256"]
    for name, content in files.items():
        (t.folder / name).write_bytes(content)
    if t.broken:
        with BROKEN[t.broken]():
            check(t.folder, files, case)
    check(t.folder, files, case)
    return case.kind


def damaged(content: bytes, case: Case, rng: Random) -> bytes:
    place = case.place
    if case.kind.startswith("flip"):
        return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
    if case.kind.startswith("cut"):
        return content[:place]
    return content[:place] + bytes(min(PAGE, len(content) - place)) + content[place + PAGE :]


def check(folder: Path, files: dict[str, bytes], case: Case) -> None:
    """Raises Violation unless what is read is whole, and each file that was passed over is named with its reason.

    A file that was swapped together with its checksum file is whole and a state of this run: it may be read.
    """
    good = [name for name in (LAST, PREVIOUS) if is_whole(files, name)]
    try:
        found, path, rejected = read_newest(folder)
    except CheckpointError as error:
        require(not good, f"nothing is read, though {good} is whole: {error}")
        require(all(f"{name}: " in str(error) for name in (LAST, PREVIOUS)), f"not every file is named: {error}")
        return
    check_whole(found)
    require(str(found["progress"]["step"]) in "123" and found["config"] == {"name": "small"}, f"read was {found}")
    changed = files[path.name] not in (whole()[name] for name in (LAST, PREVIOUS, BEST))
    if "alone" in case.kind and changed:  # bits that zip's own checksums do not cover: they must change nothing
        require(path.name != LAST or found["progress"]["step"] == 3, "another state was read")
        return
    require(not changed, f"{path.name} is damaged, but was read")
    if "sidecar" not in case.kind:
        require(path.name == good[0], f"{path.name} was read, not {good[0]}")
    require(len(rejected) == (path.name == PREVIOUS), f"passed over: {rejected}")
    require(all(f"{LAST}: " in reason and len(reason) > 30 for reason in rejected), f"no reason: {rejected}")


def is_whole(files: dict[str, bytes], name: str) -> bool:
    """Whether a file has the checksum that lies beside it, or none lies there and nobody changed it."""
    side = files.get(f"{name}.sha256")
    if side is None:
        return files[name] == whole()[name]
    return hashlib.sha256(files[name]).hexdigest().encode() in side


# Broken on purpose


class Replaced:
    """A function of the checkpoint store that is another one for a while."""

    def __init__(self, name: str, new: Callable):
        self.name, self.new, self.old = name, new, getattr(checkpoint, name)

    def __enter__(self) -> None:
        setattr(checkpoint, self.name, self.new)

    def __exit__(self, *error: object) -> None:
        setattr(checkpoint, self.name, self.old)


def trust() -> Replaced:
    """torch.load alone decides what is good."""
    return Replaced("_damage", lambda path, file: "")


def trust_size() -> Replaced:
    """The size alone decides."""
    size = len(whole()[LAST])
    return Replaced("_damage", lambda path, file: "" if path.stat().st_size == size else "has another size")


def trust_head() -> Replaced:
    """Only the beginning of a file is looked at."""
    own, size = checkpoint._damage, 1024

    def damage(path: Path, file: BinaryIO) -> str:
        known = [content[:size] for name, content in whole().items() if name.endswith(".pth")]
        head = file.read(size)
        file.seek(0)
        return "" if head in known else own(path, file)

    return Replaced("_damage", damage)


BROKEN = {"torch.load trusted": trust, "size trusted": trust_size, "only the head looked at": trust_head}

FAMILY = Family(
    "corrupt",
    "every byte of a small checkpoint flipped, every truncation, zeroed pages, swapped files, damaged checksum files; "
    "flips and truncations also without any checksum file",
    "all detected, the fall-back named; never a wrong state read",
    lambda: len(cases()),
    trial,
    tuple(BROKEN),
    cases,
)
