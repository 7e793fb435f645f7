"""A run says how it understood its data, and knows them again when they lie elsewhere."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import PLAIN, TOY, rows
from PIL import Image
from test_configs import SHIPPED, commands
from tiny_data import make_data

from data._facts import Facts
from data._stores import Pixels
from data.protocol import content_of
from trainer.checks.data_facts import SCREEN, _shared, data_facts, on_screen

IMAGES = ["image_folder", "--model=LeNet", "--model.in_channels=3", "--max-epoch=1", "--batch-size=4", *PLAIN]
IMAGES += [
    "--data.transform.train=[{name: Resize, size: [28, 28]}]",
    "--data.transform.eval=[{name: Resize, size: [28, 28]}]",
]


def photos(folder, count=10, first=0, size=28):
    """Class folders a and b with so many pictures each."""
    for number, name in enumerate("ab"):
        (folder / name).mkdir(parents=True)
        for i in range(first, first + count):
            pixels = np.full((size, size, 3), 40 + 100 * number + i, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


class Counted:
    """A dataset of numbers in classes."""

    def __init__(self, labels, facts=None):
        self.labels, self.facts = labels, facts
        self.meta = {"classes": ["cat", "dog", "fox"]}

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"x": float(index)}, self.labels[index]


def test_classes_are_counted_and_an_absent_one_is_told():
    lines = data_facts("Counted", {"train": Counted([0, 1, 1, 2]), "val": Counted([0, 0])})
    assert lines[:3] == ["data: Counted", "  train: 4 samples", "  val: 2 samples"]
    assert "  3 classes, samples in train + val: cat: 1 + 2, dog: 2 + 0, fox: 1 + 0" in lines
    assert "  note: val holds no sample of dog, fox" in lines
    assert "  a sample (train, val): x: float 0, int 0" in lines


def test_what_is_left_out_is_told_once_with_its_first_name():
    facts = Facts("data/x", ["target: y"])
    facts.leave_out("no picture by its suffix", ["a.heic", "b.heic"])
    facts.note_odd("another suffix than most", ["c.gif"])
    lines = data_facts("Counted", {split: Counted([0, 1], facts) for split in ("train", "val")})
    assert lines[1] == "  train: 2 samples, data/x"
    assert lines.count("  target: y") == 1
    assert "  left out: 2, no picture by its suffix; the first is a.heic" in lines
    assert "  odd: 1, another suffix than most; the first is c.gif" in lines


@pytest.mark.parametrize("pixels", ["fast", "exact"])
def test_validation_that_changes_by_chance_and_other_numbers_than_those_of_training_are_told(pixels, run, tmp_path):
    photos(tmp_path / "photos/train"), photos(tmp_path / "photos/val", first=100)
    shutil.copytree(tmp_path / "photos/val/a", tmp_path / "test")
    flags = [*IMAGES[:-2], "--train-data-root=photos", "--test-data-root=test", f"--data.pixels={pixels}"]
    sized, norm = "{name: Resize, size: [28, 28]}", "{name: Normalize, mean: [0.5], std: [0.25]}"
    alike = [f"--data.transform.{split}=[{sized}, {norm}]" for split in ("train", "eval")]
    given = run("check", *flags, *alike, "--data")
    assert given.code == 0 and "hang on chance" not in given.out and "other numbers" not in given.out, given
    turned = f"--data.transform.eval=[{sized}, RandomHorizontalFlip, {norm}]"
    given = run("check", *flags, alike[0], turned, "--data")
    assert given.code == 0 and "note: samples of val and test are read with random numbers" in given.out, given
    given = run("check", *flags, alike[0], f"--data.transform.eval=[{sized}]", "--data")
    told = "note: data.transform.train has Normalize(mean 0.5; std 0.25), data.transform.eval has no Normalize"
    assert given.code == 0 and told in given.out, given


def test_validation_of_another_size_is_told_before_the_first_step(run, tmp_path):
    photos(tmp_path / "photos/train"), photos(tmp_path / "photos/val", first=100, size=32)
    shutil.copytree(tmp_path / "photos/val/a", tmp_path / "test")
    flags = [*IMAGES[:-2], "--train-data-root=photos", "--test-data-root=test"]
    given = run("check", *flags, "--data.transform.train=[]", "--data.transform.eval=[]", "--data")
    told = "note: sizes differ (val 3 x 32 x 32, test 3 x 32 x 32, train 3 x 28 x 28), and a network for one size fails"
    assert given.code == 0 and told in given.out, given
    resize = "[{name: Resize, size: [28, 28]}]"
    for train, val in ((resize, resize), ("[{name: RandomCrop, size: 24}]", "[]")):
        given = run("check", *flags, f"--data.transform.train={train}", f"--data.transform.eval={val}", "--data")
        assert given.code == 0 and "a network for one size" not in given.out, given


def test_val_of_another_table_of_as_many_rows_is_whole(run, tmp_path):
    """Its rows have the same names, their numbers, and regression has no classes that could differ."""
    for name, factor in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        lines = [f"{i},{factor * i % 7},{factor * i}" for i in range(50)]
        (tmp_path / name / "train.csv").write_text("\n".join(["x,y,t", *lines]) + "\n")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    flags = ["--task=Regression", "--model.num_classes=1", "--data.dataset.target=t", "--data.dataset.columns={}"]
    given = run("train", "table", *flags, "--data.dataset.root=a", "--run=r", "--max-epoch=1", *PLAIN)
    assert given.code == 0, given.err
    for name, count in (("b", 50), ("copy", 10)):
        given = run("val", "checkpoints/r", f"--data.dataset.root={name}")
        assert given.code == 0 and f"{count} samples" in given.out, given


@pytest.mark.slow
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_nothing_of_the_kind_is_told_of_a_shipped_config(path, run, tmp_path):
    make_data(tmp_path / "data")
    words = next(words for words in commands(path) if words[0] == "train")
    given = run("check", *words[1:], "--data")
    assert given.code == 0 and "hang on chance" not in given.out and "other numbers" not in given.out, given
    assert "a network for one size" not in given.out, given


def test_a_screenful_is_printed():
    lines = [str(i) for i in range(100)]
    shown = on_screen(lines, "data.txt")
    assert len(shown) == SCREEN and shown[-1] == f"  … {100 - SCREEN + 1} more lines in data.txt"
    assert on_screen(lines[:SCREEN], "data.txt") == lines[:SCREEN]


def test_a_run_prints_its_data_and_keeps_them(run, tmp_path):
    given = run("train", "--run=a", *TOY)
    text = (tmp_path / "checkpoints/a/data.txt").read_text()
    assert text in given.out and text.startswith("data: Digits\n  train: 1,258 samples, 70 % of scikit-learn's digits")
    assert "1,258 train and 269 val samples" in given.out
    assert text not in run("train", "--resume=checkpoints/a", "--max-epoch=9").out, "it has not changed"


def test_check_reads_the_data(run, tmp_path):
    given = run("check", *IMAGES, f"--train-data-root={photos(tmp_path / 'pets')}", "--data")
    assert given.code == 0 and "train: 14 samples, 70 % of " in given.out and "val: 6 samples, 30 %" in given.out
    assert not (tmp_path / "checkpoints").exists()
    missing = run("check", *IMAGES, "--train-data-root=nowhere", "--data")
    assert missing.code == 3 and missing.err.startswith("nowhere does not exist")
    assert run("check", *IMAGES, "--train-data-root=nowhere").code == 0, "without the flag it looks at no data"


@pytest.fixture
def trained(run, tmp_path):
    photos(tmp_path / "pets")
    assert run("train", "--run=p", *IMAGES, "--train-data-root=pets").code == 0


def test_a_run_goes_on_where_its_data_lie_now(run, tmp_path, trained):
    shutil.move(tmp_path / "pets", tmp_path / "moved")
    missing = run("train", "--resume=checkpoints/p", "--max-epoch=2")
    assert missing.code == 3 and "--train-data-root=FOLDER" in missing.err
    given = run("train", "--resume=checkpoints/p", "--max-epoch=2", "--train-data-root=moved")
    assert given.code == 0, given.err
    assert "data.train_data_root: pets -> moved" in given.out
    assert [row["epoch"] for row in rows("p", phase="val")] == [0, 1]


def test_other_data_are_refused_where_the_folder_changes_and_told_where_it_does_not(run, tmp_path, trained):
    photos(tmp_path / "others", first=3)
    refused = run("train", "--resume=checkpoints/p", "--max-epoch=2", "--train-data-root=others")
    assert refused.code == 3 and "other data lie there than the run was trained on" in refused.err
    (tmp_path / "pets/a/0.png").rename(tmp_path / "pets/a/z.png")
    given = run("train", "--resume=checkpoints/p", "--max-epoch=2")
    assert given.code == 0 and "note: the samples of train" in given.out and "exact in steps" not in given.out


def test_the_sentence_tells_how_the_samples_differ(run, tmp_path, trained):
    def told(steps):
        given = run("train", "--resume=checkpoints/p", "--max-epoch=9", f"--train.max_steps={steps}")
        assert given.code == 0, given.err
        return next((line for line in given.out.splitlines() if line.startswith("note: the samples")), "")

    assert told(5) == ""
    (tmp_path / "pets/a/9.png").rename(tmp_path / "pets/a/9b.png")  # sorted as before
    assert "the same files as before, of which some are renamed;" in told(6)
    assert told(7) == ""
    (tmp_path / "pets/a/9b.png").unlink()
    Image.new("RGB", (31, 30)).save(tmp_path / "pets/a/9c.png")
    assert "as many files as before, of which some are others;" in told(8)
    Image.new("RGB", (330, 300)).save(tmp_path / "pets/a/9c.png")
    again = run("train", "--resume=checkpoints/p", "--max-epoch=9", "--train.max_steps=9")
    assert re.search(r"note: samples of (train|val) have the names of before and another content", again.out), again
    shutil.copy(tmp_path / "pets/b/9.png", tmp_path / "pets/b/99.png")
    found = told(10)
    assert "train has 15 samples, 14 before" in found or "val has 7 samples, 6 before" in found


def test_other_cells_and_other_pixels_are_told(run, tmp_path):
    """Rows are known by their numbers, and so are pictures in a file: only the content tells them apart."""
    rows = [f"{i},{i % 7},{i % 2}" for i in range(60)]
    (tmp_path / "t").mkdir()
    Path("t/train.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    table = ["--data.dataset=Tabular", "--data.dataset.root=t", "--data.dataset.target=y", "--model=MLP", *PLAIN]
    assert run("train", *table, "--run=a", "--max-epoch=1").code == 0
    told = "note: samples of train have the names of before and another content"
    given = run("train", "--resume=a", "--max-epoch=2")
    assert given.code == 0 and told not in given.out, given
    Path("t/train.csv").write_text("\n".join(["a,b,y", *(row.replace("31,3,", "31,4,") for row in rows)]) + "\r\n")
    given = run("train", "--resume=a", "--max-epoch=3")
    assert given.code == 0 and (told in given.out or told.replace("train", "val") in given.out), given
    pixels = SimpleNamespace(store=Pixels(torch.zeros(4, 1, 2, 2, dtype=torch.uint8)))
    before = content_of(pixels)
    pixels.store.values[3, 0, 1, 1] = 1
    assert 0 != before != content_of(pixels)
    assert content_of(SimpleNamespace(content="a text of somebody's own dataset")) == 0


def test_files_of_both_splits_are_told():
    """As by two lists that overlap."""
    train, val = SimpleNamespace(files=["a", "b", "c"]), SimpleNamespace(files=["c", "d"])
    told = "note: 1 of 2 files of val are in train, too; the first is c"
    assert next(_shared({"train": train, "val": val})) == told
    assert not [*_shared({"train": train, "val": SimpleNamespace(files=["d"])}), *_shared({"train": train})]


def test_files_that_moved_to_another_split_are_told(run, tmp_path):
    photos(tmp_path / "pets/train", 6)
    photos(tmp_path / "pets/val", 3, first=10)
    assert run("train", "--run=p", *IMAGES, "--train-data-root=pets").code == 0
    for name, other in (("0", "10"), ("1", "11")):
        (tmp_path / f"pets/train/a/{name}.png").rename(tmp_path / f"pets/val/a/{name}.png")
        (tmp_path / f"pets/val/a/{other}.png").rename(tmp_path / f"pets/train/a/{other}.png")
    given = run("train", "--resume=checkpoints/p", "--max-epoch=2")
    moved = (
        "note: the samples of train and val are not those of before: the same files, which have moved from one split"
    )
    assert given.code == 0 and moved in given.out, given.out


def test_val_knows_its_split_where_the_data_were_moved(run, tmp_path, trained):
    before = run("val", "checkpoints/p").out
    shutil.move(tmp_path / "pets", tmp_path / "moved")
    after = run("val", "checkpoints/p", "--train-data-root=moved").out
    assert "6 samples" in before and after.splitlines()[1:] == before.splitlines()[1:] and "6 samples" in after


def test_the_hash_of_the_samples_is_in_the_checkpoint(run, tmp_path, trained):
    import torch

    state = torch.load(tmp_path / "checkpoints/p/last.pth", weights_only=True)
    assert set(state["data"]) == {"train", "val"} and state["data"]["train"] != state["data"]["val"]
    assert json.dumps(state["data"])


def test_a_random_generator_of_ones_own_is_told_with_its_line(run, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine.py").write_text(
        "import numpy as np\nimport torch\n\n__all__ = ['Mine']\n\n\nclass Mine:\n    def __init__(self, split):\n"
        "        self.rng = np.random.default_rng(0)\n        self.meta = {'classes': ['a', 'b'], 'num_classes': 2,\n"
        "                     'image_size': [4, 4]}\n\n    def __len__(self):\n        return 32\n\n"
        "    def __getitem__(self, i):\n        return torch.full((1, 4, 4), float(self.rng.random())), i % 2\n"
    )
    given = run("train", "--model=MLP", "--data.dataset=Mine", "--run=a", "--max-epoch=1", *PLAIN)
    assert given.code == 0, given.err
    assert "note: data/mine.py:9: Mine.rng is a random generator of its own: its numbers change" in given.out


OWN = """
import torch
__all__ = ["Own"]
class Own(torch.utils.data.Dataset):
    meta = {"classes": ["a", "b"], "num_classes": 2, "in_features": 4}
    def __init__(self, split: str): pass
    def __len__(self): return 8
    def __getitem__(self, index): return %s
"""


@pytest.mark.parametrize(
    ("sample", "code", "told"),
    [
        ("torch.rand(4), index % 3", 3, "gives the label 2 for the sample 2"),
        ("torch.rand(4), float(index % 2)", 3, "gives labels of type float"),
        ("torch.rand(3 + index), index % 2", 3, "samples of different sizes"),
        ("None", 10, "gives None instead of"),
        ("torch.rand(4), index % 2", 0, "no mistakes found"),
    ],
)
def test_check_refuses_the_samples_that_training_refuses(run, tmp_path, sample, code, told):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/own.py").write_text(OWN % sample)
    given = run("check", "--data.dataset=Own", "--model=MLP", "--data")
    assert given.code == code and told in given.out + given.err
