"""This process as one of a group that a launcher started: `train.processes`, torchrun, or srun; torch is not needed."""

import atexit
import gc
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from utils.errors import DifferenceError, GroupError

__all__ = [
    "LAUNCH",
    "end_with",
    "end_with_launcher",
    "is_first",
    "join_srun",
    "launch_id",
    "launch_mark",
    "launched",
    "leave",
    "take_turn",
]

LAUNCH = "DEEPTRAIN_LAUNCH"  # names the launch by our own launcher, also for the processes that it starts again
PERIOD = 0.25  # s between two looks at the parent
GRACE = 4.0  # s to save in, once the launcher is gone
TURN = 3.0  # s by which the first process tells a mistake of all before the others
CLOSED = 10.0  # s in which a launcher ends a process whose peer has gone
FIRST_PORT, PORTS = 15_000, 20_000  # of jobs under SLURM
HOSTS = re.compile(r"([^,\[]+)(?:\[([^\]]*)\])?(?:,|$)")


def launched() -> bool:
    """Return whether torchrun, or a similar launcher, started this process as one of a group."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def is_first() -> bool:
    """Return whether this process is the first of a group that a launcher started."""
    return os.environ.get("RANK") == "0"


def join_srun() -> None:
    """Describe a task of `srun` in the variables of torchrun, if it is one of several and nothing is described yet."""
    env = os.environ
    in_script = env.get("ENVIRONMENT") == "BATCH"  # or in a task that it started, which has the variables of its step
    tasks = env.get("SLURM_STEP_NUM_TASKS") or ("1" if in_script else env.get("SLURM_NTASKS", "1"))
    if launched() or int(tasks) < 2 or "SLURM_PROCID" not in env:
        return
    env["RANK"], env["WORLD_SIZE"] = env["SLURM_PROCID"], tasks
    env["LOCAL_RANK"] = env.get("SLURM_LOCALID", "0")
    here = env.get("SLURM_STEP_TASKS_PER_NODE") or env.get("SLURM_TASKS_PER_NODE", "1")
    here = here.partition("(")[0].partition(",")[0]  # as 4(x2),3
    env.setdefault("LOCAL_WORLD_SIZE", here)
    nodes = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST") or env.get("SLURM_NODELIST", "localhost")
    env.setdefault("MASTER_ADDR", first_host(nodes))
    job = int(env.get("SLURM_JOB_ID", "0")) * 7 + int(env.get("SLURM_STEP_ID", "0"))
    env.setdefault("MASTER_PORT", str(FIRST_PORT + job % PORTS))
    env.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")


def first_host(nodes: str) -> str:
    """Return the first host of a list as SLURM writes it: node[07-12,20],other."""
    found = HOSTS.match(nodes)
    if found is None:
        return nodes
    return found[1] + re.split("[-,]", found[2])[0] if found[2] else found[1]


def launch_id() -> str:
    """Return what names this launch, also after its processes were started again; empty for a process of its own."""
    env = os.environ
    if env.get(LAUNCH):
        return env[LAUNCH]
    if not launched():
        return ""
    if env.get("SLURM_JOB_ID"):  # a requeued job keeps its number
        return f"slurm-{env['SLURM_JOB_ID']}"
    run = env.get("TORCHELASTIC_RUN_ID", "none")
    return f"torchrun-{run}" if run != "none" else f"torchrun-{os.uname().nodename}-{os.getppid()}-{_birth()}"


def launch_mark() -> str:
    """Return what names this launch and its command; empty for a process of its own."""
    return " ".join([launch_id(), *sys.argv[1:]]) if launch_id() else ""


def _birth() -> str:
    """Return the time at which the parent was started: its number alone may come again."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def end_with_launcher() -> None:
    """Save and stop once the launcher is gone, as an orphan would train on. Called in each process of a group."""
    if LAUNCH not in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ:
        return  # the parent may be a shell, which is allowed to end
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(PERIOD)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(128 + signal.SIGTERM)  # it waits for another process

    threading.Thread(target=watch, name="watch launcher", daemon=True).start()


def take_turn(told: Exception | None) -> None:
    """Wait before a mistake is told: the launcher ends this process if another one has told it, or is its cause."""
    if not launched():
        return
    rank = int(os.environ["RANK"])
    if isinstance(told, DifferenceError) and rank:
        leave(told.exit_code)
    wait = TURN if rank and not (isinstance(told, GroupError) and told.first) else 0.0
    if isinstance(told, GroupError) and not told.late:
        wait += CLOSED
    time.sleep(wait + 0.01 * min(rank, 100))


def leave(code: int) -> None:
    """End this process of a group at once, after its mistake was told: a peer that is gone would not be waited for."""
    if launched():
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def end_with(act: Callable[[], int]) -> NoReturn:
    """Do something, and end this process with its exit code.

    One of a group leaves without Python's own end: what gloo's threads still have to do there may abort it.
    """
    try:
        code: object = act()
    except SystemExit as ended:
        code = ended.code
    if launched() and (code is None or isinstance(code, int)):
        atexit._run_exitfuncs()
        leave(code or 0)
    gc.freeze()  # Python would look through all that torch holds, only to end
    sys.exit(code)  # type: ignore[arg-type]
