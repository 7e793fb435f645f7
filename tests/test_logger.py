"""The sinks: journal, tensorboardX, visdom."""

import json
import math
import re
import resource
import struct

import pytest
import torch
from conftest import TOY, rows

from utils.errors import StorageError
from utils.sinks.journal import Journal
from utils.sinks.logger import Logger
from utils.sinks.visdom_board import VisdomBoard


def test_a_journal_is_cut_back_to_the_state_that_is_resumed(tmp_path):
    path = tmp_path / "log.jsonl"
    journal = Journal(path)
    journal.scalars("train", 0, 1, {"loss": 1.5})
    journal.sync()
    kept = journal.size()
    journal.scalars("train", 0, 2, {"loss": float("nan")})
    journal.close()
    with path.open("a") as stream:
        stream.write('{"torn')
    assert [row["step"] for row in Journal.read(path)] == [1, 2]
    assert Journal.read(path)[1]["loss"] is None, "JSON has no NaN"
    again = Journal(path, keep=kept)
    again.scalars("train", 0, 2, {"loss": 0.5})
    again.close()
    assert [row["loss"] for row in Journal.read(path)] == [1.5, 0.5]


def test_a_journal_that_cannot_be_written_is_a_sentence(tmp_path):
    with pytest.raises(StorageError, match="log.jsonl: cannot be written"):
        Journal(tmp_path / "absent" / "log.jsonl")


def test_a_row_that_finds_room_for_a_half_of_itself_is_none_and_an_error(tmp_path):
    journal = Journal(tmp_path / "log.jsonl")
    journal.scalars("train", 0, 1, {"loss": 1.0})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.size() + 30, hard))
    try:
        with pytest.raises(StorageError, match="No space left"):
            journal.scalars("val", 0, 2, {"loss": 2.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    journal.scalars("train", 0, 3, {"loss": 3.0})
    journal.close()
    assert [row["step"] for row in Journal.read(tmp_path / "log.jsonl")] == [1, 3]


def test_a_logger_without_backends_does_nothing():
    logger = Logger()
    logger.scalars("train", 0, 1, {"loss": 1.0})
    logger.images("x", 1, torch.zeros(3, 4, 4))
    logger.close()


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


def test_a_journal_replayed_is_what_the_board_was_shown_live(tmp_path):
    """Also rates of two networks in one window, pictures and texts; and a value that was not finite."""
    from PIL import Image
    from visdom_server import Server

    from utils.visualize import Visualizer

    server = Server(tmp_path / "env").start()
    try:
        live, late = (VisdomBoard(Visualizer(name, port=server.port)) for name in ("live", "late"))
        logger = Logger([Journal(tmp_path / "log.jsonl"), live])
        for step in range(3):
            values = {"g_loss": step / 2 if step else math.nan, "lr_generator": 0.1, "lr_discriminator": 0.2}
            logger.scalars("train", 0, step, values)
        logger.scalars("val", 0, 2, {"accuracy": 0.5})
        logger.images("samples", 2, torch.rand(3, 1, 5, 5))
        logger.text("poem", 2, "春江 <b>\nsecond")
        logger.close()
        late.replay(tmp_path / "log.jsonl")
        late.close()
        live, late = (server.windows(name) for name in ("live", "late"))
    finally:
        server.kill()
    assert live.keys() == late.keys() == {"g_loss", "learning rate", "accuracy", "log", "samples", "poem"}
    shown = [{name: timeless(window["content"]) for name, window in one.items()} for one in (live, late)]
    assert shown[0] == shown[1]
    assert [t["name"] for t in live["learning rate"]["content"]["data"]] == ["generator", "discriminator"]
    assert live["g_loss"]["content"]["data"][0]["y"] == [None, 0.5, 1.0]
    assert "epoch 1, step 2, val: accuracy 0.5" in live["log"]["content"]
    assert "step 2: 春江 &lt;b&gt;<br>second" in live["poem"]["content"]
    assert Image.open(tmp_path / "samples_000002.png").size == (3 * 7 - 2, 5)


def timeless(content):
    """Without the second, which may be the next one when the journal is written."""
    return re.sub(r"\[[\d: -]+\]", "", content) if isinstance(content, str) else content


def test_status_tells_how_it_ended(run, tmp_path):
    assert run("train", "--run=a", *TOY, "--train.max_steps=3").code == 0
    status = json.loads((tmp_path / "checkpoints/a/status.json").read_text())
    assert (status["state"], status["step"], status["monitor"]) == ("finished", 3, "accuracy")
