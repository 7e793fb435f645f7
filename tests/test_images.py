"""Pictures written and read, files written whole, photos without labels, pictures and texts in the journal."""

import json

import numpy as np
import pytest
import torch
from conftest import dogcats
from PIL import Image

from data.photos import Photos
from trainer.submission.write import write_pictures
from utils.errors import ConfigError, DataError, StorageError
from utils.files import write_atomic
from utils.images import read_image, read_values, to_tensor, write_image
from utils.sinks.journal import Journal


@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 5, 7), (5, 7)])
def test_what_is_written_is_read(tmp_path, shape):
    pixels = torch.randint(256, shape, dtype=torch.uint8)
    write_image(tmp_path / "new" / "a.png", pixels)
    back = to_tensor(read_image(str(tmp_path / "new" / "a.png"), "RGB" if shape[0] == 3 else "L"))
    assert torch.equal((back * 255).round().byte().reshape(shape), pixels)
    write_image(tmp_path / "b.png", pixels.float() / 255)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), np.asarray(Image.open(tmp_path / "new/a.png")))


def test_what_is_outside_0_and_1_is_cut_off(tmp_path):
    write_image(tmp_path / "a.png", np.array([[-1.0, 0.5, 3.0, np.nan]]))
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[0, 128, 255, 0]]


@pytest.mark.parametrize("name", ["a.txt", "a", "taken.png"])
def test_a_name_that_is_no_pictures(tmp_path, name):
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(ConfigError, match=r"must end in \.png"):
        write_image(tmp_path / name, torch.zeros(3, 2, 2))


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    write_atomic(tmp_path / "a", b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StorageError, match="No space left on device .* make room"):
        write_atomic(tmp_path / "a", b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"old")]


def test_photos_are_all_pictures_below_a_folder(tmp_path):
    dogcats(tmp_path / "p" / "deep", count=5)
    dogcats(tmp_path / "p", count=5, start=9)
    (tmp_path / "p" / "notes.txt").write_text("no picture")
    train, val = (Photos(str(tmp_path / "p"), split, val_fraction=0.25) for split in ("train", "val"))
    assert len(train) == 15 and len(val) == 5 and not set(train.ids) & set(val.ids)
    assert len(Photos(str(tmp_path / "p"), "test")) == 20
    assert train[0].shape == (3, 32, 40) and train.meta == {"in_channels": 3, "image_size": [32, 40]}
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no pictures in"):
        Photos(str(tmp_path / "none"), "train")


def test_pictures_and_texts_are_in_the_journal(tmp_path):
    journal = Journal(tmp_path / "log.jsonl")
    journal.epoch = 3
    journal.images("samples", 40, torch.rand(5, 3, 8, 8))
    journal.images("faces", 40, torch.rand(3, 8, 8))
    journal.text("poem", 40, "春眠不覺曉")
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row.get("picture") for row in rows] == ["samples_000040.png", "samples_faces_000040.png", None]
    assert {row["phase"] for row in rows} == {"show"} and {row["epoch"] for row in rows} == {3}
    assert rows[2]["text"] == "春眠不覺曉"
    assert Image.open(tmp_path / "samples_000040.png").size == (48, 8)


def test_predicted_pictures_lie_beside_the_csv(tmp_path):
    rows = {"7": {"mask": torch.eye(4, dtype=torch.uint8), "share": 0.25}}
    assert write_pictures(tmp_path / "a.csv", rows) == {"7": {"mask": "masks/7.png", "share": 0.25}}
    assert np.asarray(Image.open(tmp_path / "masks" / "7.png")).tolist() == torch.eye(4).int().tolist()


def test_masks_of_16_bits_are_written_exactly(tmp_path):
    mask = torch.tensor([[0, 26001], [26002, 65535]], dtype=torch.int32)
    write_image(tmp_path / "m.png", mask)
    assert np.array_equal(read_values(str(tmp_path / "m.png")), mask.numpy())
