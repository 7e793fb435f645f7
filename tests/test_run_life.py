"""What a run's folder goes through: it lies elsewhere, its disk is full, its curves are cut, its mean is not made."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from conftest import PLAIN, rows, same, state

from utils.runs.owner import Owner

LINE = ["linear_regression", "--train.rehearse=false", *PLAIN]
MEANS = {"average_last": ["--train.average_last=3"], "swa": ["--train.swa={from: 0.5, lr: 0.01}"]}


def test_a_run_elsewhere_gives_its_own_numbers(run, tmp_path):
    from trainer import fit

    assert run("train", *LINE, "--run=one", "--max-epoch=2").code == 0
    assert run("train", *LINE, "--run=two", "--max-epoch=3").code == 0
    shutil.copytree("checkpoints/one", tmp_path / "else/two")
    result = fit(resume=str(tmp_path / "else/two"), changes={"train.max_epoch": 5}, output="quiet")
    assert result.folder == tmp_path / "else/two"
    validated = [row for row in result.history if row["phase"] == "val"]
    assert len(validated) == 5 and result.metrics["loss"] == validated[-1]["loss"]
    result.best_task()
    assert len(rows("two", phase="val")) == 3, "the other run of that name is left alone"


@pytest.mark.parametrize("kind", MEANS)
def test_stopped_while_it_averages_a_run_is_not_finished(run, monkeypatch, kind):
    words = ["train", *LINE, "--max-epoch=4", *MEANS[kind]]
    assert run(*words, "--run=whole").code == 0
    with monkeypatch.context() as patch:
        patch.setattr("trainer.last_epochs.load_network_state", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        given = run(*words, "--run=cut")
    assert given.code == 143 and "continue with --resume=checkpoints/cut" in given.out, given
    assert json.loads(Path("checkpoints/cut/status.json").read_text())["state"] == "stopped"
    assert not Path("checkpoints/cut/averaged.pth").exists()
    given = run("train", "--resume")
    assert given.code == 0 and "mean of the last" in given.out, given
    assert same(state("cut", "averaged.pth")["model"], state("whole", "averaged.pth")["model"])
    given = run("train", "--resume=checkpoints/cut")
    assert given.code == 0 and "is finished" in given.out, given


def test_a_mean_goes_without_a_damaged_epoch(run):
    assert run("train", *LINE, "--run=a", "--max-epoch=4", "--train.average_last=3").code == 0
    path = Path("checkpoints/a/epoch-004.pth")
    content = path.read_bytes()
    path.unlink()  # last.pth is another name of the same file
    path.write_bytes(content[:700] + b"xxxx" + content[704:])
    given = run("train", "--resume=checkpoints/a", "--max-epoch=5")
    assert given.code == 0 and "mean of the last 2 epochs" in given.out and "epoch-004.pth" in given.out, given


def test_rows_that_are_gone_are_told_and_new_ones_begin_a_line(run):
    assert run("train", *LINE, "--run=a", "--max-epoch=3").code == 0
    journal = Path("checkpoints/a/log.jsonl")
    first, whole = journal.read_text().splitlines()[0], len(journal.read_bytes())
    os.truncate(journal, len(first) + 50)
    given = run("train", "--resume=checkpoints/a", "--max-epoch=4")
    told = f"note: checkpoints/a/log.jsonl holds {len(first) + 50} of the {whole:,} bytes that it had"
    assert given.code == 0 and told in given.out, given
    found = [json.loads(line) for line in journal.read_text().splitlines()]
    assert found[0] == json.loads(first) and found[-1]["epoch"] == 3
    journal.unlink()
    given = run("train", "--resume=checkpoints/a", "--max-epoch=5")
    assert given.code == 0 and "holds 0 of the" in given.out, given
    assert run("train", "--resume=checkpoints/a", "--max-epoch=6").out.count("bytes that it had") == 0


def test_a_full_disk_at_the_start_leaves_the_name_free(run, monkeypatch):
    def full(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Owner, "take", full)
        given = run("train", *LINE, "--run=a", "--max-epoch=1")
    assert given.code == 5 and "make room" in given.err and not Path("checkpoints/a").exists(), given
    assert run("train", *LINE, "--run=a", "--max-epoch=1").code == 0


@pytest.mark.slow
def test_a_study_is_no_run(run):
    assert run("sweep", *LINE, "--run=sw", "--optim.lr=0.01,0.05", "--max-epoch=1").code == 0
    for words in (["explain", "lr", "sw"], ["plot", "sw", "sw/lr=0.01"], ["ctl", "sw", "save"]):
        given = run(*words)
        assert given.code == 4 or words[0] == "plot", given
        assert words[0] == "plot" or "holds the runs of a study; name one of them, as sw/lr=0.01" in given.err, given
