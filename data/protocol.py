"""The optional attributes of a dataset. Every other file reads datasets through these functions only.

A dataset has `__len__` and `__getitem__`. Everything below is optional, a plain attribute or method:

- `meta`: plain values for models, tasks and the other splits;
- `ids`: a name for each sample; `labels`: the classes of the samples; `collate(samples)`: makes a batch of samples;
- `reads_batches`, `read` and, if `draws`, `finish`: see BatchReader;
- `texts`: the text of each sample, of pictures of text;
- `on_gpu`: whether its batches are made on a GPU;
- `facts`: how it understood its files, in words, see data/_facts.py;
- `store`: the source of its pictures, see data/_stores.py, and `transform`: the transforms of them;
- `lengths`: the length of each sample, a sequence, by which batches may be grouped;
- `files`: the paths of its pictures, which are all looked at when one of them cannot be read;
- `masks`: the paths of its masks, one for each sample, and `table`: how their values are read, see data/_masks.py;
- `cells()`: the rows of its split as text, see Cells in data/_table.py;
- `lenient`: set by the engine where bad samples are passed over, see `first_sample`;
- `pictures` and `with_features`: see Photographed.
"""

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from data._facts import Facts
from utils.errors import CodeError, ConfigError, DataError

# It has no __all__, because every name in the __all__ of a file of this folder is a dataset.


MOST_SIZES = 100_000  # files whose sizes are looked at
BAD = (DataError, CodeError, OSError)  # the errors of a sample that cannot be read


class BatchReader(Protocol):
    """A dataset that reads whole batches; its only random numbers come from the given seeds."""

    reads_batches: bool  # whether it reads whole batches now; this may depend on its transform
    draws: bool  # whether `read` needs seeds; a missing attribute means no

    def read(self, indices: Sequence[int] | Tensor, seeds: Sequence[int] = ()) -> Any:
        """Return the batch of these samples; with `draws` in a compact form, to be sent to another device."""

    def finish(self, batch: Any) -> Any:
        """Return the batch as networks take it, made on the device that holds it; called only with `draws`."""


class Photographed(Protocol):
    """A dataset of pictures that can be replaced by the features of a frozen network."""

    pictures: Dataset  # the pictures alone, after the transform
    files: Sequence[str]  # their paths

    def with_features(self, features: Tensor) -> Dataset:
        """Return the same samples with a row of `features` [pictures, D] in place of each picture."""


def batch_reader(dataset: Any) -> BatchReader | None:
    """Return the dataset if it reads whole batches now, otherwise None."""
    return dataset if getattr(dataset, "reads_batches", False) else None


def draws(reader: BatchReader | None) -> bool:
    """Return whether a dataset reads batches whose random numbers come from their own seeds."""
    return getattr(reader, "draws", False)


def is_on_gpu(dataset: Any) -> bool:
    """Return whether batches are made on a GPU; then worker processes and pinned memory do not help."""
    return getattr(dataset, "on_gpu", False)


def read_one(dataset: Any, index: int) -> Any:
    """Return a sample as it is in a batch; does not import torchvision if the dataset reads whole batches."""
    reader = batch_reader(dataset)
    if reader is None or not draws(reader):
        return dataset[index]
    batch = reader.finish(reader.read([index], [0]))
    return tuple(part[0] for part in batch) if isinstance(batch, tuple) else batch[0]


def be_lenient(dataset: Any) -> None:
    """Let a dataset be read from its first good sample on, where `data.on_bad_sample` passes over bad ones."""
    with suppress(AttributeError, TypeError):  # an object without room for it
        dataset.lenient = True


def is_lenient(dataset: Any) -> bool:
    """Return whether bad samples of a dataset are passed over."""
    return getattr(dataset, "lenient", False)


def first_sample(dataset: Any, read: Callable[[Any, int], Any] = read_one) -> Any:
    """Return the first sample, or of a lenient dataset the first good one. Raises the dataset's errors."""
    last = len(dataset) - 1 if is_lenient(dataset) else 0
    for index in range(last):
        with suppress(*BAD):
            if not is_missing(sample := read(dataset, index)):
                return sample
    return read(dataset, last)


def is_missing(sample: Any) -> bool:
    """Return whether a dataset gives None, or (None, …) as the book's does, for a sample that it could not read."""
    return sample is None or (isinstance(sample, (tuple, list)) and len(sample) > 0 and sample[0] is None)


def ids_of(dataset: Any) -> Sequence[Any]:
    """Return the name of each sample, or its number if it has no name."""
    return getattr(dataset, "ids", range(len(dataset)))


def name_of(dataset: Any, index: int) -> str:
    """Return a sample's number, and its name if it has one."""
    ids = ids_of(dataset)
    return str(index) if isinstance(ids, range) else f"{index} ({ids[index]})"


def labels_of(dataset: Any) -> Tensor | None:
    """Return the class number of each sample, int64 [N]; None for a dataset without class numbers."""
    labels = getattr(dataset, "labels", None)
    labels = None if labels is None else torch.as_tensor(labels)
    return None if labels is None or labels.is_floating_point() or labels.ndim != 1 else labels


def label_table_of(dataset: Any) -> Tensor | None:
    """Return 0 or 1 for each sample and label, [N, labels]; None for a dataset without several labels a sample."""
    labels = getattr(dataset, "labels", None)
    labels = None if labels is None else torch.as_tensor(labels)
    return None if labels is None or labels.ndim != 2 or not bool(((labels == 0) | (labels == 1)).all()) else labels


