"""Groups of processes: one is killed or frozen, the launcher is lost, they are stopped, they become more or fewer."""

import shutil
import signal
import time
from collections.abc import Callable
from functools import partial

from tests.faults.campaign import Family, Trial, require
from tests.faults.children import Child
from tests.faults.groups import (
    SHOWN,
    by_hand,
    check_group,
    check_shares,
    distance,
    end_of,
    launch,
    left_over,
    living,
    send,
    slowly,
    wait_for,
    wait_for_steps,
    whole,
)
from tests.faults.runs import DIGITS, RUN, STEPS, noted, prepare
from utils.sinks.journal import Journal

TERM, INT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
TRIALS = {"killed": 24, "frozen": 18, "launcher": 20, "stopped": 20, "measuring": 16, "world": 30}
KINDS = [kind for kind, count in TRIALS.items() for _ in range(count)]
SAVING = [*DIGITS, "--train.save_steps=2"]
SELDOM = "--print-freq=1000000"
TIMEOUT = 3.0  # s of train.dist_timeout in these trials
SLACK = 2.0  # s, of a machine that does other things besides
ORPHAN = 10.0  # s that a process may outlive its launcher
SAVED = 5.0  # s from a signal to the save
# Rounding apart, a run of these is the same in any world.
PLAIN = [arg for arg in DIGITS if not arg.startswith(("--model.dropout", "--optim", "--lr", "--train.ema"))]
PLAIN += ["--schedule.total_steps=20", "--optim=SGD", "--lr=0.1"]
WORLDS = [1, 2, 4, 2, 1]
CLOSE = 1e-6  # of weights


def trial(t: Trial) -> str:
    kind = KINDS[t.seed % len(KINDS)]
    if t.broken and ABOUT[t.broken] != kind:
        return "not about this"
    try:
        return f"{kind}: {CHECKS[kind](t)}"
    finally:
        left_over(t.folder, 0)


def begun(t: Trial, pace: float, arguments: list[str] = SAVING, hooks: tuple = ()) -> Child:
    """A training in two processes, each step of which takes at least so many seconds."""
    broken = [BROKEN[t.broken]] if t.broken else []
    return launch(t.folder, ["train", *arguments, "--run=a"], [partial(slowly, pace), *hooks, *broken])


def check_left(t: Trial, seconds: float = 2.0) -> None:
    left = left_over(t.folder, seconds)
    require(not left, f"{len(left)} processes are left after {seconds:g} s")


def go_on(t: Trial, arguments: list[str] = SAVING) -> None:
    """Continue the run, or begin it anew if nothing was saved; it must end as the uninterrupted one."""
    command = [f"--resume={RUN}"]
    if not (t.folder / RUN / "last.pth").exists():
        shutil.rmtree(t.folder / RUN, ignore_errors=True)
        command = [*arguments, "--run=a"]
    end_of(by_hand(t.folder, 2, ["train", *command]))
    check_group(t.folder, whole(arguments, 2))


def killed(t: Trial) -> str:
    child, rank = begun(t, 0.02), t.rng.randrange(2)
    wait_for_steps(child, rank, t.rng.randint(1, STEPS - 3))
    time.sleep(t.rng.random() * 0.03)
    pid = living(t.folder).get(rank, 0)
    if pid:
        send(pid, signal.SIGKILL)
    saves = len(noted(t.folder, "saves"))
    end_of([child])
    check_left(t)
    check_group(t.folder, whole(SAVING, 2))
    if not pid or "SIGKILL" not in child.err():
        return "came too late"
    told = f"process {rank} of 2 was ended by SIGKILL: all start again\n"
    require(child.err() == told, f"it says {child.err()[-SHOWN:]!r}")
    return f"rank {rank}, {'after a save' if saves else 'before the first save'}"


