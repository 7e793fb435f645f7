"""A share of a dataset, for a quick try: fewer samples, in everything besides as the whole."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from data._folds import evenly
from data.protocol import cells_of, facts_of, ids_of, label_table_of, labels_of

__all__ = ["with_fraction"]


def with_fraction(dataset: Any, share: float | None, seed: int) -> Any:
    """Return a seeded share of a dataset, of each class the same; the dataset itself for None and for 1."""
    if share is None or share == 1 or not len(dataset):
        return dataset
    labels = labels_of(dataset)
    return Part(dataset, evenly(len(dataset), share, seed, labels), f"{100 * share:g} % of it, drawn by seed {seed}")


class Names(Sequence):
    """The names of the samples at some positions; a sample without a name has its number in the whole."""

    def __init__(self, of: Sequence[Any], chosen: Tensor):
        self.of, self.chosen = of, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        name = self.of[int(self.chosen[index])]
        return str(name) if isinstance(self.of, range) else name


class Part(Dataset):
    """The samples of a dataset at some positions; its other attributes are those of the whole."""

    def __init__(self, part_of: Any, chosen: list[int], told: str):
        self.part_of, self.chosen = part_of, torch.tensor(chosen)
        facts, ids = facts_of(part_of), ids_of(part_of)
        self.facts = replace(facts, source=f"{facts.source or 'the training samples'}; {told} (data.fraction)")
        self.ids = Names(ids, self.chosen)
        labels = labels_of(part_of)
        labels = label_table_of(part_of) if labels is None else labels
        self.labels = None if labels is None else labels[self.chosen]
        if callable(getattr(part_of, "cells", None)):
            self.cells = partial(_cells, part_of, chosen)
        for name in ("files", "lengths"):  # one for each sample
            if len(whole := getattr(part_of, name, None) or ()) == len(part_of):
                setattr(self, name, [whole[i] for i in chosen])

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the whole: collate, meta, reads_batches, …"""
        if name.startswith("__") or "part_of" not in vars(self):  # while it is sent to another process
            raise AttributeError(name)
        return getattr(self.part_of, name)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> Any:
        """Return the sample of the whole."""
        return self.part_of[int(self.chosen[index])]

    def read(self, indices: Sequence[int] | Tensor, seeds: Sequence[int] = ()) -> Any:
        """Return the batch of these samples, read by the whole."""
        return self.part_of.read(self.chosen[torch.as_tensor(indices)], seeds)


def _cells(whole: Any, chosen: Sequence[int]) -> Any:
    """Return these rows of a table as text."""
    found = cells_of(whole)
    return found._replace(table=found.table.subset(chosen))
