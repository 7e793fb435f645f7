"""The datasets with a file format of their own, and all of them on real sets where these are at hand."""

import csv
import gzip
import hashlib
import os
import pickle
import struct
import urllib.error
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DATA
from PIL import Image

from data._folders import list_images
from data.cifar import CIFAR10, CIFAR100
from data.csv_images import CSVImages
from data.dogcat import DogCat
from data.image_folder import ImageFolder
from data.mnist import MNIST
from utils.errors import DataError
from utils.images import read_image


def real(name: str) -> str:
    folder = DATA / name
    if not folder.exists():
        pytest.skip(f"no real data in {folder}")
    return str(folder)


# MNIST


def idx(dimensions: list[int], content: bytes) -> bytes:
    return struct.pack(f">{len(dimensions) + 1}I", 0x0800 + len(dimensions), *dimensions) + content


def write_mnist(folder: Path, images: bytes | None = None, labels: bytes | None = None, gz: bool = False) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    images = idx([3, 2, 2], bytes(range(12))) if images is None else images
    labels = idx([3], b"\x07\x00\x09") if labels is None else labels
    for part in ("train", "t10k"):
        for name, content in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
            path = folder / f"{part}-{name}{'.gz' if gz else ''}"
            path.write_bytes(gzip.compress(content) if gz else content)
    return str(folder)


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("inner", ["", "MNIST/raw", "raw"])
def test_mnist_is_found_plain_and_packed(tmp_path: Path, inner: str, gz: bool) -> None:
    write_mnist(tmp_path / inner, gz=gz)
    for split in ("train", "val", "test"):
        dataset = MNIST(str(tmp_path), split)
        assert torch.equal(dataset[1][0], torch.tensor([[[4, 5], [6, 7]]]) / 255)
        assert [dataset[i][1] for i in range(3)] == [7, 0, 9] and dataset.ids == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (idx([3, 2, 2], bytes(11)), None, "train-images.* holds 11 values, but its head says 3x2x2"),
        (idx([3, 2, 2], bytes(13)), None, "holds more values"),
        (idx([12], bytes(12)), None, "magic number is 2049, not 2051"),
        (b"\0\0\x08", None, "ends within its head"),
        (None, idx([2], bytes(2)), "train-labels.* holds 2 labels for 3 images"),
        (None, idx([3], b"\x01\x02\x0a"), "holds the label 10"),
        (struct.pack(">4I", 2051, 1 << 22, 28, 28), None, "its head says 3,288 MB, and at most 2,147 MB are read"),
    ],
)
def test_mnist_checks_its_files(tmp_path: Path, images: bytes | None, labels: bytes | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        MNIST(write_mnist(tmp_path, images, labels), "train")


def test_files_like_mnist_have_classes_by_key(tmp_path: Path) -> None:
    write_mnist(tmp_path, None, idx([3], b"\x01\x02\x0a"))
    names = [f"class {i}" for i in range(11)]
    found = MNIST(str(tmp_path), "train", classes=names)
    assert found.meta["classes"] == names and "data.dataset.classes" in found.facts.lines[0]
    assert found.facts.source.endswith("train-images-idx3-ubyte")
    with pytest.raises(DataError, match=r"holds the label 10, but there are 10 classes.*data.dataset.classes=\[…\]"):
        MNIST(str(tmp_path), "train")


@pytest.mark.parametrize("damage", [lambda b: b[:-20], lambda b: b[:12] + b"\xff" * 8 + b[20:], lambda b: b"no gzip"])
def test_mnist_tells_of_a_damaged_gz(tmp_path: Path, damage: Callable) -> None:
    write_mnist(tmp_path, gz=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"cannot read {path}"):
        MNIST(str(tmp_path), "train")


def test_mnist_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no train-labels-idx1-ubyte or .*--train-data-root"):
        MNIST(str(tmp_path), "train")


# CIFAR


def write_cifar(root: Path, kind: type, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Small batches as published, without their md5 sums."""
    from torchvision import datasets

    official = getattr(datasets, kind.__name__)
    for part in ("train_list", "test_list"):
        monkeypatch.setattr(official, part, [[name, None] for name, _ in getattr(official, part)])
    monkeypatch.setattr(official, "meta", official.meta | {"md5": None})
    folder = root / official.base_folder
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
    key = "labels" if kind is CIFAR10 else "fine_labels"
    for name, _ in official.train_list + official.test_list:
        (folder / name).write_bytes(pickle.dumps({"data": pixels, key: [1, 0]}))
    names = {official.meta["key"]: [f"thing {n}" for n in range(10)]}
    (folder / official.meta["filename"]).write_bytes(pickle.dumps(names))
    return pixels.reshape(2, 3, 32, 32)


@pytest.mark.parametrize("kind", [CIFAR10, CIFAR100])
def test_cifar_reads_the_published_batches(tmp_path: Path, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write_cifar(tmp_path, kind, monkeypatch)
    train, val, test = (kind(str(tmp_path), split) for split in ("train", "val", "test"))
    assert len(train) == (10 if kind is CIFAR10 else 2) and len(val) == len(test) == 2
    images, labels = train.read([1, 0])
    assert torch.equal(images, torch.from_numpy(pixels[[1, 0]]) / 255) and labels.tolist() == [0, 1]
    assert train.meta["classes"][1] == "thing 1" and train.meta["image_size"] == [32, 32]


def test_cifar_checks_the_files_md5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        write_cifar(tmp_path, CIFAR10, patch)
    with pytest.raises(DataError, match="cifar-10-batches-py is missing, or not as published.*--data.dataset.download"):
        CIFAR10(str(tmp_path), "train")


def test_cifar_downloads_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def offline(*_: object, **__: object) -> None:
        asked.append(True)
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", offline)
    with pytest.raises(DataError, match="missing"):
        CIFAR10(str(tmp_path), "train")
    assert not asked
    with pytest.raises(DataError, match="cannot fetch https.*no route to host.*cifar-10-batches-py by hand"):
        CIFAR10(str(tmp_path / "new"), "train", download=True)


def test_cifar10_reads_class_folders(tmp_path: Path) -> None:
    for name in ("train/cat", "train/dog", "test/dog"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / name / "1.png")
    train, test = (CIFAR10(str(tmp_path), split) for split in ("train", "test"))
    assert train.ids == ["cat/1.png", "dog/1.png"] and train.labels.tolist() == [3, 5]
    assert test[0][1] == 5 and not test.reads_batches
    (tmp_path / "train" / "unicorn").mkdir()
    with pytest.raises(DataError, match="unicorn is none of the classes"):
        CIFAR10(str(tmp_path), "train")


# Real sets


def test_real_mnist_is_the_published_one() -> None:
    train, test = MNIST(real("mnist"), "train"), MNIST(real("mnist"), "test")
    content = train.store.values.numpy().tobytes()
    head = struct.pack(">4I", 2051, 60000, 28, 28)
    assert hashlib.md5(head + content).hexdigest() == "6bbc9ace898e44ae57da46a324031adb"
    assert torch.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert len(test) == 10_000 and [test[i][1] for i in range(5)] == [7, 2, 1, 0, 4]


def test_real_dogcat() -> None:
    root = real("dogcat")
    train, val, test = (DogCat(root, split) for split in ("train", "val", "test"))
    assert len(train) == 1401 and len(val) == 601 and list(test.ids) == [str(n) for n in range(1, 201)]
    assert not set(train.ids) & set(val.ids) and train[0][0].shape[0] == 3


@pytest.mark.parametrize("kind", [CIFAR10, ImageFolder])
def test_real_cifar10_folders(kind: type) -> None:
    train, test = kind(real("cifar10"), "train"), kind(real("cifar10"), "test")
    assert len(train) == (5000 if kind is CIFAR10 else 3500) and len(test) == 1000
    assert train.classes == test.classes and test.classes[test[999][1]] == "truck"


def test_real_csv_without_and_with_a_header(tmp_path: Path) -> None:
    root = Path(real("csv_images"))
    plain = CSVImages(str(root), "train")
    rows = (root / "trainLabels.csv").read_text().splitlines()
    assert len(plain) == 140 and plain.meta["num_classes"] == 10
    assert (
        dict(zip(plain.ids, (plain.classes[n] for n in plain.labels), strict=True)).items()
        <= dict(row.split(",") for row in rows).items()
    )
    changed = tmp_path / "labels.csv"
    changed.write_text("class;id\n" + "\n".join(";".join(row.replace(".png", "").split(",")[::-1]) for row in rows))
    other = CSVImages(str(root), "train", labels=str(changed))
    assert other.ids == [name.removesuffix(".png") for name in plain.ids] and torch.equal(other.labels, plain.labels)


def test_real_unreadable_pictures_are_named() -> None:
    folder = real("broken_images/unreadable")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in sorted(os.listdir(folder)):
            with pytest.raises(DataError) as caught:
                read_image(os.path.join(folder, name))
            assert os.path.join(folder, name) in str(caught.value) and "\n" not in str(caught.value)


def test_real_odd_pictures_are_read() -> None:
    folder = Path(real("broken_images"))
    with open(folder / "manifest.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["file"].startswith("odd_but_valid")]
    warnings.simplefilter("ignore")
    assert len(rows) > 100
    for row in rows:
        width, height = sorted(int(side) for side in row["size"].split("x"))
        if width * height < 10_000_000:  # larger ones would take gigabytes
            try:
                image = read_image(str(folder / row["file"]))
            except DataError as error:
                assert row["mode"] == "F" and "it holds numbers from -3.14094 to 3.14068" in str(error)
                continue
            assert image.mode == "RGB" and sorted(image.size) == [width, height]
            assert np.array(image).shape[2] == 3


def test_real_stray_file_is_no_picture() -> None:
    assert list_images(real("broken_images/stray_files")) == []
