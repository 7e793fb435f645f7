"""The fast way from files to batches against torchvision's own: the same boxes' pixels, draws of the same kind."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import PLAIN, ROOT, TOY, dogcats, rows, same_run, state
from PIL import Image

from configs import Component
from configs.schema import Data
from data._images import ImageDataset
from data._stores import Pixels
from data.csv_pixels import CSVPixels
from data.dogcat import DogCat
from data.image_folder import ImageFolder
from data.loading.fast import FusedFiles, FusedTransform
from data.loading.loader import Loader
from data.loading.transforms import make_transform
from utils import images
from utils.errors import ConfigError, DataError, WorkerError
from utils.images import read_image, read_region

CROP = Component("RandomResizedCrop", {"size": [20, 24], "scale": [0.35, 1.0]})
FLIP = Component("RandomHorizontalFlip", {})
NORMALIZE = Component("Normalize", {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]})
SHIFT = Component("RandomCrop", {"size": [9, 12], "padding": 2})
SEEN = [Component("Resize", {"size": 26}), Component("CenterCrop", {"size": 20}), NORMALIZE]


@pytest.fixture
def photos(tmp_path):
    """Smooth pictures of many sizes, as photos are; PNG, so that nothing is decoded smaller."""
    for i in range(6):
        rng = np.random.default_rng(i)
        coarse = Image.fromarray(rng.integers(0, 256, (6, 7, 3)).astype("uint8"))
        for name in (f"cat.{i}", f"dog.{i}"):
            coarse.resize((60 + 11 * i, 90 - 7 * i), Image.Resampling.BICUBIC).save(tmp_path / f"{name}.png")
    return tmp_path


def read(dataset, **keys) -> list[torch.Tensor]:
    batches = Loader(dataset, Data(batch_size=4, **keys), seed=3, training=True)
    try:
        return [batch[0] for _, batch in batches.epoch(2)]
    finally:
        batches.close()


@pytest.mark.parametrize(
    "chain",
    [SEEN, SEEN[:2], [Component("Resize", {"size": [20, 30]}), NORMALIZE], [Component("Resize", {"size": [9, 9]})]],
)
def test_without_draws_it_is_what_torchvision_gives(photos, chain):
    fast = DogCat(str(photos), "train", make_transform(chain, fast=True), val_fraction=0)
    exact = DogCat(str(photos), "train", make_transform(chain), val_fraction=0)
    assert fast.draws and not exact.draws
    for one, other in zip(read(fast), read(exact), strict=True):
        assert (
            one.shape == other.shape and one.is_contiguous() and torch.allclose(one, other, atol=1.01 / 255 / 0.2)
        )  # one unit


def test_a_drawn_box_gives_torchvisions_pixels(photos):
    from torchvision.transforms.v2 import functional as F

    transform = make_transform([CROP, FLIP, Component("RandomVerticalFlip", {})], fast=True)
    picture = read_image(str(photos / "cat.3.png"))
    seen = set()
    for seed in range(30):
        region = transform.choose(*picture.size, seed)
        left, top, right, bottom = map(int, region.box)
        want = F.resized_crop(picture, top, left, bottom - top, right - left, [20, 24])
        want = F.horizontal_flip(want) if region.across else want
        want = F.vertical_flip(want) if region.down else want
        got = read_region(str(photos / "cat.3.png"), lambda w, h, seed=seed: transform.choose(w, h, seed))
        assert np.array_equal(got, np.asarray(want))
        seen.add((region.across, region.down))
    assert len(seen) == 4


@pytest.mark.parametrize("size", [(50, 37), (300, 20), (20, 300)])
def test_boxes_are_drawn_as_torchvision_draws_them(size):
    """Means and spreads over many draws; pictures that no box fits give the middle, as there."""
    from torchvision.transforms import v2

    fast, crop = make_transform([CROP, FLIP], fast=True), v2.RandomResizedCrop([20, 24], [0.35, 1.0])
    ours = np.array([fast.choose(*size, seed).box for seed in range(3000)])
    torch.manual_seed(0)
    empty = torch.empty(3, size[1], size[0])
    drawn = [crop.make_params([empty]) for _ in range(3000)]
    theirs = np.array([(p["left"], p["top"], p["left"] + p["width"], p["top"] + p["height"]) for p in drawn])
    spread = theirs.std(0) + 1e-9
    assert (np.abs(ours.mean(0) - theirs.mean(0)) / spread < 0.12).all()
    assert np.allclose(ours.std(0), theirs.std(0), rtol=0.1, atol=1e-6)
    flips = sum(fast.choose(*size, seed).across for seed in range(3000))
    assert 1350 < flips < 1650


def test_random_crops_reach_every_place():
    transform = make_transform([Component("Resize", {"size": 22}), Component("RandomCrop", {"size": 20})], fast=True)
    boxes = {transform.choose(22, 33, seed).box[:2] for seed in range(3000)}
    assert len(boxes) == 3 * 14


@pytest.mark.parametrize(
    "chain",
    [
        [],
        [NORMALIZE],
        [Component("Resize", {"size": 20})],  # the long side is as long as it is
        [Component("Resize", {"size": 20, "max_size": 40})],
        [Component("Resize", {"size": 20, "interpolation": "nearest"}), Component("CenterCrop", {"size": 20})],
        [Component("Resize", {"size": 20}), Component("CenterCrop", {"size": 21})],
        [Component("Resize", {"size": 20}), Component("RandomCrop", {"size": 20, "padding": 2})],
        [CROP, Component("ColorJitter", {"brightness": 0.2})],
        [FLIP, CROP],
        [CROP, NORMALIZE, FLIP],
        [Component("RandomCrop", {"size": 20})],
        [Component("RandomCrop", {"size": 20, "padding": [1, 2]})],
        [Component("RandomCrop", {"size": 20, "padding": 2, "padding_mode": "reflect"})],
        [Component("RandomCrop", {"size": 20, "padding": 2, "fill": 3})],
        [Component("RandomCrop", {"size": 20, "pad_if_needed": True})],
        [SHIFT, Component("CenterCrop", {"size": 4})],
    ],
)
def test_other_chains_go_the_general_way(chain):
    assert not isinstance(make_transform(chain, fast=True), FusedFiles)


# Small pictures in memory


def small(chain, fast=True, **changed) -> ImageDataset:
    """Ten pictures of 3x10x13."""
    values = torch.randint(256, (10, 3, 10, 13), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    store = Pixels(**{"values": values, **changed})
    names = list("0123456789")
    return ImageDataset(store, names, list(range(10)), names, make_transform(chain, fast=fast))


@pytest.mark.parametrize("chain", [[NORMALIZE], [Component("CenterCrop", {"size": [7, 10]}), NORMALIZE]])
def test_in_memory_without_draws_it_is_what_torchvision_gives(chain):
    fast, exact = small(chain), small(chain, fast=False)
    assert fast.draws and not exact.draws
    for one, other in zip(read(fast), read(exact), strict=True):
        assert one.is_contiguous() and torch.allclose(one, other, atol=2e-6)


@pytest.mark.parametrize("crop", [SHIFT, Component("RandomCrop", {"size": 6}), None])
def test_in_memory_a_drawn_place_gives_torchvisions_pixels(crop):
    from torchvision.transforms.v2 import functional as F

    chain = [*([crop] if crop else []), FLIP, Component("RandomVerticalFlip", {}), NORMALIZE]
    dataset, seeds, seen = small(chain), list(range(100, 180)), set()
    images, labels = dataset.finish(dataset.read([i % 10 for i in range(80)], seeds))
    padding = 2 if crop is SHIFT else 0
    for i, (image, seed) in enumerate(zip(images, seeds, strict=True)):
        region = dataset.transform.choose(13 + 2 * padding, 10 + 2 * padding, seed)
        left, top, right, bottom = map(int, region.box)
        want = F.crop(F.pad(dataset.store.values[i % 10], [padding]), top, left, bottom - top, right - left)
        want = F.horizontal_flip(want) if region.across else want
        want = F.vertical_flip(want) if region.down else want
        want = F.normalize(want.float() / 255, NORMALIZE.args["mean"], NORMALIZE.args["std"])
        assert int(labels[i]) == i % 10 and torch.allclose(image, want, atol=2e-6)
        seen.add((region.across, region.down))
    assert len(seen) == 4


def test_in_memory_every_place_is_reached():
    transform = make_transform([SHIFT], fast=True)
    assert len({transform.choose(17, 14, seed).box[:2] for seed in range(3000)}) == 6 * 6


def test_in_memory_loaders_and_a_later_start_give_the_same_bits():
    dataset = small([SHIFT, FLIP, NORMALIZE])
    whole = read(dataset)
    assert not torch.equal(whole[0], read(small([NORMALIZE]))[0][:, :, :9, :12])
    for keys in ({"loader": "threads", "num_workers": 2}, {"loader": "processes", "num_workers": 2}):
        assert all(map(torch.equal, whole, read(dataset, **keys))), keys
    batches = Loader(dataset, Data(batch_size=4), seed=3, training=True)
    assert torch.equal(next(batches.epoch(2, 1))[1][0], whole[1])


def test_in_memory_what_does_not_fit_is_left_to_torchvision():
    """Pictures of another shape or scale, and a step that torchvision refuses with a sentence of its own."""
    assert not small([NORMALIZE], values=torch.zeros(10, 2, 10, 13, dtype=torch.uint8)).draws
    assert not small([NORMALIZE], white=16).draws
    assert not small([Component("RandomCrop", {"size": 11})]).draws
    assert small([Component("RandomCrop", {"size": 14, "padding": 2})]).draws
    assert isinstance(make_transform([SHIFT], fast=True), FusedTransform)


def test_in_memory_all_of_it_happens_where_the_pixels_lie():
    """On no device at all, mixing in a tensor of the CPU is an error, as on a GPU."""
    transform, there = make_transform([SHIFT, FLIP, NORMALIZE], fast=True), torch.empty(10, 3, 10, 13, device="meta")
    made = transform.normalise(transform.cut(there.byte(), range(10)))
    assert made.device.type == "meta" and made.shape == (10, 3, 9, 12) and made.dtype == torch.float32


@pytest.mark.slow
def test_a_usual_chain_needs_no_torchvision(tmp_path):
    """It takes as long to import as torch itself."""
    dogcats(tmp_path / "photos", 8)
    flags = ["dogcat_small", "--train-data-root=photos", "--model=LeNet", "--num-workers=0", "--log.visdom=false"]
    code = "import sys, main; sys.exit(main.main(sys.argv[1:]) or ('torchvision' in sys.modules))"
    command = [sys.executable, "-c", code, "train", "--run=a", *flags, "--max-epoch=1"]
    given = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
    assert given.returncode == 0, given.stderr.decode()[-2000:]
    assert (tmp_path / "checkpoints" / "a" / "predictions.png").exists()


def test_loaders_and_a_later_start_give_the_same_bits(photos):
    dataset = DogCat(str(photos), "train", make_transform([CROP, FLIP, NORMALIZE], fast=True), val_fraction=0)
    whole = read(dataset)
    for keys in (
        {"loader": "threads", "num_workers": 3},
        {"loader": "processes", "num_workers": 2},
        {"num_workers": 2},
    ):
        assert all(map(torch.equal, whole, read(dataset, **keys))), keys
    batches = Loader(dataset, Data(batch_size=4, num_workers=2), seed=3, training=True)
    assert batches.threaded and torch.equal(next(batches.epoch(2, 2))[1][0], whole[2])
    batches.close()


@pytest.mark.parametrize("keys", [{}, {"num_workers": 2}, {"loader": "processes", "num_workers": 1}])
@pytest.mark.parametrize("kind", ["files", "memory"])
def test_sent_as_pixels_and_finished_there_a_batch_has_the_same_bits(photos, kind, keys):
    """As a GPU's batches are made: the numbers that a picture's bytes stand for are only computed where they arrive."""
    files = DogCat(str(photos), "train", make_transform([CROP, FLIP, NORMALIZE], fast=True), val_fraction=0)
    dataset = files if kind == "files" else small([SHIFT, FLIP, NORMALIZE])
    whole, finish, sent = read(dataset), dataset.finish, []
    dataset.finish = lambda batch: sent.append(batch) or finish(batch)
    batches = Loader(dataset, Data(batch_size=4, **keys), seed=3, training=True)
    batches.samples.late = True
    late = [images for _, (images, _) in batches.epoch(2)]
    batches.close()
    assert all(images.dtype == torch.uint8 for images, _ in sent) and len(sent) == len(whole)
    assert all(map(torch.equal, late, whole)) and all(images.is_contiguous() for images in late)


def test_nothing_is_drawn_from_the_process(photos):
    dataset = DogCat(str(photos), "train", make_transform([CROP, FLIP], fast=True), val_fraction=0)
    before = random.getstate(), torch.get_rng_state(), str(np.random.get_state())
    read(dataset)
    assert (random.getstate(), str(np.random.get_state())) == before[::2] and torch.equal(
        torch.get_rng_state(), before[1]
    )


# Files


@pytest.fixture
def jpegs(tmp_path):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (5, 6, 3)).astype("uint8")).resize(
        (601, 450), Image.Resampling.BICUBIC
    )
    picture.save(tmp_path / "plain.jpg")
    picture.convert("L").save(tmp_path / "grey.jpg")
    picture.convert("CMYK").save(tmp_path / "cmyk.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    picture.save(tmp_path / "turned.jpg", exif=exif)
    exif[0x0112] = 1
    picture.save(tmp_path / "upright.jpg", exif=exif)
    picture.save(tmp_path / "really.png")
    (tmp_path / "really.png").rename(tmp_path / "really.jpg")
    return tmp_path


@pytest.mark.parametrize("name", ["plain", "grey", "cmyk", "turned", "upright", "really"])
@pytest.mark.parametrize("library", ["simplejpeg", "Pillow"])
def test_a_jpeg_read_smaller_looks_the_same(jpegs, name, library, monkeypatch):
    if library == "simplejpeg":
        pytest.importorskip("simplejpeg")
    else:
        monkeypatch.setattr(images, "_simplejpeg", lambda: None)
    region = images.Region((31, 40, 331, 420), (33, 40), True)
    path = str(jpegs / f"{name}.jpg")
    found = read_region(path, lambda w, h: region)
    full = images.cut(read_image(path), region)
    assert found.shape == full.shape == (40, 33, 3)
    assert np.abs(found.astype(int) - full).mean() < 4


def test_simplejpeg_gives_pillows_values(jpegs, monkeypatch):
    pytest.importorskip("simplejpeg")
    for side in (8, 40, 70, 140, 400):
        region = images.Region((3.5, 2, 403.5, 402), (side, side))
        ours = read_region(str(jpegs / "plain.jpg"), lambda w, h, region=region: region)
        with monkeypatch.context() as patch:
            patch.setattr(images, "_simplejpeg", lambda: None)
            assert np.array_equal(ours, read_region(str(jpegs / "plain.jpg"), lambda w, h, region=region: region))


def test_a_damaged_file_is_one_sentence(jpegs):
    (jpegs / "cut.jpg").write_bytes((jpegs / "plain.jpg").read_bytes()[:3000])
    (jpegs / "empty.jpg").touch()
    for name in ("cut.jpg", "empty.jpg", "none.jpg"):
        with pytest.raises(DataError, match=f"cannot read the picture .*{name}"):
            read_region(str(jpegs / name), lambda w, h: images.Region((0, 0, w, h), (8, 8)))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_comes_through_threads_as_it_was(tmp_path, workers):
    folder = dogcats(tmp_path / "photos", 4)
    (folder / "dog.9.jpg").write_bytes(b"\xff\xd8 no picture")
    dataset = DogCat(str(folder), "train", make_transform([CROP], fast=True), val_fraction=0)
    with pytest.raises(DataError, match=r"cannot read the picture .*dog\.9\.jpg"):
        read(dataset, num_workers=workers)


def test_frozen_threads_are_told(photos, monkeypatch):
    dataset = DogCat(str(photos), "train", make_transform([CROP], fast=True), val_fraction=0)
    monkeypatch.setattr(dataset.store.__class__, "region", lambda *_: __import__("time").sleep(5))
    with pytest.raises(WorkerError, match="worker_timeout"):
        read(dataset, num_workers=1, worker_timeout=0.05)


def test_threads_need_numbers_of_their_own(photos):
    with pytest.raises(ConfigError, match=r"data\.loader: threads need"):
        Loader(DogCat(str(photos), "train"), Data(loader="threads"), 0, training=True)


def test_an_overridden_sample_is_not_passed_by(photos):
    class Own(ImageFolder):
        def __getitem__(self, index):
            return super().__getitem__(index)

    for name in ("a", "b"):
        (photos / name).mkdir()
        (photos / f"cat.{name == 'b':d}.png").rename(photos / name / "1.png")
    transform = make_transform([CROP], fast=True)
    assert ImageFolder(str(photos), "train", transform, val_fraction=0).draws
    assert not Own(str(photos), "train", transform, val_fraction=0).draws


def test_a_training_by_threads_is_the_training_without(run, tmp_path):
    dogcats(tmp_path / "photos")
    args = ["--data.dataset=DogCat", "--train-data-root=photos", "--model=LeNet", "--batch-size=5", *TOY[1:]]
    chain = "[{name: RandomResizedCrop, size: 28}, RandomHorizontalFlip]"
    args += [f"--data.transform.train={chain}", "--data.transform.eval=[{name: Resize, size: [28, 28]}]"]
    for name, more in (("a", []), ("b", ["--num-workers=2"]), ("c", ["--data.pixels=exact"])):
        given = run("train", f"--run={name}", *args, *more)
        assert given.code == 0, given.err
    assert rows("a") == rows("b") and same_run(state("a"), state("b"))
    assert rows("a") != rows("c"), "both ways give the same: the switch does nothing"


def pixels_file(folder, name, header, lines):
    (folder / name).write_text("\n".join([header, *lines]) + "\n")


def test_a_column_of_ids_is_no_pixel(tmp_path):
    """As in Kannada MNIST, whose test.csv begins with ids."""
    pixels_file(tmp_path, "train.csv", "label,p0,p1,p2,p3", [f"{i % 2},{i},2,3,4" for i in range(10)])
    pixels_file(tmp_path, "test.csv", "id,p0,p1,p2,p3", [f"{700 + i},{i},2,3,4" for i in range(3)])
    train, test = CSVPixels(str(tmp_path), "train"), CSVPixels(str(tmp_path), "test", classes=["0", "1"])
    assert test.ids == ["700", "701", "702"] and test[2].flatten().mul(255).tolist() == [2, 2, 3, 4]
    assert train.meta["image_size"] == [2, 2] and any("id: the number of the row" in line for line in train.facts.lines)


@pytest.mark.parametrize("usage", [True, False])
def test_pixels_in_one_column_with_usage(tmp_path, usage):
    """As in FER2013: emotion, pixels with spaces, Usage."""
    parts = ["Training"] * 6 + ["PublicTest"] * 2 + ["PrivateTest"] * 2
    lines = [f"{i % 2},{i} 2 3 4" + f",{part}" * usage for i, part in enumerate(parts)]
    pixels_file(tmp_path, "train.csv", "emotion,pixels" + ",Usage" * usage, lines)
    train, val = CSVPixels(str(tmp_path), "train"), CSVPixels(str(tmp_path), "val")
    assert (len(train), len(val)) == ((6, 2) if usage else (8, 2)) and train[0][0].shape == (1, 2, 2)
    whole = CSVPixels(str(tmp_path), "val", whole=True)
    assert len(whole) == 10 and whole.ids[0] == "1"
    if usage:
        assert val.ids == ["7", "8"] and CSVPixels(str(tmp_path), "test").ids == ["9", "10"]


def test_classes_have_names_by_a_key(tmp_path):
    pixels_file(tmp_path, "train.csv", "label,p0,p1,p2,p3", [f"{i % 2},{i},2,3,4" for i in range(10)])
    named = CSVPixels(str(tmp_path), "train", classes=["shirt", "shoe"])
    plain = CSVPixels(str(tmp_path), "train")
    assert named.classes == ["shirt", "shoe"] and named.labels.tolist() == plain.labels.tolist()
    with pytest.raises(DataError, match="2 classes .* but 3 are named"):
        CSVPixels(str(tmp_path), "train", classes=["a", "b", "c"])


@pytest.mark.parametrize("classes", [[], ["--data.dataset.classes=[shirt,shoe,sock]"]])
def test_another_file_is_scored_with_the_labels_of_the_training(run, tmp_path, classes):
    """By their texts, not by their ranks: a file may lack a class."""
    header = "label,p0,p1,p2,p3"
    for name, labels in (("mine", (5, 6, 7)), ("fewer", (6, 7)), ("other", (6, 7, 8))):
        (tmp_path / name).mkdir()
        lines = [f"{labels[i % len(labels)]},{255 * (i % 2)},{i},3,4" for i in range(30)]
        pixels_file(tmp_path / name, "train.csv", header, lines)
    task = ["--data.dataset=CSVPixels", "--train-data-root=mine", "--model=MLP", *PLAIN, *classes]
    given = run("train", "--run=a", *task, "--max-epoch=1", "--data.transform.train=[]", "--data.transform.eval=[]")
    assert given.code == 0, given.err
    meta = state("a")["meta"]
    assert meta["label_texts"] == ["5", "6", "7"] and meta["classes"] == (
        ["shirt", "shoe", "sock"] if classes else [*"567"]
    )
    given = run("val", "checkpoints/a", "--train-data-root=fewer")
    assert given.code == 0, given.err
    fewer = CSVPixels("fewer", "val", whole=True, classes=meta["classes"], label_texts=meta["label_texts"])
    assert fewer.labels.tolist() == [1, 2] * 15 and fewer.classes == meta["classes"]
    given = run("val", "checkpoints/a", "--train-data-root=other")
    assert given.code == 3
    assert "other/train.csv: has a label '8', the training rows have only 5, 6, 7" in given.err


def test_a_row_of_another_number_of_pixels_is_named(tmp_path):
    """Two of them may hold as many as they should together, and would shift all rows between them."""
    rows = [f"{i % 2},{' '.join(['7'] * n)}" for i, n in enumerate([16, 16, 15, 16, 17, 16])]
    (tmp_path / "train.csv").write_text("\n".join(["emotion,pixels", *rows]) + "\n")
    with pytest.raises(DataError, match=r"train.csv:4: holds 15 pixels, the first row 16"):
        CSVPixels(str(tmp_path), "train")
