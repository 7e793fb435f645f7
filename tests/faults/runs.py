"""The tiny trainings of the campaign, what is written down of them, and whether two of them are the same run."""

import contextlib
import functools
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.faults import campaign
from tests.faults.campaign import Trial, require
from tests.faults.children import Child, Hook, warm
from trainer.checkpointing.compare import difference
from trainer.checkpointing.store import read
from utils.sinks.journal import Journal

PLAIN = ["--log.visdom=false", "--log.pictures=false", "--print-freq=1"]
# 26 steps with everything in them that has a memory: 13 batches an epoch, so that windows are cut short.
DIGITS = [
    "--model=MLP",
    "--model.hidden=[16]",
    "--model.dropout=0.2",
    "--train.accumulate=3",
    "--train.rehearse=false",
    "--train.clip=1",
    "--train.ema=0.9",
    "--schedule=OneCycleLR",
    "--optim=Adam",
    "--lr=1e-2",
    "--max-epoch=2",
    "--batch-size=100",
    *PLAIN,
]
STEPS = 26
RUN = Path("checkpoints/a")


def train(folder: Path, arguments: Sequence[str], hooks: Sequence[Hook] = ()) -> Child:
    """A new training, in the run folder checkpoints/a, that writes down what it reads, uses and saves."""
    alone = [] if "--train.rehearse=false" in arguments else ["--train.rehearse=false"]  # its reads are others
    return Child(folder, ["train", *arguments, *alone, *campaign.DEVICE, "--run=a"], [*hooks, record])


def resume(folder: Path, arguments: Sequence[str] = (), hooks: Sequence[Hook] = ()) -> Child:
    """The same training, continued."""
    return Child(folder, ["train", f"--resume={RUN}", *arguments], [*hooks, record])


def finish(child: Child) -> Child:
    """Wait for the end that a run should come to."""
    code = child.wait()
    require(code == 0, f"exit code {code}: {(child.err() or child.out()).strip()[-600:]}")
    return child


@functools.cache
def prepare() -> None:
    """Warm the process from which all trials are forked."""
    warm(campaign.SCRATCH / "warm", "train", "--run=a", *DIGITS, "--max-steps=3")


def reference(
    arguments: Sequence[str], make: Callable[[Path], object] | None = None, hooks: Sequence[Hook] = ()
) -> Path:
    """The folder of the uninterrupted training, which is run once; `make` puts its data there before."""
    key = hashlib.blake2b(json.dumps(list(arguments)).encode(), digest_size=8).hexdigest()
    folder = campaign.SCRATCH / f"reference-{key}"
    if not (folder / "seconds").exists():
        own = campaign.SCRATCH / f"making-{key}-{os.getpid()}"
        if make:
            own.mkdir(parents=True, exist_ok=True)
            make(own)
        began = time.monotonic()
        finish(train(own, arguments, hooks))
        (own / "seconds").write_text(str(time.monotonic() - began))
        try:
            own.rename(folder)
        except OSError:  # the other process was faster
            require((folder / "seconds").exists(), f"{folder} could not be made")
    return folder


def saving(t: Trial) -> str:
    """The flag for one of the two ways to save: beside the training, or while it waits."""
    return f"--train.save_in_background={str(t.rng.random() < 0.5).lower()}"


def seconds(folder: Path) -> float:
    """How long a reference took."""
    return float((folder / "seconds").read_text())


# What a training writes down: each line one JSON value, appended in one system call.


def record() -> None:
    """In a child: write down the order of samples, each one that is read, each save, and when signals are heard."""
    from data.loading import loader as loaders
    from data.loading import samples
    from trainer import signals
    from trainer.checkpointing import store as checkpoint

    def wrap(kind: type, name: str, before: Callable, after: Callable) -> None:
        own = getattr(kind, name)

        def method(self: object, *args: object, **kwargs: object) -> object:
            before(self, *args)
            result = own(self, *args, **kwargs)
            after(self, *args)
            return result

        setattr(kind, name, method)

    nothing = lambda *_: None  # noqa: E731
    wrap(samples.Samples, "__getitems__", lambda self, keys: note("reads", [len(self), named(keys)]), nothing)
    _record_saves(checkpoint.Store)
    wrap(signals.Signals, "__enter__", nothing, lambda *_: note("signals", "heard"))
    wrap(signals.Signals, "__exit__", lambda *_: note("signals", "unheard"), nothing)
    _record_order(loaders.Loader)


