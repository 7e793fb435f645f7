"""Checkpoints are whole or not there, verified before they are read, and open anywhere."""

import hashlib
import os
import random
import subprocess
import sys
import threading
import zipfile

import pytest
import torch
import yaml
from conftest import PLAIN, ROOT, TOY, rows, same, same_run, state
from filelock import FileLock

from configs.schema import Train
from trainer import trainer
from trainer.checkpointing import store as checkpoint
from trainer.checkpointing.store import Store, read, read_newest
from trainer.progress import Progress
from utils.errors import CheckpointError, NonFiniteError, StorageError
from utils.files import fsync


def toy_state(value: float) -> dict:
    return {"model": {"w": torch.full((50,), value)}, "config": {}, "meta": {}, "progress": {"step": int(value)}}


def test_a_run_folder_holds_what_was_promised(run, tmp_path):
    assert run("train", "--run=a", *TOY[:-1], "--train.max_steps=40").code == 0
    folder = tmp_path / "checkpoints" / "a"
    names = {path.name for path in folder.iterdir()}
    wanted = {"config.yaml", "log.jsonl", "last.pth", "best.pth", "curves.png", "confusion_matrix.png"}
    assert wanted <= names
    for name in ("last.pth", "best.pth"):
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert (folder / f"{name}.sha256").read_text() == f"{digest}  {name}\n"
        assert not (folder / name).is_symlink()
    weights = state("a")["model"]
    assert list(weights) == ["layers.0.weight", "layers.0.bias"] or all("model." not in name for name in weights)
    assert not any(name.startswith(("module.", "_orig_mod.", "model.")) for name in weights)
    row = rows("a")[0]
    assert list(row)[:3] == ["phase", "epoch", "step"]
    assert row["phase"] == "train" and "loss" in row
    assert all(0 <= r["accuracy"] <= 1 for r in rows("a", phase="val"))


def test_config_yaml_repeats_the_run(run, tmp_path):
    assert run("train", "--run=a", *TOY, "--train.max_steps=5").code == 0
    config = (tmp_path / "checkpoints/a/config.yaml").read_text()
    assert "use_gpu: false" in config or "use_gpu: true" in config, "auto was not resolved"
    assert run("train", "checkpoints/a/config.yaml", "--run=b").code == 0
    assert rows("a") == rows("b")


@pytest.mark.parametrize(("flags", "way"), [([], "processes"), (["--data.loader=threads"], "threads")])
def test_config_yaml_has_what_auto_came_to(run, tmp_path, flags, way):
    assert run("train", "--run=a", *TOY, "--train.max_steps=1", *flags).code == 0
    found = yaml.safe_load((tmp_path / "checkpoints/a/config.yaml").read_text())
    assert found["data"]["loader"] == way and found["train"]["use_gpu"] is False
    assert run("train", "checkpoints/a/config.yaml", "--run=b").code == 0


def test_every_flipped_byte_is_found(tmp_path):
    store = Store(tmp_path)
    store.save(toy_state(1))
    store.save(toy_state(2))
    whole = (tmp_path / "last.pth").read_bytes()
    for place in random.Random(0).sample(range(len(whole)), 200):
        (tmp_path / "last.pth").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        found, path, rejected = read_newest(tmp_path)
        assert path.name == "previous.pth"
        assert found["progress"]["step"] == 1
        assert "last.pth: is damaged" in rejected[0]
    (tmp_path / "last.pth").write_bytes(whole)
    assert read_newest(tmp_path)[1].name == "last.pth", "the undamaged file must be read, or the test proves nothing"


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_cut_off_file_is_found_even_without_its_checksum(tmp_path, cut):
    Store(tmp_path).save(toy_state(1))
    path = tmp_path / "last.pth"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match="is damaged"):
        read(path)
    (tmp_path / "last.pth.sha256").unlink()
    with pytest.raises(CheckpointError, match="is damaged or no checkpoint"):
        read(path)


def test_nothing_left_is_exit_4_with_every_reason(run, tmp_path):
    assert run("train", "--run=a", *TOY, "--train.max_steps=2").code == 0
    for name in ("last.pth", "previous.pth"):
        (tmp_path / "checkpoints/a" / name).write_bytes(b"rubbish")
    given = run("train", "--resume=checkpoints/a", "--train.max_steps=4")
    assert given.code == 4
    assert "last.pth: is damaged" in given.err and "previous.pth: is damaged" in given.err
    assert len(given.err.strip().splitlines()) == 1


