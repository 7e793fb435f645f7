"""Pictures that are kept decoded: the same pixels, made once, believed only if nothing has changed."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TOY, dogcats, rows
from filelock import FileLock
from PIL import Image

from configs import Component
from configs.schema import Data
from data._images import ImageDataset
from data._stores import Pixels
from data.digits import Digits
from data.dogcat import DogCat
from data.loading.cache import FOLDER, short_side, with_cache
from data.loading.loader import Loader
from data.loading.transforms import make_transform
from data.random_regression import RandomRegression
from utils.errors import ConfigError, DataError, StorageError

SEEN = [Component("Resize", {"size": 26}), Component("CenterCrop", {"size": 20})]
CROP = [Component("RandomResizedCrop", {"size": 20, "scale": [0.25, 1.0]})]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Of several sizes, two smaller than needed, one turned."""
    monkeypatch.chdir(tmp_path)
    folder = dogcats(tmp_path / "photos", 3, (120, 90))
    dogcats(folder, 2, (90, 130), start=3)
    dogcats(folder, 1, (24, 21), start=8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / "cat.0.jpg").save(folder / "cat.9.jpg", exif=exif)
    return folder


def made(folder: Path, chain=SEEN, fast=False, kind: str | None = "ram", say=lambda text: None):
    dataset = DogCat(str(folder), "train", make_transform(chain, fast), val_fraction=0)
    return with_cache(dataset, kind, say)


@pytest.mark.parametrize("kind", ["ram", "disk"])
@pytest.mark.parametrize("fast", [True, False])
def test_what_is_resized_first_has_the_same_pixels(photos, kind, fast):
    kept, plain = made(photos, fast=fast, kind=kind), made(photos, kind=None)
    assert kept.store is not plain.store and list(kept.ids) == list(plain.ids)
    for index in range(len(plain)):
        (image, label), (want, right) = kept[index], plain[index]
        assert torch.equal(image, want) and label == right
    batch, _ = next(iter(Loader(kept, Data(batch_size=99), 0, training=False).epoch(0)))[1]
    whole = torch.stack([plain[i][0] for i in range(len(plain))])
    assert torch.allclose(batch, whole, atol=1.01 / 255)


def test_who_waits_for_another_process_says_so(photos):
    made(photos, kind="disk")
    (path,) = FOLDER.glob("*.u8")
    other, said = FileLock(path.with_suffix(".lock")), []
    other.acquire()
    made(photos, kind="disk", say=lambda text: (said.append(text), other.release()))
    assert len(said) == 1 and "waiting" in said[0]


def test_random_crops_have_pixels_enough(photos):
    kept, plain = made(photos, CROP, fast=True), made(photos, CROP, fast=True, kind=None)
    assert short_side(plain.transform) == 32
    assert {min(size) for size in kept.store.sizes.tolist()} == {21, 32}
    first: list = []
    for data in (
        Data(batch_size=5),
        Data(batch_size=5, num_workers=2),
        Data(batch_size=5, num_workers=2, loader="processes"),
    ):
        batches = Loader(kept, data, 1, training=True)
        found = [batch[0] for _, batch in batches.epoch(4)]
        batches.close()
        first = first or found
        assert all(map(torch.equal, found, first))
    assert np.isclose(torch.cat(first).mean(), torch.stack([plain[i][0] for i in range(len(plain))]).mean(), atol=0.05)


@pytest.mark.parametrize(
    ("chain", "side"),
    [
        (SEEN, 26),
        ([Component("Resize", {"size": [10, 30]})], 30),
        ([Component("RandomResizedCrop", {"size": 64})], 182),
        ([Component("RandomCrop", {"size": 9}), *SEEN], None),
        ([Component("Resize", {"size": 10, "max_size": 20})], None),
    ],
)
def test_the_side_that_is_kept(chain, side):
    assert short_side(make_transform(chain)) == short_side(make_transform(chain, fast=True)) == side
    assert short_side(None) is None


def test_without_transforms_all_is_kept(photos):
    plain = DogCat(str(photos), "train", None, val_fraction=0)
    kept = with_cache(plain, "ram", lambda text: None)
    assert all(torch.equal(kept[i][0], plain[i][0]) for i in range(len(plain)))


def test_the_file_is_made_once_and_its_size_said_before(photos, monkeypatch):
    said: list[str] = []
    one = made(photos, kind="disk", say=said.append)
    assert len(said) == 1 and "13 pictures take 0 MB on disk: made once" in said[0]
    monkeypatch.setattr("data.loading.cache.read_image", None)  # nothing is decoded again
    other = made(photos, kind="disk", say=said.append)
    assert len(said) == 1 and all(torch.equal(one[i][0], other[i][0]) for i in range(13))
    assert sorted(path.suffix for path in FOLDER.iterdir()) == [".lock", ".u8"]


