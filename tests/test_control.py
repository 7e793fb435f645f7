"""ctl: a run that trains does as it is asked after its next step, and does so again when it is resumed or repeated."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PLAIN, ROOT, TOY, rows, same_run, state

from trainer.control.requests import Control
from trainer.trainer import Trainer
from utils.runs import requests
from utils.runs.folder import RunFolder

SHORT = [*TOY, "--train.rehearse=false"]


@pytest.fixture
def asked_at(monkeypatch):
    """Have requests lie in the run's folder when it has taken some steps, as if ctl had put them there."""

    def plan(requested: dict[int, list]) -> None:
        own = Control.after_step

        def after_step(self, trainer):
            for verb, *value in requested.pop(trainer.state.progress.step, ()):
                requests.ask(self.folder, verb, *value)
                self.next_look = 0.0
            own(self, trainer)

        monkeypatch.setattr(Control, "after_step", after_step)

    return plan


def crash_at(monkeypatch, step: int) -> None:
    """Have the training end without a save, as a kill does."""
    own = Control.after_step

    def after_step(self, trainer):
        own(self, trainer)
        if trainer.state.progress.step == step:
            monkeypatch.setattr(Control, "after_step", own)
            raise RuntimeError("killed")

    monkeypatch.setattr(Control, "after_step", after_step)


def saved_and_killed(run, monkeypatch, asked_at, *arguments: str) -> None:
    """A run that is asked for two rates and a validation, killed before it saved any of them, and resumed."""
    asked_at({5: [("lr", 0.02)], 9: [("val",), ("lr", 0.004)], 12: [("save",)], 44: [("val",), ("lr", 0.03)]})
    crash_at(monkeypatch, 47)
    assert run("train", "--run=cut", *arguments).code == 10
    assert state("cut")["progress"]["interventions"] in (3, 4), "that of the epoch's end, or of the best validation"
    assert run("train", "--resume=checkpoints/cut").code == 0


@pytest.mark.parametrize("schedule", ["null", "OneCycleLR", pytest.param("DecayOnRise", marks=pytest.mark.slow)])
def test_a_run_that_is_killed_behind_a_request_is_the_same_run(run, monkeypatch, asked_at, schedule):
    arguments = [*TOY[:1], "--optim=SGD", "--lr=0.05", *SHORT[3:], f"--schedule={schedule}"]
    saved_and_killed(run, monkeypatch, asked_at, *arguments)
    found = rows("cut", phase="train")
    assert found[4]["lr"] != pytest.approx(0.02) and len(found) == 80
    if schedule == "null":
        told = {row["step"]: row["lr"] for row in found}
        assert [told[n] for n in (5, 6, 9, 10, 44, 45, 80)] == [0.05, 0.02, 0.02, 0.004, 0.004, 0.03, 0.03]
    assert [row["step"] for row in rows("cut", phase="val")] == [9, 40, 44, 80]

    # the same requests at the same steps, and nothing comes between
    asked_at({5: [("lr", 0.02)], 9: [("val",), ("lr", 0.004)], 44: [("val",), ("lr", 0.03)]})
    assert run("train", "--run=whole", *arguments).code == 0
    assert rows("cut") == rows("whole") and same_run(state("cut"), state("whole"))
    assert run("train", "--run=other", *arguments).code == 0
    assert not same_run(state("other"), state("whole"))

    # a run that is trained from the folder of the first one does it of its own accord
    again = run("train", "checkpoints/cut/config.yaml", "--run=again")
    assert (
        "repeats the requests in checkpoints/cut/interventions.jsonl: lr at step 5, val at step 9, lr at" in again.out
    )
    assert rows("again") == rows("whole") and same_run(state("again"), state("whole"))
    other = run("train", "checkpoints/cut/config.yaml", "--run=third", "--train.seed=3", "--max-steps=6")
    assert "are not repeated: train.seed is another" in other.out
    assert rows("third", phase="train")[-1]["lr"] != pytest.approx(0.02)


def test_a_stop_within_an_asked_validation_resumes_with_it(run, monkeypatch, asked_at):
    """The request is counted when it is done, so that its validation comes once, neither twice nor never."""
    asked_at({7: [("val",)]})
    own = Trainer.validate

    def validate(self):
        monkeypatch.setattr(Trainer, "validate", own)
        self.control.signals._note(signal.SIGTERM, None)
        own(self)

    monkeypatch.setattr(Trainer, "validate", validate)
    assert run("train", "--run=cut", *SHORT).code == 143
    assert state("cut")["progress"]["step"] == 7 and not rows("cut", phase="val")
    assert run("train", "--resume=checkpoints/cut").code == 0
    asked_at({7: [("val",)]})
    assert run("train", "--run=whole", *SHORT).code == 0
    assert rows("cut") == rows("whole") and same_run(state("cut"), state("whole"))


