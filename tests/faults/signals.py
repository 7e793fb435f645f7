"""SIGTERM, SIGINT, SIGHUP, SIGUSR1 at random moments, one or two, to the process or to all of its session."""

import shutil
import signal
import time
from collections.abc import Callable
from functools import partial

from tests.faults.campaign import Family, Trial, require
from tests.faults.children import HANG, Child
from tests.faults.runs import (
    DIGITS,
    RUN,
    STEPS,
    check_journal,
    check_same,
    finish,
    noted,
    position,
    prepare,
    reference,
    resume,
    saving,
    seconds,
    train,
)
from trainer.checkpointing.store import read_newest
from utils.sinks.journal import Journal

TERM, INT, HUP, USR1 = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1
KINDS = ("stop", "save", "twice", "frozen", "measuring")
MOMENTS = {"frozen": (2, 25), "measuring": (1, 6)}  # the step, or the batch of the two validations, to stand still in
STUCK = 3600.0  # s that a frozen step would take


def trial(t: Trial) -> str:
    kind = KINDS[t.seed % len(KINDS)]
    workers, group = t.rng.choice((0, 0, 2)), t.rng.random() < 0.3
    whole = reference(DIGITS)
    frozen = t.rng.randint(*MOMENTS[kind]) if kind in MOMENTS else 0
    hooks = [partial(freeze if kind == "frozen" else measure_slowly, frozen)] if frozen else []
    arguments = [*DIGITS, f"--num-workers={workers}", saving(t)]
    child = train(t.folder, arguments, [*hooks, *([BROKEN[t.broken]] if t.broken else [])])
    stops = t.rng.choices((TERM, INT, HUP), k=1) if kind in ("stop", "measuring") else t.rng.choices((TERM, INT), k=2)
    numbers = (USR1,) if kind == "save" else tuple(stops)
    wait_until_heard(child, frozen)
    time.sleep(0.0 if frozen else t.rng.random() * seconds(whole))
    for number in numbers:
        child.send(number, group)
        time.sleep(t.rng.random() * 0.02 + 0.1 * bool(frozen))
    code = child.wait()
    note = CHECKS[kind](t, child, code, numbers)
    if code and not noted(t.folder, "saves"):
        shutil.rmtree(t.folder / RUN)
        finish(train(t.folder, arguments))
    elif code:
        finish(resume(t.folder))
    check_same(t.folder, whole)
    child.check_orphans()
    return f"{kind}: {note}"


def wait_until_heard(child: Child, frozen: int = 0) -> None:
    """Until the training notes signals; or until it stands still at moment `frozen`."""
    end = time.monotonic() + HANG
    while child.poll() is None and not noted(child.folder, "frozen" if frozen else "signals"):
        require(time.monotonic() < end, "the training never began")
        time.sleep(0.002)


def check_stop(t: Trial, child: Child, code: int, numbers: tuple[int, ...]) -> str:
    """Saved at the next step and left with 128 + the signal; or the run was over before."""
    if code == 0:
        require("done:" in child.out(), f"it ended, but is not done: {child.out()[-300:]}")
        return "the run was done"
    if code < 0 or "saved; continue" not in child.out():
        return check_late(t, code, numbers)
    require(code in [128 + number for number in numbers], f"exit code {code} after {numbers}: {child.err()[-300:]}")
    steps = len(noted(t.folder, "order"))
    said = int(child.out().rpartition("stopped after step ")[2].split(",")[0])
    require(position(t.folder) == said, f"stopped after step {said}, but saved after {position(t.folder)}")
    require(steps - 1 <= said <= steps, f"step {steps} had begun, but it stopped after step {said}")
    check_journal(t.folder)
    return "saved and stopped"


def check_late(t: Trial, code: int, numbers: tuple[int, ...]) -> str:
    """A signal that comes after the last step finds no training to stop, and the run is whole."""
    unheard = noted(t.folder, "signals")[-1:] == ["unheard"]
    known = code in [-number for number in numbers] + [128 + number for number in numbers]
    require(unheard and known, f"exit code {code} after {numbers}")
    return "came too late"


def check_save(t: Trial, child: Child, code: int, numbers: tuple[int, ...]) -> str:
    """Saved once more than without the signal, and went on."""
    if code == -USR1:
        return check_late(t, code, numbers)
    require(code == 0, f"exit code {code} after SIGUSR1: {child.err()[-300:]}")
    usual, saves = noted(reference(DIGITS), "saves"), noted(t.folder, "saves")
    require(len(saves) in (len(usual), len(usual) + 1), f"saved after {saves}, without the signal after {usual}")
    require(len(saves) > len(usual) or noted_late(t), f"SIGUSR1 saved nothing: {saves}")
    return "saved once more" if len(saves) > len(usual) else "came too late"


def noted_late(t: Trial) -> bool:
    """Whether all steps had been taken; which a signal sent in the last milliseconds finds."""
    return len(noted(t.folder, "order")) == len(noted(reference(DIGITS), "order"))


