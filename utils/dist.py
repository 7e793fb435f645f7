"""torchrun's process group, or a group of one process; every function works in both."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from utils.torch_private import group_store

__all__ = [
    "any_rank",
    "broadcast",
    "gather",
    "is_main",
    "local_rank",
    "others_wait",
    "rank",
    "start",
    "stop",
    "world_size",
]

LOOK = 0.2  # s between two looks of a rank that waits


def start(device: torch.device) -> None:
    """Join the group that torchrun's environment describes, if there is one: nccl on GPUs, gloo elsewhere."""
    if launched() and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def launched() -> bool:
    """Return whether torchrun, or a similar launcher, started this process as one of a group."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


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


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Return whether this process writes files and messages; works also before the group is joined."""
    return rank() == 0 if dist.is_initialized() else not launched() or os.environ["RANK"] == "0"


def gather(value: Any) -> list[Any]:
    """Return the plain values of all ranks, in rank order, on every rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
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


def any_rank(flag: int) -> int:
    """Return the largest number of all ranks, so that one rank's request counts for all."""
    return flag if world_size() == 1 else max(gather(flag))
