"""A run keeps what it was made of; reproduce trains it again, and names what has changed; explain tells places."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import PLAIN, ROOT

from utils.runs import record

NET = """
from torch import nn
from models.basic_module import BasicModule

__all__ = ["Own"]


class Own(BasicModule):
    def __init__(self, num_classes: int, in_features: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_features, 8), nn.ReLU(), nn.Linear(8, num_classes))

    def forward(self, x):
        return self.layers(x) * 1.0
"""
YAML = """
task: Classification
model: Own
data: {dataset: {name: Tabular, root: table, target: kind}, batch_size: 8}
optim: {name: SGD, lr: 0.1}
train: {max_epoch: 2, use_gpu: false}
log: {visdom: false, pictures: false, print_freq: 1}
"""


def table(folder: Path, rows: int = 60, least: int = 3) -> None:
    folder.mkdir(exist_ok=True)
    lines = [f"{i % 7},{(i * 3) % 11},{'yes' if (i % 7) > least else 'no'}" for i in range(rows)]
    (folder / "train.csv").write_text("\n".join(["a,b,kind", *lines]) + "\n")


@pytest.fixture
def trained(run, tmp_path):
    """A run of a network and a table of one's own."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "net.py").write_text(NET)
    table(tmp_path / "table")
    (tmp_path / "mine.yaml").write_text(YAML)
    given = run("train", "mine.yaml", "--run=a", "--lr=0.05")
    assert given.code == 0, given.err
    return tmp_path / "checkpoints" / "a"


def again(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Reproduce the run from a folder, in a process as a user would."""
    command = [sys.executable, str(ROOT / "main.py"), "reproduce", *arguments]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=variables, timeout=120)
    return done.returncode, done.stdout + done.stderr


def test_the_record_holds_what_the_run_was_made_of(trained, tmp_path):
    known = record.read_record(trained)
    assert known["command"] == ["train", "mine.yaml", "--run=a", "--lr=0.05"]
    assert known["places"]["optim.lr"] == "--lr=0.05" and known["places"]["train.max_epoch"] == "mine.yaml:6"
    assert known["seed"] == 0 and known["versions"]["torch"] and known["hardware"]["threads"]
    git = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    assert known["commit"] == git.stdout.strip()
    assert {"own/models/net.py", "main.py", "trainer/trainer.py"} <= known["code"].keys()
    assert {"train split", "val split", "table"} == known["data"].keys()
    with zipfile.ZipFile(trained / record.CODE) as stored:
        assert stored.read("own/models/net.py").decode() == NET
        assert record.hashes({"x": ROOT / "main.py"})["x"] == known["code"]["main.py"]


def test_explain_tells_the_place_of_each_value(trained, run):
    assert run("explain", "lr", "a").out == "optim.lr: 0.05  # --lr=0.05\n"
    assert run("explain", "optim.lr", "mine.yaml").out == "optim.lr: 0.1  # mine.yaml:5\n"
    assert run("explain", "optim.lr", "mine.yaml", "--optim.lr=3").out == "optim.lr: 3.0  # --optim.lr=3\n"
    assert "optim.name: SGD  # mine.yaml:5" in run("explain", "optim", "checkpoints/a").out
    assert run("explain", "data.num_workers", "a").out.endswith("# default\n")
    wrong = run("explain", "optim.lrr", "a")
    assert wrong.code == 2 and "did you mean 'optim.lr'?" in wrong.err
    assert run("explain").code == 2 and run("explain", "lr", "nowhere").code == 4


@pytest.mark.slow
def test_a_run_is_the_same_in_an_empty_directory(trained, tmp_path):
    """Its network comes from its own folder, its table from where it was."""
    empty = tmp_path / "elsewhere"
    empty.mkdir()
    shutil.copytree(trained, empty / "copied")
    code, out = again(empty, "copied")
    assert code == 0 and "bit-identical" in out, out
    assert "sources are not here (the first is own/models/net.py)" in out and "is not here; taken from" in out
    assert "code, data, versions and hardware are those of the run" in out.splitlines()[-1]
    assert not list((empty / "checkpoints").iterdir())


@pytest.mark.slow
def test_what_has_changed_is_named(trained, tmp_path):
    """Code, data, hardware and versions, each in turn."""
    net = tmp_path / "models" / "net.py"
    net.write_text(NET.replace("* 1.0", "* 3.0"))
    code, out = again(tmp_path, "a")
    assert code == 1 and "different:" in out and "changed since: code (own/models/net.py differs)" in out, out
    code, out = again(tmp_path, "a", "--code=stored")
    assert code == 0 and "bit-identical" in out, out
    net.write_text(NET)

    table(tmp_path / "table", least=4)
    code, out = again(tmp_path, "a", "--tolerance=0")
    assert code == 1 and "changed since: data (table differs" in out, out
    table(tmp_path / "table")

    known = record.read_record(trained)
    known["versions"]["torch"], known["hardware"]["threads"] = "1.0", "64"
    (trained / record.RECORD).write_text(json.dumps(known))
    code, out = again(tmp_path, "a")
    assert code == 0 and "bit-identical" in out, out
    assert "hardware (threads 64 -> 1)" in out and "versions (torch 1.0 -> " in out, out


@pytest.mark.slow
def test_a_run_that_was_stopped_is_compared_as_far_as_it_went(run, tmp_path):
    assert run("train", "--model=MLP", "--run=b", "--train.max_minutes=0.01", *PLAIN).code == 0
    code, out = again(tmp_path, "b")
    assert code == 0 and "bit-identical" in out, out


def test_a_run_without_a_record_is_refused(trained, run):
    (trained / record.RECORD).unlink()
    refused = run("reproduce", "a")
    assert refused.code == 4 and "cannot be trained again: reproduce.json" in refused.err
    assert run("reproduce", "a", "--lr=3").code == 2 and run("reproduce", "a", "--code=mine").code == 2


def test_large_data_are_known_by_the_beginnings_of_some_files(tmp_path, monkeypatch):
    for number in range(40):
        (tmp_path / f"{number:02}.bin").write_bytes(bytes([number]) * 100)
    whole = record.content_of(str(tmp_path))
    assert whole["files"] == 40 and whole["bytes"] == 4000 and whole["read"] == "all"
    (tmp_path / "07.bin").write_bytes(bytes([9]) * 100)
    assert record.content_of(str(tmp_path))["hash"] != whole["hash"]
    monkeypatch.setattr(record, "WHOLE", 1000)
    monkeypatch.setattr(record, "SOME", 10)
    some = record.content_of(str(tmp_path))
    assert some["read"] == 10
    (tmp_path / "08.bin").write_bytes(bytes([7]) * 100)
    assert record.content_of(str(tmp_path))["hash"] != some["hash"]