def test_a_rate_that_was_set_later_is_not_set_again_behind_a_new_one(run, monkeypatch, asked_at):
    asked_at({10: [("lr", 0.02)], 12: [("save",)]})
    own = Trainer.save
    monkeypatch.setattr(Trainer, "save", lambda self, *_, **__: self.state.progress.step or own(self))  # a full disk
    crash_at(monkeypatch, 20)
    assert run("train", "--run=a", *SHORT).code == 10
    monkeypatch.setattr(Trainer, "save", own)
    asked_at({6: [("lr", 0.5)]})
    again = run("train", "--resume=checkpoints/a")
    assert again.code == 0 and "lr=0.02, set before at step 10, is not set again" in again.out
    assert {row["lr"] for row in rows("a", phase="train")[6:]} == {0.5}
    kept = requests.read_interventions(Path("checkpoints/a"))
    assert sorted((row["request"], row["step"]) for row in kept) == [("lr", 6), ("save", 12)]


def test_a_run_whose_requests_were_removed_takes_new_ones(run, asked_at):
    asked_at({5: [("lr", 0.02)]})
    assert run("train", "--run=a", *SHORT, "--max-steps=10").code == 0
    Path("checkpoints/a", requests.FILE).unlink()
    asked_at({15: [("lr", 0.5)]})
    assert run("train", "--resume=checkpoints/a", "--max-steps=20").code == 0
    assert [row["lr"] for row in rows("a", phase="train")[9:]] == [0.02] * 6 + [0.5] * 5


def test_requests_that_cannot_be_sent_are_one_sentence(run, tmp_path):
    asks = "; python main.py ctl RUN lr=1e-4 | save | val | pause | go | stop"
    for words, sentence in {
        (): "ctl: one request at a time: ",
        ("a",): "ctl: one request at a time: ",
        ("a", "save", "val"): "ctl: one request at a time: ",
        ("a", "svae"): f"ctl: no request 'svae'; did you mean 'save'?{asks}\n",
        ("a", "--lrr=3"): f"ctl: no request '--lrr=3'{asks}\n",
        ("a", "lr=-1"): "ctl: lr=-1: expected a number above 0, such as 1e-4\n",
        ("a", "lr=nan"): "ctl: lr=nan: expected a number above 0, such as 1e-4\n",
        ("a", "lr=fast"): "ctl: lr=fast: expected a number above 0, such as 1e-4\n",
    }.items():
        given = run("ctl", *words)
        assert given.code == 2 and given.err.startswith(sentence) and len(given.err.splitlines()) == 1, given
    assert run("ctl", "nowhere", "save").code == 4
    assert run("train", "--run=a", *TOY, "--max-steps=2").code == 0
    given = run("ctl", "a", "save")
    assert given == (2, "", "checkpoints/a: is finished, and hears no requests\n")
    path = tmp_path / "checkpoints" / "a"
    (path / "status.json").write_text(json.dumps(json.loads((path / "status.json").read_text()) | {"state": "running"}))
    given = run("ctl", "a", "stop")
    assert (
        given.code == 2 and "has crashed (step 2)" in given.err and "--resume=checkpoints/a continues it" in given.err
    )
    assert not (path / "control").exists()


def test_a_request_to_a_process_that_is_gone_means_nothing(tmp_path):
    (tmp_path / "config.yaml").write_text("task: Classification\n")
    name = requests.ask(tmp_path, "stop")
    folder = RunFolder(tmp_path)
    folder.own()
    assert requests.take(tmp_path) is None and not requests.withdraw(tmp_path, name)
    folder.release()


def test_files_that_are_no_requests_are_left_out(tmp_path):
    folder = tmp_path / "control"
    folder.mkdir()
    for number, text in enumerate(
        ("", "[1]", '{"request": "exec"}', '{"request": "lr"}', '{"request": "lr", "value": 0}')
    ):
        (folder / f"{number}.request").write_text(text)
    (folder / "5.request").write_text('{"request": "lr", "value": 0.5}')
    assert requests.take(tmp_path) == ("5", {"request": "lr", "value": 0.5}) and requests.take(tmp_path) is None