def test_a_checkpoint_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.save(toy_state(1))
    saves, load = iter(range(2, 12)), checkpoint._load

    def meanwhile(path):
        if step := next(saves, None):
            store.save(toy_state(step))
        return load(path)

    monkeypatch.setattr(checkpoint, "_load", meanwhile)
    state, path, rejected = read_newest(tmp_path)
    assert (state["progress"]["step"], path.name, rejected) == (11, "last.pth", [])
    monkeypatch.setattr(checkpoint, "_load", lambda path: (store.save(toy_state(1)), load(path))[1])
    with pytest.raises(CheckpointError, match="was replaced while it was read; try again"):
        read(tmp_path / "last.pth")


def test_a_damaged_last_falls_back_to_the_previous_with_a_sentence(run, tmp_path):
    assert run("train", "--run=a", *TOY, "--train.max_steps=6", "--train.save_steps=2").code == 0
    (tmp_path / "checkpoints/a/last.pth").write_bytes(b"rubbish")
    given = run("train", "--resume=checkpoints/a", "--train.max_steps=8")
    assert given.code == 0, given.err
    assert "passed over checkpoints/a/last.pth: is damaged" in given.out
    assert [row["step"] for row in rows("a", phase="train")] == list(range(1, 9))


def test_pickles_that_run_code_are_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'owned'}",)

    torch.save({"model": Evil(), "config": {}, "meta": {}, "progress": {}, "format": 1}, tmp_path / "last.pth")
    with pytest.raises(CheckpointError, match="safely"):
        read(tmp_path / "last.pth")
    assert not (tmp_path / "owned").exists()


def test_what_a_safe_loader_would_refuse_is_refused_when_written(tmp_path):
    with pytest.raises(TypeError, match="state.meta.path is a PosixPath"):
        Store(tmp_path).save(toy_state(1) | {"meta": {"path": tmp_path}})
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    Store(tmp_path).save(toy_state(1))
    with pytest.raises(NonFiniteError, match="'w'"):
        Store(tmp_path).save(toy_state(1) | {"model": {"w": torch.tensor([float("nan")])}})
    assert torch.isfinite(read(tmp_path / "last.pth")["model"]["w"]).all()


def test_large_weights_of_several_types_are_finite(tmp_path):
    model = {"w": torch.full((4,), 3e38), "h": torch.full((9,), 6e4, dtype=torch.float16), "n": torch.tensor(3)}
    Store(tmp_path).save(toy_state(1) | {"model": {**model, "empty": torch.zeros(0)}})
    assert torch.equal(read(tmp_path / "last.pth")["model"]["w"], model["w"])


def test_a_copy_is_let_go_before_the_disk_has_everything(tmp_path, monkeypatch):
    """Training wants its memory."""
    state, left = toy_state(1), []
    monkeypatch.setattr("trainer.checkpointing.store.fsync", lambda file: (left.append(len(state)), fsync(file)))
    Store(tmp_path).save(state)
    assert left[0] == 0 and read(tmp_path / "last.pth")["model"]


