"""Samples that cannot be read: left out, replaced or not read again; counted the same however they are read."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import BESIDE, PLAIN, dogcats, rows, same, same_run, state
from PIL import Image, ImageOps

from configs import Component
from configs.schema import Data
from data.dogcat import DogCat
from data.image_folder import ImageFolder
from data.loading.cache import with_cache
from data.loading.loader import Loader
from data.loading.transforms import make_transform
from data.protocol import be_lenient
from utils.errors import ConfigError, DataError, PictureError
from utils.images import Region, read_image, read_region

BROKEN = BESIDE / "broken_images"
CUT, EMPTY = ("cat.3", "cat.7", "dog.11"), "dog.6"  # of training, of validation
SMALL = ["dogcat_small", "--train-data-root=train", "--model=MLP", "--model.hidden=[4]", "--schedule=null", *PLAIN]
SMALL += ["--batch-size=8", "--print-freq=1"]
BUDGET = "--data.max_bad=0.3"
CHAIN = [Component("RandomResizedCrop", {"size": [12, 12]}), Component("RandomHorizontalFlip", {})]


def spoil(folder: Path, *names: str) -> Path:
    """Cut pictures off in the middle of their pixels."""
    for name in names:
        path = folder / f"{name}.jpg"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return folder


@pytest.fixture
def photos(tmp_path):
    """Sixteen photos; three are cut off, and one, which is in the validation split, is empty."""
    folder = spoil(dogcats(tmp_path / "train", 14), *CUT)
    (folder / f"{EMPTY}.jpg").write_bytes(b"")
    return folder


def listed(run_name: str) -> list[dict[str, str]]:
    with open(f"checkpoints/{run_name}/bad_samples.csv", newline="") as file:
        return list(csv.DictReader(file))


def read_all(
    photos: Path, monkeypatch, epochs: int = 2, cache: str | None = None, pixels: str = "fast", **keys
) -> tuple:
    """The batches of some epochs, and the list of bad samples."""
    monkeypatch.setattr("data.loading.cache.FOLDER", photos.parent / "pixels")
    dataset = DogCat(str(photos), "train", make_transform(CHAIN, fast=pixels == "fast"), val_fraction=0)
    be_lenient(dataset)
    cfg = Data(batch_size=8, max_bad=8, **keys)
    loader = Loader(with_cache(dataset, cache, lambda text: None), cfg, seed=3, training=True, say=lambda text: None)
    try:
        found = [part for epoch in range(epochs) for part in loader.epoch(epoch)]
    finally:
        loader.close()
    return [(indices, batch[0], batch[1]) for indices, batch in found], list(loader.bad.found.values())


@pytest.mark.parametrize("action", ["skip", "replace", "quarantine"])
def test_all_ways_of_reading_give_the_same_batches_and_the_same_list(photos, monkeypatch, action):
    ways = {
        "none": {},
        "processes": {"num_workers": 2, "loader": "processes"},
        "threads": {"num_workers": 2, "loader": "threads"},
        "exact": {"pixels": "exact"},
        "exact processes": {"pixels": "exact", "num_workers": 2},
        "ram": {"cache": "ram", "num_workers": 2},
        "disk": {"cache": "disk"},
        "disk again": {"cache": "disk"},  # the file is there
    }
    found = {name: read_all(photos, monkeypatch, on_bad_sample=action, **keys) for name, keys in ways.items()}
    for name, (parts, bad) in found.items():
        whole, listed = found["exact" if name.startswith("exact") else "none"]
        assert [bad.number for bad in bad] == [bad.number for bad in listed] and bad == listed, name
        assert [part[0] for part in parts] == [part[0] for part in whole], name
        cached = name in ("ram", "disk", "disk again")  # there pictures are kept smaller
        assert cached or same([part[1:] for part in parts], [part[1:] for part in whole])
    assert {os.path.basename(bad.file) for bad in found["none"][1]} == {f"{name}.jpg" for name in (*CUT, EMPTY)}
    assert [part[0] for part in found["exact"][0]] == [part[0] for part in found["none"][0]]
    assert [len(part[0]) for part in found["none"][0]] != [8, 8, 8, 4] * 2 or action != "skip"


def test_a_list_has_the_file_the_reason_and_the_answer(run, photos):
    for name, flags in (("none", []), ("two", ["--num-workers=2"])):
        given = run("train", *SMALL, "--max-epoch=2", f"--run={name}", "--data.on_bad_sample=replace", *flags, BUDGET)
        assert given.code == 0, given.err
    assert listed("none") == listed("two") and same_run(state("none"), state("two"))
    found = {row["id"]: row for row in listed("none")}
    assert found.keys() == {f"{name}.jpg" for name in (*CUT, EMPTY)}
    known = {key: value for key, value in found["cat.3.jpg"].items() if key != "sample"}
    told = {"id": "cat.3.jpg", "file": "train/cat.3.jpg", "reason": "Truncated File Read"}
    assert known == {**told, "done": "replaced", "split": "train"}
    assert found[f"{EMPTY}.jpg"]["split"] == "val" and found[f"{EMPTY}.jpg"]["done"] == "left out"
    assert found[f"{EMPTY}.jpg"]["reason"] == "the file is empty"


def test_the_end_of_the_run_says_it_in_one_line_and_val_too(run, photos):
    given = run("train", *SMALL, "--run=a", "--max-epoch=2", "--data.on_bad_sample=replace", BUDGET)
    told = [line for line in given.out.splitlines() if "could not be read" in line]
    assert told == [
        "3 of 20 train samples could not be read and were replaced; 1 of 8 val samples could not be read and were "
        "left out; files and reasons in checkpoints/a/bad_samples.csv"
    ]
    assert "note: bad train samples are replaced; the first: train/" in given.out
    given = run("val", "checkpoints/a")
    assert given.code == 0 and "1 of 8 val samples could not be read and were left out" in given.out
    assert len(listed("a")) == 4


def test_without_the_key_nothing_is_passed_over(run, photos):
    given = run("train", *SMALL, "--max-epoch=1")
    assert given.code == 3 and " pictures cannot be read: train/" in given.err


@pytest.mark.parametrize(("most", "code"), [("3", 0), ("2", 3), ("0.15", 0), ("0.1", 3), ("1.5", 2)])
def test_more_than_the_budget_end_the_run(run, photos, most, code):
    given = run("train", *SMALL, "--max-epoch=1", "--data.on_bad_sample=replace", f"--data.max_bad={most}")
    assert given.code == code, given.err
    if code == 3:
        assert given.err.startswith("data.max_bad: 3 train samples cannot be read, and 2 ")
        assert "train/" in given.err and "raise data.max_bad" in given.err


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_ended_in_mid_epoch_goes_on_bit_for_bit(run, photos, workers):
    flags = [*SMALL, "--max-epoch=3", "--data.on_bad_sample=replace", BUDGET, f"--num-workers={workers}"]
    assert run("train", *flags, "--run=whole").code == 0
    assert run("train", *flags, "--run=cut", "--train.max_steps=4").code == 0
    assert run("train", "--resume=checkpoints/cut", "--train.max_steps=null").code == 0
    assert same_run(state("cut"), state("whole"))
    assert rows("cut", phase="train") == rows("whole", phase="train") and listed("cut") == listed("whole")


def test_a_quarantined_file_is_not_read_again_not_even_by_a_resumed_run(run, photos, monkeypatch):
    from data import _stores

    met: list[str] = []

    def counting(path, choose):
        met.append(os.path.basename(path))
        return read(path, choose)

    read = _stores.read_region
    monkeypatch.setattr(_stores, "read_region", counting)
    for action in ("quarantine", "replace"):
        met.clear()
        given = run("train", *SMALL, f"--run={action}", f"--data.on_bad_sample={action}", "--max-epoch=1", BUDGET)
        assert given.code == 0, given.err
        first = {name: met.count(f"{name}.jpg") for name in (*CUT, EMPTY)}
        met.clear()
        assert run("train", f"--resume=checkpoints/{action}", "--max-epoch=3").code == 0
        again = {name: met.count(f"{name}.jpg") for name in (*CUT, EMPTY)}
        assert min(first.values()) > 0 and (action == "replace" or not any(again.values())), (first, again)
        assert action == "quarantine" or min(again.values()) > 0
    assert same_run(state("quarantine"), state("replace"))  # only the reading differs


def test_a_test_split_says_which_ids_get_no_row(run, photos, tmp_path):
    assert run("train", *SMALL, "--run=a", "--max-epoch=1", "--data.on_bad_sample=replace", BUDGET).code == 0
    dogcats(tmp_path / "photos", 6)
    (tmp_path / "test").mkdir()
    for number, path in enumerate(sorted((tmp_path / "photos").iterdir()), 1):
        path.rename(tmp_path / f"test/{number}.jpg")
    assert run("test", "checkpoints/a", "--test-data-root=test").code == 0  # the mirror check leaves one out, too
    Path("checkpoints/a/submission.csv").unlink()
    spoil(tmp_path / "test", "1", "9")
    for flags in ([], ["--num-workers=2"], ["--data.pixels=exact"]):
        given = run("test", "checkpoints/a", "--test-data-root=test", *flags)
        assert given.code == 3 and not Path("checkpoints/a/submission.csv").exists()
        assert "2 of 12 test samples cannot be read and get no row: 1, 9 (test/1.jpg and 1 more (" in given.err
        assert [row["id"] for row in listed("a") if row["split"] == "test"] == ["1", "9"]
    assert len(listed("a")) == 6


# The loader alone


class Odd(torch.utils.data.Dataset):
    """A dataset of one's own, with the faults that such datasets have."""

    def __init__(self, faults: dict[int, object], count: int = 24):
        self.faults, self.count = faults, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int):
        fault = self.faults.get(index, 0)
        if isinstance(fault, Exception):
            raise fault
        return (torch.tensor([float(index), torch.rand(()).item()]), 0) if fault == 0 else fault


