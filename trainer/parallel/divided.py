"""Tensors of which each process of a group holds a part; each function also takes ordinary ones.

In: any value. Out: the whole tensors, this rank's part of one, or one divided as another is.
"""

import sys
from typing import Any

import torch
from torch import Tensor

from utils import dist

__all__ = ["divided_like", "is_divided", "part_of", "whole"]


def is_divided(value: Any) -> bool:
    """Return whether a value is a tensor of which each rank holds a part."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)


def part_of(tensor: Tensor) -> Tensor:
    """Return this rank's part of a divided tensor, which shares its memory; any other tensor itself."""
    return tensor.to_local() if is_divided(tensor) else tensor  # type: ignore[attr-defined]


def divided_like(tensor: Tensor, pattern: Any) -> Tensor:
    """Return a tensor that every rank has whole, divided as `pattern` is if that has its shape; otherwise itself."""
    if not is_divided(pattern) or is_divided(tensor) or tensor.shape != pattern.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    tensor = tensor.to(pattern.device)
    return distribute_tensor(tensor, pattern.device_mesh, pattern.placements, src_data_rank=None)


@torch.no_grad()
def whole(value: Any) -> Any:
    """Return a state with whole tensors in place of the divided ones, in main memory, on rank 0.

    Every rank must call it. The other ranks keep none of them, so that only one is whole there at a time.
    """
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(whole, value))
    if not is_divided(value):
        return value
    kept = dist.of_main(value.full_tensor())
    return torch.empty(0) if kept is None else kept.cpu()
