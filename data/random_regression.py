"""The random tensors of PyTorch's first tutorial, to which it fits its two-layer networks."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from utils.config.ranges import Count, Range, Seed

__all__ = ["RandomRegression"]


class RandomRegression(Dataset):
    """The tutorial's random inputs and targets: they can be fitted, but hold nothing to learn; no file is needed.

    Inputs [samples, in_features] and targets [samples, out_features] are drawn from a normal distribution, by default
    with the tutorial's N, D_in, D_out = 64, 1000, 10. The split val is the training data itself, because noise cannot
    be predicted. The split test has the same inputs without targets. An epoch of training goes `passes` times through
    the samples; with one pass, an epoch whose batch is all samples is a single step. After Justin Johnson, "Learning
    PyTorch with Examples".
    """

    reads_batches = True

    def __init__(
        self,
        split: Literal["train", "val", "test"],
        samples: Count = 64,
        in_features: Count = 1000,
        out_features: Count = 10,
        passes: Annotated[int, Range(1, 1_000_000)] = 1,
        seed: Seed = 0,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.inputs = torch.randn(samples, in_features, generator=generator)
        self.targets = torch.randn(samples, out_features, generator=generator)
        self.labelled, self.passes = split != "test", passes if split == "train" else 1
        self.meta = {
            "in_features": in_features,
            "out_features": out_features,
            "outputs": [{"name": f"y{i}"} for i in range(out_features)],
        }

    def __len__(self) -> int:
        return len(self.inputs) * self.passes

    def __getitem__(self, index: int) -> Any:
        """Return (input [in_features], target [out_features]); without a target in the test split."""
        index %= len(self.inputs)
        return (self.inputs[index], self.targets[index]) if self.labelled else self.inputs[index]

    def read(self, indices: Sequence[int] | Tensor, seeds: Sequence[int] = ()) -> tuple[Tensor, Tensor] | Tensor:
        """Return the batch of these samples: inputs [B, in_features] and targets [B, out_features]."""
        chosen = torch.as_tensor(indices) % len(self.inputs)
        inputs = self.inputs.index_select(0, chosen)
        return (inputs, self.targets.index_select(0, chosen)) if self.labelled else inputs
