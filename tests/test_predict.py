"""predict: any pictures and rows, in order, with the numbers of test."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import PLAIN, dogcats
from PIL import Image

import main

SMALL = [*PLAIN, "--train.max_steps=2", "--batch-size=8", "--print-freq=1"]
FLAT = ["--model=MLP", "--model.hidden=[8]"]


def table(path) -> list[list[str]]:
    with Path(path).open(newline="") as stream:
        return list(csv.reader(stream))


@pytest.fixture(scope="module")
def cats(tmp_path_factory):
    """The folder of a run that tells cats from dogs, with test pictures."""
    folder, before = tmp_path_factory.mktemp("cats"), os.getcwd()
    dogcats(folder / "train", 6)
    for i in range(1, 6):
        kinds = np.random.default_rng(i).integers(0, 256, (4, 5, 3)).astype("uint8")
        (folder / "test").mkdir(exist_ok=True)
        Image.fromarray(kinds).resize((40, 32)).save(folder / "test" / f"{i}.jpg")
    os.chdir(folder)
    try:
        assert main.main(["train", "dogcat_small", "--run=a", *FLAT, *SMALL, "--train-data-root=train"]) == 0
        assert main.main(["test", "checkpoints/a", "--test-data-root=test"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def at(run, cats, monkeypatch):
    """Run a command in the folder of that run."""
    monkeypatch.chdir(cats)
    return run


@pytest.mark.parametrize("views", [[], ["--test.views=[hflip]"]])
def test_the_numbers_are_those_of_test(at, views):
    assert at("test", "checkpoints/a", "--test-data-root=test", *views).code == 0
    expected = [float(line[1]) for line in table("checkpoints/a/submission.csv")[1:]]
    given = at("predict", "checkpoints/a", "test", *views)
    assert given.code == 0 and "predictions.csv: 5 rows from checkpoints/a/best.pth; " in given.out, given
    header, *lines = table("predictions.csv")
    assert header == ["path", "class", "cat", "dog"]
    assert [line[0] for line in lines] == [f"test/{i}.jpg" for i in range(1, 6)]
    assert [float(line[3]) for line in lines] == expected
    assert [line[1] for line in lines] == ["dog" if p > 0.5 else "cat" for p in expected]
    assert Image.open("predictions.png").size[0] > 300


def test_the_order_is_that_of_the_words_and_broken_ones_are_named(at, cats):
    (cats / "odd" / "in").mkdir(parents=True, exist_ok=True)
    Image.open("test/1.jpg").convert("L").save("odd/in/grey.png")
    (cats / "odd" / "b.jpg").write_bytes(b"no picture")
    given = at("predict", "checkpoints/a", "test/4.jpg", "odd", "test/1.jpg", "test/4.jpg", "--out=o/p.json")
    assert given.code == 0 and "1 picture cannot be read, with an empty row:\n  odd/b.jpg (" in given.out
    rows = json.loads(Path("o/p.json").read_text())
    assert [row["path"] for row in rows] == ["test/4.jpg", "odd/b.jpg", "odd/in/grey.png", "test/1.jpg", "test/4.jpg"]
    assert rows[1] == {"path": "odd/b.jpg", "class": None, "cat": None, "dog": None}
    assert rows[0] == rows[4] and rows[0]["cat"] + rows[0]["dog"] == pytest.approx(1)
    assert Path("o/predictions.png").exists()
    given = at("predict", "checkpoints/a", "o", "odd/in", "--out=o/p.json")
    assert given.code == 3 and "o: holds no pictures" in given.err, "its own picture is no sample"
    given = at("predict", "checkpoints/a", "odd/b.jpg")
    assert given.code == 3 and given.err.startswith("none of 1 pictures can be read: odd/b.jpg (")


@pytest.mark.parametrize("text", ["n,image\n1,test/2.jpg\n2,test/1.jpg\n", "test/2.jpg\ntest/1.jpg\n"])
def test_a_list_of_paths(at, text):
    Path("list.csv").write_text(text)
    assert at("predict", "checkpoints/a", "list.csv").code == 0
    assert [line[0] for line in table("predictions.csv")[1:]] == ["test/2.jpg", "test/1.jpg"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["checkpoints/a"], 2, "predict: which checkpoint and files?"),
        (["checkpoints/a", "test", "--out=x.txt"], 2, "--out=x.txt: predictions are written as CSV or JSON"),
        (["checkpoints/a", "nowhere"], 3, "nowhere: does not exist"),
        (["checkpoints/a", "train/none.csv"], 3, "train/none.csv: no column holds paths of files"),
        (["checkpoints/b", "test"], 4, ""),
        (["checkpoints/a", "test", "--lr=3"], 2, "a checkpoint keeps its own"),
    ],
)
def test_mistakes_are_one_sentence(at, words, code, told):
    Path("train/none.csv").write_text("a,b\n1,2\n")
    given = at("predict", *words)
    assert given.code == code and told in given.err and "Traceback" not in given.err, given


def test_grey_pictures_of_one_size_are_brought_to_it(run, tmp_path):
    assert run("train", "--run=d", *FLAT, *SMALL).code == 0
    Image.new("RGB", (20, 30), (9, 9, 9)).save("x.png")
    given = run("predict", "checkpoints/d", "x.png")
    assert given.code == 0 and "brought to the form that the network learned from: grey, 8 x 8 pixels" in given.out
    assert table("predictions.csv")[0] == ["path", "class", *"0123456789"]


@pytest.mark.parametrize("target", ["y", "price"])
def test_the_rows_of_a_table(run, tmp_path, target):
    (tmp_path / "t").mkdir()
    cells = [f"{i},{i % 7},{i * i % 11},{i % 2},{i + 0.5}" for i in range(60)]
    Path("t/train.csv").write_text("\n".join(["id,a,b,y,price", *cells]) + "\n")
    Path("t/test.csv").write_text("id,a,b\n9,1,2\n7,3,0\n")
    other, task = ("price", "Classification") if target == "y" else ("y", "Regression")
    Path("t.yaml").write_text(
        f"data: {{dataset: {{name: Tabular, root: t, id: id, target: {target}, columns: {{ignore: [{other}]}}}}}}\n"
        f"model: {{name: MLP{', num_classes: 1' * (target == 'price')}}}\ntask: {task}\n"
    )
    given = run("train", "t.yaml", "--run=t", *SMALL)
    assert given.code == 0, given.err
    Path("new.csv").write_text("id,a,b\n9,1,2\n7,3,0\n")
    assert run("test", "checkpoints/t", "--test.mirror=false").code == 0
    given = run("predict", "checkpoints/t", "new.csv")
    assert given.code == 0 and Path("predictions.png").exists(), given
    header, *lines = table("predictions.csv")
    assert header == (["id", "class", "0", "1"] if target == "y" else ["id", "price"])
    expected = {line[0]: line[1] for line in table("checkpoints/t/submission.csv")[1:]}
    assert [line[0] for line in lines] == ["9", "7"] and {line[0]: line[-1] for line in lines} == expected
    given = run("predict", "checkpoints/t", "new.csv", "--out=./new.csv")
    assert given.code == 2 and "is read by this command and would be lost" in given.err
    given = run("predict", "checkpoints/t", "t")
    assert given.code == 2 and "Tabular reads one table; name one CSV" in given.err


def test_masks_are_pictures_beside_the_file(run, tmp_path):
    for i in range(6):
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32)).astype("uint8")
        for part, array in (("image", pixels), ("label", (pixels > 128).astype("uint8") * 255)):
            (tmp_path / "m/train" / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "m/train" / part / f"{i}.png")
    given = run("train", "unet", "--run=m", *SMALL[:-2], "--data.dataset.root=m", "--data.transform.train=[]")
    assert given.code == 0, given.err
    given = run("predict", "checkpoints/m", "m/train/image", "--out=out/p.csv")
    assert given.code == 0, given
    assert table("out/p.csv")[1] == ["m/train/image/0.png", "p_masks/0.png"]
    assert set(np.unique(np.asarray(Image.open("out/p_masks/0.png")))) <= {0, 255}
    assert Path("out/predictions.png").exists()
    shutil.copy("m/train/image/0.png", "out/0.png")
    for _ in range(2):
        assert run("predict", "checkpoints/m", "out", "--out=out/p.csv").code == 0
        assert [line[0] for line in table("out/p.csv")[1:]] == ["out/0.png"]
