"""CIFAR-10 and CIFAR-100, read by torchvision from their published files, or from class folders."""

import os
import pickle
import tarfile
from collections.abc import Callable
from typing import Any, Literal

import torch

from data._facts import Facts
from data._folders import existing_folder, labelled_images, list_folders, no_pictures
from data._images import ImageDataset
from data._stores import Files, Pixels, Store
from utils.errors import DataError

__all__ = ["CIFAR10", "CIFAR100"]

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


class CIFAR10(ImageDataset):
    """CIFAR-10's 60,000 photos of ten things, 32x32 RGB; a local copy, or fetched with `download`.

    Reads class folders `root/train/<class>/*.jpg` and `root/test/<class>/*.jpg` if they exist, otherwise
    `root/cifar-10-batches-py`. Both val and test are the 10,000 test photos.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        transform: Callable | None = None,
        download: bool = False,
    ) -> None:
        folder = os.path.join(os.path.expanduser(root), "train" if split == "train" else "test")
        if os.path.isdir(folder):
            self.facts = Facts(folder, ["classes: the folders; data.dataset=ImageFolder takes other classes"])
            names, labels = labelled_images(folder, CLASSES, list_folders(folder), self.facts)
            if not names:
                raise no_pictures(folder, split)
            super().__init__(Files(folder, names), names, labels, CLASSES, transform)
        else:
            self.facts = Facts(f"{os.path.join(root, 'cifar-10-batches-py')}, the published {_part(split)} batches")
            super().__init__(*_batches("CIFAR10", root, split, download), transform)


class CIFAR100(ImageDataset):
    """CIFAR-100's 60,000 photos of a hundred things, 32x32 RGB; a local copy, or fetched with `download`.

    Reads `root/cifar-100-python`. Both val and test are the 10,000 test photos.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        transform: Callable | None = None,
        download: bool = False,
    ) -> None:
        self.facts = Facts(f"{os.path.join(root, 'cifar-100-python')}, the published {_part(split)} batches")
        super().__init__(*_batches("CIFAR100", root, split, download), transform)


def _part(split: str) -> str:
    return "training" if split == "train" else "test"


def _batches(name: str, root: str, split: str, download: bool) -> tuple[Store, list[str], list[int], list[str]]:
    """Return pictures, ids, labels and classes from the published files; torchvision checks their md5 sums."""
    root = os.path.expanduser(root) if download else existing_folder(root, split)
    official = _read(name, root, split, download)
    values = torch.from_numpy(official.data).permute(0, 3, 1, 2).contiguous()  # [N, 3, 32, 32]
    ids = [str(i) for i in range(len(values))]
    return Pixels(values), ids, official.targets, official.classes


def _read(name: str, root: str, split: str, download: bool) -> Any:
    from torchvision import datasets

    kind = getattr(datasets, name)
    try:
        return kind(root, train=split == "train", download=download)
    except (OSError, RuntimeError, ValueError, EOFError, tarfile.TarError, pickle.UnpicklingError) as error:
        path = os.path.join(root, kind.base_folder)
        if download:
            message = f"cannot fetch {kind.url} to {root} ({error}); put its content into {path} by hand"
        else:
            message = f"{path} is missing, or not as published; fetch it with --data.dataset.download"
        raise DataError(f"{message}, or set --data.dataset.root=FOLDER") from error
