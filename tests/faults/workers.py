"""Processes that load data die, freeze, leave and raise, at a sample or at a moment; others take their place."""

import os
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.faults.campaign import Family, Trial, require
from tests.faults.children import Child, check_sentence
from tests.faults.runs import (
    DIGITS,
    check_same,
    finish,
    named,
    note,
    noted,
    prepare,
    reference,
    seconds,
    train,
)

FAULTS = ("killed", "frozen", "raising", "leaving", "killed from outside", "always")
TIMEOUT = 3  # s until a frozen process is given up
LOSSES = 3  # in an epoch: then the run ends
SAMPLES = 1258  # of the training split: validation has others


def trial(t: Trial) -> str:
    fault = FAULTS[t.seed % len(FAULTS)]
    whole = reference(DIGITS)
    if fault == "always":
        return always(t)
    epoch, _, indices = t.rng.choice(noted(whole, "order"))
    key, times = (epoch, t.rng.choice(indices)), t.rng.randint(1, LOSSES - 1)
    hooks = [BROKEN[t.broken]] if t.broken else []
    arguments = [*DIGITS, f"--num-workers={t.rng.choice((1, 2))}", f"--data.worker_timeout={TIMEOUT}"]
    if fault == "killed from outside":
        child = train(t.folder, arguments, hooks)
        times = kill_some(child, t, seconds(whole))
    else:
        child = train(t.folder, arguments, [partial(spoil, fault, key, times), *hooks])
    finish(child)
    told = child.out().count("data workers lost")
    exactly = told == times or fault == "killed from outside"  # then it may have had nothing left to do
    require(exactly and told <= times, f"lost {times} times, but told {told} times: {child.out()[-500:]}")
    check_same(t.folder, whole)
    child.check_orphans()
    return f"{fault}, {times} times"


def always(t: Trial) -> str:
    """At one of the first samples no process survives: the run ends, and names it."""
    from data.digits import Digits

    how = t.rng.choice(("killed", "raising", "leaving"))
    small = [*(argument for argument in DIGITS if "batch" not in argument), "--batch-size=16", "--train.max_steps=9"]
    small.append(f"--num-workers={t.rng.choice((1, 2))}")
    whole = reference(small)
    _, _, indices = t.rng.choice(noted(whole, "order"))
    index = t.rng.choice(indices)
    child = train(t.folder, small, [partial(spoil, how, (0, index), LOSSES), *([BROKEN[t.broken]] if t.broken else [])])
    child.wait()
    check_sentence(child, 7, "--num-workers=0", "--resume", f"lost {LOSSES} times", f" {Digits('train').ids[index]}")
    require(child.out().count("data workers lost") == LOSSES - 1, f"not {LOSSES - 1} attempts: {child.out()[-500:]}")
    child.check_orphans()
    return f"always {how}"


def spoil(fault: str, key: tuple[int, int], times: int) -> None:
    """In a child: its data processes meet with a fault when they read this sample of this epoch, so many times."""
    from torch.utils.data import get_worker_info

    from data.loading.samples import Samples

    own = Samples.__getitems__

    def read(self, keys):
        here = get_worker_info() and len(self) == SAMPLES and key in named(keys)
        if here and len(noted(Path(), "spoilt")) < times:
            note("spoilt", fault)
            do(fault)
        return own(self, keys)

    Samples.__getitems__ = read


def do(fault: str) -> None:
    """In a data process."""
    if fault == "raising":
        raise OSError("the share is gone")
    if fault == "leaving":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGSTOP if fault == "frozen" else signal.SIGKILL)


def kill_some(child: Child, t: Trial, length: float) -> int:
    """Kill a data process at a random moment, once or twice; how many were killed."""
    killed = 0
    for _ in range(t.rng.randint(1, LOSSES - 1)):
        moment, which = t.rng.random() * length, t.rng.random()
        end = time.monotonic() + moment
        while child.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        others = sorted(child.others())
        if others and child.poll() is None:
            with suppress(ProcessLookupError):  # it had just come to its end
                os.kill(others[int(which * len(others))], signal.SIGKILL)
                killed += 1
    return killed


# Broken on purpose


def batch_lost() -> None:
    """What was awaited from the dead process is passed over."""
    from data.loading.loader import Loader

    read, replace = Loader._read, Loader._replace

    def skipping(self, batches, **more):
        skipped, self.skip = getattr(self, "skip", False), False
        return read(self, batches[1:] if skipped else batches, **more)

    def replacing(self, *arguments):
        replace(self, *arguments)
        self.skip = True

    Loader._read, Loader._replace = skipping, replacing


def never_replaced() -> None:
    """The first loss ends the run."""
    from data.loading.loader import Loader

    def replace(self, error, *arguments):
        raise error

    Loader._replace = replace


def nameless() -> None:
    """It is not told which samples were being read."""
    from data.loading.loader import Loader
    from utils.errors import WorkerError

    own = Loader._replace

    def replace(self, *arguments):
        try:
            own(self, *arguments)
        except WorkerError:
            raise WorkerError(f"lost {LOSSES} times; --num-workers=0 shows why; --resume goes on") from None

    Loader._replace = replace


BROKEN = {"awaited batch passed over": batch_lost, "never replaced": never_replaced, "samples not named": nameless}

FAMILY = Family(
    "workers",
    "data processes killed, frozen, raising, leaving, at a random sample or moment, once or twice an epoch; at one "
    "sample always",
    "others take their place, the run bit-identical; the third time exit 7 naming the samples; no process left",
    150,
    trial,
    tuple(BROKEN),
    prepare,
)
