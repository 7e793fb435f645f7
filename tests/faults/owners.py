"""Several processes that want the same run at once, and owners that are killed."""

import os
import time
from functools import partial
from pathlib import Path

from tests.faults.campaign import Family, Trial, require
from tests.faults.children import HANG, Child, check_sentence
from tests.faults.runs import DIGITS, RUN, check_same, finish, noted, prepare, record, reference

AT_ONCE = 5  # processes
STARTS = 25  # trials in which so many start at once; the others kill an owner
TRIALS = 45


def trial(t: Trial) -> str:
    whole = reference([*DIGITS, "--train.save_steps=2"])
    if t.seed % TRIALS < STARTS:
        return start_at_once(t, whole)
    return kill_owner(t, whole)


def start_at_once(t: Trial, whole: Path) -> str:
    """All begin when a file appears; the one that trains waits in its second step until all the others have ended."""
    new = t.rng.random() < 0.5
    arguments = [*DIGITS, "--train.save_steps=2", "--run=a"] if new else [f"--resume={RUN}"]
    if not new:
        finish(Child(t.folder, ["train", *DIGITS, "--train.save_steps=2", "--run=a", "--train.max_steps=4"], [record]))
        arguments += ["--train.max_steps=null"]
    broken = [BROKEN[t.broken]] if t.broken else []
    wait = partial(begin_together, t.folder / "go", t.folder / "on")
    children = [Child(t.folder, ["train", *arguments], [wait, record, *broken]) for _ in range(AT_ONCE)]
    time.sleep(0.05)
    (t.folder / "go").touch()
    losers = wait_for_losers(children)
    owners = [child for child in children if child not in losers]
    (t.folder / "on").touch()
    for owner in owners:
        owner.wait()
    require(len(owners) == 1, f"{len(owners)} owners of one run")
    finish(owners[0])
    for child in losers:
        there = [words for words in (f"{RUN} exists", f"another process has just made {RUN}") if words in child.err()]
        named = there if new and there else [f"in use by process {owners[0].pid}"]
        check_sentence(child, 2, str(RUN), *named)
    if new:
        check_same(t.folder, whole)
    return "new runs of one name" if new else "resumes of one run"


def wait_for_losers(children: list[Child]) -> list[Child]:
    """Those that have ended when all but one have, or when nothing has changed for long."""
    end = time.monotonic() + HANG / 4
    while sum(child.poll() is None for child in children) > 1 and time.monotonic() < end:
        time.sleep(0.005)
    return [child for child in children if child.poll() is not None]


def begin_together(go: Path, on: Path) -> None:
    """In a child: wait for one file before beginning, and for the other in the first training step."""
    from trainer.tasks.classification import Classification

    own = Classification.train_step

    def train_step(self, batch, update):
        _wait_for(on)
        return own(self, batch, update)

    Classification.train_step = train_step
    _wait_for(go)


def _wait_for(path: Path) -> None:
    end = time.monotonic() + HANG
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.001)


def kill_owner(t: Trial, whole: Path) -> str:
    """The lock dies with its owner, however many worker processes it has started."""
    workers = t.rng.choice((0, 2))
    broken = [BROKEN[t.broken]] if t.broken else []
    arguments = [*DIGITS, "--train.save_steps=2", f"--num-workers={workers}"]
    first = Child(t.folder, ["train", *arguments, "--run=a"], [record, *broken])
    end, saves = time.monotonic() + HANG, t.rng.choice((1, 3, 6))
    while len(noted(t.folder, "saves")) < saves and time.monotonic() < end and first.poll() is None:
        time.sleep(0.002)
    children = first.others()
    first.kill()
    second = Child(t.folder, ["train", f"--resume={RUN}"], [record, *broken])
    code = second.wait()
    require(code == 0, f"the owner is dead, but its run cannot be resumed: {second.err()}")
    check_same(t.folder, whole)
    first.check_orphans()
    return f"killed owner with {len(children)} workers"


# Broken on purpose


def no_lock() -> None:
    """Nobody takes the lock."""
    from utils.runs.folder import RunFolder

    RunFolder.own = lambda self: None


def made_anew() -> None:
    """A run's folder is made whether it is there or not."""
    from utils.runs.folder import ROOT, RunFolder

    def create(cls, name, config=None):
        (ROOT / name).mkdir(parents=True, exist_ok=True)
        return cls(ROOT / name, config)

    RunFolder.create = classmethod(create)
    RunFolder.own = lambda self: None


def file_as_lock() -> None:
    """A file is the lock; it outlives its owner."""
    from utils.errors import ConfigError
    from utils.runs.folder import RunFolder

    def own(self):
        try:
            os.close(os.open(self.path / ".lock", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            raise ConfigError(f"{self.path}: in use by process {self.status().get('pid')}; wait or stop it") from None

    RunFolder.own = own


BROKEN = {"lock never taken": no_lock, "folder not exclusive": made_anew, "lock outlives its owner": file_as_lock}

FAMILY = Family(
    "owners",
    f"{STARTS} times {AT_ONCE} simultaneous starts into one run, new and resumed; {TRIALS - STARTS} owners killed, "
    "their workers still alive",
    "exactly one owner, the others exit 2 naming it; the lock dies with its process",
    TRIALS,
    trial,
    tuple(BROKEN),
    prepare,
)