FAULTS = {1: None, 4: (None, None), 5: PictureError("x.png", "torn"), 9: OSError("gone"), 11: DataError("odd")}


def batches(dataset, training: bool = True, epoch: int = 0, least: int = 1, **keys) -> list[tuple[list[int], object]]:
    cfg = Data(**{"batch_size": 4, "max_bad": 20, **keys})
    loader = Loader(dataset, cfg, seed=3, training=training, least=least, say=lambda text: None)
    try:
        return [*loader.epoch(epoch)]
    finally:
        loader.close()


def test_a_replacement_is_a_function_of_seed_epoch_and_index(tmp_path):
    whole = batches(Odd({}), on_bad_sample="replace")
    for workers in (0, 2):
        found = batches(Odd(FAULTS), on_bad_sample="replace", num_workers=workers)
        assert [len(indices) for indices, _ in found] == [4] * 6
        for (was, before), (now, after) in zip(whole, found, strict=True):
            for place, index in enumerate(was):
                assert (now[place] == index) == (index not in FAULTS) and now[place] not in FAULTS
                # the others have the random numbers that they had, and so has the one that takes a place
                assert after[0][place, 1] == before[0][place, 1] and after[0][place, 0] == now[place]
    instead = [now for index in FAULTS for (was, _), (nows, _) in zip(whole, found, strict=True)
               for i, now in zip(was, nows, strict=True) if i == index]  # fmt: skip
    other = batches(Odd(FAULTS), on_bad_sample="replace", epoch=1)
    was = batches(Odd({}), epoch=1)
    later = [now for index in FAULTS for (a, _), (b, _) in zip(was, other, strict=True)
             for i, now in zip(a, b, strict=True) if i == index]  # fmt: skip
    assert instead != later


