"""A group that goes on: all its processes have the same run and the same save, and a launch does not begin again."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import PLAIN, ROOT, state
from test_launch import TWO, by_hand, ranks, step_of, told, until

from trainer.parallel import agreement, launch
from utils import dist
from utils.errors import CheckpointError, DifferenceError
from utils.runs import folder as folders
from utils.runs.folder import RunFolder, newest_unfinished


def begun_run(name: str, saved: float) -> Path:
    path = Path("checkpoints") / name
    path.mkdir(parents=True)
    (path / "last.pth").write_bytes(b"")
    os.utime(path / "last.pth", (saved, saved))
    return path


@pytest.fixture
def as_rank(tmp_path, monkeypatch):
    """This process as one of a launch."""
    monkeypatch.chdir(tmp_path)

    def become(rank: int, name: str = "x") -> None:
        monkeypatch.setenv("DEEPTRAIN_LAUNCH", name)
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")

    return become


def test_all_processes_resume_the_run_that_the_first_one_takes(as_rank, monkeypatch):
    """The first one has its lock then, so that it looks like a run that is being trained."""
    begun_run("older", 1e9)
    newer = begun_run("newer", 2e9)
    as_rank(0)
    taken = RunFolder(newest_unfinished())
    assert taken.path == newer
    as_rank(1)
    threading.Timer(0.5, taken.own).start()  # it was slower than this one
    began = time.monotonic()
    assert newest_unfinished() == newer and time.monotonic() - began > 0.4
    as_rank(0)
    assert newest_unfinished() == newer, "started again while data workers keep the lock"
    as_rank(0, "another launch")
    assert newest_unfinished() == Path("checkpoints/older")
    as_rank(1, "another launch")
    monkeypatch.setattr(folders, "CHOICE", 0.1)
    assert newest_unfinished() == Path("checkpoints/older")
    RunFolder(Path("checkpoints/older")).finish()
    with pytest.raises(CheckpointError, match="newer is"):
        newest_unfinished()
    taken.release()


def test_a_launch_that_has_saved_does_not_begin_again(as_rank):
    """As where --resume names the file of an epoch, and a process is killed later on."""
    as_rank(0)
    run = RunFolder(begun_run("a", time.time() - 100))
    assert not run.goes_on()
    run.own()
    assert not run.goes_on(), "the save is older than the launch"
    os.utime(run.path / "last.pth", (time.time() + 1,) * 2)
    run.set_status("running", epoch=3)
    assert run.goes_on()
    run.release()
    again = RunFolder(run.path)
    again.own()  # all start again
    assert again.goes_on() and again.status()["launch"] == run.status()["launch"]
    again.release()
    as_rank(0, "another launch")
    assert not again.goes_on()


def test_saves_are_seen_whatever_names_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begun_run("a", 1e9)
    for name in ("a", "checkpoints/a", "checkpoints/a/last.pth", str(tmp_path / "checkpoints/a")):
        assert launch._time_of_save(None, ["train", f"--resume={name}"]) == 1e9, name


def test_a_process_that_was_ended_is_no_success(capfd):
    assert launch._told({}, 2) == 0 and launch._told({1: -15, 0: 5}, 2) == 5 and not capfd.readouterr().err
    assert launch._told({1: -15, 0: -15}, 2) == 143
    assert capfd.readouterr().err == "process 1 of 2 was ended by SIGTERM\n"


def test_processes_have_read_the_same_save(monkeypatch):
    read = {"step": 40, "epoch": 1, "seconds": 1.5}
    monkeypatch.setattr(dist, "gather", lambda value: [read, value])
    agreement.agree_on_checkpoint(dict(read), "--resume")
    with pytest.raises(DifferenceError, match="process 1 .* another checkpoint .step 30, 1.250 s.* on a disk that all"):
        agreement.agree_on_checkpoint({**read, "step": 30, "seconds": 1.25}, "--resume")


@pytest.mark.slow
def test_processes_with_other_saves_end_with_one_sentence(start, tmp_path, free_port):
    """As where a machine has a copy of its own of the run's folder."""
    homes = [tmp_path / "one", tmp_path / "two"]
    for home, steps in zip(homes, (12, 8), strict=True):
        home.mkdir()
        begin = [sys.executable, str(ROOT / "main.py"), "train", "--run=a", "--model=MLP", *PLAIN]
        subprocess.run([*begin, f"--train.max_steps={steps}"], cwd=home, check=True, capture_output=True)
    both = [by_hand(home, free_port, rank, "--resume=a") for rank, home in enumerate(homes)]
    given = [told(process, 60) for process in both]
    assert [code for code, *_ in given] == [2, 2]
    assert "has read another checkpoint (step 8," in given[0][2] and given[1][2] == "", given
    assert state("a", folder=homes[0])["progress"]["step"] == 12


@pytest.mark.slow
def test_a_killed_process_does_not_lead_back_to_the_file_that_was_named(start, tmp_path):
    keep = ["--train.keep_every=1"]
    code, _, err = told(start("train", "--run=a", *(w for w in TWO if "processes" not in w), *keep, "--max-epoch=2"))
    assert code == 0, err
    longer = ["--max-epoch=100000", "--train.max_steps=2000"]
    process = start("train", "--resume=checkpoints/a/epoch-001.pth", "--train.processes=2", *longer)
    try:
        first = step_of(tmp_path)
        assert until(lambda: step_of(tmp_path) >= first + 100, 120, process), process.communicate()
        os.kill(ranks(tmp_path)[1], signal.SIGKILL)
        code, out, err = told(process)
    finally:
        for number in ranks(tmp_path).values():
            os.kill(number, signal.SIGKILL)
    assert code == 0 and "all start again" in err, err
    resumed = [line for line in out.splitlines() if line.startswith("resuming")]
    assert "epoch-001.pth" in resumed[0] and "epoch-001.pth was the beginning of this launch" in out, out
    assert "last.pth at step" in resumed[1] and int(resumed[1].split("step ")[1].split()[0]) > first


@pytest.mark.slow
def test_a_launch_under_nohup_goes_on_after_the_terminal(tmp_path):
    command = [sys.executable, str(ROOT / "main.py"), "train", "--run=a", *TWO, "--max-epoch=100000"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(["nohup", *command], cwd=tmp_path, **pipes)
    try:
        assert until(lambda: step_of(tmp_path) >= 40, 120, process), process.communicate()
        for number in (process.pid, *ranks(tmp_path).values()):
            os.kill(number, signal.SIGHUP)
        reached = step_of(tmp_path)
        assert until(lambda: step_of(tmp_path) >= reached + 100, 60, process), process.communicate()
        process.send_signal(signal.SIGTERM)
        assert told(process)[0] == 143
        assert json.loads((tmp_path / "checkpoints/a/status.json").read_text())["state"] == "stopped"
    finally:
        process.kill()
        for number in ranks(tmp_path).values():
            os.kill(number, signal.SIGKILL)
