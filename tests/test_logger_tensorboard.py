"""Event files, read back with TensorBoard's own reader; histograms, and the rest that is there on request."""

import json
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import PLAIN, TOY, rows, same_run, state
from torch import nn
from visdom_server import wait_for

from trainer.watchers.inspector import Inspector
from utils.sinks.journal import Journal
from utils.sinks.logger import Logger, Sink
from utils.sinks.tensorboard import TensorBoard

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read(folder):
    """What TensorBoard would show of a run."""
    found = accumulator.EventAccumulator(str(folder), size_guidance=dict.fromkeys(accumulator.DEFAULT_SIZE_GUIDANCE, 0))
    return found.Reload()


def scalars(folder):
    """{tag: [(step, value)]}"""
    found = read(folder)
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def journal(name):
    """The same of a run's journal."""
    wanted = {}
    for row in rows(name):
        for key in row.keys() - {"phase", "epoch", "step"}:
            wanted.setdefault(f"{key}/{row['phase']}", []).append((row["step"], pytest.approx(row[key], rel=1e-6)))
    return wanted


def test_a_resumed_run_continues_its_curves(run, tmp_path):
    """Stopped, resumed at once, resumed again: each point of the journal once."""
    assert run("train", "--run=a", *TOY, "--log.tensorboard", "--train.max_steps=30").code == 0
    assert run("train", "--resume=checkpoints/a", "--train.max_steps=50").code == 0
    assert run("train", "--resume=checkpoints/a", "--train.max_steps=null").code == 0
    found = scalars(tmp_path / "checkpoints/a/tensorboard")
    assert found == journal("a") and len(found["loss/train"]) == 80
    assert len(list((tmp_path / "checkpoints/a/tensorboard").glob("events*"))) == 3


def test_what_was_written_after_the_save_is_not_shown_after_the_resume(tmp_path):
    """As after a kill: the file was not closed, and holds more than the checkpoint."""
    killed = TensorBoard(tmp_path)
    for step in range(1, 36):
        killed.scalars("train", 0, step, {"loss": step})
        if step == 30:
            killed.sync()
            assert [step for step, _ in scalars(tmp_path)["loss/train"]] == list(range(1, 31))
    killed.sync()
    journal = Journal(tmp_path / "log.jsonl")
    for step in range(1, 31):
        journal.scalars("train", 0, step, {"loss": step})
    journal.close()
    resumed = TensorBoard(tmp_path, purge_step=30)
    resumed.replay(tmp_path / "log.jsonl", 30)
    for step in range(31, 41):
        resumed.scalars("train", 0, step, {"loss": 100 + step})
    resumed.close()
    wanted = [(step, step) for step in range(1, 31)] + [(step, 100 + step) for step in range(31, 41)]
    assert scalars(tmp_path) == {"loss/train": wanted}


@pytest.mark.slow
def test_a_killed_run_that_is_resumed_has_no_gap(start, run, tmp_path):
    """Whatever a checkpoint has behind it is in the event files before it."""
    args = [arg for arg in TOY if "epoch" not in arg]
    killed = start("train", "--run=a", *args, "--max-epoch=100000", "--train.save_steps=7", "--log.tensorboard")
    assert wait_for(lambda: (tmp_path / "checkpoints/a/log.jsonl").exists() and len(rows("a", tmp_path)) > 100)
    killed.kill()
    killed.wait()
    steps = state("a", folder=tmp_path)["progress"]["step"] + 20
    assert run("train", "--resume=checkpoints/a", f"--train.max_steps={steps}").code == 0
    assert scalars(tmp_path / "checkpoints/a/tensorboard") == journal("a")


def test_pictures_and_texts(tmp_path):
    board = TensorBoard(tmp_path)
    pictures = torch.rand(5, 1, 6, 4)
    board.images("samples", 7, pictures)
    pictures.zero_()  # what happens afterwards must not show
    board.text("poem", 7, "first\nsecond")
    board.close()
    found = read(tmp_path)
    (image,) = found.Images("samples")
    assert (image.step, image.width, image.height) == (7, 5 * 6 - 2, 6)
    assert len(set(image.encoded_image_string)) > 50
    (text,) = found.Tensors("poem/text_summary")
    assert text.tensor_proto.string_val[0].decode() == "first  \nsecond"


def test_everything_on_request(run, tmp_path):
    """Histograms, graph, hyperparameters with the final metrics, precision over recall, embedding."""
    asked = ["--log.histograms=10", "--log.graph", "--log.pr_curves", "--log.embedding"]
    given = run("train", "--run=a", *TOY, "--log.tensorboard", "--train.max_steps=25", *asked)
    assert given.code == 0 and "not everything" not in given.out + given.err
    folder = tmp_path / "checkpoints/a/tensorboard"
    found = read(folder)
    assert [e.step for e in found.Histograms("weights/model.layers.0.weight")] == [10, 20]
    assert [e.step for e in found.Histograms("gradients/model.layers.0.weight")] == [11, 21]
    count = state("a")["model"]["layers.0.weight"].numel()
    assert found.Histograms("weights/model.layers.0.weight")[0].histogram_value.num == count
    assert b"layers" in found.Graph().SerializeToString()
    assert sum(tag.startswith("precision over recall/") for tag in found.Tags()["tensors"]) == 10
    config, metrics = hyperparameters(found)
    assert config["optim.lr"] == 1e-3 and config["model"] == "MLP"
    last = rows("a", phase="val")[-1]
    assert metrics == {f"{name}/val" for name in last.keys() - {"phase", "epoch", "step"}}
    assert found.Scalars("accuracy/val")[-1].value == pytest.approx(last["accuracy"])
    samples = (folder / "00025/validation/metadata.tsv").read_text().split()
    assert len(samples) == 269 and set(samples) <= set("0123456789")
    assert len((folder / "00025/validation/tensors.tsv").read_text().splitlines()) == 269


