"""Groups of processes: the launcher's, forked as those of one process are, and groups as a scheduler starts them."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.faults import campaign
from tests.faults.campaign import require
from tests.faults.children import HANG, Child, Hook, _leave
from tests.faults.runs import RUN, check_journal, note, noted
from trainer.checkpointing.compare import difference
from trainer.checkpointing.store import read

PROCESSES = 2
SHOWN = 400  # characters of what was said


class Rank:
    """A rank that was forked from its launcher, in place of one that reads Python and torch anew."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str]):
        self.args, self.returncode = words, None
        self.pid = os.fork()
        if self.pid == 0:
            _be_rank(words, environment)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float) -> int:
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(list(self.args), timeout)
            time.sleep(0.005)
        return self.returncode  # type: ignore[return-value]


def _be_rank(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Be `python main.py …` with this environment; never returns."""
    code: object = 1
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(environment)
        os.closerange(3, 1024)  # the launcher's
        import main

        code = main.main(list(words))
    except SystemExit as end:
        code = end.code
    finally:
        _leave(code)


def fork_ranks() -> None:
    """In a child that is a launcher: its processes are forked from it."""
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    def popen(self: object, words: tuple[str, ...], environment: dict[str, str]) -> Rank:
        return Rank(words[words.index("-u") + 2 :], environment)

    subprocess_handler.SubprocessHandler._popen = popen


def record_ranks() -> None:
    """In a child: each rank writes down who it is, the samples that it trains on, and each save."""
    from data.loading import loader as loaders
    from tests.faults.runs import _record_saves
    from trainer.checkpointing import store
    from utils import dist

    own = loaders.Loader.epoch

    def epoch(self, number: int, start: int = 0):
        for i, (indices, batch) in enumerate(own(self, number, start), start):
            if self.training:
                note("order", [number, i, dist.rank(), dist.world_size(), indices])
            yield indices, batch

    loaders.Loader.epoch = epoch
    _record_saves(store.Store)
    join = dist.start

    def start(*arguments: object, **options: object) -> None:
        note("ranks", [int(os.environ.get("RANK", 0)), os.getpid()])
        join(*arguments, **options)

    dist.start = start


def slowly(seconds: float) -> None:
    """In a child: each training step takes so long, so that a fault meets one."""
    from trainer.tasks.classification import Classification

    own = Classification.train_step

    def train_step(self, batch, update):
        time.sleep(seconds)
        return own(self, batch, update)

    Classification.train_step = train_step


def launch(folder: Path, arguments: Sequence[str], hooks: Sequence[Hook] = ()) -> Child:
    """A command of several processes, by the launcher."""
    several = [*arguments, f"--train.processes={PROCESSES}"]
    return Child(folder, several, [record_ranks, fork_ranks, *hooks])


def by_hand(folder: Path, world: int, arguments: Sequence[str], hooks: Sequence[Hook] = ()) -> list[Child]:
    """The same command in each process of a group, as a scheduler starts it; of one process without a group."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]

    def describe(rank: int) -> Hook:
        names = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "MASTER_PORT": port}
        values = {name: str(value) for name, value in names.items()} | {"MASTER_ADDR": "127.0.0.1"}
        return lambda: os.environ.update(values) if world > 1 else None

    return [Child(folder, arguments, [describe(rank), record_ranks, *hooks]) for rank in range(world)]


def end_of(children: Sequence[Child], code: int = 0) -> str:
    """Wait for the end that all should come to; returns what the first says."""
    for child in children:
        found = child.wait()
        require(found == code, f"exit code {found}, not {code}: {(child.err() or child.out()).strip()[-SHOWN:]}")
    return children[0].out()


def whole(arguments: Sequence[str], world: int) -> Path:
    """The folder of the uninterrupted training in a world, which is run once."""
    key = hashlib.blake2b(json.dumps([*arguments, world]).encode(), digest_size=8).hexdigest()
    folder = campaign.SCRATCH / f"world-{key}"
    if not folder.exists():
        own = campaign.SCRATCH / f"making-{key}-{os.getpid()}"
        end_of(by_hand(own, world, ["train", *arguments, "--run=a"]))
        with suppress(OSError):  # the other process was faster
            own.rename(folder)
    return folder


