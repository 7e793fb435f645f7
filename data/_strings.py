"""Pictures of text as samples: characters as numbers, and batches as a loss over strings takes them."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from utils.errors import DataError

__all__ = ["BLANK", "Strings", "check_steps", "characters"]

BLANK = 0  # the number of no character; those of the alphabet follow


class Strings:
    """Texts of a split, and how they become batches (pictures, targets, steps, lengths).

    A network reads a picture in steps of `stride` pixels from left to right, one of the alphabet's characters or none
    at each.
    """

    def __init__(self, texts: Sequence[str] | None, alphabet: Sequence[str], stride: int):
        """Raises ValueError for a stride below 1, or an alphabet of no characters or with one twice."""
        if stride < 1:
            raise ValueError(f"stride={stride} must be at least 1")
        if not alphabet or len({*alphabet}) < len(alphabet) or any(len(one) != 1 for one in alphabet):
            raise ValueError(f"the alphabet '{''.join(alphabet)[:40]}' must be characters, each once")
        self.texts, self.alphabet, self.stride = texts, list(alphabet), stride
        numbers = {character: number for number, character in enumerate(self.alphabet, BLANK + 1)}
        self.numbers = [[numbers[character] for character in text] for text in texts or ()]

    def batch(self, pictures: Tensor, indices: Sequence[int]) -> tuple[Tensor, Tensor, list[int], list[int]]:
        """Return pictures [B, C, H, W], targets int64 [B, S], and of each sample the steps and the text's length.

        Targets are filled up with blanks. Steps and lengths are lists, because the loss needs them on the CPU.
        """
        chosen = [self.numbers[index] for index in indices]
        lengths = [len(numbers) for numbers in chosen]
        most = max(lengths)
        targets = torch.tensor([numbers + [BLANK] * (most - len(numbers)) for numbers in chosen])
        return pictures, targets, [pictures.shape[3] // self.stride] * len(chosen), lengths

    def sample(self, picture: Tensor, index: int) -> tuple[Tensor, Tensor, int, int]:
        """Return picture [C, H, W], target int64 [length], steps, length."""
        numbers = self.numbers[index]
        return picture, torch.tensor(numbers), picture.shape[2] // self.stride, len(numbers)

    def meta(self, picture: Tensor) -> dict[str, Any]:
        """Return the facts for networks and tasks; `picture` [C, H, W] is any sample's."""
        return {
            "alphabet": self.alphabet,
            "num_classes": len(self.alphabet) + 1,
            "stride": self.stride,
            "in_channels": picture.shape[0],
            "image_size": list(picture.shape[1:]),
        }


def characters(texts: Sequence[str]) -> list[str]:
    """Return the characters that occur, in their order."""
    return sorted({*"".join(texts)})


def check_steps(texts: Sequence[str], names: Sequence[str], width: int, stride: int) -> None:
    """Raises DataError for a text that does not fit into the steps of a picture: it could never be read.

    Each character takes a step, and so does the blank between two that are alike.
    """
    steps = width // stride
    for name, text in zip(names, texts, strict=True):
        needed = len(text) + sum(one == other for one, other in pairwise(text))
        if needed > steps:
            raise DataError(
                f"{name}: the text '{text[:40]}' needs {needed} steps, and {width} pixels in steps of {stride} are "
                f"{steps}; take a smaller data.dataset.stride, or wider pictures by Resize in data.transform"
            )
