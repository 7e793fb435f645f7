"""MNIST and datasets in the same format, and a reader of idx files."""

import gzip
import math
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from data._facts import Facts
from data._folders import existing_folder, root_option
from data._images import ImageDataset
from data._sources import advice
from data._stores import Pixels
from utils.errors import DataError

__all__ = ["MNIST"]

MOST = 1 << 31  # bytes of a file that are read; EMNIST's largest has 547 MB


class MNIST(ImageDataset):
    """MNIST's 70,000 handwritten digits of 28x28 grey pixels, from the published idx files.

    Reads `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same with `t10k`, plain or `.gz`, from `root`,
    `root/MNIST/raw` or `root/raw`. Both val and test are the 10,000 test images. The files of FashionMNIST, KMNIST and
    EMNIST fit too: `classes` then names their classes in label order, as [T-shirt, Trouser, …].
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        transform: Callable | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        part = "train" if split == "train" else "t10k"
        names = list(classes or "0123456789")
        pictures, images, labels = read_digits(root, part, split, names)
        ids = [str(i) for i in range(len(images))]
        own = names != [*"0123456789"]  # validation and test are given those of the training
        told = "as data.dataset.classes names them" if own else "the digits (data.dataset.classes names others)"
        self.facts = Facts(pictures, [f"classes: {told}"])
        super().__init__(Pixels(images.unsqueeze(1)), ids, labels, names, transform)


def read_digits(root: str, part: str, split: str, classes: Sequence[str] = "0123456789") -> tuple[str, Tensor, Tensor]:
    """Return the path of the pictures of a part, train or t10k, the pictures [N, 28, 28] and their labels, uint8.

    Raises DataError for files that are missing or do not fit together.
    """
    root = existing_folder(root, split)
    path = _find(root, f"{part}-labels-idx1-ubyte", split)
    labels = read_idx(path, dimensions=1)
    pictures = _find(root, f"{part}-images-idx3-ubyte", split)
    images = read_idx(pictures, dimensions=3)
    _check_labels(path, labels, len(images), classes)
    return pictures, images, labels


def read_idx(path: str, dimensions: int) -> Tensor:
    """Return the uint8 tensor in an idx file, plain or .gz.

    Raises DataError for a file in another format, and for one that is cut off or too long.
    """
    try:
        with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
            magic, *shape = struct.unpack(f">{dimensions + 1}I", file.read(4 + 4 * dimensions))
            if magic != 0x0800 + dimensions:  # 8: unsigned bytes
                raise ValueError(f"its magic number is {magic}, not {0x0800 + dimensions}")
            expected, content = math.prod(shape), bytearray()
            if expected > MOST:
                raise ValueError(f"its head says {expected / 1e6:,.0f} MB, and at most {MOST / 1e6:,.0f} MB are read")
            while len(content) <= expected and (piece := file.read(1 << 20)):
                content += piece  # in pieces: a small file may unpack to terabytes, or its header may claim them
    except struct.error:
        raise DataError(f"cannot read {path} (it ends within its head); fetch it again") from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"cannot read {path} ({error}); fetch it again") from error
    if len(content) != expected or not expected:
        held = "more" if len(content) > expected else len(content)
        sizes = "x".join(str(size) for size in shape)
        raise DataError(f"{path} holds {held} values, but its head says {sizes}; fetch it again")
    return torch.frombuffer(content, dtype=torch.uint8).view(*shape)


def _find(root: str, name: str, split: str) -> str:
    folders = [root, os.path.join(root, "MNIST", "raw"), os.path.join(root, "raw")]
    for path in (os.path.join(folder, name + suffix) for folder in folders for suffix in ("", ".gz")):
        if os.path.isfile(path):
            return path
    raise DataError(
        f"no {name} or {name}.gz in {root}, MNIST/raw or raw below it; set {root_option(split)}{advice(root)}"
    )


def _check_labels(path: str, labels: Tensor, images: int, classes: Sequence[str]) -> None:
    if len(labels) != images:
        raise DataError(f"{path} holds {len(labels)} labels for {images} images; fetch both files again")
    if labels.max() >= len(classes):
        raise DataError(
            f"{path} holds the label {int(labels.max())}, but there are {len(classes)} classes, from 0 on; name "
            "all with data.dataset.classes=[…], or fetch it again"
        )
