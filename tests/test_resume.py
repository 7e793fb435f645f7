"""A resumed run is the same run, to the last bit; so are runs with other numbers of workers."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from conftest import PLAIN, TOY, dogcats, rows, same_run, state

from trainer.tasks.classification import Classification
from trainer.trainer import Trainer

FULL = [
    "--model=MLP",
    "--model.dropout=0.2",
    "--train.accumulate=3",
    "--train.clip=1",
    "--train.ema=0.9",
    "--schedule=OneCycleLR",
    "--optim=Adam",
    "--lr=1e-2",
    *PLAIN,
    "--print-freq=4",
    "--max-epoch=2",
    "--batch-size=100",
]
PICTURES = [
    "--data.dataset=DogCat",
    "--model=SqueezeNet",
    "--data.transform.train=[{name: RandomResizedCrop, size: 24}, RandomHorizontalFlip]",
    "--data.transform.eval=[{name: Resize, size: [24, 24]}]",
    "--batch-size=5",
    *TOY[1:],
]


def test_same_seed_same_losses_and_another_seed_others(run):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert run("train", f"--run={name}", f"--seed={seed}", *TOY, "--train.max_steps=6").code == 0
    assert rows("a") == rows("b")
    assert rows("a")[0]["loss"] != rows("c")[0]["loss"]


def test_workers_change_nothing_even_with_augmentation(run, tmp_path):
    dogcats(tmp_path / "photos")
    for name, workers in (("a", 0), ("b", 2)):
        given = run("train", f"--run={name}", f"--num-workers={workers}", "--train-data-root=photos", *PICTURES)
        assert given.code == 0, given.err
    assert len(rows("a", phase="train")) == 8
    assert rows("a") == rows("b")
    assert same_run(state("a"), state("b"))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The uninterrupted run that the resumed ones must equal: 13 batches an epoch, so windows are cut short."""
    import main

    folder, before = tmp_path_factory.mktemp("reference"), os.getcwd()
    os.chdir(folder)
    assert main.main(["train", "--run=whole", *FULL]) == 0
    os.chdir(before)
    return state("whole", folder=folder), rows("whole", folder=folder)


@pytest.mark.parametrize("steps", [1, 2, 5, 12, 13, 14, 25])
def test_resumed_after_any_step_is_bit_identical(run, reference, steps):
    assert run("train", "--run=cut", *FULL, f"--train.max_steps={steps}", "--schedule.total_steps=10").code == 0
    resumed = run("train", "--resume=checkpoints/cut", "--train.max_steps=null")
    assert resumed.code == 0, resumed.err
    assert f"at step {steps}" in resumed.out
    assert rows("cut") == reference[1]
    assert same_run(state("cut"), reference[0])


def test_resumed_three_times_with_changing_workers(run, tmp_path):
    dogcats(tmp_path / "photos")
    args = ["--train-data-root=photos", *PICTURES]
    assert run("train", "--run=whole", *args).code == 0
    assert run("train", "--run=cut", *args, "--train.max_steps=1").code == 0
    for steps, workers in ((3, 2), (6, 0), ("null", 2)):
        resumed = run("train", "--resume=checkpoints/cut", f"--train.max_steps={steps}", f"--num-workers={workers}")
        assert resumed.code == 0, resumed.err
    assert same_run(state("cut"), state("whole"))


