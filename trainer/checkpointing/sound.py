"""A state is looked at before it is written: it can be read again, and its weights are finite."""

from typing import Any

import torch
from torch import Tensor

from utils.errors import NonFiniteError

__all__ = ["check_finite", "check_plain"]


def check_plain(value: Any, name: str) -> None:
    """Raises TypeError for what a safe loader would refuse: now, and not a night later when it is read."""
    if isinstance(value, dict):
        for key, item in value.items():
            check_plain(item, f"{name}.{key}")
    elif type(value) in (list, tuple):
        for i, item in enumerate(value):
            check_plain(item, f"{name}[{i}]")
    elif not (value is None or type(value) in (bool, int, float, str) or isinstance(value, Tensor)):
        raise TypeError(f"{name} is a {type(value).__name__}; a checkpoint holds tensors and plain values only")


def check_finite(weights: dict[str, Tensor]) -> None:
    """Raises NonFiniteError for a weight that is no finite number. Sums tell it in a tenth of the time."""
    floats = {name: t for name, t in weights.items() if t.is_floating_point()}
    sums = [t.sum() for t in floats.values()]
    if not sums or torch.stack(sums).isfinite().all():
        return
    for name, t in floats.items():  # a sum alone may be too large for its type
        if not t.isfinite().all():
            raise NonFiniteError(f"'{name}' holds a value that is not a finite number; nothing was saved")