def hyperparameters(found):
    """Those of the run, and the tags of its metrics."""
    from tensorboard.plugins.hparams import plugin_data_pb2

    contents = found.PluginTagToContent("hparams").values()
    parsed = [plugin_data_pb2.HParamsPluginData.FromString(content) for content in contents]
    (start,) = [data.session_start_info for data in parsed if data.HasField("session_start_info")]
    (about,) = [data.experiment for data in parsed if data.HasField("experiment")]
    config = {key: getattr(value, value.WhichOneof("kind")) for key, value in start.hparams.items()}
    return config, {info.name.tag for info in about.metric_infos}


def test_views_change_nothing(run):
    """The run with every view is the run without one, to the last bit."""
    asked = ["--log.tensorboard", "--log.histograms=1", "--log.graph", "--log.pr_curves", "--log.embedding"]
    for name, more in (("plain", []), ("viewed", asked)):
        assert run("train", f"--run={name}", *TOY, "--train.max_steps=12", *more).code == 0
    assert same_run(state("plain"), state("viewed"))


def test_views_of_a_classifier_are_left_out_elsewhere(run):
    args = ["--max-epoch=1", "--train.max_steps=2", "--print-freq=1", *PLAIN]
    given = run("train", "linear_regression", "--run=a", *args, "--log.tensorboard", "--log.graph")
    assert given.code == 0 and "left out here" in given.out


class Seen(Sink):
    """A sink that remembers."""

    shows = frozenset({"histograms"})

    def __init__(self):
        self.told = []

    def histograms(self, name, step, values):
        self.told.append((name, step, values))


def test_gradients_are_those_of_the_next_step():
    net = nn.Linear(3, 2)
    frozen = nn.Linear(3, 2).requires_grad_(False)
    seen, progress = Seen(), SimpleNamespace(step=3)
    task = nn.ModuleDict({"model": net, "frozen": frozen})
    run = SimpleNamespace(task=task, progress=progress, logger=Logger([seen]))
    inspector = Inspector(every=4)
    inspector.begin(run)
    for step in range(4, 11):
        net(torch.full((1, 3), float(step))).sum().backward()
        net.weight.grad = net.bias.grad = None
        progress.step = step
        assert inspector.after_step(run, None, {})
    inspector.close()
    assert [(name, step) for name, step, _ in seen.told] == [
        ("weights", 4),
        ("gradients", 5),
        ("weights", 8),
        ("gradients", 9),
    ]
    assert seen.told[0][2].keys() == {"model.weight", "model.bias", "frozen.weight", "frozen.bias"}
    assert list(seen.told[1][2]) == ["model.weight", "model.bias"]
    assert (seen.told[1][2]["model.weight"] == 5).all() and (seen.told[3][2]["model.weight"] == 9).all()


def test_a_disk_that_fails_costs_a_sentence_and_not_the_run(tmp_path):
    (tmp_path / "taken").write_text("")
    told = []
    board = TensorBoard(tmp_path / "taken", warn=told.append)
    board.scalars("train", 0, 1, {"loss": 1.0})
    board.sync()
    for step in range(3):
        board.scalars("train", 0, step, {"loss": 1.0})
    board.close()
    assert len(told) == 1 and "no more event files" in told[0]


def test_a_value_that_cannot_be_written_costs_one_line(tmp_path):
    told = []
    board = TensorBoard(tmp_path, warn=told.append)
    for step in range(3):
        board.images("flat", step, torch.zeros(4, 4))
    board.histograms("weights", 1, {"nothing": np.array([np.nan]), "some": np.array([1.0, np.inf, 2.0])})
    board.scalars("train", 0, 4, {"loss": float("nan"), "lr": 0.5})
    board.close()
    assert len(told) == 1 and "not everything is shown" in told[0]
    assert scalars(tmp_path)["lr/train"] == [(4, 0.5)]
    assert read(tmp_path).Histograms("weights/some")[0].histogram_value.num == 2


def test_the_training_thread_only_notes(tmp_path, monkeypatch):
    """Nothing is imported, opened or written on the thread that logs."""
    from utils.sinks import tensorboard

    threads, opened = [], tensorboard._open
    monkeypatch.setattr(tensorboard, "_open", lambda *a: threads.append(threading.current_thread().name) or opened(*a))
    logger = Logger([Journal(tmp_path / "log.jsonl"), TensorBoard(tmp_path / "events")])
    logger.scalars("train", 0, 1, {"loss": 0.5})
    logger.close()
    assert threads == ["tensorboard"]
    assert json.loads((tmp_path / "log.jsonl").read_text())["loss"] == 0.5
    assert scalars(tmp_path / "events") == {"loss/train": [(1, 0.5)]}