def test_skip_makes_batches_smaller_and_none_smaller_than_it_can_be():
    found = batches(Odd(FAULTS), on_bad_sample="skip")
    read = sorted(index for indices, _ in found for index in indices)
    assert read == [index for index in range(24) if index not in FAULTS]
    assert all(len(batch[0]) == len(indices) for indices, batch in found)
    faults = dict.fromkeys(range(23))  # one sample is good
    for least in (1, 2):
        found = batches(Odd(faults), on_bad_sample="skip", max_bad=23, least=least)
        assert [len(indices) for indices, _ in found] == [least] * 6
        assert {index for indices, _ in found for index in indices} == {23}


def test_a_batch_of_validation_may_be_left_out_whole():
    found = batches(Odd(dict.fromkeys((0, 1, 2, 3, 6))), training=False, on_bad_sample="quarantine")
    assert [indices for indices, _ in found] == [
        [4, 5, 7],
        *([4 * n, 4 * n + 1, 4 * n + 2, 4 * n + 3] for n in range(2, 6)),
    ]


def test_none_good_is_an_error_and_so_are_faults_of_the_config():
    with pytest.raises(DataError, match=r"data\.max_bad: 24 train samples cannot be read, and 20 may be bad"):
        batches(Odd(dict.fromkeys(range(24))), on_bad_sample="replace")
    with pytest.raises(DataError, match="samples were tried in the place of sample"):
        batches(Odd(dict.fromkeys(range(24))), on_bad_sample="replace", max_bad=24)
    with pytest.raises(ConfigError, match="transform"):
        batches(Odd({3: ConfigError("the transform takes no size")}), on_bad_sample="skip")


def test_the_run_s_own_random_numbers_are_not_touched():
    before = torch.get_rng_state()
    batches(Odd(FAULTS), on_bad_sample="replace")
    assert torch.equal(before, torch.get_rng_state())


OWN = """
import torch
from torch.utils.data import Dataset
__all__ = ["Mine"]
class Mine(Dataset):
    meta = {"classes": ["a", "b"], "num_classes": 2, "in_channels": 1, "image_size": [4, 4]}
    def __init__(self, split):
        self.split = split
    def __len__(self):
        return 40
    def __getitem__(self, index):
        if index in (0, 7):
            return None, None
        if index == 9:
            return [][1]
        return torch.full((1, 4, 4), index % 2 + torch.rand(()).item() / 9), index % 2
"""


