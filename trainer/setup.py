"""The device a run is on: choosing it, moving batches to it, and its failures in words."""

import ctypes
import functools
import os
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from configs import Config
from configs.schema import Train
from utils import dist
from utils.errors import ConfigError, MemoryShortage

__all__ = ["CPU", "autocast", "choose_device", "lay_out", "make_repeatable", "move", "settled", "told_in_words"]

TOLD = {  # what torch's errors say, and what to do
    "does not have a deterministic implementation": "train.deterministic: this network cannot be, leave it out",
    "more than 1 value per channel when training": "data.batch_size: BatchNorm learns from two samples or more",
    "channels, but got": "model: a layer is given other channels than it takes; see model.in_channels",
    "input to conv": "model: a layer takes pictures, and is given something else",
    "Output size is too small": "model: the pictures are too small for one of its layers",
    "Kernel size can't be greater than actual input size": "model: the pictures are too small for one of its layers",
    "must have the same dtype": "data: inputs must be float32, as the weights are; give x.float()",
    "expected target dtype to be": "data: labels must be whole numbers, int64, from 0; give them as int or y.long()",
    "expected scalar type Long": "data: labels must be whole numbers, int64, from 0; give them as int or y.long()",
    "shapes cannot be multiplied": "model: a layer is given another size than it takes; see model",
    "is out of bounds.": "data: a label is not below the number of classes; they count from 0",
    "cannot be `True` together": "optim: fused and foreach exclude each other, leave one out",
    "No working C++ compiler": "train.compile: needs a C++ compiler, such as g++; without one leave it out",
    "Failed to find C compiler": "train.compile: needs a C compiler, such as gcc; without one leave it out",
}
SHORTAGES = ("can't allocate memory", "out of memory", "_STATUS_ALLOC_FAILED")  # of memory, in torch's words and CUDA's
CPU = torch.device("cpu")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(use_gpu: str | bool) -> torch.device:
    """The GPU of this process's local rank, or the CPU.

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
    """Whether the device computes in bfloat16 itself; without that it is many times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    tests = (getattr(torch.cpu, name, bool) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(test() for test in tests)


def settled(cfg: Config, device: torch.device) -> Config:
    """The config with what `auto` stands for on this device; it is stored so, and a resumed run keeps it."""
    train = cfg.train
    precision = train.precision
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    last = train.channels_last
    if last == "auto":
        last = precision != "fp32" and (device.type == "cuda" or has_bf16(device))
    return replace(cfg, train=replace(train, precision=precision, channels_last=last))


def lay_out(task: nn.Module, train: Train, training: bool = False) -> None:
    """Put the weights of convolutions into the config's memory layout, which their results take over; compile.

    Unless for `training`, weights count as constants to the compiler: they are laid out once, BatchNorm is folded in.
    """
    if train.keep_memory:
        _keep_memory()
    if train.channels_last:
        task.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for network in task.children() if train.compile else ():
        network.compile(options=None if training else {"freezing": True})


def _keep_memory() -> None:
    """Have the C library keep what is freed: else each step asks the system for the same pages again."""
    with suppress(OSError, AttributeError):  # another library than glibc
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        library.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Forward passes in the precision of the config."""
    if precision == "fp32":
        return nullcontext()
    # Its cache of converted weights would outlive an optimizer's step: a generator would learn from the old critic.
    return torch.autocast(device.type, DTYPES[precision], cache_enabled=False)


def make_repeatable(train: Train, rank: int = 0) -> None:
    """Seed every generator; on a GPU with `deterministic`, take only algorithms that give the same bits."""
    random.seed(train.seed + rank)
    np.random.seed((train.seed + rank) % 2**32)
    torch.manual_seed(train.seed + rank)
    if train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(train.deterministic)
    torch.backends.cudnn.benchmark = not train.deterministic  # on a GPU: try several algorithms, take the fastest
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high" if train.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = train.tf32


def move(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors on the device; from pinned memory they are copied while the GPU computes."""
    if device.type == "cpu":
        return batch
    computing, copying = torch.cuda.current_stream(device), _copying(device)
    with torch.cuda.stream(copying):  # on the computing stream a copy would wait for the step before to end
        moved = _moved(batch, device, computing)
    computing.wait_stream(copying)
    return moved


def _moved(batch: Any, device: torch.device, user: torch.cuda.Stream) -> Any:
    if isinstance(batch, Tensor):
        moved = batch.to(device, non_blocking=True)
        moved.record_stream(user)  # else its memory would be given away when the copying stream is done with it
        return moved
    if isinstance(batch, dict):
        return {key: _moved(value, device, user) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_moved(value, device, user) for value in batch))
    if isinstance(batch, (list, tuple)):
        return [_moved(value, device, user) for value in batch]
    return batch


@functools.cache
def _copying(device: torch.device) -> torch.cuda.Stream:
    """The stream on which a device is sent its batches."""
    return torch.cuda.Stream(device)


@contextmanager
def told_in_words(cfg: Config, training: bool = True) -> Iterator[None]:
    """Turn running out of memory to a MemoryShortage, and what torch says of some keys to a ConfigError."""
    try:
        yield
    except (MemoryError, RuntimeError, ValueError, IndexError) as error:
        if isinstance(error, MemoryError) or any(sign in str(error) for sign in SHORTAGES):
            raise _memory_shortage(cfg, training) from error
        told = next((words for sign, words in TOLD.items() if sign in str(error)), None)
        if told is None:
            raise
        raise ConfigError(f"{told} ({str(error).strip().splitlines()[0][:200]}; --debug shows where)") from error


def _memory_shortage(cfg: Config, training: bool) -> MemoryShortage:
    size = cfg.data.batch_size
    smaller = f"--batch-size={max(1, size // 2)}"
    if training:
        smaller += f" --train.accumulate={2 * cfg.train.accumulate} (of a mean the same gradient)"
    return MemoryShortage(
        f"out of memory with batch size {size} in {cfg.train.precision}; try {smaller}, "
        "--train.precision=bf16, smaller pictures, or fewer --num-workers"
    )
