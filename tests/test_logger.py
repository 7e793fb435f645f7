"""The sinks: journal, console, tensorboardX, visdom."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest
import torch
from conftest import ROOT, TOY, rows

from utils.errors import StorageError
from utils.logger import Journal, Logger


def test_a_journal_is_cut_back_to_the_state_that_is_resumed(tmp_path):
    path = tmp_path / "log.jsonl"
    journal = Journal(path)
    journal.scalars("train", 0, 1, {"loss": 1.5})
    kept = journal.sync()
    journal.scalars("train", 0, 2, {"loss": float("nan")})
    journal.close()
    with path.open("a") as stream:
        stream.write('{"torn')
    assert [row["step"] for row in Journal.rows(path)] == [1, 2]
    assert Journal.rows(path)[1]["loss"] is None, "JSON has no NaN"
    again = Journal(path, keep=kept)
    again.scalars("train", 0, 2, {"loss": 0.5})
    again.close()
    assert [row["loss"] for row in Journal.rows(path)] == [1.5, 0.5]


def test_a_journal_that_cannot_be_written_is_a_sentence(tmp_path):
    with pytest.raises(StorageError, match="log.jsonl: cannot be written"):
        Journal(tmp_path / "absent" / "log.jsonl")


def test_a_logger_without_backends_does_nothing():
    logger = Logger()
    logger.scalars("train", 0, 1, {"loss": 1.0})
    logger.images("x", 1, torch.zeros(3, 4, 4))
    logger.close()


def test_plain_lines_off_a_terminal(run):
    given = run("train", "--run=a", *TOY)
    lines = given.out.splitlines()
    assert "\r" not in given.out and "\x1b" not in given.out
    assert sum("  val  " in line for line in lines) == 2
    assert sum(" train " in line for line in lines) < 5, "at most a line in ten seconds"
    assert lines[-1] == "next: python main.py test checkpoints/a"
    assert any(line.startswith("best accuracy") for line in lines)


def test_quiet(run):
    given = run("train", "--run=a", *TOY, "--quiet", "--train.max_steps=2")
    assert (given.code, given.out, given.err) == (0, "", "")


def test_a_bar_counts_batches_on_a_terminal(tmp_path):
    """The ancestor's bar had as many steps as there are samples, and never reached its end."""
    lead, follow = pty.openpty()
    fcntl.ioctl(follow, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = [sys.executable, str(ROOT / "main.py"), "train", "--run=a", *TOY]
    env = {**os.environ, "TERM": "xterm", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, stdin=follow, stdout=follow, stderr=follow, env=env)
    os.close(follow)
    seen = b""
    try:
        while piece := os.read(lead, 65536):
            seen += piece
    except OSError:
        pass  # Linux's way to say that the other end is closed
    assert process.wait(60) == 0, seen.decode()
    text = seen.decode()
    assert "epoch 1/2" in text and "/40 [" in text
    assert "1258" not in text.replace("1,258", "")


def test_event_files_hold_every_scalar(run, tmp_path):
    assert run("train", "--run=a", *TOY, "--log.tensorboard", "--train.max_steps=5").code == 0
    found = {(tag, step): value for tag, step, value in _events(tmp_path / "checkpoints/a/tensorboard")}
    for row in rows("a"):
        for name, value in row.items():
            if name not in ("phase", "epoch", "step"):
                assert found[f"{name}/{row['phase']}", row["step"]] == pytest.approx(value, rel=1e-6)


def _events(folder):
    """Tag, step and value of each scalar in the event files: length, checksum, message, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for path in folder.glob("events.*"):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                yield value.tag, event.step, value.simple_value


def test_one_warning_line_when_no_visdom_listens(run):
    args = [arg for arg in TOY if "visdom" not in arg]
    given = run("train", "--run=a", *args, "--log.visdom_port=9")
    assert given.code == 0
    assert (given.out + given.err).count("visdom") <= 2  # one sentence, in which the command to start it stands
    assert "no visdom server at 127.0.0.1:9" in given.out


def test_visdom_shows_what_the_journal_holds(run, tmp_path):
    """Also after a resume: one pane a metric, train and val in it, no gap and no overlap."""
    from visdom_server import Server

    args = [arg for arg in TOY if "visdom" not in arg]
    server = Server(tmp_path / "env").start()
    try:
        port = f"--log.visdom_port={server.port}"
        assert run("train", "--run=a", *args, port, "--train.max_steps=30").code == 0
        assert run("train", "--resume=checkpoints/a", "--train.max_steps=null").code == 0
        traces = server.traces("a", "loss")
    finally:
        server.kill()
    for phase in ("train", "val"):
        wanted = [(row["step"], row["loss"]) for row in rows("a", phase=phase)]
        assert list(zip(*traces[phase], strict=True)) == wanted


def test_status_tells_how_it_ended(run, tmp_path):
    assert run("train", "--run=a", *TOY, "--train.max_steps=3").code == 0
    status = json.loads((tmp_path / "checkpoints/a/status.json").read_text())
    assert (status["state"], status["step"], status["monitor"]) == ("finished", 3, "accuracy")
