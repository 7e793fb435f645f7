"""The PNG files of a run, and the grids of pictures."""

import json
import math
import warnings

import numpy as np
import pytest
from PIL import Image

from utils.errors import StorageError
from utils.figures.curves import draw_confusion, draw_curves
from utils.figures.grid import picture_grid


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def write_journal(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def train_row(step, **metrics):
    return {"time": step * 0.1, "phase": "train", "epoch": step // 100, "step": step, **metrics}


def full_journal(path, steps=3000):
    rows = []
    for step in range(10, steps + 1, 10):
        noise = 0.1 * math.sin(step * 1.7)
        rows.append(train_row(step, loss=2 * math.exp(-step / 900) + 0.1 + noise, lr=0.1 * 0.5 ** (step // 1000)))
        if step % 500 == 0:
            validation = {
                "loss": 2 * math.exp(-step / 800) + 0.3,
                "accuracy": 1 - math.exp(-step / 700),
                "auc": None,
            }  # null: not finite
            rows.append(train_row(step, **validation) | {"phase": "val"})
    return write_journal(path, rows)


def size(path):
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        return picture.size


def colours(path):
    with Image.open(path) as picture:
        return np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)


def test_curves_have_a_panel_a_metric(tmp_path):
    journal, target = full_journal(tmp_path / "log.jsonl"), tmp_path / "curves.png"
    assert draw_curves(journal, target)
    assert size(target) == (3 * 480, 380)  # loss, accuracy, lr; auc has no number
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []
    blue, orange = (31, 119, 180), (255, 127, 14)
    assert {blue, orange} <= set(map(tuple, colours(target).tolist()))


def test_curves_go_into_rows_of_three(tmp_path):
    journal = write_journal(tmp_path / "log.jsonl", [train_row(1, a=1, b=2, c=3, d=4)])
    assert draw_curves(journal, tmp_path / "curves.png")
    assert size(tmp_path / "curves.png") == (3 * 480, 2 * 340 + 40)


def test_curves_replace_the_older_picture(tmp_path):
    target = tmp_path / "curves.png"
    target.write_bytes(b"old")
    assert draw_curves(write_journal(tmp_path / "log.jsonl", [train_row(0, loss=1.0)]), target)
    assert size(target) == (480, 380)  # and a single point is enough


def test_curves_survive_what_a_journal_may_hold(tmp_path):
    journal, target = tmp_path / "log.jsonl", tmp_path / "curves.png"
    good = [
        train_row(1, loss=1.0, note="warm", done=True),
        train_row(2, loss=math.nan),
        train_row(3, loss=math.inf, **{"$\\bad$": 1}),
    ]
    write_journal(journal, good)
    with journal.open("ab") as file:
        file.write(b'[1, 2]\nnonsense\n{"phase": "rest", "step": 1, "loss": 2}\n{"loss": 3}\n')
        file.write('{"phase": "train", "step": 4, "loss": 1.5, "note": "猫'.encode()[:-1])  # torn within a character
    assert draw_curves(journal, target)
    assert size(target) == (2 * 480, 380)


@pytest.mark.parametrize("text", [None, "", '{"phase": "train", "ste', '{"phase": "train", "step": 1, "epoch": 0}\n'])
def test_no_numbers_no_picture(tmp_path, text):
    journal = tmp_path / "log.jsonl"
    if text is not None:
        journal.write_text(text)
    assert not draw_curves(journal, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


@pytest.mark.parametrize("count", [1, 2, 10, 20, 21, 100])
def test_confusion_matrix_of_many_classes(tmp_path, count):
    counts = np.random.default_rng(0).integers(0, 50, (count, count)) + 900 * np.eye(count, dtype=int)
    draw_confusion(counts, [f"class {number}" for number in range(count)], tmp_path / "confusion.png")
    width, height = size(tmp_path / "confusion.png")
    side = min(max(62 * count, 220), 1250)
    assert width == pytest.approx(side + 260, abs=1) and height == pytest.approx(side + 180, abs=1)


def test_confusion_matrix_has_truth_in_rows_from_the_top(tmp_path):
    draw_confusion([[0, 9], [0, 0]], ["a", "b"], tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as picture:
        dark = np.asarray(picture.convert("RGB"))[:, : picture.width * 2 // 3]
    rows, columns = np.nonzero((dark == (8, 48, 107)).all(2))  # the colour of a share of 1
    assert rows.mean() < picture.height * 0.5
    assert columns.mean() > picture.width * 0.35


@pytest.mark.parametrize("names", [["猫", "狗"], ["$\\frac{$", "a_b^c"], ["x" * 80, "line\nbreak"], ["🐈", ""]])
def test_confusion_matrix_of_awkward_names(tmp_path, names):
    draw_confusion(np.eye(2, dtype=int), names, tmp_path / "confusion.png")
    size(tmp_path / "confusion.png")


def test_confusion_matrix_refuses_other_shapes(tmp_path):
    for matrix, names in ((np.eye(3), ["a", "b"]), (np.zeros((0, 0)), []), (np.zeros(2), ["a", "b"])):
        with pytest.raises(ValueError, match="cannot have the shape"):
            draw_confusion(matrix, names, tmp_path / "confusion.png")
    assert list(tmp_path.iterdir()) == []


def test_failed_write_leaves_nothing(tmp_path):
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(StorageError):
        draw_confusion(np.eye(2), ["a", "b"], tmp_path / "taken.png")
    assert [file.name for file in tmp_path.iterdir()] == ["taken.png"]


def test_grid_of_pictures():
    batch = np.stack([np.full((1, 2, 3), value, dtype=np.float32) for value in (0, 0.5, 1, 2, np.nan)])
    grid = picture_grid(batch, columns=3, gap=1)
    assert grid.dtype == np.uint8 and grid.shape == (3, 2 * 3 - 1, 3 * 4 - 1)
    assert [int(grid[0, 0, left]) for left in (0, 4, 8)] == [0, 128, 255]
    assert [int(grid[2, 3, left]) for left in (0, 4, 8)] == [255, 0, 255]  # clipped, not a number, no picture
    assert (grid[:, 2] == 255).all()
    colour = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)
    assert np.array_equal(picture_grid(colour), colour)
    assert np.array_equal(picture_grid(np.ones((1, 2, 2), dtype=np.uint8)), np.ones((3, 2, 2)))


@pytest.mark.parametrize("shape", [(2, 2), (2, 4, 4), (5, 4, 3, 3), (0, 3, 2, 2)])
def test_grid_refuses_what_is_no_picture(shape):
    with pytest.raises(ValueError, match=r"\[N, C, H, W\]"):
        picture_grid(np.zeros(shape))