def test_the_book_s_dataset_of_one_s_own_that_gives_none(run, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.py").write_text(OWN)
    flags = ["train", "--data.dataset=Mine", "--model=MLP", "--max-epoch=1", "--batch-size=8", *PLAIN]
    given = run(*flags, "--run=a")
    assert given.code == 10 and "gives None instead of (input, label)" in given.err, given.err
    given = run(*flags, "--run=b", "--data.on_bad_sample=skip", "--data.max_bad=3")
    assert given.code == 0, given.err
    reasons = {row["sample"]: row["reason"] for row in listed("b") if row["split"] == "train"}
    assert reasons.keys() == {"0", "7", "9"} and reasons["7"] == "the dataset gives None for it"
    assert "mine.py:" in reasons["9"] and "list index out of range" in reasons["9"]


# Files that image loaders meet and trip over

needs_broken = pytest.mark.skipif(not BROKEN.is_dir(), reason=f"needs {BROKEN}")


@pytest.fixture(scope="module")
def tripping(tmp_path_factory):
    """Two folders: one of files that cannot be read, and one of odd files that can, under names of pictures."""
    root = tmp_path_factory.mktemp("tripping")
    for kind in ("odd_but_valid", "unreadable"):
        (root / kind).mkdir()
        for path in (BROKEN / kind).iterdir():
            (root / kind / f"{path.name}.png").symlink_to(path)  # Pillow goes by content
    return root


@needs_broken
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fast", [True, False])
def test_fast_and_exact_find_the_same_bad_files_and_read_the_others(tripping, fast):
    chain = [Component("Resize", {"size": [16, 16]})]
    dataset = ImageFolder(str(tripping), "train", make_transform(chain, fast=fast), val_fraction=0)
    be_lenient(dataset)
    cfg = Data(batch_size=16, on_bad_sample="skip", max_bad=1.0, shuffle=False)
    loader = Loader(dataset, cfg, seed=0, training=True, say=lambda text: None)
    read = [dataset.ids[index] for indices, _ in loader.epoch(0) for index in indices]
    bad = [dataset.ids[number] for number in loader.bad.found]
    assert sorted(read + bad) == sorted(dataset.ids)
    unreadable = {name for name in dataset.ids if name.startswith("unreadable/")}
    assert len(unreadable) == 44
    assert {name for name in bad if name in unreadable} == _refused(dataset, unreadable)
    assert set(bad) == _refused(dataset, dataset.ids)


@needs_broken
@pytest.mark.filterwarnings("ignore")
def test_odd_files_are_read_as_pillow_reads_them():
    """Turned upright, with their palettes and colours, an animation's first frame; only more bits are scaled to 8."""
    read, more_bits, refused = 0, 0, []
    for path in sorted((BROKEN / "odd_but_valid").iterdir()):
        try:
            ours = read_image(str(path))
        except PictureError:
            refused.append(path.name)
            continue
        with Image.open(path) as file:
            theirs = ImageOps.exif_transpose(file)
            wide = theirs.mode.startswith("I") or theirs.mode == "F"
            if wide:  # Pillow's own conversion clips them at 255, and leaves a white picture
                values = np.asarray(theirs).astype(np.float64)
                scaled = values / values.max() * int(np.asarray(ours).max())
                assert np.abs(np.asarray(ours)[:, :, 0] - scaled).max() < 2, path.name
            else:
                assert np.array_equal(np.asarray(ours), np.asarray(theirs.convert("RGB"))), path.name
        more_bits, read = more_bits + wide, read + 1
        width, height = ours.size
        if width * height < 10**6:  # the fast way gives the same pixels where nothing is made smaller
            found = read_region(str(path), lambda w, h: Region((0, 0, w, h), (w, h)))
            assert np.array_equal(found, np.asarray(ours)), path.name
    assert (read, more_bits, refused) == (152, 9, ["10ct_32bit_128.tiff"])  # it holds floats below 0


def _refused(dataset, names) -> set[str]:
    found = set()
    for name in names:
        try:
            read_image(os.path.join(dataset.store.folder, name))
        except PictureError:
            found.add(name)
    return found


@pytest.mark.parametrize(("share", "bad"), [(0.29, 29), (0.57, 57)])
def test_a_share_allows_as_many_as_it_says(share, bad):
    from data.loading.bad_samples import Bad, BadSamples

    kept = BadSamples(range(100), Data(on_bad_sample="skip", max_bad=share), True, 100, lambda text: None)
    kept.found = {number: Bad(number, "x", "cut") for number in range(bad)}
    kept._check()
    kept.found[bad] = Bad(bad, "x", "cut")
    with pytest.raises(DataError, match="data.max_bad"):
        kept._check()
