"""Scikit-learn's handwritten digits, which come with the package."""

from collections.abc import Callable
from typing import Literal

import torch

from data._images import ImageDataset, Pixels

__all__ = ["Digits"]

SHARES = {"train": (0.0, 0.70), "val": (0.70, 0.85), "test": (0.85, 1.0)}  # of a seeded permutation


class Digits(ImageDataset):
    """1,797 handwritten digits of 8x8 grey pixels; comes with scikit-learn, needs no file.

    70 % are for training, 15 % for validation, 15 % for the test; a sample's id is its number in the whole set.
    """

    def __init__(
        self,
        split: Literal["train", "val", "test"],
        transform: Callable | None = None,
        seed: int = 0,
    ) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(seed))
        start, end = (round(share * len(order)) for share in SHARES[split])
        chosen = order[start:end]
        values = torch.from_numpy(digits.images).byte().unsqueeze(1)  # [N, 1, 8, 8]
        labels = torch.from_numpy(digits.target)
        ids = [str(i) for i in chosen.tolist()]
        super().__init__(Pixels(values[chosen], white=16), ids, labels[chosen], list("0123456789"), transform)
