"""Points about a line with known slope and height, for linear regression."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from utils.config.ranges import Count, NonNegative, Seed

__all__ = ["StraightLine"]

SEEDS = {"train": 0, "val": 1, "test": 2}  # each split has its own points


class StraightLine(Dataset):
    """Points about the line y = w x + b, which a linear regression has to find; no file is needed.

    x is uniform in [0, 4). `noise` is the standard deviation of the noise in y. The test split has no y.
    """

    reads_batches = True

    def __init__(
        self,
        split: Literal["train", "val", "test"],
        samples: Count = 512,
        w: float = 2.0,
        b: float = 3.0,
        noise: NonNegative = 0.2,
        seed: Seed = 0,
    ) -> None:
        generator = torch.Generator().manual_seed(3 * seed + SEEDS[split])
        self.x = 4 * torch.rand(samples, 1, generator=generator)
        self.y = w * self.x + b + noise * torch.randn(samples, 1, generator=generator)
        self.labelled = split != "test"
        self.meta = {"in_features": 1, "out_features": 1, "outputs": [{"name": "y"}]}

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        """Return (x [1], y [1]); x alone in the test split."""
        return (self.x[index], self.y[index]) if self.labelled else self.x[index]

    def read(self, indices: Sequence[int] | Tensor, seeds: Sequence[int] = ()) -> tuple[Tensor, Tensor] | Tensor:
        """Return the batch of these points: x [B, 1] and y [B, 1]."""
        chosen = torch.as_tensor(indices)
        x = self.x.index_select(0, chosen)
        return (x, self.y.index_select(0, chosen)) if self.labelled else x
