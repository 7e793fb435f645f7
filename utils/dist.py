"""torchrun's process group, or a group of one process; every function works in both."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from utils.errors import ConfigError, GroupError
from utils.runs.group import is_first, launched
from utils.torch_private import group_store

__all__ = [
    "broadcast",
    "gather",
    "is_main",
    "largest",
    "local_rank",
    "local_size",
    "loss_of",
    "meet",
    "of_main",
    "on_main",
    "others_wait",
    "quiet_group",
    "rank",
    "start",
    "stop",
    "world_size",
]

T = TypeVar("T")
LOOK = 0.2  # s between two looks of a rank that waits
PATIENCE = 5.0  # s that a rank which has failed waits for the others
TIMEOUT = 60.0  # s, where no config says otherwise
SLOW = 600.0  # s that one rank may need longer than another to write its part of a checkpoint
LOST = ("gloo", "Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL", "TCPStore")
LATE = ("timed out", "timeout", "Timed out", "Timeout")
_group: dict[str, Any] = {"timeout": TIMEOUT, "peers": []}  # (host, process id) of each rank


def start(device: torch.device, timeout: float = TIMEOUT) -> None:
    """Join the group that the launcher's environment describes, if there is one: nccl on GPUs, gloo elsewhere.

    A rank that does not answer within `timeout` seconds counts as lost.
    Raises ConfigError for a port that is in use, GroupError when another rank does not come.
    """
    if not launched() or dist.is_initialized():
        return
    _group["timeout"] = timeout
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(seconds=timeout))
        _group["peers"] = gather((socket.gethostname(), os.getpid()))
    except (RuntimeError, ValueError) as error:
        port = os.environ.get("MASTER_PORT", "")
        if "EADDRINUSE" in str(error) or "already in use" in str(error):
            raise ConfigError(
                f"MASTER_PORT={port}: another program uses this port; take another one, or train.processes, which "
                "finds a free one"
            ) from error
        if isinstance(error, ValueError):
            raise ConfigError(f"the launcher's environment describes no group: {error}") from error
        raise GroupError(
            f"the {os.environ['WORLD_SIZE']} processes did not find one another within {timeout:g} s "
            f"(train.dist_timeout) at {os.environ.get('MASTER_ADDR')}:{port}; see whether all of them were started",
            late=True,
        ) from error


def loss_of(error: BaseException) -> GroupError | None:
    """Return the error about a lost rank that an error of torch stands for; None for other errors.

    A rank of this machine that was stopped (SIGSTOP) is continued, so that its launcher can end it.
    """
    known = isinstance(error, dist.DistError) or any(sign in str(error) for sign in LOST)
    if not dist.is_initialized() or not isinstance(error, RuntimeError) or not known:
        return None
    if not any(sign in str(error) for sign in LATE):
        return GroupError("another process of the group has ended; --resume=… continues from the last save")
    stopped = {
        number: f"process {number} ({pid} on {host})"
        for number, (host, pid) in enumerate(_group["peers"])
        if _continue(host, pid)
    }
    named = f" ({', '.join(stopped.values())} was stopped)" if stopped else ""
    return GroupError(
        f"another process of the group did not answer within {_group['timeout']:g} s{named}, see train.dist_timeout; "
        "--resume=… continues from the last save",
        late=True,
        first=stopped.keys() >= set(range(rank())),
    )


def _continue(host: str, pid: int) -> bool:
    """Continue a rank of this machine that is stopped: a signal would wait. Returns whether it was."""
    if host != socket.gethostname() or pid == os.getpid():
        return False
    with suppress(OSError):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            os.kill(pid, signal.SIGCONT)
            return True
    return False


def stop(failed: bool = False) -> None:
    """Leave the group together with the other ranks: gloo aborts when a rank leaves while another still communicates.

    A failed rank does not wait for the others, which may wait for it elsewhere; torchrun ends them.
    """
    if dist.is_initialized() and not failed:
        dist.barrier()
        dist.destroy_process_group()


def rank() -> int:
    """Return this process's number in the group, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def local_rank() -> int:
    """Return the rank within this machine, which is the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


def local_size() -> int:
    """Return the number of processes of the group on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"])) if launched() else 1


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Return whether this process writes files and messages; works also before the group is joined."""
    return rank() == 0 if dist.is_initialized() else not launched() or is_first()


def of_main(value: T) -> T | None:
    """Return the value on rank 0, None on the others."""
    return value if is_main() else None


def on_main(call: Callable[..., T], *arguments: Any, **options: Any) -> T | None:
    """Call a function on rank 0 alone and return its result; None on the other ranks. It must not wait for them."""
    return call(*arguments, **options) if is_main() else None


def quiet_group() -> Any:
    """Return another group of the same ranks, for a thread that talks beside the training; every rank must call it."""
    return dist.new_group(backend="gloo", timeout=timedelta(seconds=max(SLOW, _group["timeout"])))


def gather(value: Any, group: Any = None) -> list[Any]:
    """Return the plain values of all ranks, in rank order, on every rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value, group)
    return values


def broadcast(value: Any) -> Any:
    """Return rank 0's plain value, on every rank."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


@contextmanager
def others_wait(name: str) -> Iterator[None]:
    """Have all other ranks wait until rank 0 has left this block, however long that takes.

    A collective would end them after its timeout. `name` is another one each time.
    """
    try:
        yield
    finally:
        if world_size() > 1:
            store = group_store()
            if rank() == 0:
                store.set(name, "over")
            while not store.check([name]):
                time.sleep(LOOK)


def meet(name: str, value: Any, failed: bool) -> list[Any] | None:
    """Return the plain values of all ranks at a place of the program, in rank order, on every rank.

    It is no collective: a rank that `failed` elsewhere may come while others wait for it in one. It waits for them a
    few seconds, and gets None if they do not come. `name` is another one each time.
    """
    if world_size() == 1:
        return [value]
    store, keys = group_store(), [f"meet/{name}/{one}" for one in range(world_size())]
    store.set(keys[rank()], json.dumps(value))
    end = time.monotonic() + (PATIENCE if failed else PATIENCE * _group["timeout"])
    while not store.check(keys):
        if time.monotonic() > end:
            if failed:
                return None
            raise GroupError("another process of the group did not come to the end of a part of the rehearsal", True)
        time.sleep(0.02)
    return [json.loads(store.get(key)) for key in keys]


def largest(*numbers: int) -> list[int]:
    """Return the largest value that each of these numbers has on any rank, on every rank, by one short reduction."""
    if world_size() == 1:
        return [*numbers]
    found = torch.tensor(numbers, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return found.tolist()
