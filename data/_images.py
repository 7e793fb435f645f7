"""Find, read and split pictures, and the class that all picture datasets share."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from data._stores import Pixels, Store
from data.protocol import read_one
from utils.errors import DataError
from utils.randomness import same_random_state

__all__ = [
    "SUFFIXES",
    "ImageDataset",
    "existing_folder",
    "labelled_images",
    "list_folders",
    "list_images",
    "no_pictures",
    "pick",
    "root_option",
    "split_indices",
]

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


# Folders


def root_option(split: str) -> str:
    """Return the flags that set the folder of a split's files."""
    return f"--data.dataset.root=FOLDER or --{'test' if split == 'test' else 'train'}-data-root=FOLDER"


def existing_folder(path: str, split: str) -> str:
    """Return the path, with ~ expanded. Raises DataError when there is no folder at it."""
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        return path
    what = "is not a folder" if os.path.exists(path) else "does not exist"
    raise DataError(f"{path} {what}, but the split '{split}' is read from it; set {root_option(split)}")


def no_pictures(folder: str, split: str) -> DataError:
    """Return the error for a folder without pictures."""
    with _listing(folder):
        deeper = next(_walk(folder, ""), "")
    hint = f"; {deeper} lies deeper: --data.dataset=ImageFolder takes folders for classes" if deeper else ""
    return DataError(f"no pictures in {folder} (looked for {', '.join(SUFFIXES)}); set {root_option(split)}{hint}")


def list_images(folder: str, nested: bool = False) -> list[str]:
    """Return the sorted names of the pictures in a folder; with `nested` also those in its subfolders, as `sub/name`.

    A picture is recognised by its suffix, because opening a million files takes too long. Raises DataError when the
    folder cannot be read.
    """
    if nested:
        return sorted(_walk(folder, ""))
    with _listing(folder):
        names = os.listdir(folder)
    return sorted(name for name in names if (name.endswith(".jpg") or _is_picture(name)) and name[0] != ".")


def list_folders(folder: str) -> list[str]:
    """Return the sorted names of the folders in a folder, without hidden ones."""
    return sorted(entry.name for entry in _entries(folder) if entry.is_dir())


def _is_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


@contextmanager
def _listing(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot list the folder {folder} ({error.strerror}); mend it or choose another") from error


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with _listing(folder), os.scandir(folder) as entries:  # plain names: a million Path objects would take 1 GB
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _walk(folder: str, prefix: str) -> Iterator[str]:
    for entry in _entries(folder):
        if _is_picture(entry.name):
            yield prefix + entry.name
        elif entry.is_dir(follow_symlinks=False):  # a link may lead to a folder above, which would never end
            yield from _walk(entry.path, f"{prefix}{entry.name}/")


def labelled_images(folder: str, classes: Sequence[str], found: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the pictures in the class folders `found`, as `class/name`, and their labels: positions in `classes`.

    Raises DataError for a folder that is none of the classes.
    """
    names: list[str] = []
    labels: list[int] = []
    for name in found:
        if name not in classes:
            known = ", ".join(classes[:5]) + (", …" if len(classes) > 5 else "")
            raise DataError(f"{os.path.join(folder, name)} is none of the classes ({known}); rename or remove it")
        files = list_images(os.path.join(folder, name), nested=True)
        names += [f"{name}/{file}" for file in files]
        labels += [classes.index(name)] * len(files)
    return names, labels


# Splits


def split_indices(n: int, split: str, fraction: float, seed: int) -> list[int]:
    """Return the positions of a split's samples out of n, for the split "train" or "val".

    The order is a seeded permutation, and val gets its last fraction. Raises ValueError for a fraction outside [0, 1],
    and DataError when the split gets no sample.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"val_fraction={fraction} is not between 0 and 1")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    cut = n - round(n * fraction)
    chosen = order[:cut] if split == "train" else order[cut:]
    if not chosen:
        raise DataError(f"val_fraction={fraction} leaves none of the {n} samples to the split '{split}'; change it")
    return chosen


def pick(items: Sequence[Any], indices: Sequence[int]) -> list[Any]:
    """Return the items at the given positions."""
    return [items[i] for i in indices]


# Pictures


class ImageDataset(Dataset):
    """Pictures, each with an id and, except in a split without labels, a label. Nothing changes after construction.

    `ids` are texts, `labels` an int64 tensor [N] or None, `classes` the class names in label order.
    """

    def __init__(
        self,
        store: Store,
        ids: Sequence[str],
        labels: Sequence[int] | Tensor | None,
        classes: Sequence[str],
        transform: Callable | None,
    ) -> None:
        self.store = store
        self.ids = ids
        self.labels = None if labels is None else torch.as_tensor(labels, dtype=torch.int64)
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
        """Return (image, label), or the image alone: float32 [C, H, W]. Raises DataError when it cannot be read."""
        image = self._transformed(index) if self.transform else self.store.tensor(index)
        return image if self.labels is None else (image, int(self.labels[index]))

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
        """Return the batch of these samples: images [B, C, H, W] and labels int64 [B].

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
    def meta(self) -> dict[str, Any]:
        """Facts for networks and other splits; channels and size [H, W] are those of the first sample."""
        with same_random_state():
            sample = read_one(self, 0)
        image = sample if self.labels is None else sample[0]
        return {
            "classes": list(self.classes),
            "num_classes": len(self.classes),
            "in_channels": image.shape[0],
            "image_size": list(image.shape[1:]),
        }
