"""The set-up of a run: `auto` values of the config, seeds, and networks ready for the device."""

import ctypes
import logging
import os
import random
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from configs import Config
from configs.schema import Train
from utils import dist
from utils.device import has_bf16

__all__ = ["be_deterministic", "prepare_networks", "seed_everything", "resolve_auto"]

FIRST_BATCH = 8  # in place of `auto`, until larger ones were tried
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def resolve_auto(cfg: Config, device: torch.device) -> Config:
    """Return the config with `auto` resolved for this device; it is stored so, and a resumed run keeps it."""
    train = cfg.train
    precision = train.precision
    if precision == "auto":
        precision = "fp16" if device.type == "cuda" else "fp32"
        if has_bf16(device):
            precision = "bf16"
    last = train.channels_last
    if last == "auto":
        last = precision != "fp32" and (device.type == "cuda" or has_bf16(device))
    data = replace(cfg.data, batch_size=FIRST_BATCH) if cfg.data.batch_size == "auto" else cfg.data
    train = replace(train, precision=precision, channels_last=last, processes=dist.local_size())
    return replace(cfg, data=data, train=train)


def prepare_networks(task: nn.Module, train: Train, training: bool = False) -> None:
    """Put the weights of convolutions into the config's memory layout, which their results take over; compile.

    Unless for `training`, weights count as constants to the compiler: they are laid out once, BatchNorm is folded in.
    """
    if train.keep_memory:
        _keep_memory()
    if train.channels_last:
        task.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if train.compile:
        _quiet_compiler()
    networks = (child for child in task.children() if next(child.parameters(), None) is not None)  # no loss
    for network in networks if train.compile else ():
        network.compile(options=None if training else {"freezing": True})


def _quiet_compiler() -> None:
    """Leave out the compiler's ten lines for each place that it passes over; TORCH_LOGS brings them back."""
    if "TORCH_LOGS" not in os.environ:
        for name in ("torch._dynamo", "torch._inductor", "torch.utils.cpp_extension"):
            logging.getLogger(name).setLevel(logging.ERROR)


def _keep_memory() -> None:
    """Have the C library keep what is freed: otherwise each step asks the system for the same pages again.

    Training ResNet34 at 64 px on a CPU takes 5 to 7 % less time, all of it the system's, and 50 MB more. A small
    network neither gains nor loses.
    """
    with suppress(OSError, AttributeError):  # another library than glibc
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        library.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def be_deterministic(wanted: bool) -> None:
    """Have torch take deterministic algorithms only, or any; without a change the call would import its compiler."""
    if wanted != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(wanted)


def seed_everything(train: Train, rank: int = 0) -> None:
    """Seed every generator; on a GPU with `deterministic`, take only algorithms that give the same bits.

    With `threads` limit the CPU's threads, which decide the bits too.
    """
    if train.threads is not None:
        torch.set_num_threads(train.threads)
    random.seed(train.seed + rank)
    np.random.seed((train.seed + rank) % 2**32)
    torch.manual_seed(train.seed + rank)
    if train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    be_deterministic(train.deterministic)
    torch.backends.cudnn.benchmark = not train.deterministic  # on a GPU: try several algorithms, take the fastest
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high" if train.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = train.tf32
