"""Pictures of a batch as a person sees them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from configs import Component

__all__ = []

SIDE = 96  # pixels that a picture is brought to
Say = Callable[[str], None]


@contextmanager
def guarded(target: Path, say: Say) -> Iterator[Path]:
    """Turn an error while drawing into a sentence: a run that has trained for days must not fail by it."""
    try:
        yield target
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        say(f"{target} is not drawn: {reason}")


def inputs_of(batch: Any) -> Tensor | None:
    """Return the pictures [B, C, H, W] of a batch, None where there are none."""
    inputs = batch[0] if isinstance(batch, (tuple, list)) and len(batch) else batch
    is_pictures = isinstance(inputs, Tensor) and inputs.is_floating_point() and inputs.ndim == 4
    return inputs if is_pictures and inputs.shape[1] in (1, 3) else None


def labels_of(batch: Any) -> list[int]:
    """Return the class labels of a batch, an empty list where it has none."""
    labels = batch[1] if isinstance(batch, (tuple, list)) and len(batch) == 2 else None
    if not isinstance(labels, Tensor) or labels.ndim != 1 or labels.is_floating_point():
        return []
    return [int(label) for label in labels]


def thumbnails(inputs: Tensor, transforms: Sequence[Component]) -> list[np.ndarray]:
    """Return pictures [N, C, H, W] as a person sees them, uint8 [C, h, w] with the longer side near `SIDE`."""
    pixels = inputs.detach().float().cpu()
    for spec in reversed([spec for spec in transforms if spec.name == "Normalize"]):
        mean, std = (torch.as_tensor(spec.args[name]).float().view(-1, 1, 1) for name in ("mean", "std"))
        pixels = pixels * std + mean
    low, high = float(pixels.min()), float(pixels.max())
    if low < -0.5 or high > 1.5:  # in a scale of the dataset's own
        pixels = (pixels - low) / max(high - low, 1e-6)
    longest = max(pixels.shape[2:])
    if longest > SIDE:
        height, width = (max(1, round(side * SIDE / longest)) for side in pixels.shape[2:])
        pixels = F.interpolate(pixels, (height, width), mode="area")
    elif longest <= SIDE // 2:
        pixels = F.interpolate(pixels, scale_factor=SIDE // longest, mode="nearest")
    return list((pixels.clamp(0, 1) * 255).round().byte().numpy())
