"""What a dataset may offer besides its samples; every other file reads datasets through these functions only.

A dataset has `__len__` and `__getitem__`. Whatever follows is optional, and each is a plain attribute or method:

- `meta`: plain values for models, tasks and the other splits;
- `ids`: a name for each sample; `labels`: the classes of the samples; `collate(samples)`: makes a batch of samples;
- `reads_batches`, `read` and, if `draws`, `finish`: see BatchReader;
- `on_gpu`: whether its batches are made on a GPU;
- `store`: where its pictures come from, see data/_stores.py, and `transform`: what is done to them;
- `pictures`, `files` and `with_features`: see Photographed.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from utils.errors import ConfigError, DataError

# No __all__: every name of it in this folder is a dataset.


class BatchReader(Protocol):
    """A dataset that reads whole batches, with no random numbers but those of the seeds that it is given."""

    reads_batches: bool  # whether it does so, which may depend on its transform
    draws: bool  # whether `read` needs seeds; left out: it does not

    def read(self, indices: Sequence[int] | Tensor, seeds: Sequence[int] = ()) -> Any:
        """Return the batch of these samples; with `draws`, as small as it can be sent to another device."""

    def finish(self, batch: Any) -> Any:
        """Return the batch as networks get it, made on the device where it is; only with `draws`."""


class Photographed(Protocol):
    """A dataset whose pictures a frozen network may turn into features."""

    pictures: Dataset  # the pictures alone, through the transform
    files: Sequence[str]  # their paths

    def with_features(self, features: Tensor) -> Dataset:
        """Return the same samples, of which each picture is now its row of `features` [pictures, D]."""


def batch_reader(dataset: Any) -> BatchReader | None:
    """Return the dataset if it reads whole batches now."""
    return dataset if getattr(dataset, "reads_batches", False) else None


def draws(reader: BatchReader | None) -> bool:
    """Return whether a dataset reads batches with random numbers of their own seeds."""
    return getattr(reader, "draws", False)


def is_on_gpu(dataset: Any) -> bool:
    """Return whether batches are made on a GPU, so that neither other processes nor pinned memory are of use."""
    return getattr(dataset, "on_gpu", False)


def read_one(dataset: Any, index: int) -> Any:
    """Return a sample as batches have it; without torchvision where whole batches are read."""
    reader = batch_reader(dataset)
    if reader is None or not draws(reader):
        return dataset[index]
    batch = reader.finish(reader.read([index], [0]))
    return tuple(part[0] for part in batch) if isinstance(batch, tuple) else batch[0]


def ids_of(dataset: Any) -> Sequence[Any]:
    """Return the name of each sample, or else its number."""
    return getattr(dataset, "ids", range(len(dataset)))


def classes_of(dataset: Any) -> Tensor:
    """Return the class number of each sample, int64 [N].

    Raises DataError for a dataset that does not tell them.
    """
    labels = getattr(dataset, "labels", None)
    labels = None if labels is None else torch.as_tensor(labels)
    if labels is None or labels.is_floating_point() or labels.ndim != 1:
        raise DataError(f"data.balance_classes: {type(dataset).__name__} has no classes as `labels` to balance by")
    return labels


def collate_of(dataset: Any) -> Callable[[list[Any]], Any]:
    """Return what makes a batch of samples: the dataset's own, or torch's."""
    return getattr(dataset, "collate", default_collate)


def meta_of(dataset: Any) -> dict[str, Any]:
    """Return what a dataset tells models and other splits.

    Raises ConfigError when it is not plain: a checkpoint could not hold it.
    """
    meta: Mapping[str, Any] = getattr(dataset, "meta", {})
    try:
        return dict(json.loads(json.dumps(dict(meta))))
    except TypeError as error:
        raise ConfigError(
            f"{type(dataset).__name__}.meta: {error}; it may hold numbers, text, lists and dicts"
        ) from error


def store_of(dataset: Any) -> Any:
    """Return where its pictures come from, None for a dataset without a store."""
    return getattr(dataset, "store", None)


def photographed(dataset: Any) -> Photographed | None:
    """Return the dataset if features may take the place of its pictures."""
    return dataset if hasattr(dataset, "pictures") and hasattr(dataset, "with_features") else None
