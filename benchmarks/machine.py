"""The machine that numbers belong to."""

import os
import platform
from pathlib import Path

import torch

__all__ = ["describe", "has_fast_bf16"]

TOLD = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # what decides how fast a CPU multiplies matrices


def describe() -> dict[str, str]:
    """CPU, cores, memory, what it computes fast, versions; as plain text."""
    flags = _flags()
    return {
        "CPU": _cpu("model name") or platform.processor() or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "has": ", ".join(name for name in TOLD if name in flags) or "none of these",
        "has not": ", ".join(name for name in TOLD if name not in flags) or "none of these",
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def has_fast_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 by itself."""
    return bool(_flags() & {"avx512_bf16", "amx_bf16"})


def _flags() -> set[str]:
    return set(_cpu("flags").split())


def _cpu(key: str) -> str:
    """A field of the first core in Linux's list; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")
