"""The rehearsal draws every pane and asks every watcher, sends nothing, and names those that fail with their place."""

import re

import numpy as np
import pytest
import torch
from conftest import TOY, rows, same_run, state

from configs import COMPONENTS
from trainer.watchers.watcher import Watcher
from utils.sinks import visdom_sender
from utils.visualize import Visualizer

SHORT = ["--train.max_steps=3", "--log.pictures=false", *TOY[:-2]]


class Late(Watcher):
    def after_validation(self, run, numbers, extras):
        raise KeyError("acuracy")


class Soon(Watcher):
    def after_step(self, run, batch, scalars):
        return run.progres.step  # misspelled


class Last(Watcher):
    def end(self, run):
        raise RuntimeError("no end")


class FlatPicture(Watcher):
    def after_step(self, run, batch, scalars):
        run.logger.images("weights", run.progress.step, torch.zeros(3))


class OtherMatrix(Watcher):
    def after_validation(self, run, numbers, extras):
        run.logger.matrix("confusion", 1, np.zeros((3, 3)), ["a", "b"])


class OwnPane(Watcher):
    def begin(self, run):
        Visualizer("mine").img("kernels", np.zeros((2, 5, 8, 8)))


class Texts(Watcher):
    def after_step(self, run, batch, scalars):
        run.logger.histograms("weights", 1, {"fc": ["not", "numbers"]})


FAULTS = {  # a watcher, words of the note
    Late: "in after_validation: KeyError: 'acuracy' (the watcher Late will be left out: after_validation)",
    Soon: "in after_step: AttributeError: 'Run' object has no attribute 'progres'",
    Last: "in end: RuntimeError: no end (the watcher Last will be left out: end)",
    FlatPicture: "in after_step: ValueError: ",
    OtherMatrix: "visdom: confusion is not shown: a matrix of shape [3, 3] does not go with 2 labels",
    OwnPane: "visdom: kernels is not shown: ",
    Texts: "visdom: weights is not shown: ",
}


class Chatty(Watcher):
    """Shows a pane of each kind, says something, and draws random numbers."""

    def after_step(self, run, batch, scalars):
        run.say("hello")
        run.logger.images("batch", run.progress.step, torch.rand(4, 1, 8, 8))
        run.logger.histograms("weights", run.progress.step, {"fc": np.random.rand(20)})
        run.logger.text("words", run.progress.step, "a <b> & c")


@pytest.fixture
def watched(run, monkeypatch):
    """Train with one of these watchers, named in log.watchers; a note of each connection to a server is kept."""
    registry, asked = COMPONENTS["watcher"], []
    known = registry.get
    monkeypatch.setattr(registry, "_unknown", lambda known: "")
    monkeypatch.setattr(
        visdom_sender._Connection, "connect", lambda self: asked.append(self.port) or (_ for _ in ()).throw(OSError())
    )

    def command(watcher: type, *flags: str):
        monkeypatch.setattr(registry, "get", lambda name, key="": watcher if name == "Watched" else known(name, key))
        return run("train", "--log.watchers=[Watched]", *SHORT, *flags), asked

    return command


@pytest.mark.parametrize("watcher", FAULTS, ids=lambda watcher: watcher.__name__)
def test_a_watcher_or_pane_that_fails_is_named_before_the_first_step(watched, watcher):
    given, asked = watched(watcher, "--run=a", "--train.rehearse=only")
    assert given.code in (2, 10) and FAULTS[watcher] in given.err, given
    assert re.search(r"tests/test_rehearsal_panes\.py:\d+: ", given.err) and "Traceback" not in given.err
    assert len(given.err.splitlines()) <= 2 and not asked, given.err


def test_a_failing_watcher_is_a_note_where_the_run_goes_on(watched):
    given, _ = watched(Soon, "--run=a", "--train.rehearse=true", "--log.visdom=false")
    assert given.code == 0 and given.out.index("note: tests/test_rehearsal_panes.py:") < given.out.index("rehearsed in")
    assert given.out.count("will be left out") == 1 and len(rows("a", phase="train")) == 3


def test_what_a_watcher_says_and_shows_is_no_oddity_and_changes_nothing(watched, tmp_path):
    given, asked = watched(Chatty, "--run=c", "--train.rehearse=only", "--log.tensorboard", "--log.histograms=5")
    assert (given.code, given.err) == (0, "") and "hello" not in given.out and not asked, given
    assert int(re.search(r"(\d+) panes drawn and not sent", given.out)[1]) >= 5, given.out
    for name, rehearse in (("a", "true"), ("b", "false")):
        given, _ = watched(Chatty, f"--run={name}", f"--train.rehearse={rehearse}")
        assert given.code == 0 and given.out.count("hello") == 3, given
    assert rows("a") == rows("b") and same_run(state("a"), state("b"))
    assert not (tmp_path / "checkpoints/a/rehearsal").exists()


def test_windows_of_before_stay_as_they_are():
    told = []
    visualizer = Visualizer("mine", port=1, warn=told.append)
    with visdom_sender.nothing_sent(told.append) as sent:
        visualizer.plot("loss", 1.0)
        visualizer.img("picture", np.zeros((7, 9, 3)))
        visualizer.histogram(np.ones(3), win="bars")
        visualizer.bogus(1)
    assert {"loss", "histogram"} <= sent and "picture" not in sent
    assert len(told) == 2 and "picture is not shown" in told[0] and "bogus is not shown" in told[1]
    assert (
        not visualizer._sender._inbox and not visualizer._sender._windows._panes and visualizer._sender._thread is None
    )