def _record_saves(stores: type) -> None:
    own = stores.save

    def save(self, state: dict, *args: object, **kwargs: object) -> None:
        step = state["progress"]["step"]  # before: a state that is written is let go
        own(self, state, *args, **kwargs)
        note("saves", step)

    stores.save = save


def named(keys: tuple) -> list[tuple[int, int]]:
    """(epoch, index) of each sample of a batch."""
    epoch, indices, *_ = keys
    return [(epoch, int(index)) for index in indices]


def _record_order(batches: type) -> None:
    own = batches.epoch

    def epoch(self, number: int, start: int = 0):
        for i, (indices, batch) in enumerate(own(self, number, start), start):
            if self.training:
                note("order", [number, i, indices])
            yield indices, batch

    batches.epoch = epoch


def note(name: str, value: object) -> None:
    """Add a line to a file in the folder of the training; on a disk that is full on purpose there is none."""
    file = os.open(f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    line = (json.dumps(value) + "\n").encode()
    with contextlib.suppress(OSError):
        size = os.fstat(file).st_size
        if os.write(file, line) < len(line):
            os.ftruncate(file, size)
    os.close(file)


def noted(folder: Path, name: str) -> list:
    """The lines of such a file."""
    path = folder / f"{name}.log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# Comparing


def check_same(folder: Path, whole: Path) -> None:
    """Raises Violation, with what differs, unless the run in `folder` is the uninterrupted one."""
    found = difference(whole / RUN, folder / RUN)
    require(not found, found)
    check_journal(folder)
    check_order(folder, whole)
    for name in ("best.pth", "previous.pth"):
        require((whole / RUN / name).exists() == (folder / RUN / name).exists(), f"{name} is in one of the runs only")
    if (whole / RUN / "best.pth").exists():
        found = difference(whole / RUN, folder / RUN, "best.pth")
        require(not found, f"best.pth: {found}")


def check_journal(folder: Path) -> None:
    """Raises Violation for a step that is missing among the train rows, or stands there twice."""
    steps = [row["step"] for row in Journal.read(folder / RUN / "log.jsonl") if row["phase"] == "train"]
    require(steps == list(range(1, len(steps) + 1)), f"the journal's steps are {steps}")


def check_order(folder: Path, whole: Path) -> None:
    """Raises Violation when a batch was made of other samples than in the uninterrupted run."""
    wanted = {(epoch, number): indices for epoch, number, indices in noted(whole, "order")}
    found: set[tuple[int, int]] = set()
    for epoch, number, indices in noted(folder, "order"):
        found.add((epoch, number))
        right = wanted.get((epoch, number))
        require(indices == right, f"batch {number} of epoch {epoch} was {indices[:5]}…, not {(right or [])[:5]}…")
    require(found == wanted.keys(), f"batches that were never trained on: {sorted(wanted.keys() - found)[:5]}")


def check_reads(folder: Path, whole: Path, step: int, before: int) -> None:
    """Raises Violation unless exactly the training samples after `step` were read since line `before` of the log."""
    order = noted(whole, "order")
    size = max(index for _, _, indices in order for index in indices) + 1
    wanted = Counter((epoch, index) for epoch, _, indices in order[step:] for index in indices)
    reads = [(length, keys) for length, keys in noted(folder, "reads")[before:] if length == size]
    found = Counter((epoch, index) for _, keys in reads for epoch, index in keys)
    require(
        found == wanted,
        f"read but not needed after step {step}: {list((found - wanted).items())[:4]}; needed "
        f"but not read: {list((wanted - found).items())[:4]}",
    )


def position(folder: Path, name: str = "last.pth") -> int:
    """The step after which a checkpoint was written."""
    return int(read(folder / RUN / name)["progress"]["step"])
