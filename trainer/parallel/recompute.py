"""Activation checkpointing: a block keeps its inputs alone, and computes the rest again in the backward pass."""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from configs import Config
from trainer.parallel.fsdp import units
from trainer.task import Task
from utils.errors import ConfigError
from utils.torch_private import is_batch_norm

__all__ = ["recompute"]


def recompute(task: Task, cfg: Config) -> None:
    """Have the blocks of the networks that learn compute their activations twice, to the same bits.

    Raises ConfigError where there is none, or one has statistics, which would count each batch twice.
    """
    if cfg.train.compile:
        raise ConfigError("train.activation_checkpointing does not go together with train.compile; leave one out")
    nets = [net for role in cfg.optim if isinstance(net := getattr(task, role, None), nn.Module)]
    blocks = [block for net in nets for block in units(net, cfg.train.shard_units)]
    if not blocks:
        raise ConfigError("train.activation_checkpointing: the network has no blocks; name some with train.shard_units")
    for block in blocks:
        if any(map(is_batch_norm, block.modules())):
            raise ConfigError(
                f"train.activation_checkpointing: the BatchNorm in {type(block).__name__} would count each batch "
                "twice; leave it out, or name other blocks with train.shard_units"
            )
        # under its own name, so that the names in a checkpoint stay; torch takes the random numbers of the first time
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]
