"""What the tests share: running a command as it is typed, in a folder of its own, and reading what it left."""

import json
import os

os.environ["OMP_NUM_THREADS"] = "1"  # the networks are tiny, and two tests run at a time
os.environ["DEEPTRAIN_LANG"] = "en"  # the tests read English, whatever the terminal's language

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup what is started here would be deaf to it
signal.signal(signal.SIGINT, signal.default_int_handler)  # and to this one behind `make test &` in a script
ROOT = Path(__file__).parent.parent
BESIDE = ROOT.parent / "shared" / "data"
DATA = BESIDE if BESIDE.is_dir() else ROOT / "data"  # real data sets, for the tests that need some


class Result(NamedTuple):
    """What a command gave: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run `python main.py …` in this process, in an empty folder."""
    import main

    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> Result:
        capsys.readouterr()
        try:
            code = main.main(list(arguments))
        except SystemExit as end:
            code = end.code
        return Result(code, *capsys.readouterr())

    return command


@pytest.fixture
def start(tmp_path):
    """Start `python main.py …` as a process in an empty folder."""
    started = []

    def command(*arguments: str, **options) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "main.py"), *arguments],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            **options,
        )
        started.append(process)
        return process

    yield command
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as place:
        place.bind(("", 0))
        return place.getsockname()[1]


@pytest.fixture
def killed_and_resumed(tmp_path):
    """Train twice, one of them killed after some rows of its journal and resumed: it must be the same run."""
    from warm import Group, ranks_of

    def command(*arguments: str, after: int) -> None:
        done = ranks_of(tmp_path, "train", "--run=whole", *arguments, ranks=0)
        assert done.returncode == 0, done.stderr
        group = Group(tmp_path, "train", "--run=cut", *arguments, ranks=0)
        journal = tmp_path / "checkpoints" / "cut" / "log.jsonl"
        for _ in range(3000):
            if journal.exists() and journal.read_text().count("\n") > after:
                break
            assert group.processes[0].exitcode is None, group.wait().stderr
            time.sleep(0.02)
        group.kill()
        again = ranks_of(tmp_path, "train", "--resume=checkpoints/cut", ranks=0)
        assert again.returncode == 0, again.stderr
        assert rows("cut", tmp_path) == rows("whole", tmp_path)
        assert same_run(state("cut", folder=tmp_path), state("whole", folder=tmp_path))

    return command


LONG = ("test_docs.py", "test_rows.py", "test_faults.py", "test_shard.py", "test_launch.py")  # slow tests of minutes


def pytest_collection_modifyitems(items):
    """Put the longest first: begun last, one process would be busy with them while the other has nothing to do."""
    items.sort(key=lambda item: item.path.name not in LONG)


# Small and fast: some seconds for a whole training.
TIMES = ("seconds", "validation_seconds", "journal")  # of the progress: they differ from run to run
PLAIN = ["--log.visdom=false", "--log.pictures=false"]
TOY = ["--model=MLP", "--optim=Adam", "--lr=1e-3", "--print-freq=1", "--max-epoch=2", *PLAIN]


def rows(run_name: str, folder: Path = Path(), phase: str | None = None) -> list[dict]:
    """The journal of a run, without the times."""
    lines = (folder / "checkpoints" / run_name / "log.jsonl").read_text().splitlines()
    found = [{k: v for k, v in json.loads(line).items() if k != "time"} for line in lines]
    return [row for row in found if phase in (None, row["phase"])]


def state(run_name: str, file: str = "last.pth", folder: Path = Path()) -> dict:
    """What a checkpoint holds, read as any user would; one in parts as the program reads it."""
    import torch

    path = folder / "checkpoints" / run_name / file
    if file == "last.pth" and path.with_suffix("").is_dir():
        from trainer.checkpointing.compare import read_one

        return read_one(path.parent)
    return torch.load(path, weights_only=True)


def same(one, other) -> bool:
    """Whether two nested states are equal to the last bit."""
    import torch

    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


def same_run(one: dict, other: dict) -> bool:
    """Whether two checkpoints stand for the same run: all that decides the future is equal."""
    left, right = (
        {k: s[k] for k in ("model", "buffers", "ema", "ema_count", "update", "ranks")}
        | {
            "progress": {
                k: v for k, v in s["progress"].items() if k not in ("seconds", "validation_seconds", "journal")
            }
        }
        for s in (one, other)
    )
    return same(left, right)


def dogcats(folder: Path, count: int = 12, size: tuple[int, int] = (40, 32), start: int = 0) -> Path:
    """A Kaggle-like folder: cats are dark, dogs are bright."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(start)
    for i in range(count):
        for name, level in (("cat", 60), ("dog", 160)):
            pixels = rng.integers(0, 60, (size[1], size[0], 3)) + level
            Image.fromarray(pixels.astype("uint8")).save(folder / f"{name}.{start + i}.jpg")
    return folder