def test_what_reaches_the_file_changed_is_found_at_once(tmp_path, monkeypatch):
    """While what was saved before is there: the checksum would be that of the damage."""
    Store(tmp_path).save(toy_state(1))
    own = checkpoint._Stream.write

    def flip(self, data):
        piece = bytearray(data)
        piece[len(piece) // 2] ^= len(piece) > 5000  # one bit of a large tensor
        return own(self, bytes(piece))

    monkeypatch.setattr(checkpoint._Stream, "write", flip)
    with pytest.raises(StorageError, match=r"read back, it is damaged \(entry .*what was saved before is intact"):
        Store(tmp_path).save(toy_state(2) | {"model": {"w": torch.rand(9000)}})
    assert read(tmp_path / "last.pth")["progress"] == toy_state(1)["progress"] and not list(tmp_path.glob("*.tmp"))


LIMITED = """
import resource, sys
sys.path.insert(0, {root!r})
import torch
from pathlib import Path
from trainer.checkpointing.store import Store
from utils.errors import StorageError
state = {{"model": {{"w": torch.zeros(100_000)}}, "config": {{}}, "meta": {{}}, "progress": {{}}}}
Store(Path(".")).save(dict(state))
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    Store(Path(".")).save(state | {{"meta": {{"new": 1}}}})
except StorageError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize("limit", [0, 1000, 399_000])
def test_a_full_disk_leaves_the_previous_checkpoint_and_a_sentence(tmp_path, limit):
    code = LIMITED.format(root=str(ROOT), limit=limit)
    given = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert given.returncode == 5, given.stderr
    assert "last.pth: cannot be written" in given.stdout and "MB to write" in given.stdout
    assert read(tmp_path / "last.pth")["meta"] == {}
    assert not list(tmp_path.glob("*.tmp")), "a partial file was left behind"


def test_stale_temporary_files_are_swept_and_foreign_files_are_not(run, tmp_path):
    assert run("train", "--run=a", *TOY, "--train.max_steps=2").code == 0
    folder = tmp_path / "checkpoints/a"
    (folder / "last.pth.tmp").write_bytes(b"half")
    (folder / "notes.txt").write_text("mine")
    assert run("train", "--resume=checkpoints/a", "--train.max_steps=3").code == 0
    assert not (folder / "last.pth.tmp").exists()
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.learns
def test_the_best_is_not_touched_by_a_worse_epoch(run):
    args = [arg for arg in TOY if not arg.startswith(("--lr", "--max-epoch"))]
    # The loss is monitored upside down on purpose: with this rate the first epochs are the best ones.
    assert run("train", "--run=a", *args, "--lr=0.5", "--max-epoch=4", "--train.monitor=loss").code == 0
    losses = [row["loss"] for row in rows("a", phase="val")]
    best = state("a", "best.pth")["progress"]
    assert best["best"] == min(losses)
    assert best["best_epoch"] == losses.index(min(losses))
    assert best["best_epoch"] != 3, "the last epoch was the best: nothing is tested"


def test_the_best_of_a_run_that_ended_within_an_epoch_is_not_lost_to_a_worse_one(run, monkeypatch):
    """It was measured where a longer run does not look: that one is as if it had not been, but keeps the weights."""
    own, ended = trainer.evaluate, []

    def measured(task, loader, cfg, *rest):
        numbers, extras = own(task, loader, cfg, *rest)
        ended.extend([cfg.train.max_steps] if cfg.train.max_steps == 50 else [])
        best = cfg.train.max_steps == 50 and len(ended) == 2  # at its last step, within the second epoch
        return {**numbers, "loss": numbers["loss"] / (1000 if best else 1)}, extras

    monkeypatch.setattr(trainer, "evaluate", measured)
    args = ["--model=MLP", "--optim=SGD", "--lr=0.01", "--max-epoch=3", "--train.monitor=loss", "--seed=4", *PLAIN]
    assert run("train", "--run=whole", *args).code == 0
    assert run("train", "--run=cut", *args, "--train.max_steps=50").code == 0
    before = state("cut", "best.pth")
    given = run("train", "--resume=checkpoints/cut", "--train.max_steps=null")
    assert given.code == 0, given.err
    after = state("cut", "best.pth")
    assert before["progress"]["best"] < state("whole", "best.pth")["progress"]["best"], "nothing is tested"
    assert same(after["model"], before["model"]) and same_run(state("cut"), state("whole"))
    assert f"best loss {before['progress']['best']:.4f} (epoch 2)" in given.out
    assert run("train", "--resume=checkpoints/cut", "--max-epoch=6").code == 0
    kept = state("cut", "best.pth")["progress"]["best"]
    assert kept == min(before["progress"]["best"], *(row["loss"] for row in rows("cut", phase="val")))


def test_a_score_that_is_no_number_is_not_among_the_top():
    progress, train = Progress(), Train(keep_top=2)
    for epoch, score in enumerate([-0.5, float("nan"), -0.9, -0.8, -0.95]):
        progress.epoch = epoch
        progress.update_best(score, train)
        progress.choose_kept(train)
    assert progress.kept == [[-0.95, 5], [-0.9, 3]]


def test_top_and_regular_epochs_stay(run, tmp_path):
    args = [arg for arg in TOY if "max-epoch" not in arg]
    assert run("train", "--run=a", *args, "--max-epoch=5", "--train.keep_top=2", "--train.keep_every=3").code == 0
    scores = [row["accuracy"] for row in rows("a", phase="val")]
    top = sorted(range(5), key=lambda e: (-scores[e], e))[:2]
    wanted = {f"epoch-{e + 1:03d}.pth" for e in {*top, 2}}
    assert {path.name for path in (tmp_path / "checkpoints/a").glob("epoch-*.pth")} == wanted
    assert state("a", "epoch-003.pth")["progress"]["epoch"] == 3


def test_an_owner_at_a_time(run, tmp_path):
    from utils.runs.folder import RunFolder

    assert run("train", "--run=a", *TOY, "--train.max_steps=2").code == 0
    folder = RunFolder(tmp_path / "checkpoints" / "a")
    folder.own()
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import main; sys.exit(main.main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "train", "--resume=checkpoints/a", "--train.max_steps=4"]
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert second.returncode == 2, second.stderr
    assert f"in use by process {os.getpid()}" in second.stderr
    folder.lock.release()
    assert run("train", "--resume=checkpoints/a", "--train.max_steps=4").code == 0


def test_who_looks_at_a_run_keeps_nobody_from_it(tmp_path):
    """`runs` takes each lock for a moment, to know who lives."""
    from utils.runs.folder import RunFolder

    other = FileLock(tmp_path / ".lock", thread_local=False)
    other.acquire()
    threading.Timer(0.1, other.release).start()
    RunFolder(tmp_path).own()


def test_stopped_before_it_began_a_run_leaves_its_name_free(run, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer.run.session.run_fitting", interrupted)
    assert run("train", "--run=a", *TOY).code == 130
    assert not (tmp_path / "checkpoints/a").exists()


def test_a_name_that_exists_is_refused_and_left_alone(run):
    assert run("train", "--run=a", *TOY, "--train.max_steps=2").code == 0
    before = state("a")
    again = run("train", "--run=a", *TOY, "--train.max_steps=3")
    assert again.code == 2
    assert "checkpoints/a exists" in again.err and "--resume=checkpoints/a" in again.err
    assert same(state("a"), before)


@pytest.mark.parametrize("name", ["a/b", "../up", "a b", ".hidden", "-x", "a:b", "x" * 101, "a\n"])
def test_names_that_are_not_portable_are_refused(run, name):
    given = run("train", f"--run={name}", *TOY)
    assert given.code == 2
    assert "letters, digits" in given.err


def test_initial_weights_from_a_run_or_from_a_bare_file(run, tmp_path):
    assert run("train", "--run=a", *TOY, "--train.max_steps=5").code == 0
    torch.save(state("a")["model"], tmp_path / "bare.pth")
    for name, path in (("b", "checkpoints/a/last.pth"), ("c", "bare.pth")):
        args = [*TOY, "--train.max_steps=1", f"--load-model-path={path}", "--optim=SGD", "--lr=0"]
        assert run("train", f"--run={name}", *[a for a in args if a not in ("--optim=Adam", "--lr=1e-3")]).code == 0
        assert same(state(name)["model"], state("a")["model"])
    missing = run("train", "--run=d", *TOY, "--load-model-path=nowhere.pth")
    assert missing.code == 4
    assert "nowhere.pth" in missing.err


def test_storage_error_names_what_to_do(tmp_path):
    with pytest.raises(StorageError, match="absent: was removed while its run went on; nothing can be saved"):
        Store(tmp_path / "absent").save(toy_state(1))


def test_compressed_entries_are_refused_even_with_a_fitting_checksum(tmp_path):
    Store(tmp_path).save(toy_state(1))
    path = tmp_path / "last.pth"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in archive.namelist():
            bomb.writestr(name, archive.read(name))
    (tmp_path / "bomb").replace(path)
    (tmp_path / "last.pth.sha256").write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  last.pth\n")
    with pytest.raises(CheckpointError, match="compressed entries"):
        read(path)


def test_only_our_own_half_written_files_are_swept(tmp_path):
    ours = ["last.pth.tmp", "best.pth.sha256.tmp", "epoch-003.pth.tmp", "config.yaml.77.tmp", "curves.png.5.tmp"]
    theirs = ["notes.tmp", "last.pth.tmp.old", "my.pth.tmp", "status.json.tmp"]
    for name in ours + theirs:
        (tmp_path / name).touch()
    Store(tmp_path).remove_partial()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(theirs)


def test_a_pipe_in_the_place_of_a_checkpoint_holds_no_save_up(tmp_path):
    store = Store(tmp_path)
    store.save(toy_state(1))
    store.save(toy_state(2))
    (tmp_path / "last.pth").unlink()
    os.mkfifo(tmp_path / "last.pth")
    saving = threading.Thread(target=store.save, args=(toy_state(3),), daemon=True)
    saving.start()
    saving.join(20)
    assert not saving.is_alive()
    assert (
        read(tmp_path / "last.pth")["progress"]["step"] == 3 and read(tmp_path / "previous.pth")["model"]["w"][0] == 1
    )


def test_a_copied_run_without_checksums_keeps_both_its_checkpoints(tmp_path):
    store = Store(tmp_path)
    store.save(toy_state(1))
    (tmp_path / "last.pth.sha256").unlink()
    store.save(toy_state(2))
    found = [read(tmp_path / name)["progress"]["step"] for name in ("last.pth", "previous.pth")]
    assert found == [2, 1]
