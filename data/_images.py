"""The splits of pictures, and the class that all picture datasets share."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from data._broken import broken_named
from data._facts import Facts
from data._folds import Folds
from data._stores import Files, Pixels, Store
from data.protocol import first_sample
from utils.errors import DataError
from utils.randomness import same_random_state

__all__ = ["ImageDataset", "pick", "share_of", "split_indices"]


# Splits


def split_indices(
    n: int,
    split: str,
    fraction: float,
    seed: int,
    whole: bool = False,
    folds: Folds | None = None,
    labels: Sequence[Any] | None = None,
) -> list[int]:
    """Return the positions of a split's samples out of n, for the split "train" or "val".

    The order is a seeded permutation, and val gets its last fraction; with `whole` it gets all samples, in their own
    order. With `folds` val is one of them instead, in which each class of `labels` has its share. Raises ValueError for
    a fraction outside [0, 1], and DataError when the split gets no sample.
    """
    if whole and split == "val":
        return list(range(n))
    if folds is not None:
        return folds.choose(n, split, seed, labels)
    if not 0 <= fraction <= 1:
        raise ValueError(f"val_fraction={fraction} is not between 0 and 1")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    cut = n - round(n * fraction)
    chosen = order[:cut] if split == "train" else order[cut:]
    if not chosen:
        raise DataError(f"val_fraction={fraction} leaves none of the {n} samples to the split '{split}'; change it")
    return chosen


def share_of(
    place: str, split: str, fraction: float, seed: int, whole: bool = False, folds: Folds | None = None
) -> str:
    """Return in words which share of a place's samples a split is, as drawn by `split_indices`."""
    if split == "test" or (whole and split == "val"):
        return place
    if folds is not None:
        return folds.told(place, split, f"drawn by seed {seed}")
    share = fraction if split == "val" else 1 - fraction
    return f"{100 * share:g} % of {place}, drawn by seed {seed} (data.dataset.val_fraction)"


def pick(items: Sequence[Any], indices: Sequence[int]) -> list[Any]:
    """Return the items at the given positions."""
    return [items[i] for i in indices]


# Pictures


class ImageDataset(Dataset):
    """Pictures, each with an id and, except in a split without labels, a label. Nothing changes after construction.

    `ids` are texts, `labels` None, class numbers int64 [N], or 0 and 1 for each label float32 [N, L]; `classes` are
    the names of classes or labels in their order; `facts` tell how the files were understood.
    """

    facts: Facts = Facts()

    def __init__(
        self,
        store: Store,
        ids: Sequence[str],
        labels: Sequence[int] | Sequence[Sequence[float]] | Tensor | None,
        classes: Sequence[str],
        transform: Callable | None,
    ) -> None:
        self.store = store
        self.ids = ids
        self.labels = None if labels is None else torch.as_tensor(labels)
        if self.labels is not None:
            self.labels = self.labels.to(torch.float32 if self.labels.ndim == 2 else torch.int64)
        self.classes = list(classes)
        self.transform = transform

    @property
    def reads_batches(self) -> bool:
        """Whether `read` may be used: for pictures in memory without a transform, or a transform that reads batches."""
        return self.draws or (isinstance(self.store, Pixels) and self.transform is None)

    @property
    def on_gpu(self) -> bool:
        """Whether batches are made on a GPU; then worker processes and pinned memory do not help."""
        return isinstance(self.store, Pixels) and self.store.values.is_cuda

    @property
    def draws(self) -> bool:
        """Whether `read` needs seeds; then it draws no other random numbers."""
        plain = type(self).__getitem__ is ImageDataset.__getitem__ and not hasattr(self, "collate")
        if isinstance(self.store, Pixels):
            fits = getattr(self.transform, "fits", lambda *shape: False)
            return plain and self.store.white == 255 and fits(*self.store.values.shape[1:])
        return plain and hasattr(self.store, "region") and hasattr(self.transform, "stack")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Any:
        """Return (image, label or labels), or the image alone: float32 [C, H, W].

        Raises DataError when it cannot be read.
        """
        image = self._transformed(index) if self.transform else self.store.tensor(index)
        if self.labels is None:
            return image
        return image, self.labels[index] if self.labels.ndim == 2 else int(self.labels[index])

    def _transformed(self, index: int) -> Tensor:
        picture = self.store.picture(index)
        try:
            return self.transform(picture)  # type: ignore[misc]
        except (ValueError, TypeError, RuntimeError) as error:
            if "allocate" in str(error):
                raise
            size = "x".join(map(str, picture.size))
            reason = " ".join(str(error).split())
            raise DataError(f"data.transform: the picture {self.ids[index]} of {size} fails there: {reason}") from error

    def read(self, indices: Sequence[int] | Tensor, seeds: Sequence[int] = ()) -> Any:
        """Return the batch of these samples: images [B, C, H, W] and labels, int64 [B] or [B, L].

        Images are float32. With `draws` they are augmented by their seeds, and stay uint8 (a quarter of the bytes)
        until `finish`. Raises DataError for a picture that cannot be read.
        """
        chosen = torch.as_tensor(indices)
        if isinstance(self.store, Pixels) and self.transform is None:
            return self._labelled(self.store.batch(chosen), chosen)
        assert self.draws and self.transform
        if isinstance(self.store, Pixels):
            images = self.transform.cut(self.store.select(chosen), seeds)  # type: ignore[attr-defined]
        else:
            regions = [partial(self.transform.choose, seed=seed) for seed in seeds]  # type: ignore[attr-defined]
            pictures = map(self.store.region, chosen.tolist(), regions)  # type: ignore[attr-defined]
            images = self.transform.stack(list(pictures))  # type: ignore[attr-defined]
        return self._labelled(images, chosen)

    def finish(self, batch: Any) -> Any:
        """Return the batch with its images normalised as float32, on the device that holds them."""
        normalise = self.transform.normalise  # type: ignore[union-attr]
        return normalise(batch) if self.labels is None else (normalise(batch[0]), batch[1])

    def _labelled(self, images: Tensor, chosen: Tensor) -> Any:
        return images if self.labels is None else (images, self.labels.index_select(0, chosen))

    @property
    def files(self) -> list[str]:
        """The paths of the pictures; empty for pictures in memory."""
        store = self.store
        return [os.path.join(store.folder, name) for name in store.names] if isinstance(store, Files) else []

    @property
    def meta(self) -> dict[str, Any]:
        """Facts for networks and other splits; channels and size [H, W] are those of the first sample that is read."""
        with same_random_state(), broken_named(self):
            sample = first_sample(self)
        image = sample if self.labels is None else sample[0]
        return {
            "classes": list(self.classes),
            "num_classes": len(self.classes),
            "in_channels": image.shape[0],
            "image_size": list(image.shape[1:]),
        }
