"""All data looked at before they are trusted: each kind of fault is planted once, found and named."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import DATA, dogcats
from PIL import Image

from data.looking import files
from data.looking.duplicates import NEAR, _close
from utils.errors import DataError

FOLDER = ["data", "image_folder", "--data.dataset.val_fraction=0.5", "--train-data-root=pets", "--test-data-root=pets"]
CSV = ["data", "csv_images", "--train-data-root=csv", "--test-data-root=csv"]
MASKS = ["data", "unet", "--data.dataset.root=cells", "--data.transform.train=[]"]
TABLE = ["data", "table", "--data.dataset.root=rows", "--data.dataset.target=y", "--data.dataset.id=id"]
TABLE += ["--task=Classification", "--model=MLP", "--train.monitor=null"]


def photo(path, seed, size=(96, 72), **options):
    """Save a picture of soft random patches, no two of which look alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((96, 72), Image.Resampling.BICUBIC).resize(size).save(path, **options)


def pets(root, count=10):
    """Save pictures of two classes for train and for val."""
    for number, name in enumerate(("cat", "dog")):
        for i in range(count):
            photo(root / "train" / name / f"{i}.jpg", 1000 * number + i)
            photo(root / "val" / name / f"v{i}.jpg", 1000 * number + 500 + i)


def found_all(folder):
    """The findings of a report."""
    return json.loads((folder / "data-report/report.json").read_text())["findings"]


def report(folder):
    """The findings of a report by kind."""
    return {finding["kind"]: finding for finding in found_all(folder)}


def test_a_clean_folder_has_no_finding(run, tmp_path):
    pets(tmp_path / "pets")
    given = run(*FOLDER)
    assert given.code == 0 and "nothing was found" in given.out and not given.err, given
    assert "Normalize: {mean: [0." in given.out and "weight: [1, 1]  # of the classes cat, dog" in given.out
    content = json.loads((tmp_path / "data-report/report.json").read_text())
    assert content["findings"] == [] and content["samples"] == {"train": 20, "val": 20}
    pixels = np.stack([np.asarray(Image.open(p).convert("RGB")) for p in (tmp_path / "pets/train").rglob("*.jpg")])
    assert np.allclose(content["mean"], pixels.mean((0, 1, 2)) / 255, atol=1e-4)
    assert np.allclose(content["std"], pixels.std((0, 1, 2)) / 255, atol=1e-4)


def test_a_broken_first_picture_makes_no_finding_of_labels(run, tmp_path):
    pets(tmp_path / "pets")
    first = tmp_path / "pets/train/cat/0.jpg"
    first.write_bytes(first.read_bytes()[:1500])
    assert run(*FOLDER).code == 3
    assert {finding["kind"] for finding in found_all(tmp_path)} == {"unreadable: cut off", "few samples"}


def test_each_planted_file_is_found_and_named(run, tmp_path):
    root = tmp_path / "pets"
    pets(root)
    cat, dog, val = root / "train/cat", root / "train/dog", root / "val/dog"
    (cat / "cut.jpg").write_bytes((cat / "0.jpg").read_bytes()[:1500])
    (cat / "none.jpg").write_bytes(b"")
    (dog / "words.jpg").write_text("<html>not found</html>")
    shutil.copy(cat / "1.jpg", cat / "same.jpg")
    Image.open(cat / "2.jpg").save(cat / "again.jpg", quality=60)
    Image.open(dog / "3.jpg").resize((60, 45)).save(val / "small.png")
    shutil.copy(cat / "4.jpg", dog / "4cat.jpg")
    photo(dog / "named.jpg", 77, format="PNG")
    Image.new("RGB", (96, 72), "black").save(dog / "black.png")
    given = run(*FOLDER)
    found = report(tmp_path)
    named = {
        "unreadable: cut off": "cut.jpg",
        "unreadable: empty": "none.jpg",
        "unreadable: no picture by its content": "words.jpg",
        "leak": "dog/3.jpg = dog/small.png",
    }
    for kind, name in named.items():
        assert found[kind]["spoils"] and found[kind]["count"] == 1 and found[kind]["names"][0].endswith(name), kind
    assert sorted(found["two labels"]["names"][0].split(" = ")) == ["cat/4.jpg cat", "dog/4cat.jpg dog"]
    assert found["two labels"]["spoils"]
    assert "cat/1.jpg = cat/same.jpg" in found["duplicates"]["names"] and not found["duplicates"]["spoils"]
    assert found["near duplicates"]["names"] == ["cat/2.jpg = cat/again.jpg"] or found["near duplicates"]["names"] == [
        "cat/again.jpg = cat/2.jpg"
    ]
    odd = [f for f in found_all(tmp_path) if f["kind"] == "odd"]
    assert any("format" in f["told"] and f["names"][0].endswith("named.jpg") for f in odd)
    assert any("single colour" in f["told"] and f["names"][0].endswith("black.png") for f in odd)
    assert given.code == 3 and given.err == "5 findings would spoil a run\n"
    sheets = {"duplicates.png", "leaks.png", "two_labels.png", "extremes.png", "unreadable.png"}
    assert sheets <= {p.name for p in (tmp_path / "data-report").iterdir()}


