"""selftest finds nothing where nothing is wrong, and tells in words what a broken resume changes."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import PLAIN, ROOT, TOY, rows, state

from commands import selftest
from trainer.checkpointing.compare import difference, state_difference

SMALL = ["--only=resume", "--model=MLP", "--model.dropout=0.5", "--trials=1", "--steps=5"]


@pytest.mark.slow
def test_a_good_run_is_the_same_and_leaves_nothing(run, tmp_path):
    given = run("selftest", *SMALL)
    assert given.code == 0, given.err
    assert "a whole training of 5 steps" in given.out and "the same to the last bit" in given.out
    assert "journal and every tensor are the same" in given.out.splitlines()[-1]
    assert not list(tmp_path.iterdir()), "folders are left"


BROKEN = """
import sys
sys.path.insert(0, {root!r})
from trainer import state
state.set_random_state = lambda numbers: None
import main
sys.exit(main.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_resume_that_forgets_its_random_numbers_is_told(run, tmp_path, monkeypatch):
    """With dropout; in the end a second whole training shows that it is not the training itself."""
    script = tmp_path / "broken.py"
    script.write_text(BROKEN.format(root=str(ROOT)))

    def start(arguments):
        pipe = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        return subprocess.Popen([sys.executable, str(script), *arguments], text=True, **pipe)

    monkeypatch.setattr(selftest, "_start", start)
    given = run("selftest", *SMALL[:3], "--trials=2", "--steps=100")  # few steps may all be done before the kill
    assert given.code == 1, given.out
    assert len(given.err.strip().splitlines()) == 1, given.err
    assert "it is another run: from step " in given.err and "the weights differ (model." in given.err
    assert "not repeatable" not in given.err
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--only=resum"], "did you mean 'resume'"),
        (["--only=speed"], "there is accumulation"),
        (["--steps=1"], "--steps=1: must be at least 2"),
        (["--trials=0"], "--trials=0: must be at least 1"),
        (["--trials=x"], "--trials=x"),
        (["--modle=MLP"], "--modle"),
    ],
)
def test_mistakes_are_told_before_anything_is_started(run, tmp_path, flags, words):
    given = run("selftest", *flags)
    assert given.code == 2 and words in given.err, given.err
    assert not list(tmp_path.iterdir())


def test_a_training_that_fails_is_told_with_its_own_words(run, tmp_path):
    given = run("selftest", "dogcat_small", "--train-data-root=nowhere", "--trials=1", "--only=resume")
    assert given.code == 1
    assert "the training itself ended with exit code 3" in given.err and "nowhere" in given.err


CHATTY = """
import sys, time
print("x" * 10**6, file=sys.stderr, flush=True)
open("log.jsonl", "w").write('{"time": 1, "phase": "train", "epoch": 0, "step": 1}\\n')
open("last.pth", "w").close()
open("previous.pth", "w").close()
time.sleep(60)
"""


def test_a_training_that_says_much_is_read_and_goes_on(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", CHATTY], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert selftest._kill(process, tmp_path, 1, random.Random(0)) and process.returncode == -signal.SIGKILL


# What differs


@pytest.fixture
def two(run):
    """Two runs that are the same, and where they lie."""
    for name in ("a", "b"):
        assert run("train", f"--run={name}", *TOY, "--train.max_steps=4", "--train.ema=0.9").code == 0
    return Path("checkpoints/a"), Path("checkpoints/b")


def spoil(folder: Path, change) -> None:
    """Change the state in last.pth."""
    content = state(folder.name)
    change(content)
    torch.save(content, folder / "last.pth")
    (folder / "last.pth.sha256").unlink()


def test_equal_runs_do_not_differ(two):
    assert rows("a") == rows("b")
    assert difference(*two) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["model"]["layers.0.bias"].view(-1)[0].add_(1e-7), "the weights differ (model.layers.0.bias)"),
        (lambda s: s["ema"]["layers.0.bias"].neg_(), "the averaged weights differ (ema.layers.0.bias)"),
        (lambda s: s["ranks"][0]["random"]["torch"].add_(1), "the random numbers or"),
        (lambda s: s["progress"].update(waited=9), "patience differ (progress.waited)"),
        (lambda s: s["update"]["model"].update(taken=9), "the optimizer, its schedule or"),
        (lambda s: s["model"].pop("layers.0.bias"), "the weights differ (model)"),
    ],
)
def test_each_part_is_told_in_words(two, change, words):
    spoil(two[1], change)
    assert words in difference(*two)


def test_times_may_differ(two):
    spoil(two[1], lambda s: s["progress"].update(seconds=99.0))
    assert difference(*two) == ""
    assert "progress.seconds" in state_difference(state("a"), state("b"), without=())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[:1] + lines, "has train, step 1 in place of train, step 2"),
        (lambda lines: lines[:-1], "the journal lacks a row: val, step 4"),
        (lambda lines: [*lines, lines[-1]], "the journal has a row too many: val, step 4"),
        (
            lambda lines: [lines[0].replace('"loss": 2', '"loss": 3'), *lines[1:]],
            "from step 1 on, the order of samples",
        ),
    ],
)
def test_the_first_row_of_the_journal_that_differs_is_told(two, change, words):
    path = two[1] / "log.jsonl"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    assert words in difference(*two)


BATCHED = """
from torch import nn
from models.basic_module import BasicModule

__all__ = ["Batched"]


class Batched(BasicModule):
    def __init__(self, num_classes: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))

    def forward(self, x):
        return self.layers(x - x.mean(0))
"""
DRAWING = """
import torch
from data.digits import Digits

__all__ = ["Drawing"]


class Drawing(Digits):
    def __init__(self, split: str):
        super().__init__(split)
        self.numbers = torch.Generator().manual_seed(0)

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x + torch.rand((), generator=self.numbers), y

    reads_batches = False
"""


@pytest.mark.slow
def test_ways_that_must_be_equal_are(run):
    given = run("selftest", "--model=MLP", "--only=accumulation,workers,validation,save-load,watchers", *PLAIN)
    assert given.code == 0, given.err + given.out
    assert [line.partition(":")[0] for line in given.out.splitlines()] == [
        "accumulation",
        "workers",
        "validation",
        "save_load",
        "watchers",
    ]
    assert (
        given.out.count("the same to the last bit") == 2 and "differs in nothing; its metrics by 0.0e+00" in given.out
    )


@pytest.mark.slow
def test_a_network_that_looks_across_its_batch_is_told(run, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "batched.py").write_text(BATCHED)
    given = run("selftest", "--model=Batched", "--only=accumulation,validation", *PLAIN)
    assert given.code == 1 and given.out.count("WRONG") == 2, given.out
    assert "accumulation and validation: trainings that must be equal differ" in given.err


@pytest.mark.slow
def test_a_dataset_with_random_numbers_of_its_own_is_told(run, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "drawing.py").write_text(DRAWING)
    given = run("selftest", "--model=MLP", "--data.dataset=Drawing", "--only=workers", *PLAIN)
    assert given.code == 1 and "workers: 0 and 2 data processes: weights differ" in given.out, given.out + given.err
