"""torchrun's process group, or a group of one; every function works in both."""

import inspect
import os
from collections.abc import Callable, Container, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

__all__ = [
    "any_rank",
    "average_",
    "broadcast",
    "gather",
    "is_main",
    "local_rank",
    "rank",
    "shared_step",
    "start",
    "stop",
    "world_size",
]


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


def average_(tensors: Iterable[Tensor]) -> None:
    """Replace each floating tensor by its mean over the ranks, in one message."""
    floats = [t for t in tensors if t.is_floating_point()]
    if world_size() == 1 or not floats:
        return
    flat = torch.cat([t.reshape(-1).float() for t in floats])
    dist.all_reduce(flat)
    flat /= world_size()
    for tensor, part in zip(floats, flat.split([t.numel() for t in floats]), strict=True):
        tensor.copy_(part.view_as(tensor))


def shared_step(task: Any, roles: Container[str]) -> Callable[[Any, Any], dict[str, Tensor]]:
    """`task.train_step` with the networks of these roles wrapped, so that gradients are averaged over the ranks.

    Between steps the networks are bare.
    """
    bare = {role: net for role, net in task.named_children() if role in roles}
    # Buffers are averaged after the step: broadcast within it, a network used twice could not be differentiated.
    new = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters  # since torch 2.14
    unsynced: dict[str, Any] = {"forward_sync_buffers" if new else "broadcast_buffers": False}
    wrapped = {role: DistributedDataParallel(net, **unsynced) for role, net in bare.items()}

    def step(batch: Any, update: Any) -> dict[str, Tensor]:
        for role, net in wrapped.items():
            setattr(task, role, net)
        try:
            return task.train_step(batch, update)
        finally:
            for role, net in bare.items():
                setattr(task, role, net)

    return step
