"""The datasets, on files that the tests make."""

import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from torch import Tensor

from data._folders import list_images
from data._images import split_indices
from data.cifar import CIFAR10, CIFAR100
from data.digits import Digits
from data.dogcat import DogCat
from data.image_folder import ImageFolder
from data.mnist import MNIST
from utils.errors import DataError
from utils.images import read_image


def paint(path: Path, colour: tuple[int, int, int] = (0, 128, 255), size: tuple[int, int] = (6, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def pets(tmp_path: Path) -> str:
    for n in range(10):
        paint(tmp_path / f"cat.{n}.jpg")
        paint(tmp_path / f"dog.{n}.JPG")
    return str(tmp_path)


def rng_states() -> list:
    return [random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()]


def random_shift(picture: Image.Image) -> Tensor:
    """A transform that draws from all three global generators."""
    return torch.rand(3, 5, 7) + random.random() + np.random.rand()


def test_import_loads_only_the_file_asked_for() -> None:
    code = """
import sys, data
assert "torch" not in sys.modules and "DogCat" in dir(data) and not hasattr(data, "Cow")
from data import DogCat
assert DogCat.__module__ == "data.dogcat" and "data.mnist" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


# Pictures


def test_picture_tensor_is_chw_in_unit_range(pets: str) -> None:
    image, label = DogCat(pets, "train")[0]
    assert image.dtype == torch.float32 and image.shape == (3, 4, 6) and isinstance(label, int)
    assert torch.allclose(image.mean((1, 2)), torch.tensor([0, 128, 255]) / 255, atol=0.02)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    picture = Image.new("RGB", (6, 4))
    exif = picture.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(str(tmp_path / "a.jpg")).size == (4, 6)


def test_sixteen_bit_picture_is_scaled_not_cut_off(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 0x1234, 0xFFFF]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert np.asarray(read_image(str(tmp_path / "a.png"), "L")).tolist() == [[0, 0x12, 0xFF]]


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "folder", "missing", "pipe"])
def test_unreadable_picture_is_one_sentence_with_its_path(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.jpg"
    if kind in ("empty", "text"):
        path.write_text("" if kind == "empty" else "<html>not found</html>")
    elif kind == "truncated":
        paint(path, size=(200, 200)).write_bytes(path.read_bytes()[:400])
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(DataError) as caught:
        read_image(str(path))
    assert str(caught.value).startswith(f"cannot read the picture {path} (") and "\n" not in str(caught.value)


def test_decompression_bomb_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match="million pixels, which take gigabytes of memory; make it smaller"):
        read_image(str(paint(tmp_path / "a.png", size=(100, 100))))


def test_listing_takes_pictures_only(tmp_path: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "notes.txt", "._a.jpg", "b.jpeg", "a.PNG"):
        (tmp_path / name).touch()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "c.webp").touch()
    assert list_images(str(tmp_path)) == ["a.PNG", "b.jpeg"]
    assert list_images(str(tmp_path), nested=True) == ["a.PNG", "b.jpeg", "inner/c.webp"]


def test_many_files_are_listed_by_name_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(20_000):
        os.close(os.open(tmp_path / f"cat.{n}.jpg", os.O_CREAT))
    (tmp_path / "dog.0.jpg").touch()
    monkeypatch.setattr(os, "stat", None)  # a look at each of a million files would take minutes on a network disk
    names = list_images(str(tmp_path))
    assert len(names) == 20_001 and all(type(name) is str for name in names)


# Splits


def test_split_is_a_partition_fixed_by_the_seed(pets: str) -> None:
    train, val = DogCat(pets, "train"), DogCat(pets, "val")
    assert len(train) == 14 and len(val) == 6
    assert {*train.ids} | {*val.ids} == {*os.listdir(pets)} and not {*train.ids} & {*val.ids}
    assert DogCat(pets, "train").ids == train.ids
    assert DogCat(pets, "train", seed=1).ids != train.ids
    assert len(DogCat(pets, "val", val_fraction=0.5)) == 10


def test_no_dataset_touches_global_rng(pets: str) -> None:
    random.seed(97), np.random.seed(98), torch.manual_seed(99)  # states that no seed of a split leads to
    before = rng_states()
    for dataset in (DogCat(pets, "train", transform=random_shift), Digits("train", seed=3)):
        assert dataset.meta["num_classes"] >= 2
    assert rng_states() == before


@pytest.mark.parametrize("fraction", [-0.1, 1.5, 30])
def test_fraction_outside_unit_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="val_fraction"):
        split_indices(10, "val", fraction, 0)


def test_split_left_empty_is_refused() -> None:
    with pytest.raises(DataError, match="none of the 10 samples to the split 'val'"):
        split_indices(10, "val", 0.0, 0)


# DogCat


def test_dogcat_label_is_the_file_names_prefix(pets: str) -> None:
    dataset = DogCat(pets, "train")  # the folder's own path may say anything
    assert [dataset.labels[i] for i in range(14)] == [int(name.startswith("dog")) for name in dataset.ids]
    assert dataset.meta == {
        "classes": ["cat", "dog"],
        "num_classes": 2,
        "in_channels": 3,
        "image_size": [4, 6],
        "positive": "dog",
    }


def test_dogcat_label_does_not_come_from_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "dog.1.jpg"
    paint(folder / "cat.1.jpg")
    paint(folder / "cat.dog.2.jpg")
    paint(folder / "dog.cat.3.jpg")
    dataset = DogCat(str(folder), "train", val_fraction=0)
    assert dict(zip(dataset.ids, dataset.labels.tolist(), strict=True)) == {
        "cat.1.jpg": 0,
        "cat.dog.2.jpg": 0,
        "dog.cat.3.jpg": 1,
    }


def test_dogcat_test_has_numeric_ids_and_no_labels(tmp_path: Path) -> None:
    for n in (10, 2, 1, 33):
        paint(tmp_path / f"{n}.jpg", size=(n, 4))
    dataset = DogCat(str(tmp_path), "test")
    assert list(dataset.ids) == ["1", "2", "10", "33"] and list(dataset.ids[1:3]) == ["2", "10"]
    assert [dataset[i].shape[2] for i in range(4)] == [1, 2, 10, 33]


def test_dogcat_finds_train_and_test_below_root(tmp_path: Path) -> None:
    for name in ("train/cat.0.jpg", "train/dog.0.jpg", "test/7.jpg"):
        paint(tmp_path / name)
    assert len(DogCat(str(tmp_path), "train", val_fraction=0)) == 2
    assert list(DogCat(str(tmp_path), "test").ids) == ["7"]


@pytest.mark.parametrize(
    ("files", "split", "message"),
    [
        ([], "train", r"no pictures in .*\.jpg, \.jpeg.*--train-data-root"),
        ([], "test", r"no pictures in .*--test-data-root"),
        (["cat.0.jpg", "cat.1.jpg"], "train", "holds only cats; put pictures named dog.N.jpg"),
        (["cat.0.jpg", "dog.1.jpg", "fish.3.jpg"], "train", r"fish\.3\.jpg has no label"),
        (["cat.0.jpg", "category.1.jpg"], "val", r"category\.1\.jpg has no label"),
        (["1.jpg", "cat.0.jpg"], "test", r"cat\.0\.jpg is not named N\.jpg.*--test-data-root"),
        (["1.jpg", "01.png"], "test", "has the same number as"),
    ],
)
def test_dogcat_says_what_is_wrong_with_a_folder(tmp_path: Path, files: list[str], split: str, message: str) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=message):
        DogCat(str(tmp_path), split)


@pytest.mark.parametrize("kind", [DogCat, MNIST, CIFAR10, CIFAR100, ImageFolder])
def test_missing_folder_names_the_flags(tmp_path: Path, kind: type) -> None:
    for split, flag in (("train", "--train-data-root="), ("test", "--test-data-root=")):
        with pytest.raises(DataError, match=f"nowhere does not exist.*--data.dataset.root=.*{flag}"):
            kind(root=str(tmp_path / "nowhere"), split=split)


@pytest.mark.parametrize("transform", [None, random_shift])
def test_datasets_survive_pickling(pets: str, transform: object) -> None:
    for dataset in (DogCat(pets, "train", transform=transform), Digits("val", transform=transform)):
        copy = pickle.loads(pickle.dumps(dataset))
        assert list(copy.ids) == list(dataset.ids) and copy[3][1] == dataset[3][1]


# In memory


def test_digits_are_split_without_overlap() -> None:
    splits = [Digits(split) for split in ("train", "val", "test")]
    assert [len(dataset) for dataset in splits] == [1258, 269, 270]
    assert len({i for dataset in splits for i in dataset.ids}) == 1797


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_digits_hold_scikit_learns_values(split) -> None:
    from sklearn.datasets import load_digits

    dataset, source = Digits(split), load_digits()
    images, labels = dataset.read(list(range(len(dataset))))
    numbers = [int(i) for i in dataset.ids]
    assert images.dtype == torch.float32 and labels.dtype == torch.int64
    assert np.array_equal(images[:, 0].numpy(), source.images[numbers] / 16)
    assert np.array_equal(labels.numpy(), source.target[numbers])


def test_digits_need_no_import_of_scikit_learn() -> None:
    """It takes longer than torch's own."""
    code = "import sys; from data import Digits; Digits('val'); print('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "False\n"


def test_take_gives_what_getitem_gives() -> None:
    dataset = Digits("train")
    images, labels = dataset.read([5, 0, 7])
    assert dataset.reads_batches and images.shape == (3, 1, 8, 8) and labels.dtype == torch.int64
    for row, i in enumerate([5, 0, 7]):
        assert torch.equal(images[row], dataset[i][0]) and labels[row] == dataset[i][1]


def test_a_transform_gets_a_picture_and_hides_take() -> None:
    seen = []
    dataset = Digits("train", transform=lambda picture: seen.append(picture) or torch.zeros(1, 2, 2))
    assert dataset[0][0].shape == (1, 2, 2) and not dataset.reads_batches
    assert seen[0].mode == "L" and seen[0].size == (8, 8) and seen[0].getextrema()[1] == 255
    assert dataset.meta["image_size"] == [2, 2]