# What a group does


def wait_for_steps(child: Child, rank: int, steps: int) -> None:
    """Until a rank has begun so many steps, or all has ended."""
    wait_for(child, lambda: sum(line[2] == rank for line in noted(child.folder, "order")) >= steps)


def wait_for(child: Child, true: Callable[[], object]) -> None:
    """Until something is true, or the command has ended. Raises Violation if it hangs."""
    end = time.monotonic() + HANG
    while child.poll() is None and not true():
        if time.monotonic() > end:
            child.kill()
        require(time.monotonic() < end, f"it hung: {(child.err() or child.out())[-SHOWN:]}")
        time.sleep(0.004)


def living(folder: Path) -> dict[int, int]:
    """The newest process of each rank that still lives."""
    newest: dict[int, int] = dict(noted(folder, "ranks"))
    return {rank: pid for rank, pid in newest.items() if _lives(folder, pid)}


def send(pid: int, number: int) -> None:
    """A signal, if that process is still there."""
    with suppress(OSError):
        os.kill(pid, number)


def left_over(folder: Path, seconds: float) -> list[int]:
    """The processes of a training that are there after so many seconds, all of which are killed then."""
    end = time.monotonic() + seconds
    pids = {pid for _, pid in noted(folder, "ranks")}
    while (left := [pid for pid in pids if _lives(folder, pid)]) and time.monotonic() < end:
        time.sleep(0.02)
    for pid in left:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return left


def _lives(folder: Path, pid: int) -> bool:
    with suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in "ZX" and os.readlink(f"/proc/{pid}/cwd") == os.path.realpath(folder)
    return False


# Comparing


def check_group(folder: Path, one: Path) -> None:
    """Raises Violation unless the run in `folder` is the uninterrupted one of the same world, to the last bit."""
    found = difference(one / RUN, folder / RUN)
    require(not found, found)
    check_journal(folder)
    check_shares(folder, one)


def check_shares(folder: Path, one: Path, exactly: bool = False) -> None:
    """Raises Violation unless each batch was shared among the ranks of a group as it should be.

    `exactly`: and trained on once, by one group.
    """
    wanted, found = batches(one), {}
    for epoch, number, rank, world, indices in noted(folder, "order"):
        right = wanted.get((epoch, number), [])[rank::world]
        require(indices == right, f"of batch {number} of epoch {epoch} rank {rank} of {world} read {indices[:5]}…")
        found.setdefault((epoch, number), []).append((world, rank))
    require(found.keys() == wanted.keys(), f"batches never trained on: {sorted(wanted.keys() - found.keys())[:5]}")
    for place, takers in found.items() if exactly else ():
        worlds = {world for world, _ in takers}
        once = len(worlds) == 1 and sorted(rank for _, rank in takers) == list(range(*worlds))
        require(once, f"batch {place[1]} of epoch {place[0]} was trained on by the ranks {sorted(takers)}")


def batches(folder: Path) -> dict[tuple[int, int], list[int]]:
    """The samples of each batch, put together from the shares of a group."""
    shares: dict[tuple[int, int], list[list[int]]] = {}
    for epoch, number, _, _, indices in sorted(noted(folder, "order")):
        shares.setdefault((epoch, number), []).append(indices)
    return {place: _together(found) for place, found in shares.items()}


def _together(shares: Sequence[list[int]]) -> list[int]:
    return [share[i] for i in range(len(shares[0])) for share in shares if i < len(share)]


def distance(one: Path, other: Path) -> float:
    """How far the weights of two runs are apart."""
    left, right = (read(folder / RUN / "last.pth")["model"] for folder in (one, other))
    return max(float((left[name] - right[name]).abs().max()) for name in left)
