"""A run's owner, as other nodes see it: a mark with a heartbeat."""

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest
from conftest import TOY

from utils.errors import ConfigError, StorageError
from utils.runs import owner
from utils.runs.folder import RunFolder, is_owned


@pytest.fixture
def quick(monkeypatch):
    for name, seconds in (("BEAT", 0.1), ("SILENT", 0.6), ("LOOK", 0.05), ("SETTLE", 0.2)):
        monkeypatch.setattr(owner, name, seconds)


def mark(folder: Path, age: float = 0.0, **facts) -> None:
    """Leave the mark of another machine's process."""
    path = folder / ".owner"
    path.write_text(json.dumps({"process": 5, "host": "node2", "boot": "another", **facts}))
    os.utime(path, (time.time() - age, time.time() - age))


def beat(folder: Path, end) -> None:
    while not end.wait(0.1):
        os.utime(folder / ".owner")


def test_a_run_of_another_machine_is_left_to_it(tmp_path, quick):
    mark(tmp_path)
    end = multiprocessing.get_context("fork").Event()
    other = multiprocessing.get_context("fork").Process(target=beat, args=(tmp_path, end))
    other.start()
    try:
        assert is_owned(tmp_path)
        with pytest.raises(ConfigError, match="in use by process 5 on node2; wait or stop it"):
            RunFolder(tmp_path).own()
    finally:
        end.set()
        other.join()
    assert json.loads((tmp_path / ".owner").read_text())["process"] == 5


def test_a_run_whose_owner_is_gone_is_taken_over_after_a_while(tmp_path, quick):
    mark(tmp_path)
    folder, began = RunFolder(tmp_path), time.monotonic()
    folder.own()
    assert 0.5 < time.monotonic() - began < 3
    assert json.loads((tmp_path / ".owner").read_text())["process"] == os.getpid()
    first = (tmp_path / ".owner").stat().st_mtime
    time.sleep(0.4)
    assert (tmp_path / ".owner").stat().st_mtime > first, "its heart beats"
    folder.release()
    assert not (tmp_path / ".owner").exists() and not list(tmp_path.glob(".owner*"))


def test_an_old_mark_and_one_of_this_machine_are_not_waited_for(tmp_path):
    for facts in ({"age": 100.0}, {"boot": owner.boot()}):
        mark(tmp_path, **facts)
        began, folder = time.monotonic(), RunFolder(tmp_path)
        folder.own()
        assert time.monotonic() - began < 2 * owner.SETTLE
        folder.release()


def test_of_two_that_take_a_place_one_has_it(tmp_path, quick, monkeypatch):
    """The second one read that the old one was gone before the first one wrote its mark."""
    mark(tmp_path, age=100)
    own = owner.time.sleep
    monkeypatch.setattr(owner.time, "sleep", lambda seconds: (mark(tmp_path, process=6), own(seconds)))
    with pytest.raises(ConfigError, match="in use by process 6 on node2"):
        RunFolder(tmp_path).own()


def test_two_that_come_at_once_do_not_both_have_it(tmp_path, monkeypatch):
    monkeypatch.setattr(owner, "_wait_until_silent", lambda path: mark(tmp_path))  # between its look and its mark
    monkeypatch.setattr(Path, "unlink", lambda *arguments, **options: None)
    with pytest.raises(ConfigError, match="in use by process 5 on node2"):
        RunFolder(tmp_path).own()


def test_a_frozen_owner_saves_nothing_once_another_has_its_run(tmp_path):
    folder = RunFolder(tmp_path)
    folder.own()
    folder.refuse_if_taken()
    mark(tmp_path)
    with pytest.raises(StorageError, match="is trained by process 5 on node2, too"):
        folder.refuse_if_taken()
    folder.release()
    assert (tmp_path / ".owner").exists(), "it is the other's"


@pytest.mark.parametrize("text", ["", "[1]", "process 5", '{"boot": 3}'])
def test_a_damaged_mark_is_one_of_another(tmp_path, quick, text):
    (tmp_path / ".owner").write_text(text)
    assert is_owned(tmp_path)
    folder = RunFolder(tmp_path)
    folder.own()
    folder.release()


def test_a_pipe_for_a_mark_is_not_waited_for(tmp_path, quick):
    os.mkfifo(tmp_path / ".owner")
    folder = RunFolder(tmp_path)
    folder.own()
    folder.release()


def test_a_finished_run_leaves_no_mark(run):
    assert run("train", "--run=a", *TOY, "--train.max_steps=2").code == 0
    assert not list(Path("checkpoints/a").glob(".owner*"))
