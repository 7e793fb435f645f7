"""Checkpoints in parts, written by a group of one process: what is read again, what is refused, what a kill leaves."""

import os
import pickle
import threading
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from conftest import same
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from trainer.checkpointing import folders, sharded
from trainer.checkpointing.sharded import ShardedSaver
from trainer.checkpointing.store import Store, read, read_newest
from utils.errors import CheckpointError, NonFiniteError, StorageError
from utils.runs.folder import newest_unfinished, refuse_unless_run
from utils.runs.saves import folder_of, in_parts, newest_save

LAST_FILES = {".metadata", "SHA256SUMS", "__0_0.distcp", "rest.pth"}


@pytest.fixture
def group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def saver(group, tmp_path):
    return ShardedSaver(tmp_path, first=True, background=False)


def state(step: int, divided: bool = True) -> dict:
    """A state of every kind of value, with some tensors in parts."""
    numbers = torch.Generator().manual_seed(step)
    weight, half = torch.randn(5, 3, generator=numbers), torch.randn(4, generator=numbers).bfloat16()
    moment = torch.randn(5, 3, generator=numbers)
    if divided:
        mesh = init_device_mesh("cpu", (1,))
        weight, half, moment = (distribute_tensor(t, mesh, [Shard(0)]) for t in (weight, half, moment))
    optimizer = {"state": {0: {"step": torch.tensor(2.0), "exp_avg": moment}}, "param_groups": [{"lr": 0.1}]}
    return {
        "model": {"a.weight": weight, "a.half": half, "count": torch.tensor(step)},
        "update": {"model": {"optimizer": optimizer, "window": {"gradients": [None, moment]}}},
        "ranks": [{"random": torch.arange(7, dtype=torch.uint8)}],
        "config": {"a": [1, "b", None]},
        "meta": {},
        "progress": {"step": step},
    }


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_it_is_read_as_one_file_would_be_to_the_last_bit(saver, tmp_path):
    saver.save(state(1))
    saver.save(state(2), copies=["best.pth"])
    assert names(tmp_path) == {"last", "previous", "best.pth", "best.pth.sha256"}
    assert names(tmp_path / "last") == LAST_FILES
    found, source, rejected = read_newest(tmp_path)
    assert (source, rejected) == (tmp_path / "last", [])
    assert same(found, {"format": 1, **state(2, divided=False)}) and same(found, read(tmp_path / "best.pth"))
    assert same(read(tmp_path / "previous"), {"format": 1, **state(1, divided=False)})
    Store(tmp_path).write(found, "whole.pth")
    assert same(read(tmp_path / "whole.pth"), read(tmp_path / "last"))


@pytest.mark.parametrize("name", sorted(LAST_FILES))
def test_a_damaged_one_is_passed_over_in_words(saver, tmp_path, name):
    saver.save(state(1))
    saver.save(state(2))
    path = tmp_path / "last" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    found, source, (reason,) = read_newest(tmp_path)
    assert found["progress"]["step"] == 1 and source.name == "previous"
    assert reason.startswith(f"{tmp_path / 'last'}: is damaged (")
    path.unlink()
    assert read_newest(tmp_path)[1].name == "previous" and read_newest(tmp_path)[2]


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch hacked",)