def frozen(t: Trial) -> str:
    child, rank = begun(t, 0.02, [*SAVING, f"--train.dist_timeout={TIMEOUT:g}"]), t.rng.randrange(2)
    wait_for_steps(child, rank, t.rng.randint(2, STEPS - 5))
    pid = living(t.folder).get(rank, 0)
    require(pid, f"no rank {rank} to freeze: {child.err()[-SHOWN:]}")
    send(pid, signal.SIGSTOP)
    began = time.monotonic()
    wait_for(child, lambda: child.err() or time.monotonic() - began > TIMEOUT + SLACK)
    took = time.monotonic() - began
    if not child.err():
        child.kill()
    require(took < TIMEOUT + SLACK, f"nothing was said within {took:.1f} s, and train.dist_timeout is {TIMEOUT:g} s")
    code = child.wait()
    require(code == 9, f"exit code {code}, not 9: {child.err()[-SHOWN:]}")
    require(len(child.err().splitlines()) == 1, f"not one line: {child.err()[-SHOWN:]!r}")
    require(f"process {rank} ({pid} on" in child.err(), f"it does not name the frozen one: {child.err()[-SHOWN:]}")
    check_left(t)
    go_on(t)
    return f"rank {rank}"


def launcher(t: Trial) -> str:
    child = begun(t, 1.0)  # so that it would not end by itself in time
    wait_for_steps(child, 0, t.rng.randint(1, 4))
    time.sleep(t.rng.random())
    child.kill()
    check_left(t, ORPHAN)
    require(not child.err(), f"it says {child.err()[-SHOWN:]!r}")
    go_on(t)
    return "no orphan"


def stopped(t: Trial) -> str:
    """In the steps, whatever print_freq is."""
    arguments = [*SAVING] if t.rng.random() < 0.5 else [*(arg for arg in SAVING if "print-freq" not in arg), SELDOM]
    child = begun(t, 0.8, arguments)  # so that the epoch's end does not come in time
    wait_for_steps(child, 0, t.rng.randint(2, 5))
    time.sleep(t.rng.random() * 0.8)
    return told_to_stop(t, child, arguments)


def measuring(t: Trial) -> str:
    """In a validation that would take long."""
    arguments = [*SAVING, "--data.eval_batch_size=4"]
    child = begun(t, 0.02, arguments, (partial(measure_slowly, 0.25),))
    batches = t.rng.randint(1, 12)
    wait_for(child, lambda: len(noted(t.folder, "measured")) >= batches)
    note = told_to_stop(t, child, arguments)
    rows = [row for row in Journal.read(t.folder / RUN / "log.jsonl") if row["phase"] == "val"]
    require(len(rows) == 2, f"{len(rows)} validations are in the journal")
    return note


def told_to_stop(t: Trial, child: Child, arguments: list[str]) -> str:
    """Send a signal to the launcher, to all of its session, or to one rank: saved soon, and gone on with."""
    number = t.rng.choice((TERM, TERM, INT, HUP))
    whom = t.rng.choice(("launcher", "session", "rank"))
    began = time.time()
    if whom == "rank":
        send(living(t.folder).get(t.rng.randrange(2), child.pid), number)
    else:
        child.send(number, group=whom == "session")
    last = t.folder / RUN / "last.pth"
    limit = time.monotonic() + SAVED
    wait_for(child, lambda: "saved; continue" in child.out() or time.monotonic() > limit)
    took = time.time() - began
    if child.poll() is None and "saved; continue" not in child.out():
        child.kill()
    require("saved; continue" in child.out(), f"it was not saved within {took:.1f} s of {signal.Signals(number).name}")
    require(last.stat().st_mtime <= began + SAVED + 0.5, f"saved {last.stat().st_mtime - began:.1f} s after the signal")
    code = child.wait()
    require(code == 128 + number, f"exit code {code} after {signal.Signals(number).name}: {child.err()[-SHOWN:]}")
    require(not child.err(), f"it says {child.err()[-SHOWN:]!r}")
    check_left(t)
    go_on(t, arguments)
    return f"{signal.Signals(number).name} to the {whom}"


def world(t: Trial) -> str:
    """The run goes on in another number of processes, again and again."""
    worlds = WORLDS if t.rng.random() < 0.5 else [t.rng.randint(1, 4) for _ in range(t.rng.randint(2, 5))]
    stops = [*sorted(t.rng.sample(range(1, STEPS), len(worlds) - 1)), None]
    broken = [BROKEN[t.broken]] if t.broken else []
    for number, (size, stop) in enumerate(zip(worlds, stops, strict=True)):
        command = [f"--resume={RUN}"] if number else [*PLAIN, "--run=a"]
        limit = f"--train.max_steps={stop or 'null'}"
        end_of(by_hand(t.folder, size, ["train", *command, limit], broken))
    one = whole(PLAIN, 1)
    check_shares(t.folder, one, exactly=True)
    left, right = (
        [(row["step"], row["lr"]) for row in Journal.read(folder / RUN / "log.jsonl") if row["phase"] == "train"]
        for folder in (one, t.folder)
    )
    require(left == right, "the steps or their learning rates are others")
    apart = distance(one, t.folder)
    require(apart < CLOSE, f"the weights are {apart:.1e} apart")
    return "→".join(map(str, worlds))


