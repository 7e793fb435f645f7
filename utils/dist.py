"""torchrun's process group, or a group of one; every function works in both."""

import os
from typing import Any

import torch
import torch.distributed as dist

__all__ = ["any_rank", "broadcast", "gather", "is_main", "local_rank", "rank", "start", "stop", "world_size"]


def start(device: torch.device) -> None:
    """Join the group that torchrun's environment describes, if there is one: nccl on GPUs, gloo elsewhere."""
    if launched() and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def launched() -> bool:
    """Whether torchrun, or what does the same, has started this process as one of a group."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def stop(failed: bool = False) -> None:
    """Leave the group together: a rank that leaves while another still talks makes gloo abort.

    One that has failed leaves without a word: the others may wait for it elsewhere, and torchrun ends them.
    """
    if dist.is_initialized() and not failed:
        dist.barrier()
        dist.destroy_process_group()


def rank() -> int:
    """This process's number in the group, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def local_rank() -> int:
    """The rank within this machine, which is the number of the GPU to use."""
    return int(os.environ.get("LOCAL_RANK", 0))


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes files and talks to people, also before the group is joined."""
    return rank() == 0 if dist.is_initialized() else not launched() or os.environ["RANK"] == "0"


def gather(value: Any) -> list[Any]:
    """The plain value of every rank, in their order, on every rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast(value: Any) -> Any:
    """Rank 0's plain value, on every rank."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def any_rank(flag: int) -> int:
    """The largest of the ranks' numbers: a wish of one rank is every rank's."""
    return flag if world_size() == 1 else max(gather(flag))
