"""Some samples of a dataset."""

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from data._csv import Faults, read_lines
from data.loading.samplers import Sampler
from data.protocol import ids_of
from utils.errors import ConfigError

__all__ = ["Subset"]


class Subset(Sampler):
    """Train on some samples alone: `indices` are their numbers, or `file` is a text with the id of one in each line.

    Without `shuffle` an epoch has them in that order; with it, in the order of torch's SubsetRandomSampler.
    """

    def __init__(
        self, dataset: Any, indices: Sequence[int] | None = None, file: str | None = None, shuffle: bool = True
    ):
        if (indices is None) == (file is None):
            raise ConfigError("data.sampler=Subset: takes either indices or file")
        chosen = _named(dataset, file) if file is not None else list(indices or ())
        self.indices, self.shuffle = torch.tensor(chosen, dtype=torch.int64), shuffle
        if wrong := [index for index in chosen if not 0 <= index < len(dataset)]:
            raise ConfigError(f"data.sampler.indices: there is no sample {wrong[0]}; they go to {len(dataset) - 1:,}")
        if len(set(chosen)) < len(chosen):
            twice = next(index for index in chosen if chosen.count(index) > 1)
            raise ConfigError(f"data.sampler.indices: the sample {twice} stands there twice; leave one out")

    def __len__(self) -> int:
        return len(self.indices)

    def order(self, generator: torch.Generator) -> Tensor:
        return self.indices[torch.randperm(len(self), generator=generator)] if self.shuffle else self.indices

    def population(self) -> Tensor:
        return self.indices


def _named(dataset: Any, path: str) -> list[int]:
    """Return the numbers of the samples that a file names. Raises DataError for an id that no sample has."""
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise ConfigError(f"data.sampler.file: there is no file {path}; give a text with an id in each line")
    faults = Faults(path)
    places = {str(name): number for number, name in enumerate(ids_of(dataset))}
    chosen = dict[int, str]()
    for line, text in enumerate(read_lines(path, faults), 1):
        if (name := text.strip()) and name not in places:
            faults.add(line, f"no training sample has the id '{name}'; an id looks like {next(iter(places), '')}")
        elif name and places[name] in chosen:
            faults.add(line, f"'{name}' stands there twice; leave one out")
        elif name:
            chosen[places[name]] = name
    faults.check()
    return list(chosen)