CHECKS: dict[str, Callable[[Trial], str]] = {
    "killed": killed,
    "frozen": frozen,
    "launcher": launcher,
    "stopped": stopped,
    "measuring": measuring,
    "world": world,
}


def measure_slowly(seconds: float) -> None:
    """In a child: each batch of a validation takes so long."""
    from tests.faults.runs import note
    from trainer.tasks.classification import Classification

    own = Classification.val_step

    def val_step(self, *arguments):
        note("measured", 1)
        time.sleep(seconds)
        return own(self, *arguments)

    Classification.val_step = val_step


# Broken on purpose


def position_in_shares() -> None:
    """The position counts batches of one process."""
    from data.loading.loader import Loader
    from utils import dist

    own = Loader.epoch
    Loader.epoch = lambda self, epoch, start=0: own(self, epoch, start * dist.world_size() if self.training else start)


def same_random() -> None:
    """Each rank goes on with the random numbers of the first."""
    from trainer import state

    first: list = []
    own, load = state.set_random_state, state.RunState._load

    def _load(self, stored: dict) -> None:
        first[:] = [stored["ranks"][0]["random"]]
        load(self, stored)

    state.RunState._load = _load
    state.set_random_state = lambda _: own(*first)


def patient() -> None:
    """Nobody counts the seconds in which a rank does not answer."""
    import datetime

    import torch.distributed as torch_dist

    own = torch_dist.init_process_group
    torch_dist.init_process_group = lambda kind, timeout: own(kind, timeout=datetime.timedelta(minutes=30))


def orphans() -> None:
    """No process looks for its launcher."""
    import sys

    import commands

    commands.found()["train"]
    sys.modules["commands.train"].end_with_launcher = lambda: None


def apart() -> None:
    """Ranks agree on signals after rows only, and rows are seldom."""
    from trainer.signals import Signals

    Signals.due = lambda self, step: step % 1000 == 0


def measured_first() -> None:
    """A validation is waited for."""
    from trainer.signals import Signals

    Signals.raise_if_stopping = lambda self: None


def torchruns_code() -> None:
    """Whatever happens, the launcher ends with 1."""
    from trainer.parallel import launch as launcher

    own = launcher.launch
    launcher.launch = lambda *arguments: min(1, own(*arguments))


BROKEN = {
    "position in batches of one process": position_in_shares,
    "random numbers of the first rank for all": same_random,
    "no limit to a silence": patient,
    "orphans train on": orphans,
    "signals agreed on with rows": apart,
    "a validation waited for": measured_first,
    "another exit code": torchruns_code,
}
ABOUT = dict(zip(BROKEN, ("world", "killed", "frozen", "launcher", "stopped", "measuring", "stopped"), strict=True))


def prepare_groups() -> None:
    """Read what a group needs besides."""
    import torch.distributed.elastic.multiprocessing
    import torch.distributed.launcher.api
    import torch.nn.parallel.distributed  # noqa: F401

    import trainer.parallel.launch  # noqa: F401

    prepare()


FAMILY = Family(
    "ranks",
    "two processes: {killed} times one killed, {frozen} frozen (SIGSTOP); {launcher} launchers killed; SIGTERM, SIGINT "
    "or SIGHUP to the launcher, its session or one rank, {stopped} times in the steps, {measuring} in a long "
    "validation; {world} runs that go on in 1 to 4 processes, as 1→2→4→2→1".format(**TRIALS),
    "killed: all start again, bit-identical to the uninterrupted run; frozen: one sentence that names it, within "
    f"train.dist_timeout ({TIMEOUT:g} s) and {SLACK:g} s, exit 9; launcher killed: no orphan after {ORPHAN:g} s; "
    f"signals: saved within {SAVED:g} s, exit 143, 130 or 129; all resumed bit-identically; other worlds: each sample "
    f"once, the same order and rates, weights within {CLOSE:g}",
    len(KINDS),
    trial,
    tuple(BROKEN),
    prepare_groups,
)