@pytest.mark.parametrize("name", [".metadata", "rest.pth"])
def test_nothing_in_a_folder_is_run(saver, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    saver.save(state(1))
    target = tmp_path / "last" / name
    target.write_bytes(pickle.dumps(Evil()))
    sign(tmp_path / "last")
    with pytest.raises(CheckpointError, match="no usable checkpoint .*is damaged or no checkpoint"):
        read_newest(tmp_path)
    assert not (tmp_path / "hacked").exists()


def test_a_folder_replaced_while_it_is_read_is_read_again(saver, tmp_path, monkeypatch):
    """A file is gone, as one of another rank; later, all checksums were right before they were those of another."""
    saver.save(state(1))
    (tmp_path / "last/__1_0.distcp").touch()
    sign(tmp_path / "last")
    saves, digest_of, join, reads = iter([2, 3]), folders.digest_of, folders._joined, []

    def meanwhile(act):
        def acting(path, *more):
            if path.name in ("__1_0.distcp", "last") and (step := next(saves, None)):
                saver.save(state(step))
                saver.save(state(step))  # the first one has become the previous one, and now it is gone
            return act(path, *more)

        return acting

    monkeypatch.setattr(folders, "digest_of", meanwhile(digest_of))
    monkeypatch.setattr(folders, "_joined", meanwhile(lambda *given: reads.append(1) or join(*given)))
    found, path, rejected = read_newest(tmp_path)
    assert (found["progress"]["step"], path.name, rejected) == (3, "last", [])
    assert len(reads) == 2, "the second reading met files that were not those of the checksums"


def test_a_description_leads_nowhere_else(saver, tmp_path):
    saver.save(state(1))
    target = tmp_path / "last" / ".metadata"
    target.write_bytes(target.read_bytes().replace(b"__0_0.distcp", b"../../../abc"))
    sign(tmp_path / "last")
    with pytest.raises(CheckpointError, match="is not that of its files"):
        read(tmp_path / "last")
    sums = (tmp_path / "last/SHA256SUMS").read_text()
    (tmp_path / "last/SHA256SUMS").write_text(sums.replace("__0_0.distcp", "../x"))
    with pytest.raises(CheckpointError, match="is no list of this folder's files"):
        read(tmp_path / "last")


def sign(folder: Path) -> None:
    lines = (f"{folders.digest_of(path)}  {path.name}\n" for path in folder.iterdir() if path.name != "SHA256SUMS")
    (folder / "SHA256SUMS").write_text("".join(sorted(lines)))


class Killed(BaseException):
    """Ends a save as kill -9 would, at a rename."""


@pytest.mark.parametrize("before", [0, 1, 2, "a file", "a file after a folder"])
def test_a_kill_at_any_rename_leaves_the_newest_or_the_one_before(saver, tmp_path, monkeypatch, before):
    own, step = os.replace, 0
    for at in range(12):
        run = tmp_path / str(at)
        run.mkdir()
        saver.place, saver.store = run, Store(run)
        for step in range(1, 1 + (before if isinstance(before, int) else 1)):
            saver.save(state(step))
        if isinstance(before, str):
            Store(run).save(state(2, divided=False))
            step = 2
        calls = iter(range(12))

        def replace(*paths, calls=calls, at=at):
            if next(calls) == at:
                raise Killed
            own(*paths)

        monkeypatch.setattr(os, "replace", replace)
        whole = False
        try:
            saver.save(state(step + 1))
            whole = True
        except Killed:
            pass
        monkeypatch.setattr(os, "replace", own)
        if step or whole:
            assert read_newest(run)[0]["progress"]["step"] in (step, step + 1)
        saver.save(state(step + 2))
        assert read_newest(run)[0]["progress"]["step"] == step + 2
        saver.save(state(step + 3))
        assert names(run) == {"last", "previous"} and read(run / "previous")["progress"]["step"] == step + 2
        if whole:
            return
    raise AssertionError("no save went through")


def test_files_follow_folders_and_folders_files(saver, tmp_path):
    saver.save(state(1))
    saver.save(state(2))
    (tmp_path / "notes").mkdir()
    store = Store(tmp_path)
    store.save(state(3, divided=False))
    assert names(tmp_path) == {"last.pth", "last.pth.sha256", "previous", "notes"}
    assert read_newest(tmp_path)[1].name == "last.pth" and read(tmp_path / "previous")["progress"]["step"] == 2
    (tmp_path / "last.pth").write_bytes(b"damaged")
    assert read_newest(tmp_path)[1].name == "previous"
    store.save(state(4, divided=False))
    store.save(state(5, divided=False))
    assert names(tmp_path) == {"last.pth", "last.pth.sha256", "previous.pth", "previous.pth.sha256", "notes"}
    saver.save(state(6))
    assert names(tmp_path) == {"last", "previous.pth", "previous.pth.sha256", "notes"}
    assert read(tmp_path / "previous.pth")["progress"]["step"] == 5
    saver.save(state(7))
    assert names(tmp_path) == {"last", "previous", "notes"}


def test_one_save_at_a_time_beside_the_training(group, tmp_path, monkeypatch):
    saver, go = ShardedSaver(tmp_path, first=True, background=True), threading.Event()
    own = sharded._Save.run
    monkeypatch.setattr(sharded._Save, "run", lambda self: go.wait(20) and own(self))
    first = state(1)
    saver.save(first)
    first["model"]["a.weight"].to_local().zero_()  # the training goes on
    first["model"]["count"].zero_()
    second = threading.Thread(target=saver.save, args=(state(2),))
    second.start()
    second.join(0.2)
    assert second.is_alive() and not in_parts(tmp_path / "last")
    go.set()
    second.join()
    saver.wait()
    assert same(read(tmp_path / "previous"), {"format": 1, **state(1, divided=False)})
    assert read(tmp_path / "last")["progress"]["step"] == 2


def test_what_cannot_be_saved_leaves_the_one_before(saver, tmp_path, monkeypatch):
    saver.save(state(1))
    bad = state(2)
    bad["model"]["a.weight"].to_local()[1, 1] = float("nan")
    with pytest.raises(NonFiniteError, match="'/model/a.weight' holds a value"):
        saver.save(bad)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "write_durably", full)
    with pytest.raises(StorageError, match="No space left on device.*what was saved before is intact"):
        saver.save(state(3))
    assert names(tmp_path) == {"last"} and read_newest(tmp_path)[0]["progress"]["step"] == 1


def test_a_run_with_nothing_else_is_found(saver, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    saver.place = Path("checkpoints/a")
    saver.place.mkdir(parents=True)
    saver.store = Store(saver.place)
    saver.save(state(1))
    assert newest_save(saver.place) == saver.place / "last" and newest_unfinished() == saver.place
    assert folder_of(saver.place / "last") == folder_of(saver.place) == folder_of(saver.place / "best.pth")
    for path in (saver.place, saver.place / "last"):
        refuse_unless_run(path, "a")
    given = run("export", "a", "--format=pth")
    assert (
        given.code == 0 and "checkpoints/a/model.pth" in given.out and "all of checkpoints/a/last, step 1" in given.out
    )
    assert same(read(saver.place / "model.pth"), read(saver.place / "last"))
    given = run("export", "a", "--format=pth", "--out=checkpoints/a/last.pth")
    assert given.code == 2 and "a run's own checkpoint has that name" in given.err
    given = run("export", "a", "--format=pth", "--batch-size=3")
    assert given.code == 2 and "takes no keys" in given.err
    given = run("export", "checkpoints/a/last", "--format=pth", "--out=checkpoints/b/last.pth")
    assert given.code == 0 and newest_save(Path("checkpoints/b")) == Path("checkpoints/b/last.pth")
    words = ("export", "checkpoints/a/last", "--format=pth", "--out=checkpoints/b/last.pth")
    assert run(*words).code == 0, "made again"
    Path("checkpoints/b/config.yaml").touch()  # a run went on from it
    given = run(*words)
    assert given.code == 2 and "a run's own checkpoint has that name" in given.err
