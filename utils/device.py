"""The device of a run: choose it, set its number format, and move batches to it."""

import functools
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from utils import dist
from utils.errors import ConfigError
from utils.torch_private import computes_in_bf16

__all__ = ["CPU", "autocast", "choose_device", "has_bf16", "move", "runs_on"]

CPU = torch.device("cpu")
ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)")
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
            f"{torch.cuda.device_count()}; start fewer processes (--train.processes), or --use-gpu=false"
        )
    device = torch.device("cuda", dist.local_rank())
    _refuse_without_kernels(device)
    torch.cuda.set_device(device)
    return device


def _refuse_without_kernels(device: torch.device) -> None:
    """Raise ConfigError for a GPU that this torch was not built for: each of its operations would fail."""
    capability, built = torch.cuda.get_device_capability(device), torch.cuda.get_arch_list()
    if not runs_on(capability, built):
        raise ConfigError(
            f"train.use_gpu: torch {torch.__version__} has no kernels for the GPU {torch.cuda.get_device_name(device)} "
            f"(sm_{capability[0]}{capability[1]}), only for {', '.join(built)}; install a torch that has them, take "
            "another GPU (on Kaggle T4), or --use-gpu=false"
        )


def runs_on(capability: tuple[int, int], built: Sequence[str]) -> bool:
    """Return whether a GPU runs code for one of the architectures that torch was built for, as sm_80 or compute_90.

    Machine code (sm) runs on later GPUs of the same major number, PTX (compute) on all later ones. Of other makers'
    architectures nothing is known: they run.
    """
    known = [(match[1], int(match[2]), int(match[3])) for name in built if (match := ARCHITECTURE.match(name))]
    major, minor = capability
    found = [(x, y) <= capability if kind == "compute" else x == major and y <= minor for kind, x, y in known]
    return any(found) or not known


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
