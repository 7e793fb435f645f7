"""BatchNorm whose statistics are those of the whole batch, of all ranks together."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from utils.dist import world_size
from utils.torch_private import BatchNorm, is_batch_norm

__all__ = ["SyncedBatchNorm", "synchronise"]


class SyncedBatchNorm(BatchNorm):
    """BatchNorm over all ranks; torch's own, SyncBatchNorm, computes on GPUs alone."""

    idle = False  # whether this rank's samples are another one's, which count there

    def _check_input_dim(self, input: Tensor) -> None:
        """Take any number of dimensions; the layer that it replaces had its own."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            return self._over_ranks(input.float()).to(input.dtype)

    def _over_ranks(self, input: Tensor) -> Tensor:
        shape = [1, -1, *[1] * (input.ndim - 2)]
        dims = [d for d in range(input.ndim) if d != 1]
        own = 0.0 if self.idle else 1.0
        samples = input.new_full([1], input.numel() / input.shape[1])
        total = _SumOverRanks.apply(own * torch.cat([input.sum(dims), samples]))
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = input - mean.view(shape)
        variance = _SumOverRanks.apply(own * centred.square().sum(dims)) / count
        self._follow(mean.detach(), variance.detach(), count)
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        out = centred * scale.view(shape)
        return out if self.bias is None else out + self.bias.view(shape)

    def _follow(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Take the statistics of a batch into the running ones."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        factor = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, factor)
        self.running_var.lerp_(variance * count / (count - 1), factor)


class _SumOverRanks(torch.autograd.Function):
    """The sum of a tensor over the ranks; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        whole = tensor.detach().clone()
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        whole = gradients[0].clone()
        dist.all_reduce(whole)
        return whole


def synchronise(task: nn.Module, device: torch.device) -> None:
    """Have the BatchNorm layers of a task's networks take the statistics of all ranks; weights and names stay."""
    if world_size() == 1:
        return
    if device.type == "cuda":
        for name, network in list(task.named_children()):
            setattr(task, name, nn.SyncBatchNorm.convert_sync_batchnorm(network))
        return
    for parent in list(task.modules()):
        for name, layer in list(parent.named_children()):
            if is_batch_norm(layer):
                setattr(parent, name, _synced(layer))


def _synced(layer: Any) -> SyncedBatchNorm:
    """Return a layer with the same weights and statistics."""
    synced = SyncedBatchNorm(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    for name, tensor in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
        setattr(synced, name, tensor)
    return synced.train(layer.training)