@pytest.mark.learns
def test_rules_that_follow_validation_and_patience_resume_exactly(run):
    rule = [*TOY, "--max-epoch=3", "--schedule=DecayOnRise", "--lr-decay=0.3", "--train.early_stop=9", "--lr=0.3"]
    rule.remove("--max-epoch=2")
    rule.remove("--lr=1e-3")
    assert run("train", "--run=whole", *rule, "--train.val_steps=7").code == 0
    assert run("train", "--run=cut", *rule, "--train.val_steps=7", "--train.max_steps=35").code == 0
    assert run("train", "--resume=checkpoints/cut", "--train.max_steps=null").code == 0
    assert len({row["lr"] for row in rows("whole", phase="train")}) > 2, "the rate never shrank: nothing is tested"
    assert same_run(state("cut"), state("whole"))
    assert rows("cut") == rows("whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
def test_a_signal_saves_and_the_resumed_run_is_the_same(start, tmp_path, number, code):
    args = [*TOY, "--num-workers=2", "--max-epoch=12"]
    args.remove("--max-epoch=2")
    whole = start("train", "--run=whole", *args)
    assert (whole.communicate(timeout=120)[1], whole.returncode) == ("", 0), "workers must leave without a word"
    process = start("train", "--run=cut", *args)
    journal = tmp_path / "checkpoints" / "cut" / "log.jsonl"
    _wait(lambda: journal.exists() and journal.read_text().count("\n") > 60, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "saved; continue with --resume=checkpoints/cut" in out
    assert json.loads((tmp_path / "checkpoints/cut/status.json").read_text())["state"] == "stopped"
    assert start("train", "--resume").wait(120) == 0
    assert rows("cut", tmp_path) == rows("whole", tmp_path)
    assert same_run(state("cut", folder=tmp_path), state("whole", folder=tmp_path))


@pytest.mark.parametrize("flags", [[], ["--train.val_steps=7"], ["--train.val_steps=7", "--train.max_steps=14"]])
@pytest.mark.parametrize("batch", [4, 9])  # of the validation: it has 9
def test_a_signal_within_a_validation_does_not_wait_for_its_end(run, monkeypatch, flags, batch):
    args = [*TOY, *flags, "--lr=1e-2"]
    args.remove("--lr=1e-3")
    assert run("train", "--run=whole", *args).code == 0
    own, calls = Classification.val_step, []

    def val_step(self, *arguments):
        calls.append(1)
        if len(calls) == 9 + batch:
            os.kill(os.getpid(), signal.SIGTERM)
        return own(self, *arguments)

    monkeypatch.setattr(Classification, "val_step", val_step)
    stopped = run("train", "--run=cut", *args)
    assert stopped.code == 143 and "saved; continue" in stopped.out, stopped.err
    assert len(calls) == 9 + batch and len(rows("cut", phase="val")) == 1
    assert run("train", "--resume=checkpoints/cut").code == 0
    assert rows("cut") == rows("whole")
    assert same_run(state("cut"), state("whole"))
    assert same_run(state("cut", "best.pth"), state("whole", "best.pth"))


def test_killed_without_warning_it_resumes_from_the_last_save(start, tmp_path):
    args = [*TOY, "--train.save_steps=5"]
    assert start("train", "--run=whole", *args).wait(120) == 0
    process = start("train", "--run=cut", *args)
    journal = tmp_path / "checkpoints" / "cut" / "log.jsonl"
    _wait(lambda: journal.exists() and journal.read_text().count("\n") > 33, process)
    process.kill()
    process.wait()
    assert start("train", "--resume=checkpoints/cut").wait(120) == 0
    assert rows("cut", tmp_path) == rows("whole", tmp_path)
    assert same_run(state("cut", folder=tmp_path), state("whole", folder=tmp_path))


def _wait(condition, process):
    for _ in range(1200):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("it never came to the point where it should be stopped")


def test_what_may_change_on_resume_is_said_and_the_rest_is_refused(run):
    assert run("train", "--run=a", *TOY, "--train.max_steps=3").code == 0
    refused = run("train", "--resume=checkpoints/a", "--lr=0.5", "--batch-size=64")
    assert refused.code == 2
    assert "--batch-size=64: a resumed run keeps its data.batch_size 32" in refused.err
    assert "--lr=0.5: a resumed run keeps its optim.lr 0.001" in refused.err
    assert len(refused.err.strip().splitlines()) == 2
    allowed = run("train", "--resume=checkpoints/a", "--train.max_steps=5", "--print-freq=2")
    assert allowed.code == 0
    assert "train.max_steps: 3 -> 5" in allowed.out
    assert "log.print_freq: 1 -> 2" in allowed.out


def test_a_finished_run_says_so(run):
    assert run("train", "--run=a", *TOY, "--train.max_steps=2").code == 0
    again = run("train", "--resume=checkpoints/a")
    assert (again.code, again.out.count("is finished at")) == (0, 1)
    nothing = run("train", "--resume")
    assert nothing.code == 4
    assert "no unfinished run" in nothing.err


def test_a_finished_run_trains_on_with_more_epochs(run):
    assert run("train", "--run=long", *TOY).code == 0
    short = [arg for arg in TOY if "max-epoch" not in arg]
    assert run("train", "--run=short", *short, "--max-epoch=1").code == 0
    assert run("train", "--resume=checkpoints/short", "--max-epoch=2").code == 0
    assert rows("short") == rows("long")
    assert same_run(state("short"), state("long"))


def test_interrupted_while_it_draws_a_finished_run_is_finished(run, monkeypatch):
    from trainer.watchers.pictures import Pictures

    def interrupted(self, seen):
        raise KeyboardInterrupt

    monkeypatch.setattr(Pictures, "end", interrupted)
    args = [arg for arg in TOY if "pictures" not in arg]
    assert run("train", "--run=a", *args, "--train.max_steps=3").code == 130
    assert json.loads(Path("checkpoints/a/status.json").read_text())["state"] == "finished"
    assert "is finished at" in run("train", "--resume=checkpoints/a").out


def test_resuming_reads_no_sample_before_its_position(run, monkeypatch):
    from data.digits import Digits

    assert run("train", "--run=a", *TOY, "--train.max_steps=37").code == 0
    taken = []
    read = Digits.read
    monkeypatch.setattr(Digits, "read", lambda self, chosen, seeds: taken.append(len(chosen)) or read(self, chosen))
    assert run("train", "--resume=checkpoints/a", "--train.max_steps=39").code == 0
    assert taken[:3] == [32, 32, 32] or taken[:2] == [32, 32]
    assert sum(taken) <= 2 * 32 + 269 + 64, "batches before step 37 were read again"


def test_a_finished_run_says_what_continues_it(run):
    endings = {"steps": ["--train.max_steps=3"], "minutes": ["--train.max_minutes=0.00001"]}
    for name, flags in {**endings, "stopped": ["--train.early_stop=1", "--lr=0", "--max-epoch=9"]}.items():
        args = [arg for arg in TOY if name != "stopped" or not arg.startswith(("--lr", "--max-epoch"))]
        assert run("train", f"--run={name}", *args, *flags).code == 0
        told = run("train", f"--resume=checkpoints/{name}").out
        assert (f"--train.max_{name}=… continues it" if name in endings else "early stop has ended it") in told


def test_killed_in_its_last_validation_a_run_is_brought_to_its_end(run, monkeypatch):
    """What is on the disk then is past the last step, but neither measured nor the best."""
    args = [*TOY, "--train.max_steps=37"]
    assert run("train", "--run=whole", *args).code == 0

    def killed(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "validate", killed)
        assert run("train", "--run=a", *args).code == 130
    assert state("a")["progress"]["step"] == 37 and not Path("checkpoints/a/best.pth").exists()
    given = run("train", "--resume")
    assert given.code == 0 and "best accuracy" in given.out, given.out + given.err
    assert rows("a") == rows("whole") and same_run(state("a", "best.pth"), state("whole", "best.pth"))
    assert "is finished at" in run("train", "--resume=checkpoints/a").out


def test_a_finished_run_that_could_not_say_so_is_not_run_again(run):
    """Killed while it drew its pictures, say; and no later --resume comes back to it."""
    assert run("train", "--run=a", *TOY).code == 0
    path, before = Path("checkpoints/a/status.json"), state("a")
    status = json.loads(path.read_text())
    path.write_text(json.dumps(status | {"state": "running"}))
    given = run("train", "--resume")
    assert given.code == 0 and "is finished at" in given.out and same_run(state("a"), before)
    assert json.loads(path.read_text())["state"] == "finished" and run("train", "--resume").code == 4
    path.unlink()
    assert "is finished at" in run("train", "--resume=checkpoints/a").out


@pytest.mark.parametrize("place", [".", "notes.txt", "weights.pth"])
def test_what_is_no_run_is_left_as_it_is(run, tmp_path, place):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "last.pth.tmp").write_text("mine, too")
    torch.save({"weight": torch.zeros(2)}, folder / "weights.pth")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    given = run("train", f"--resume=mine/{place}")
    assert given.code == 4 and "no checkpoint of a run" in given.err, given.err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_runs_name_alone_means_its_folder(run):
    assert run("train", "--run=one", *TOY, "--train.max_steps=2").code == 0
    longer = run("train", "--resume=one", "--train.max_steps=4")
    assert longer.code == 0 and "at step 2" in longer.out
    assert run("val", "one").out == run("val", "checkpoints/one").out != ""
    begun = run("train", "--run=two", *TOY, "--train.max_steps=2", "--load-model-path=one")
    assert begun.code == 0 and "weights of MLP from checkpoints/one/best.pth: 4 of 4 tensors taken" in begun.out, (
        begun.err
    )
    Path("checkpoints/one/best.pth").write_bytes(b"damaged")
    begun = run("train", "--run=three", *TOY, "--train.max_steps=2", "--load-model-path=one")
    assert "passed over checkpoints/one/best.pth: is damaged" in begun.out.replace("best.pth: checkpoints", "")
    assert "weights of MLP from checkpoints/one/last.pth" in begun.out
    for command in (["train", "--resume=oen"], ["val", "checkpoints/oen"]):
        given = run(*command)
        assert given.code == 4 and "did you mean 'one'?" in given.err, given.err


def test_the_seconds_of_a_run_are_those_of_its_last_validation_too(run, monkeypatch):
    own = Classification.val_step
    monkeypatch.setattr(Classification, "val_step", lambda *given: (time.sleep(0.2), own(*given)))
    assert run("train", "--run=a", *TOY, "--train.max_steps=1").code == 0
    assert json.loads(Path("checkpoints/a/status.json").read_text())["seconds"] >= 9 * 0.2


def test_a_run_too_short_for_a_training_row_says_so(run):
    short = [arg for arg in TOY if "print-freq" not in arg]
    assert "the training loss is told each 20 steps, and there are 12" in run("train", *short, "--max-steps=12").out
    assert "the training loss is told" not in run("train", *short, "--max-steps=20").out


def test_a_refused_change_is_told_as_it_was_typed_and_once(run):
    """A component that gets its first argument is the same component."""
    assert run("train", "--run=a", *TOY, "--train.max_steps=2").code == 0
    for command in (["train", "--resume=checkpoints/a"], ["val", "checkpoints/a"]):
        given = run(*command, "--model.dropout=0.5", "--train.val_steps=9")
        assert given.code == 2 and given.err.count("--model") == 1 and len(given.err.strip().splitlines()) == 2
    assert "keeps its train.val_steps null;" in run("train", "--resume=checkpoints/a", "--train.val_steps=9").err