def test_a_class_that_only_validation_has_is_found_and_its_pictures_are_looked_at(run, tmp_path):
    pets(tmp_path / "pets", 3)
    photo(tmp_path / "pets/val/fox/0.jpg", 7)
    (tmp_path / "pets/val/fox/1.jpg").write_bytes(b"")
    given = run(*FOLDER)
    assert given.code == 3 and "pets/val/fox is none of the classes" in given.out and "fox/1.jpg" in given.out


def test_a_split_without_a_class_is_told(run, tmp_path):
    pets(tmp_path / "pets", 3)
    shutil.rmtree(tmp_path / "pets/val/dog")
    (tmp_path / "pets/val/dog").mkdir()
    given = run(*FOLDER)
    assert given.code == 0 and report(tmp_path)["class in one split"]["names"] == ["dog"], given


def test_doubled_and_unlabelled_rows_of_a_csv_are_named_with_their_lines(run, tmp_path):
    for i in range(8):
        photo(tmp_path / f"csv/train/{i}.jpg", i)
    rows = ["id,label", *(f"{i},{'ab'[i % 2]}" for i in range(6)), "3,a", "6,", "7,?"]
    (tmp_path / "csv/trainLabels.csv").write_text("\n".join(rows) + "\n")
    given = run(*CSV)
    found = json.loads((tmp_path / "data-report/report.json").read_text())
    told = "\n".join(name for f in found["findings"] if f["kind"] == "refused lines" for name in f["names"])
    assert "trainLabels.csv:8: the picture '3' is also in line 5" in told
    assert "trainLabels.csv:9: has no label" in told and "trainLabels.csv:10: its label '?' means none" in told
    assert given.code == 3 and given.err == "3 findings would spoil a run\n" and found["pictures"] == 8


def cells(root, count=5):
    for i in range(count):
        photo(root / f"image/{i}.png", i, (32, 32))
        mask = np.zeros((32, 32), np.uint8)
        mask[: 8 + i] = 255
        (root / "label").mkdir(exist_ok=True)
        Image.fromarray(mask).save(root / f"label/{i}.png")
    return root


def test_masks_with_odd_values_are_found(run, tmp_path):
    folder = cells(tmp_path / "cells")
    assert run(*MASKS).code == 0
    mask = np.asarray(Image.open(folder / "label/2.png")).copy()
    mask[0, 0] = 7
    Image.fromarray(mask).save(folder / "label/2.png")
    Image.fromarray(mask[:16]).save(folder / "label/1.png")
    named = run(*MASKS, "--data.dataset.classes={cell: 0, wall: 255}")
    assert named.code == 3 and "holds the value 7" in named.out and "1.png is 32x16" in named.out, named
    Image.fromarray(np.where(mask > 9, np.uint8(255), np.uint8(0))).save(folder / "label/1.png")
    guessed = run(*MASKS, "--task.ignore_index=200")
    assert guessed.code == 3 and "label/2.png" in guessed.out and "one mask of 4 alone holds the value 7" in guessed.out


def table(root, more=(), test=()):
    rng = np.random.default_rng(0)
    rows = [
        [i, f"{rng.normal():.4f}", "abc"[rng.integers(3)], "no" if rng.random() < 0.5 else "yes"] for i in range(60)
    ]
    root.mkdir(exist_ok=True)
    head = ["id", "x", "kind", "y"]
    lines = [[*row, *(add(row) for _, add in more)] for row in rows]
    text = "\n".join(",".join(map(str, line)) for line in [[*head, *(name for name, _ in more)], *lines])
    (root / "train.csv").write_text(text + "\n")
    held = [[100 + i, f"{rng.normal():.4f}", "abc"[rng.integers(3)]] for i in range(20)]
    held = [[*row, *(add([*row, "no"]) for _, add in more)] for row in held] + [list(row) for row in test]
    head = ",".join(["id", "x", "kind", *(name for name, _ in more)])
    (root / "test.csv").write_text("\n".join([head, *(",".join(map(str, row)) for row in held)]) + "\n")
    return lines


def test_tables_are_looked_at_by_column_and_by_row(run, tmp_path):
    table(tmp_path / "rows")
    clean = run(*TABLE)
    assert clean.code == 0 and "nothing was found" in clean.out, clean
    more = [("same", lambda row: 1), ("copy", lambda row: {"no": 0, "yes": 1}[row[3]])]
    more += [("near", lambda row: {"no": 0, "yes": 5}[row[3]] + float(row[1]) / 100), ("when", lambda row: row[0])]
    rows = table(tmp_path / "rows", more)[:5]
    given = run(*TABLE)
    found = report(tmp_path)
    assert found["constant column"]["names"] == ["same"] and found["target column"]["names"] == ["copy"]
    assert found["telling column"]["names"] == ["near"] and found["drift"]["names"] == ["when"]
    assert given.code == 3 and given.err == "2 findings would spoil a run\n" and not found["drift"]["spoils"]
    table(tmp_path / "rows", more, [[f"t{row[0]}", *row[1:3], *row[4:]] for row in rows])
    given = run(*TABLE)
    leak = next(f for f in found_all(tmp_path) if f["where"] == "train and test" and f["kind"] == "leak")
    assert leak["spoils"] and leak["names"] and all(name in [f"{i} = t{i}" for i in range(5)] for name in leak["names"])
    assert given.code == 3 and given.err == "3 findings would spoil a run\n"


