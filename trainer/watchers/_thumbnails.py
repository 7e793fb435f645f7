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
from utils.figures.palette import IGNORED

__all__ = []

SIDE = 96  # pixels that a picture is brought to
MASK_SIDE, MASK_CELL = 192, 2.1  # pixels of a picture beside its mask, and inches of its place
Say = Callable[[str], None]


@contextmanager
def guarded(target: Path, say: Say) -> Iterator[Path]:
    """Turn an error while drawing into a sentence: a run that has trained for days must not fail by it."""
    try:
        yield target
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "matplotlib":
            return  # the run has told that it draws nothing
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


def masks_of(batch: Any) -> Tensor | None:
    """Return the masks [B, H, W] of class numbers of a batch, None where there are none."""
    masks = batch[1] if isinstance(batch, (tuple, list)) and len(batch) == 2 else None
    is_masks = isinstance(masks, Tensor) and masks.ndim == 3 and not masks.is_floating_point()
    return masks if is_masks and inputs_of(batch) is not None else None


def coloured(mask: Tensor, colours: Sequence[tuple[int, int, int]], side: int) -> np.ndarray:
    """Return a mask [H, W] of class numbers as uint8 [3, h, w]; grey where no class has the number."""
    numbers = _sized(mask.detach().cpu()[None, None].float(), side)[0, 0].long()
    table = torch.tensor([*colours, IGNORED], dtype=torch.uint8)
    known = (numbers >= 0) & (numbers < len(colours))
    return table[numbers.where(known, len(colours))].movedim(-1, 0).numpy()


def thumbnails(inputs: Tensor, transforms: Sequence[Component], side: int = SIDE) -> list[np.ndarray]:
    """Return pictures [N, C, H, W] as a person sees them, uint8 [C, h, w] with the longer side near `side`."""
    pixels = inputs.detach().float().cpu()
    for spec in reversed([spec for spec in transforms if spec.name == "Normalize"]):
        mean, std = (torch.as_tensor(spec.args[name]).float().view(-1, 1, 1) for name in ("mean", "std"))
        pixels = pixels * std + mean
    low, high = float(pixels.min()), float(pixels.max())
    if low < -0.5 or high > 1.5:  # in a scale of the dataset's own
        pixels = (pixels - low) / max(high - low, 1e-6)
    pixels = _sized(pixels, side, "area")
    return list((pixels.clamp(0, 1) * 255).round().byte().numpy())


def _sized(pictures: Tensor, side: int, mode: str = "nearest") -> Tensor:
    """Return pictures [N, C, H, W] with the longer side near `side`."""
    longest = max(pictures.shape[2:])
    if longest > side:
        size = [max(1, round(length * side / longest)) for length in pictures.shape[2:]]
        return F.interpolate(pictures, size, mode=mode)
    return F.interpolate(pictures, scale_factor=side // longest, mode="nearest") if longest <= side // 2 else pictures
