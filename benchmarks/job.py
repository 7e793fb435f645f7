"""A user's whole job, whole processes side by side: from JPEG photos to a checkpoint, with validation each epoch."""

import importlib.metadata
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.jobs import ACCURACIES, BATCH, FIRST_STEP, JOBS, LR, MOMENTUM
from benchmarks.processes import ROOT, Running, started, train_command
from benchmarks.rows import Options, Row, alternate, missing, paired
from utils.sinks.journal import Journal

__all__ = ["measure"]

PHOTOS, FEW = 1001, 24  # of each class at most; in a trial, and with --quick
WEIGHTS = 80e6  # bytes that a checkpoint of ResNet34 has at least
BY_HAND = "a plain script"
FLAGS = (  # after configs/dogcat_small.yaml; the first row is that of the first step
    *("--num-workers=0", f"--batch-size={BATCH}", "--data.dataset.val_fraction=0.3", "--print-freq=1"),
    *("--optim=SGD", f"--optim.lr={LR}", f"--optim.momentum={MOMENTUM}", "--schedule=null"),
)


class Job(NamedTuple):
    """What a whole process took: seconds, and megabytes at its peak; and the accuracy that it reached."""

    cpu: float
    wall: float
    first_step: float  # s on the wall from the process's start
    megabytes: float
    accuracy: float


def measure(options: Options) -> Iterator[Row]:
    """One epoch in everything, three in ours and the plain script."""
    names = sorted(path.name for path in options.photos.glob("*.jpg")) if options.photos.is_dir() else []
    classes = [[name for name in names if name.startswith(kind)] for kind in ("cat.", "dog.")]
    if not all(classes):
        yield missing("job", "JPEG photos", f"no cat.N.jpg and dog.N.jpg in {options.photos}; set --photos=FOLDER")
        return
    times = options.times(2, quick=1)
    with tempfile.TemporaryDirectory() as place:
        few = _link(options.photos, [names[:FEW] for names in classes], Path(place, "few"))
        photos = few if options.quick else _link(options.photos, [n[:PHOTOS] for n in classes], Path(place, "photos"))
        peers = []
        for peer in JOBS:
            try:  # now, since a side that fails later ends the whole group
                _peer(peer, few, 1)
                peers.append(peer)
            except RuntimeError as error:
                yield missing("job", peer, str(error))
        yield from _compare(peers, photos, 1, times)
        yield from _compare([peer for peer in peers if peer == BY_HAND], photos, 3, 1)


def _link(source: Path, classes: Sequence[Sequence[str]], folder: Path) -> Path:
    """A folder with the photos of both classes."""
    folder.mkdir()
    for names in classes:
        for name in names:
            os.symlink(source.absolute() / name, folder / name)
    return folder


def _compare(peers: Sequence[str], photos: Path, epochs: int, times: int) -> Iterator[Row]:
    """Three rows for each peer; all of them take turns with ours."""
    sides = [partial(_ours, photos, epochs), *(partial(_peer, peer, photos, epochs) for peer in peers)]
    ours, *others = alternate(sides, times)  # type: ignore[arg-type]
    count = len(list(photos.iterdir()))
    for peer, theirs in zip(peers, others, strict=True):
        name = peer if peer == BY_HAND else f"{peer} {importlib.metadata.version(peer)}"
        name = f"{epochs} epoch{'s' * (epochs > 1)} of {count:,} photos; {name}"
        row = partial(paired, "job", sides=(ours, theirs), scale=1.0)
        walls, accuracies = (_both(ours, theirs, field) for field in ("wall", "accuracy"))
        note = f"on the wall {walls[0]:.1f} against {walls[1]:.1f} s; "
        note += f"accuracy {accuracies[0]:.2f} against {accuracies[1]:.2f}"
        yield row(name, "s of CPU", note=note)
        yield row(f"{name}: peak memory", "MB", clock="megabytes")
        yield row(f"{name}: to the first step", "s on the wall", clock="first_step")


def _both(ours: Sequence[Any], theirs: Sequence[Any], field: str) -> list[float]:
    return [statistics.median(getattr(job, field) for job in side) for side in (ours, theirs)]


def _ours(photos: Path, epochs: int) -> Job:
    """`main.py train`, by the interpreter that has all the peers, as for everybody."""
    flags = [f"--data.dataset.root={photos}", f"--max-epoch={epochs}", *FLAGS]
    command = [sys.executable, *train_command("dogcat_small", *flags)[1:]]

    def seen(running: Running) -> tuple[float, float]:
        journal = running.journal()
        rows = Journal.read(journal) if journal else []
        return rows[0]["time"], [row["accuracy"] for row in rows if row["phase"] == "val"][-1]

    return _whole(command, seen)


def _peer(peer: str, photos: Path, epochs: int) -> Job:
    # a module of this package, though the process runs in an empty folder
    script = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "benchmarks.jobs"]

    def seen(running: Running) -> tuple[float, float]:
        accuracies = (running.folder / ACCURACIES).read_text().split()
        return (running.folder / FIRST_STEP).stat().st_mtime, float(accuracies[-1])

    return _whole([*script, peer, str(photos), str(epochs)], seen)


def _whole(command: Sequence[str], seen: Callable[[Running], tuple[float, float]]) -> Job:
    """Run a job to its end; `seen` finds the time of its first step and its accuracy in what it left.

    Raises RuntimeError when it fails, leaves no checkpoint, or its memory cannot be told.
    """
    begin = time.time()
    with started(command) as running:
        status, usage = os.wait4(running.process.pid, 0)[1:]
        running.process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.time() - begin
        if running.process.returncode:
            raise RuntimeError(f"it ended with {running.process.returncode}: {running.said()}")
        if not any(path.stat().st_size > WEIGHTS for path in running.folder.rglob("*")):
            raise RuntimeError("it left no checkpoint")
        # Linux counts what the starting process held into the peak of the one that it starts
        if usage.ru_maxrss <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
            raise RuntimeError("its memory is hidden behind that of the groups measured before; measure it alone")
        first, accuracy = seen(running)
        return Job(usage.ru_utime + usage.ru_stime, wall, first - begin, usage.ru_maxrss / 1024, accuracy)
