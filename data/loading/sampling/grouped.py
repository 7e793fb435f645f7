"""Batches of samples that are alike in shape or in length."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from data._broken import broken_named
from data.loading.samplers import Sampler
from data.protocol import files_of, is_lenient, lengths_of
from utils.config.ranges import Count
from utils.errors import DataError
from utils.images import read_size

__all__ = ["Grouped"]


class Grouped(Sampler):
    """Make each batch of samples of one group, after torchvision's GroupedBatchSampler.

    `by` aspect groups pictures by width over height, from 1/2 to 2 in 2 x `groups` + 2 steps of equal ratio; size those
    of the very same width and height, for transforms that keep it; length sequences into `groups` groups of equal
    number, for a dataset that tells `lengths`, so that a `collate` that pads them pads little. A group's last batch is
    filled up with samples of it that the epoch has already, so that all batches are full: an epoch has each sample once
    or twice. A group smaller than a batch has its samples more often.
    """

    def __init__(self, dataset: Any, batch: int, by: Literal["aspect", "size", "length"], groups: Count = 3):
        numbers = _numbers(dataset, by, groups)
        self.groups = [(numbers == number).nonzero()[:, 0] for number in numbers.unique()]
        self.batch = batch

    def __len__(self) -> int:
        return sum(-(-len(group) // self.batch) * self.batch for group in self.groups)

    def order(self, generator: torch.Generator) -> Tensor:
        batches: list[Tensor] = []
        for group in self.groups:
            drawn = group[torch.randperm(len(group), generator=generator)]
            count = -(-len(group) // self.batch)
            batches += drawn.repeat(-(-count * self.batch // len(group)))[: count * self.batch].split(self.batch)
        return torch.cat([batches[i] for i in torch.randperm(len(batches), generator=generator)])


def _numbers(dataset: Any, by: str, groups: int) -> Tensor:
    """Return the group of each sample, int64 [N]."""
    if by == "length":
        lengths = torch.as_tensor(_lengths(dataset), dtype=torch.float64)
        edges = lengths.quantile(torch.linspace(0, 1, groups + 1, dtype=torch.float64)[1:-1])
        return torch.bucketize(lengths, edges)
    sizes = _sizes(dataset)
    if by == "size":
        known = {size: number for number, size in enumerate(sorted(set(sizes)))}
        return torch.tensor([known[size] for size in sizes])
    ratios = torch.tensor([width / height for width, height in sizes], dtype=torch.float64)
    edges = 2 ** torch.linspace(-1, 1, 2 * groups + 1, dtype=torch.float64)
    return torch.bucketize(ratios, edges, right=True)


def _lengths(dataset: Any) -> Sequence[int]:
    lengths = lengths_of(dataset)
    if lengths is None or len(lengths) != len(dataset):
        kind = type(dataset).__name__
        raise DataError(f"data.sampler.by=length: {kind} tells no lengths; give it an attribute `lengths` of them all")
    return lengths


def _sizes(dataset: Any) -> list[tuple[int, int]]:
    """Return width and height of each sample's picture, from the headers of the files.

    Files that cannot be read, where those are passed over, are taken for pictures of the most common size.
    """
    files = files_of(dataset)
    if len(files) != len(dataset):
        kind = type(dataset).__name__
        raise DataError(f"data.sampler=Grouped: {kind} does not tell a picture file for each sample; take by: length")
    if not is_lenient(dataset):
        with broken_named(dataset, files):
            return [read_size(file) for file in files]
    sizes = [_size_or_none(file) for file in files]
    known = Counter(size for size in sizes if size is not None).most_common(1)
    return [size or known[0][0] for size in sizes] if known else [(1, 1)] * len(sizes)


def _size_or_none(file: Any) -> tuple[int, int] | None:
    try:
        return read_size(file)
    except DataError:
        return None