@pytest.mark.parametrize("change", ["touched", "renamed", "side"])
def test_what_has_changed_is_made_anew(photos, change):
    made(photos, kind="disk")
    if change == "touched":
        os.utime(photos / "cat.1.jpg", (1, 1))
    elif change == "renamed":
        (photos / "cat.1.jpg").rename(photos / "cat.77.jpg")
    chain = [Component("Resize", {"size": 25}), SEEN[1]] if change == "side" else SEEN
    said: list[str] = []
    made(photos, chain, kind="disk", say=said.append)
    assert said and len(list(FOLDER.glob("*.u8"))) == 2


@pytest.mark.parametrize("damage", ["bit", "cut", "empty"])
def test_a_damaged_file_is_made_anew(photos, damage):
    one = made(photos, kind="disk")
    want = [one[i][0] for i in range(13)]
    path = next(FOLDER.glob("*.u8"))
    content = bytearray(path.read_bytes())
    content[1234] ^= 1
    path.unlink()
    path.write_bytes({"bit": content, "cut": content[:-9], "empty": b""}[damage])
    (FOLDER / f"{path.name}.1.tmp").write_bytes(b"of a process that was killed")
    said: list[str] = []
    other = made(photos, kind="disk", say=said.append)
    assert said and all(torch.equal(other[i][0], image) for i, image in enumerate(want))
    assert not list(FOLDER.glob("*.tmp"))


def test_a_disk_that_is_full_is_told(photos, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageError, match="No space left on device .*--data.cache=ram"):
        made(photos, kind="disk")
    assert not list(FOLDER.glob("*.u8*"))


def test_an_unreadable_picture_is_told(photos):
    (photos / "dog.5.jpg").write_bytes(b"no picture")
    for kind in ("ram", "disk"):
        with pytest.raises(DataError, match=r"cannot read the picture .*dog\.5\.jpg"):
            made(photos, kind=kind)


def test_what_has_no_files():
    digits = Digits("train")
    assert with_cache(digits, "ram") is digits
    data = RandomRegression("train")
    data.reads_batches = False
    with pytest.raises(ConfigError, match=r"data\.cache: RandomRegression has no picture files"):
        with_cache(data, "ram")


def in_memory(*chain: Component, fast: bool = True) -> ImageDataset:
    names = list("0123456789")
    values = torch.arange(10 * 3 * 8 * 8).remainder(251).byte().view(10, 3, 8, 8)
    return ImageDataset(Pixels(values), names, list(range(10)), names, make_transform(chain, fast) if chain else None)


SHIFT = Component("RandomCrop", {"size": 8, "padding": 1})
FLIP = Component("RandomHorizontalFlip", {})


@pytest.mark.parametrize("chain", [[], [SHIFT, FLIP]])
def test_a_batch_is_made_where_the_pixels_were_put(chain):
    """On torch's device without memory, mixing in a tensor of the CPU is an error, as on a GPU."""
    plain = in_memory(*chain)
    here, there = with_cache(plain, "gpu"), with_cache(plain, "gpu", device=torch.device("meta"))
    assert plain.store.values.device == here.store.values.device == torch.device("cpu")
    for dataset, place in ((here, "cpu"), (there, "meta")):
        images, labels = dataset.read(torch.tensor([1, 2]), [5, 6])
        if chain:
            images, labels = dataset.finish((images, labels))
        assert (images.device.type, images.shape, labels.tolist()) == (place, (2, 3, 8, 8), [1, 2])


def test_what_cannot_lie_on_a_gpu(photos):
    with pytest.raises(ConfigError, match=r"gpu is for small pictures that lie in memory.* those of DogCat do not"):
        made(photos, kind="gpu")
    for dataset in (in_memory(SHIFT, FLIP, fast=False), in_memory(Component("ColorJitter", {"hue": 0.2}))):
        with pytest.raises(ConfigError, match=r"in data\.transform only a crop.* and 256 levels do not fit"):
            with_cache(dataset, "gpu")


def test_a_run_trained_from_a_gpu_goes_on_without_one(run):
    args = ["--model=LeNet", *TOY[1:]]
    for name, more in (("a", []), ("b", ["--data.cache=gpu", "--use-gpu=false"])):
        given = run("train", f"--run={name}", *args, *more)
        assert given.code == 0, given.err
    assert rows("a") == rows("b")


def test_a_run_from_the_cache_repeats_and_resumes(run, photos):
    chain = "[{name: RandomResizedCrop, size: 28, scale: [0.35, 1.0]}, RandomHorizontalFlip]"
    args = ["--data.dataset=DogCat", "--train-data-root=photos", "--model=LeNet", "--batch-size=3", *TOY[1:]]
    args += [f"--data.transform.train={chain}", "--data.transform.eval=[{name: Resize, size: [28, 28]}]"]
    for name, more in (("a", ["--data.cache=ram"]), ("b", ["--data.cache=disk"])):
        given = run("train", f"--run={name}", *args, *more)
        assert given.code == 0 and "data.cache: " in given.out, given.err
    assert rows("a") == rows("b")
    assert run("train", "--run=c", *args, "--data.cache=disk", "--train.max_steps=2").code == 0
    assert run("train", "--resume=checkpoints/c", "--train.max_steps=99").code == 0
    assert rows("c", phase="train") == rows("a", phase="train")