def wait_for(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def status(folder) -> dict:
    return RunFolder(folder).status()


def test_a_run_in_another_process_answers(run, start, tmp_path):
    process = start("train", "--run=a", *TOY[:4], "--max-epoch=100000", *PLAIN)
    path = tmp_path / "checkpoints" / "a"
    wait_for(lambda: (path / "log.jsonl").exists() and rows("a", tmp_path, "train"))
    changed = run("ctl", "a", "lr=0.0005")
    assert changed.code == 0 and changed.out.startswith("checkpoints/a: done at step "), changed
    assert changed.out.endswith(": was lr 0.001\n")
    step = int(changed.out.split("step ")[1].split(":")[0])
    (told,) = requests.read_interventions(path)
    assert told["step"] == step and told["value"] == 0.0005
    assert run("ctl", "a", "pause").out.startswith("checkpoints/a: paused at step ")
    wait_for(lambda: status(path)["state"] == "paused")
    size = (path / "log.jsonl").stat().st_size
    assert "paused" in run("runs").out
    assert run("ctl", "a", "pause").code == 2
    saved = run("ctl", "a", "save")
    at = status(path)["step"]
    assert saved.out == f"checkpoints/a: saved at step {at}\n" and state("a", folder=tmp_path)["progress"]["step"] == at
    assert (path / "log.jsonl").stat().st_size == size, "it stands still"
    measured = run("ctl", "a", "val")
    assert f"done at step {at}: accuracy 0." in measured.out and run("ctl", "a", "val").code == 2
    assert run("ctl", "a", "go").out == f"checkpoints/a: goes on from step {at}\n" and run("ctl", "a", "go").code == 2
    wait_for(lambda: status(path)["state"] == "running" and rows("a", tmp_path, "train")[-1]["step"] > at)
    assert run("ctl", "a", "pause").code == 0
    assert run("ctl", "a", "stop").out.startswith("checkpoints/a: stopped after step ")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143 and not err and "saved; continue with --resume=checkpoints/a" in out
    assert status(path)["state"] == "stopped" and not (path / "control").exists()
    found = [row["request"] for row in requests.read_interventions(path)]
    assert found == ["lr", "pause", "save", "val", "go", "pause", "stop"]


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_paused_run_hears_signals(run, start, tmp_path, number):
    process = start("train", "--run=a", *TOY[:4], "--max-epoch=100000", *PLAIN)
    path = tmp_path / "checkpoints" / "a"
    wait_for(lambda: (path / "log.jsonl").exists() and rows("a", tmp_path, "train"))
    assert run("ctl", "a", "pause").code == 0
    wait_for(lambda: status(path)["state"] == "paused")
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    assert (
        status(path)["state"] == "stopped" and state("a", folder=tmp_path)["progress"]["step"] == status(path)["step"]
    )


@pytest.mark.slow
def test_reproduce_repeats_what_ctl_changed(run, start, tmp_path):
    process = start("train", "--run=a", *TOY[:3], "--print-freq=20", "--max-epoch=100000", *PLAIN)
    path = tmp_path / "checkpoints" / "a"
    wait_for(lambda: (path / "log.jsonl").exists() and rows("a", tmp_path, "train"))
    for request in ("lr=0.004", "val", "lr=0.0005", "stop"):
        assert run("ctl", "a", request).code == 0
    assert process.wait(60) == 143
    command = [sys.executable, str(ROOT / "main.py"), "reproduce", "a"]
    for values, code, told in (([0.004, 0.0005], 0, "bit-identical"), ([0.004, 0.0006], 1, "different: ")):
        kept = requests.read_interventions(path)
        for row, value in zip((r for r in kept if r["request"] == "lr"), values, strict=True):
            row["value"] = value
        requests.write_interventions(path, kept)
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ}, timeout=120)
        assert done.returncode == code or told == "different: ", done.stdout + done.stderr
        assert ("bit-identical" in done.stdout) == (code == 0), done.stdout + done.stderr


@pytest.mark.slow
def test_two_processes_carry_a_request_out_after_the_same_step(run, tmp_path):
    from test_ddp import PROBE

    (tmp_path / "probe.py").write_text(PROBE.format(root=str(ROOT)))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "probe.py", "train"]
    flags = ["run=a", *TOY[:4], "--max-epoch=100000", *PLAIN]
    variables = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "stdin": subprocess.DEVNULL}
    process = subprocess.Popen([*command, *flags], cwd=tmp_path, env=variables, **pipes)
    try:
        path = tmp_path / "checkpoints" / "a"
        wait_for(lambda: (path / "log.jsonl").exists() and rows("a", tmp_path, "train"))
        assert run("ctl", "a", "lr=0.02").out.startswith("checkpoints/a: done at step ")
        assert run("ctl", "a", "pause").code == 0 and run("ctl", "a", "val").code == 0
        assert run("ctl", "a", "lr=0.005").code == 0 and run("ctl", "a", "go").code == 0
        assert run("ctl", "a", "stop").out.startswith("checkpoints/a: stopped after step ")
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    facts = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert facts[0]["weights"] == facts[1]["weights"] and facts[0]["step"] == facts[1]["step"], out
    (group,) = state("a", folder=tmp_path)["update"]["model"]["optimizer"]["param_groups"]
    assert group["lr"] == 0.005 and status(path)["state"] == "stopped"
