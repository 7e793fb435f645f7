"""Without optional packages: a training says once what it goes without, and learns the same."""

import os
import subprocess

import numpy as np
import pytest
import torch
from bare import OPTIONAL, bare_environment, hide
from conftest import ROOT, rows, same_run, state

from utils.meters import AUC, F1, Accuracy, Confusion, Mean
from utils.optional import installed, without

SHORT = ["--model=MLP", "--print-freq=1", "--train.max_steps=3"]
WITHIN = (
    "fire (flags are read without it), torchnet (means and matrices are counted without it), tqdm (no progress bar)"
)
DRAWN = {"samples_batch.png", "curves.png", "confusion_matrix.png", "predictions.png"}


def test_a_training_goes_on_without_them_and_says_so_once(run, monkeypatch, tmp_path):
    assert run("train", "--run=with", *SHORT, "--log.visdom=false").code == 0
    assert {path.name for path in (tmp_path / "checkpoints/with").glob("*.png")} >= DRAWN
    hide(monkeypatch, *set(OPTIONAL) - {"sklearn"})
    assert not installed("torchnet")
    given = run("train", "--run=bare", *SHORT, "--log.tensorboard=true")
    assert (given.code, given.err) == (0, "")
    views = "matplotlib (no drawn curves and pictures), tensorboardX (no event files for TensorBoard), visdom (no live"
    assert (
        f"note: goes on without {WITHIN}, {views} curves in the browser); pip install -r requirements.txt" in given.out
    )
    assert given.out.count("note:") == 1 and "drawn:" not in given.out and "No module" not in given.out
    assert {path.name for path in (tmp_path / "checkpoints/bare").glob("*.png")} == {"samples_batch.png"}
    assert rows("bare") == rows("with") and same_run(state("bare"), state("with"))
    assert "tensorboard: true" in (tmp_path / "checkpoints/bare/config.yaml").read_text(), "it was asked for"
    assert run("val", "checkpoints/bare").code == run("test", "checkpoints/bare").code == 0
    given = run("plot", "checkpoints/bare")
    assert given.code == 2 and given.err.startswith("matplotlib is not installed in ")


def test_what_was_not_asked_for_is_not_missed(run, monkeypatch):
    hide(monkeypatch, "visdom", "tensorboardX", "matplotlib")
    given = run("train", "--run=a", *SHORT, "--log.visdom=false", "--log.pictures=false")
    assert given.code == 0 and "note: goes on without torchnet (means" in given.out, "torchnet imports visdom"
    assert not any(name in given.out for name in ("visdom", "tensorboardX", "matplotlib"))


def test_nothing_is_said_where_all_are_there():
    assert without() == ""


@pytest.mark.parametrize("name", ["fire", "torchnet"])
def test_the_package_counts_as_found_only_if_it_can_be_imported(monkeypatch, name):
    assert installed(name)
    hide(monkeypatch, "visdom")
    assert installed(name) == (name == "fire")


def test_meters_count_the_same_without_torchnet(monkeypatch):
    def values() -> list[object]:
        scores, truth = torch.randn(64, 6, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 6
        made = [Accuracy(), Accuracy(k=5), F1(6), Confusion(6), AUC()]
        for meter in made:
            meter.add(scores[:40], truth[:40])
            meter.add(scores[40:], truth[40:])
        mean = Mean()
        mean.add(torch.tensor(0.1), 3)
        mean.merge({"sum": 0.7, "n": 2, "squares": 0.0})
        merged = Confusion(6)
        merged.merge(made[3].state())
        return [*(meter.value() for meter in (*made, mean, merged)), mean.state(), Mean().value()]

    expected = values()
    hide(monkeypatch, "torchnet")
    assert all(np.array_equal(one, other) for one, other in zip(values(), expected, strict=True))


def test_the_digits_ask_for_their_package(run, monkeypatch):
    hide(monkeypatch, "sklearn")
    given = run("train", "--run=a", *SHORT)
    assert given.code == 2 and given.err.startswith("sklearn is not installed in ")


@pytest.mark.slow
def test_all_commands_work_in_an_environment_like_kaggles(tmp_path):
    python = bare_environment(tmp_path / "venv")
    data = tmp_path / "t"
    data.mkdir()
    lines = "".join(f"{i % 7},{i % 3},{i % 2}\n" for i in range(60))
    (data / "train.csv").write_text("a,b,y\n" + lines)
    (data / "test.csv").write_text("a,b\n1,2\n3,0\n")

    def command(*arguments: str) -> str:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        typed = [str(python), str(ROOT / "main.py"), *arguments]
        given = subprocess.run(typed, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert given.returncode == 0 and "Traceback" not in given.stderr, given.stderr
        return given.stdout

    (tmp_path / "toy.yaml").write_text(
        "data: {dataset: {name: Tabular, root: t, target: y}}\nmodel: MLP\nlog: {tensorboard: true}\n"
        "train: {max_steps: 4}\n"
    )
    told = command("train", "toy.yaml", "--run=a")
    assert told.count("note: goes on without fire (") == 1 and "matplotlib (" not in told, told
    assert (tmp_path / "checkpoints/a/curves.png").exists()
    assert "submission.csv: 2 rows" in command("test", "checkpoints/a")
    assert command("runs") and command("help")