def test_a_test_file_that_is_the_training_file_is_a_leak(run, tmp_path):
    """It is a file of its own, so that no missing folder excuses it."""
    rows = table(tmp_path / "rows")
    table(tmp_path / "rows", [], [[f"t{row[0]}", *row[1:3]] for row in rows])
    given = run(*TABLE)
    leak = next(f for f in found_all(tmp_path) if f["where"] == "train and test" and f["kind"] == "leak")
    assert leak["spoils"] and given.code == 3 and "since no folder is named" not in given.out, given


def test_a_killed_look_goes_on_where_it_was(run, tmp_path, monkeypatch):
    pets(tmp_path / "pets", 3)
    read, written = [], []
    one_look, line_of = files._look, files._line

    def killed(*args):
        written.append(args)
        if len(written) > 5:
            raise KeyboardInterrupt
        return line_of(*args)

    monkeypatch.setattr(files, "_look", lambda path: (read.append(path), one_look(path))[1])
    with monkeypatch.context() as patch:
        patch.setattr(files, "_line", killed)
        assert run(*FOLDER).code == 130
    with open(tmp_path / "data-report" / files.CACHE, "a") as lines:
        lines.write('[2, "cut')  # as a killed process leaves it
    read.clear()
    assert "12 files, 7 read now" in run(*FOLDER).out and len(read) == 7
    read.clear()
    photo(tmp_path / "pets/val/cat/v0.jpg", 99)
    given = run(*FOLDER)
    assert given.code == 0 and "12 files, 1 read now" in given.out and len(read) == 1


def test_the_report_has_a_folder_of_its_own(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    given = run("data", "--out=mine")
    assert given.code == 2 and "holds other things than a report" in given.err
    assert run("data", "--out=own", "--quiet").code == 0 and (tmp_path / "own/report.json").exists()


def test_help_data_lists_the_datasets_and_the_command(run):
    given = run("help", "data")
    assert given.out.startswith("python main.py data [CONFIG]") and "ImageFolder" in given.out


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.3])
def test_a_copy_of_another_size_has_nearly_the_same_outline(tmp_path, scale):
    """Whatever part of their size the pictures are read at."""
    rng = np.random.default_rng(0)
    for number in range(20):
        rough = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
        picture = rough.resize((499 - number, 375), Image.Resampling.BICUBIC)
        size = round(picture.width * scale), round(picture.height * scale)
        picture.save(tmp_path / "one.jpg", quality=92)
        picture.resize(size, Image.Resampling.BICUBIC).save(tmp_path / "other.jpg", quality=80)
        one, other = (files._look(str(tmp_path / f"{name}.jpg"))[1] for name in ("one", "other"))
        assert one.size == picture.size and other.size == size
        assert (one.outline ^ other.outline).bit_count() <= NEAR


def test_each_sample_that_is_refused_counts_and_the_others_are_compared():
    """Of a dataset without files: the first one that cannot be read does not end the look."""
    from data.looking.look import Looked, _made

    class Odd(torch.utils.data.Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, index):
            if index in (1, 3):
                raise DataError("it is cut off")
            return torch.full((2,), index % 4 if index != 4 else 0), index // 9

    found = Looked()
    digests = list(_made(Odd(), "train", found))
    assert len(digests) == 6 and len(set(digests)) == 5 and digests[0] == digests[4]
    (finding,) = found.findings
    assert (finding.count, finding.told, list(finding.names)) == (2, "it is cut off", ["1", "3"])


def test_close_hashes_are_those_of_a_comparison_of_all():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 400, dtype=np.uint64)
    hashes[200:] = hashes[:200] ^ (np.uint64(1) << rng.integers(0, 63, 200).astype(np.uint64))
    hashes[100:150] ^= np.uint64(0b1011)
    differ = np.bitwise_count(hashes[:, None] ^ hashes[None])
    wanted = np.argwhere(np.triu(differ <= 3, 1))
    assert len(wanted) >= 150 and np.array_equal(_close(hashes), wanted)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not (DATA / "broken_images").is_dir(), reason="the broken pictures are not here")
def test_real_broken_pictures_are_told_by_kind(run, tmp_path):
    dogcats(tmp_path / "pets", 2)
    for path in sorted((DATA / "broken_images/unreadable").iterdir())[:40]:
        (tmp_path / "pets" / f"cat.{path.name}").write_bytes(path.read_bytes())
    given = run("data", "dogcat", "--train-data-root=pets")
    assert given.code == 3 and "unreadable:" in given.out and "would spoil a run" in given.err, given
