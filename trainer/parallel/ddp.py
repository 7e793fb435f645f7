"""Gradients and statistics that several processes share, by DistributedDataParallel."""

import inspect
from collections.abc import Callable, Container, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from utils.dist import world_size

__all__ = ["Step", "average_", "shared_step"]

Step = Callable[[Any, Any], dict[str, Tensor]]  # of a task: batch and update to scalars


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


def shared_step(task: Any, roles: Container[str], divided: bool = False) -> Step:
    """Return `task.train_step` with the networks of these roles wrapped, so that ranks average their gradients.

    Between steps the networks are bare. Divided networks average them by themselves.
    """
    if world_size() == 1 or divided:
        return task.train_step
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
