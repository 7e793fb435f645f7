"""Gradients and statistics that several processes share, by DistributedDataParallel."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from trainer.parallel.batch_norm import SyncedBatchNorm
from utils.dist import world_size

__all__ = ["Step", "average_", "shared_step"]


class Window(Protocol):
    """The open window of a network's optimizer."""

    def begin_batch(self) -> bool:
        """Return whether the ranks average their gradients in this batch."""


Step = Callable[[Any, Any], dict[str, Tensor]]  # of a task: batch and update to scalars


def average_(tensors: Iterable[Tensor]) -> None:
    """Replace each floating tensor by its mean over the ranks, in one message; sparse ones are left."""
    floats = [t for t in tensors if t.is_floating_point()]
    if world_size() == 1 or not floats:
        return
    flat = torch.cat([t.reshape(-1).float() for t in floats])
    dist.all_reduce(flat)
    flat /= world_size()
    for tensor, part in zip(floats, flat.split([t.numel() for t in floats]), strict=True):
        tensor.copy_(part.view_as(tensor))


def shared_step(task: Any, roles: Mapping[str, Window], divided: bool = False) -> Step:
    """Return `task.train_step` with the networks of these roles wrapped, so that ranks average their gradients.

    Within a window of several batches they do so at its last one. Between steps the networks are bare. Divided networks
    average them by themselves.
    """
    if world_size() == 1 or divided:
        return task.train_step
    bare = {role: net for role, net in task.named_children() if role in roles}
    # Buffers are averaged after the step: broadcast within it, a network used twice could not be differentiated.
    new = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters  # since torch 2.14
    options: dict[str, Any] = {"forward_sync_buffers" if new else "broadcast_buffers": False}
    options["gradient_as_bucket_view"] = True  # saves two copies of all gradients a step
    norms = [layer for layer in task.modules() if isinstance(layer, SyncedBatchNorm)]
    wrapped = {role: DistributedDataParallel(net, **options) for role, net in bare.items()}

    def step(batch: Any, update: Any) -> dict[str, Tensor]:
        for layer in norms:
            layer.idle = not update.rank_weight
        for role, net in wrapped.items():
            net.require_backward_grad_sync = roles[role].begin_batch()
            setattr(task, role, net)
        try:
            return task.train_step(batch, update)
        finally:
            for role, net in bare.items():
                setattr(task, role, net)

    return step
