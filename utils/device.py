"""The device of a run: choose it, set its number format, and move batches to it."""

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from utils import dist
from utils.errors import ConfigError
from utils.torch_private import computes_in_bf16

__all__ = ["CPU", "choose_device", "autocast", "move"]

CPU = torch.device("cpu")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(use_gpu: str | bool) -> torch.device:
    """Return the GPU of this process's local rank, or the CPU.

    Raises ConfigError when a GPU is asked for and there is none.
    """
    if use_gpu is True and not torch.cuda.is_available():
        raise ConfigError("train.use_gpu: there is no GPU that torch can use; leave it at auto, or --use-gpu=false")
    if use_gpu is False or not torch.cuda.is_available():
        return torch.device("cpu")
    if dist.local_rank() >= torch.cuda.device_count():
        raise ConfigError(
            f"train.use_gpu: process {dist.local_rank()} of this machine has no GPU, there are "
            f"{torch.cuda.device_count()}; give torchrun a smaller --nproc-per-node, or --use-gpu=false"
        )
    device = torch.device("cuda", dist.local_rank())
    torch.cuda.set_device(device)
    return device


def has_bf16(device: torch.device) -> bool:
    """Return whether the device computes in bfloat16 itself; otherwise bfloat16 is many times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return computes_in_bf16()


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Return a context in which forward passes have the config's precision."""
    if precision == "fp32":
        return nullcontext()
    # The cache of converted weights would outlive an optimizer's step: a generator would learn from the old critic.
    return torch.autocast(device.type, DTYPES[precision], cache_enabled=False)


def move(batch: Any, device: torch.device) -> Any:
    """Return the batch with its tensors on the device; from pinned memory they are copied while the GPU computes."""
    if device.type == "cpu":
        return batch
    computing, copying = torch.cuda.current_stream(device), _copy_stream(device)
    with torch.cuda.stream(copying):  # on the computing stream a copy would wait for the previous step
        moved = _moved(batch, device, computing)
    computing.wait_stream(copying)
    return moved


def _moved(batch: Any, device: torch.device, user: torch.cuda.Stream) -> Any:
    if isinstance(batch, Tensor):
        moved = batch.to(device, non_blocking=True)
        moved.record_stream(user)  # otherwise its memory is free again as soon as the copying stream is done
        return moved
    if isinstance(batch, dict):
        return {key: _moved(value, device, user) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_moved(value, device, user) for value in batch))
    if isinstance(batch, (list, tuple)):
        return [_moved(value, device, user) for value in batch]
    return batch


@functools.cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream that copies batches to a device."""
    return torch.cuda.Stream(device)
