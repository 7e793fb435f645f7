"""Rows of a CSV without a file, files without a row, empty cells, several folders, names with or without a suffix."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.csv_images import CSVImages
from utils.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """Twenty pictures in two folders; every third name in the CSV has its suffix."""
    for i in range(20):
        path = tmp_path / ("one" if i % 2 else "two") / f"p{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(path)
    return tmp_path


ROWS = [(f"p{i}" if i % 3 else f"p{i}.png", "ab"[i % 2]) for i in range(20)]


def read(folder: Path, rows, missing: str = "raise") -> CSVImages:
    (folder / "trainLabels.csv").write_text("id,label\n" + "".join(f"{name},{label}\n" for name, label in rows))
    return CSVImages(str(folder), "train", val_fraction=0, missing=missing)


def test_several_folders_and_names_with_and_without_a_suffix(folder):
    data = read(folder, ROWS)
    assert sorted(data.ids) == sorted(name for name, _ in ROWS)
    for index, name in enumerate(data.ids):  # the grey value is the picture's number
        number = int(name.removeprefix("p").removesuffix(".png"))
        assert data.store.picture(index).getpixel((0, 0))[0] == number and int(data.labels[index]) == number % 2
    assert f"pictures lie in {folder}/one, {folder}/two (data.dataset.images)" in data.facts.lines
    assert not data.facts.left_out


@pytest.mark.parametrize(
    ("rows", "error", "reason", "kept"),
    [
        (
            [*ROWS, ("q1", "a"), ("q2", "b")],
            r"trainLabels\.csv:22: no picture 'q1' .*; 2 of 22 rows have no picture: data\.dataset\.missing=skip",
            {"a row whose picture is missing (data.dataset.missing)": ["q1", "q2"]},
            20,
        ),
        (
            [*ROWS[:-1], ("p19", "")],
            r"trainLabels\.csv:21: has no label; fill it in or remove the row; 1 of 20 rows have no label",
            {
                "a row with no label (data.dataset.missing)": ["p19"],
                "a picture without a row in the CSV": ["one/p19.png"],
            },
            19,
        ),
        (
            [*ROWS[:-1], ("", "b")],
            r"trainLabels\.csv:21: has no name of a picture; fill it in or remove the row; 1 of 20",
            {
                "a row with no name of a picture (data.dataset.missing)": ["line 21"],
                "a picture without a row in the CSV": ["one/p19.png"],
            },
            19,
        ),
    ],
)
def test_what_lacks_a_part_is_an_error_or_left_out_and_counted(folder, rows, error, reason, kept):
    with pytest.raises(DataError, match=error):
        read(folder, rows)
    data = read(folder, rows, missing="skip")
    assert len(data) == kept and data.facts.left_out == reason


def test_files_without_a_row_are_counted(folder):
    data = read(folder, ROWS[:-3])
    assert len(data) == 17
    assert {reason: len(names) for reason, names in data.facts.left_out.items()} == {
        "a picture without a row in the CSV": 3
    }


@pytest.mark.parametrize(("written", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_an_accent_may_be_a_sign_of_its_own(tmp_path, written, stored):
    names = [f"caf\u00e9{i}" for i in range(8)]
    for name in names:
        Image.new("RGB", (8, 8)).save(tmp_path / f"{unicodedata.normalize(stored, name)}.png")
    data = read(tmp_path, [(unicodedata.normalize(written, name), "ab"[i % 2]) for i, name in enumerate(names)])
    assert len(data) == 8 and not data.facts.left_out


@pytest.mark.parametrize(("name", "near"), [("P3.png", "one/p3.png"), ("x/p4.JPG", "two/p4.png"), ("P5", "one/p5.png")])
def test_a_name_in_other_capitals_is_told(folder, name, near):
    with pytest.raises(DataError, match=rf"no picture '{name}' .*; there is {near}, whose name has other capitals or"):
        read(folder, [*ROWS, (name, "a")])
    with pytest.raises(DataError, match=r"no picture 'p30' \(looked in [^,]*, .*\); add it or remove the row"):
        read(folder, [*ROWS, ("p30", "a")])
