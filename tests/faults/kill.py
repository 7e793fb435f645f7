"""kill -9 at any moment of a training, again and again, and resumed until it is done."""

import shutil
import signal
import time
from random import Random

from tests.faults.campaign import Family, Trial, Violation, require
from tests.faults.children import Child, Hook, check_sentence
from tests.faults.runs import (
    DIGITS,
    RUN,
    check_same,
    finish,
    noted,
    prepare,
    reference,
    resume,
    saving,
    seconds,
    train,
)
from trainer.checkpointing.store import read_newest
from utils.errors import CheckpointError

SAVES = (1, 2, 5)
SEEDS = (0, 1, 2)  # of the training
KILLS = 3  # at most, in a trial


def trial(t: Trial) -> str:
    workers = 2 if t.rng.random() < 0.2 else 0
    arguments = [*DIGITS, f"--seed={t.rng.choice(SEEDS)}", f"--train.save_steps={t.rng.choice(SAVES)}"]
    whole = reference(arguments)
    arguments += [f"--num-workers={workers}", saving(t)]
    children = [train(t.folder, arguments, hooks(t.broken))]
    kills = 0
    for _ in range(t.rng.randint(1, KILLS)):
        if not kill(children[-1], t.rng, seconds(whole) + 0.2 * bool(workers)):
            break
        kills += 1
        children.append(go_on(t, arguments))
    finish(children[-1])
    check_same(t.folder, whole)
    for child in children:
        child.check_orphans()
    return f"killed {kills} times"


def kill(child: Child, rng: Random, length: float) -> bool:
    """SIGKILL at a random moment of so many seconds; whether it still ran."""
    end = time.monotonic() + rng.random() * length
    while child.poll() is None and time.monotonic() < end:
        time.sleep(min(0.005, max(0.0, end - time.monotonic())))
    child.kill()
    return child.code == -signal.SIGKILL


def go_on(t: Trial, arguments: list[str]) -> Child:
    """Resume; where nothing was saved before the kill there is nothing to lose, and the training begins anew."""
    saved = noted(t.folder, "saves")
    if not saved and not (t.folder / RUN / "last.pth").exists():
        if (t.folder / RUN).exists():
            check_sentence(_ended(resume(t.folder)), 4, str(RUN))
            shutil.rmtree(t.folder / RUN)
        return train(t.folder, arguments, hooks(t.broken))
    try:
        found = read_newest(t.folder / RUN)[0]["progress"]["step"]
    except CheckpointError as error:
        raise Violation(f"saved after steps {saved}, but nothing is left: {error}") from error
    require(found >= max(saved, default=0), f"saved after steps {saved}, but {found} is found")
    return resume(t.folder, hooks=hooks(t.broken))


def _ended(child: Child) -> Child:
    child.wait()
    return child


# Broken on purpose


def hooks(broken: str) -> list[Hook]:
    return [BROKEN[broken]] if broken else []


def forget_random() -> None:
    """Random numbers go on anew, not from where they were."""
    from trainer import state

    state.set_random_state = lambda state: None


def repeat_epoch() -> None:
    """The epoch in progress begins anew, as many trainers do it."""
    from data.loading.loader import Loader

    own = Loader.epoch
    Loader.epoch = lambda self, epoch, start=0: own(self, epoch, 0)


def keep_journal() -> None:
    """Rows after the checkpoint's stay in the journal."""
    from utils.sinks.journal import Journal

    own = Journal.__init__
    Journal.__init__ = lambda self, path, keep=0: own(self, path, 10**9)


def forget_window() -> None:
    """Gradients of an open accumulation window are not stored."""
    from trainer.optim.step import OptimizerStep

    own = OptimizerStep.state_dict
    empty = {"calls": 0, "weight": 0.0, "gradients": []}
    OptimizerStep.state_dict = lambda self: own(self) | {"window": empty}


BROKEN = {
    "random numbers forgotten": forget_random,
    "epoch repeated": repeat_epoch,
    "journal not cut": keep_journal,
    "open window forgotten": forget_window,
}

FAMILY = Family(
    "kill",
    "`kill -9` at a random moment of the training (0 and 2 workers, saves every 1, 2, 5 steps), restarted until done",
    "every run bit-identical to the uninterrupted one: weights, optimizer, EMA, losses in the journal, sample order; "
    "no checkpoint lost; journal without gap or double step; no process left",
    500,
    trial,
    tuple(BROKEN),
    prepare,
)