def check_twice(t: Trial, child: Child, code: int, numbers: tuple[int, ...]) -> str:
    """Left with 128 + one of the two; what is on disk is whole, be it of this step or of an older one."""
    if code == 0 or "saved; continue" in child.out():
        return check_stop(t, child, code, numbers)
    if not noted(t.folder, "saves"):
        return "left before the first save"
    _, path, rejected = read_newest(t.folder / RUN)
    require(path.name == "last.pth" and not rejected, f"{path.name} had to be read: {rejected}")
    unheard = noted(t.folder, "signals")[-1:] == ["unheard"]
    # Of two that wait at the same time python hears the smaller number first: either may be the second.
    good = code in [128 + number for number in numbers] or (unheard and -code in numbers)
    require(good, f"exit code {code} after {numbers}: {child.err()[-300:]}")
    return "left at once"


def check_frozen(t: Trial, child: Child, code: int, numbers: tuple[int, ...]) -> str:
    """In a step that never ends the first signal waits, the second ends the process with the older save intact."""
    require(code in [128 + number for number in numbers], f"exit code {code} after {numbers} in a frozen step")
    require("saved; continue" not in child.out(), "it says that it saved, from within a step")
    _, path, rejected = read_newest(t.folder / RUN)
    require(path.name == "last.pth" and not rejected, f"{path.name} had to be read: {rejected}")
    return "left at once"


def check_measuring(t: Trial, child: Child, code: int, numbers: tuple[int, ...]) -> str:
    """The validation was broken off: saved after the epoch's last step, and measured when the run goes on."""
    require(code == 128 + numbers[0], f"exit code {code} after {numbers} in a validation: {child.err()[-300:]}")
    epochs = len(noted(t.folder, "order")) // (STEPS // 2)
    rows = [row for row in Journal.read(t.folder / RUN / "log.jsonl") if row["phase"] == "val"]
    require(len(rows) == epochs - 1, f"{len(rows)} validations told of, though that of epoch {epochs} is not over")
    return check_stop(t, child, code, numbers)


CHECKS: dict[str, Callable[[Trial, Child, int, tuple[int, ...]], str]] = {
    "stop": check_stop,
    "save": check_save,
    "twice": check_twice,
    "frozen": check_frozen,
    "measuring": check_measuring,
}


def freeze(step: int) -> None:
    """In a child: stand still within that step."""
    from tests.faults.runs import note
    from trainer.tasks.classification import Classification

    own = Classification.train_step

    def train_step(self, batch, update):
        if update.step + 1 == step:
            note("frozen", step)
            end = time.monotonic() + STUCK
            while time.monotonic() < end:
                time.sleep(0.05)
        return own(self, batch, update)

    Classification.train_step = train_step


def measure_slowly(moment: int) -> None:
    """In a child: take long over that batch of the validations."""
    from tests.faults.runs import note
    from trainer.tasks.classification import Classification

    own, calls = Classification.val_step, []

    def val_step(self, *arguments):
        calls.append(1)
        if len(calls) == moment:
            note("frozen", moment)
            time.sleep(0.5)
        return own(self, *arguments)

    Classification.val_step = val_step


# Broken on purpose


def never_save() -> None:
    """It stops, but what it saved last is older."""
    from trainer.signals import Stopped
    from trainer.trainer import Trainer

    def heed(self):
        stop, _ = self.control.signals.across_ranks(self.state.progress.step)
        if stop:
            raise Stopped(stop)

    Trainer.handle_signals = heed


def deaf() -> None:
    """A second signal is noted as the first was."""
    from trainer.signals import Signals

    def note(self, number, frame):
        if number in (TERM, INT):
            self.stop = number
        else:
            self.save = 1

    Signals._note = note
    from tests.faults import signals

    signals.STUCK = 2.0


def wrong_code() -> None:
    """It ends as if all were done."""
    from trainer import signals

    own = signals.Stopped.__init__

    def init(self, number):
        own(self, number)
        self.exit_code = 1

    signals.Stopped.__init__ = init


def patient() -> None:
    """A validation is waited for."""
    from trainer.signals import Signals

    Signals.raise_if_stopping = lambda self: None


BROKEN = {
    "stopped without a save": never_save,
    "second signal not heard": deaf,
    "another exit code": wrong_code,
    "a validation waited for": patient,
}

FAMILY = Family(
    "signals",
    "SIGTERM, SIGINT, SIGHUP, SIGUSR1 at random moments, double signals, signals within a step that hangs and within "
    "a validation; to the process or to its whole session; 0 and 2 workers",
    "saved at the next step, or at once within a validation, exit 143, 130 or 129; SIGUSR1 saves and goes on; a "
    "second one leaves at once with the older checkpoint intact; resume exact; no process left",
    150,
    trial,
    tuple(BROKEN),
    prepare,
)