def texts_of(dataset: Any) -> Sequence[str] | None:
    """Return the true text of each sample; None for a dataset that is not of texts."""
    return getattr(dataset, "texts", None)


def identity_of(dataset: Any) -> str:
    """Return a hash of the samples' names, in order, and of their classes or labels: other samples have another one."""
    digest = hashlib.sha256()
    for text in _written(ids_of(dataset)):
        digest.update(text.encode("utf-8", "replace"))
    labels = labels_of(dataset)
    labels = label_table_of(dataset) if labels is None else labels
    if labels is not None:
        digest.update(labels.to(torch.int64).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _written(names: Sequence[Any]) -> Iterator[str]:
    """Yield the text of a list of the names in parts: of ten million the whole would take hundreds of megabytes."""
    if isinstance(names, range):
        yield repr(names)
        return
    yield "["
    rest, separator = iter(names), ""
    while part := [str(name) for name in islice(rest, 10_000)]:
        yield separator + repr(part)[1:-1]
        separator = ", "
    yield "]"


def names_of(splits: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return the number of samples of each split, a number that its names have in any order, and one of its content.

    The names' of two splits add up, modulo 2**63, to that of the samples of both. Of files, the sizes are the content;
    it is 0 of more files than can be looked at quickly.
    """
    return {
        split: [len(ids), _sum_of_names(ids), _sum_of_sizes(files_of(dataset)) or content_of(dataset)]
        for split, dataset in splits.items()
        for ids in [ids_of(dataset)]
    }


def content_of(dataset: Any) -> int:
    """Return a number that the rows of a table or pictures in memory have; 0 for a dataset of other samples."""
    values = getattr(store_of(dataset), "values", None)
    if isinstance(values, Tensor) and values.dtype == torch.uint8:
        return int.from_bytes(hashlib.blake2b(values.cpu().contiguous().numpy(), digest_size=7).digest())
    found = getattr(dataset, "content", 0)
    return found if isinstance(found, int) else 0  # somebody's own dataset may mean another thing by that name


def _sum_of_sizes(files: Sequence[str]) -> int:
    if len(files) > MOST_SIZES:
        return 0
    try:
        sizes = [os.stat(file).st_size for file in files]
    except OSError:  # a file that is missing is told when it is read
        return 0
    return sum(size * (size + 1) for size in sizes) % 2**63


def _sum_of_names(ids: Sequence[Any]) -> int:
    names = [repr(ids)] if isinstance(ids, range) else map(str, ids)
    digests = (hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest() for name in names)
    return sum(int.from_bytes(digest) for digest in digests) % 2**63


def collate_of(dataset: Any) -> Callable[[list[Any]], Any]:
    """Return the function that makes a batch of samples: the dataset's own, otherwise torch's."""
    return getattr(dataset, "collate", default_collate)


def meta_of(dataset: Any) -> dict[str, Any]:
    """Return the facts of a dataset for models and other splits.

    Raises ConfigError for values that are not plain, because a checkpoint cannot hold them.
    """
    meta: Mapping[str, Any] = getattr(dataset, "meta", {})
    if not isinstance(meta, Mapping):
        told = f"{type(dataset).__name__}.meta: is a {type(meta).__name__}, where a dict is due"
        raise ConfigError(f"{told}, as {{'num_classes': 10}}")
    try:
        return dict(json.loads(json.dumps(dict(meta))))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{type(dataset).__name__}.meta: {error}; it may hold numbers, text, lists and dicts"
        ) from error


def own_generators(dataset: Any) -> list[str]:
    """Return the names of a dataset's attributes that are random generators; their numbers depend on the reader."""
    import random

    import numpy as np

    kinds = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)
    return [name for name, value in vars(dataset).items() if isinstance(value, kinds)]


def facts_of(dataset: Any) -> Facts:
    """Return how a dataset understood its files; empty facts for one that does not tell."""
    return getattr(dataset, "facts", None) or Facts()


def store_of(dataset: Any) -> Any:
    """Return the source of a dataset's pictures; None if it has none."""
    return getattr(dataset, "store", None)


def transform_of(dataset: Any) -> Any:
    """Return the transform of a dataset's samples; None if it has none."""
    return getattr(dataset, "transform", None)


def files_of(dataset: Any) -> Sequence[str]:
    """Return the paths of a dataset's pictures; empty if it has none or does not tell."""
    return getattr(dataset, "files", ())


def lengths_of(dataset: Any) -> Sequence[int] | None:
    """Return the length of each sample, a sequence, [N]; None for a dataset that does not tell."""
    return getattr(dataset, "lengths", None)


def kind_of(dataset: Any) -> type:
    """Return a dataset's class; of a part of a dataset that of the whole."""
    return type(getattr(dataset, "part_of", dataset))


def masks_of(dataset: Any) -> tuple[Sequence[str | None], Any]:
    """Return the paths of a dataset's masks, and the table of their values; nothing if it has no masks."""
    return getattr(dataset, "masks", ()), getattr(dataset, "table", None)


def cells_of(dataset: Any) -> Any:
    """Return the rows of a table as text; None for other datasets."""
    cells = getattr(dataset, "cells", None)
    return cells() if callable(cells) else None


def takes_exclude(dataset: Any) -> bool:
    """Return whether a dataset leaves out files by the key data.dataset.exclude."""
    return "exclude" in inspect.signature(kind_of(dataset)).parameters


def photographed(dataset: Any) -> Photographed | None:
    """Return the dataset if features may replace its pictures, otherwise None."""
    return dataset if hasattr(dataset, "pictures") and hasattr(dataset, "with_features") else None
