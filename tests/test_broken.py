"""Broken pictures are named all at once, and nothing is written as if they had been read."""

import pickle
from pathlib import Path

import pytest
from conftest import DATA, PLAIN, dogcats

from data import _broken
from data._broken import all_broken
from utils.errors import DataError, PictureError
from utils.images import read_image

SMALL = ["--model=MLP", "--model.hidden=[4]", "--max-epoch=1", "--batch-size=8", *PLAIN]


def spoil(folder: Path, *names: str) -> None:
    """Cut pictures off: their headers are whole, so that only decoding finds it."""
    for name in names:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])


@pytest.fixture
def trained(run, tmp_path):
    dogcats(tmp_path / "train", 12)
    given = run("train", "dogcat_small", "--run=a", *SMALL, "--num-workers=0", "--train-data-root=train")
    assert given.code == 0, given.err
    dogcats(tmp_path / "all", 20)
    (tmp_path / "test").mkdir()
    for number, path in enumerate(sorted((tmp_path / "all").iterdir()), 1):
        path.rename(tmp_path / f"test/{number}.jpg")
    return run


@pytest.mark.parametrize("workers", [0, 2])
def test_a_test_names_all_and_writes_nothing(trained, tmp_path, workers):
    spoil(tmp_path / "test", *(f"{number}.jpg" for number in range(3, 33)))
    (tmp_path / "test/40.jpg").write_bytes(b"")
    given = trained("test", "checkpoints/a", "--test-data-root=test", f"--num-workers={workers}")
    assert given.code == 3 and "Traceback" not in given.err
    assert given.err.startswith("31 of 40 pictures cannot be read: test/3.jpg and 29 more (")
    assert (
        "test/40.jpg (the file is empty); remove or replace them, or leave them out: data.dataset.exclude" in given.err
    )
    assert not Path("checkpoints/a/submission.csv").exists()


def test_the_first_sample_may_be_broken_and_a_single_one_is_told_as_before(trained, tmp_path):
    spoil(tmp_path / "test", "1.jpg")
    given = trained("test", "checkpoints/a", "--test-data-root=test")
    assert given.code == 3 and given.err.startswith("cannot read the picture test/1.jpg (")
    assert "data.dataset.exclude=[1.jpg] leaves it out" in given.err
    assert trained("test", "checkpoints/a", "--test-data-root=test", "--data.dataset.exclude=[1.jpg]").code == 0
    spoil(tmp_path / "train", *(f"dog.{number}.jpg" for number in range(12)))
    for extra in ([], ["--data.cache=ram"]):
        given = trained("train", "dogcat_small", *SMALL, "--train-data-root=train", *extra)
        assert given.code == 3 and " pictures cannot be read: train/" in given.err, given.err


def test_reasons_that_differ_in_numbers_are_one_and_others_are_counted(tmp_path):
    dogcats(tmp_path, 12)
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    error = pickle.loads(pickle.dumps(PictureError("gone.jpg", "no such file")))
    assert str(error) == "cannot read the picture gone.jpg (no such file); remove it or replace it"
    assert str(all_broken(files, error)) == str(error), "the one that was met counts, even if it is read now"
    with pytest.raises(PictureError, match=r"cannot read the picture .*/no\.jpg \(No such file"):
        read_image(str(tmp_path / "no.jpg"))
    spoil(tmp_path, "cat.0.jpg", "cat.1.jpg", "cat.2.jpg")
    assert str(all_broken(files, error)).startswith(f"4 of 24 pictures cannot be read: {files[0]} and 2 more (")


def test_the_look_ends_in_time(tmp_path, monkeypatch):
    dogcats(tmp_path, 30)
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    spoil(tmp_path, *(Path(file).name for file in files))
    monkeypatch.setattr(_broken, "SECONDS", 0.0)
    message = str(all_broken(files, PictureError(files[-1], "x")))
    assert "of the first" in message and "of 60 pictures cannot be read" in message


@pytest.mark.skipif(not (DATA / "broken_images").is_dir(), reason="the broken pictures are not here")
def test_real_broken_pictures_are_all_named():
    files = [str(path) for path in sorted((DATA / "broken_images/unreadable").iterdir())]
    assert isinstance(found := all_broken(files, PictureError(files[0], "x")), DataError)
    assert str(found).startswith(f"{len(files)} of {len(files)} pictures cannot be read: ")
