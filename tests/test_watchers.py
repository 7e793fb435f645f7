"""The watcher law: whoever looks on, the run ends with the same bits; and one that fails costs a sentence."""

import random
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT, TOY, rows, same_run, state
from test_configs import SHIPPED, commands
from test_docs import narrow, shortened
from tiny_data import make_data
from torch import nn

from configs import COMPONENTS
from trainer.watchers.watcher import Watcher, Watchers

ALL = ["--log.tensorboard", "--log.histograms=1", "--log.graph", "--log.pr_curves", "--log.embedding", "--log.pictures"]
ALL += ["--train.profile=[2,3]"]
NONE = ["--log.tensorboard=false", "--log.pictures=false"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The folder data/ with tiny data for every config."""
    folder = tmp_path_factory.mktemp("watched")
    make_data(folder / "data")
    return folder / "data"


# they classify pictures, as default and dogcat do
ALIKE = {"cifar10", "csv_images", "digit_recognizer", "dogcat_small", "image_folder", "mnist"}


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in SHIPPED if path.stem not in ALIKE], ids=lambda path: path.stem)
def test_with_all_watchers_and_with_none_it_is_the_same_run(path, run, data, tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.watchers.predictions.TIME_SHARE", 1e9)  # predictions after each validation
    (tmp_path / "data").symlink_to(data)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/resnet34.py").write_text(narrow((ROOT / "models/resnet34.py").read_text()))
    words = next(words for words in commands(path) if words[0] == "train")
    flags = [word for word in shortened(["python", "main.py", *words])[3:] if not re.search("max_steps|pictures", word)]
    for name, more in (("none", NONE), ("all", ALL)):
        with monkeypatch.context() as patch:
            for watcher in ("FirstSteps", "Chance") if name == "none" else ():
                patch.setattr(f"trainer.run.sinks.{watcher}", lambda **_: Watcher())
            done = run("train", *flags, f"--run={name}", "--train.max_steps=3", "--print-freq=1", *more)
        assert done.code == 0 and "left out from here on" not in done.out, done.err + done.out
    assert not re.search(r"parameters\) |asks for logits|neither learn|the first loss", done.out), done.out
    assert same_run(state("none"), state("all"))
    assert rows("none", phase="train") == rows("all", phase="train")
    assert rows("none", phase="val") == rows("all", phase="val")


class Meddler(Watcher):
    """Does by mistake whatever a watcher must not do, except to the weights."""

    def meddle(self, run, *_):
        random.random(), np.random.rand(), torch.rand(3)
        run.task.train(not run.task.training)
        run.eval_task.eval()

    begin = after_validation = end = meddle

    after_step = meddle


class Failing(Watcher):
    def begin(self, run):
        self.seen = []
        self.hook = run.task.register_forward_hook(lambda *_: self.seen.append(1))

    def after_step(self, run, batch, scalars):
        raise RuntimeError("no idea\nat all")

    def close(self):
        self.hook.remove()


class Speechless(Watcher):
    def after_validation(self, run, numbers, extras):
        raise RuntimeError("\n\n")


@pytest.fixture
def watched(run, monkeypatch):
    """Train with a watcher of these tests, named in log.watchers."""

    def command(watcher, name: str):
        registry = COMPONENTS["watcher"]
        with monkeypatch.context() as patch:
            patch.setattr(registry, "_unknown", lambda known: "")
            patch.setattr(registry, "get", lambda known, key="": watcher)
            flags = [f"--log.watchers=[{watcher.__name__}]"]
            return run("train", f"--run={name}", *TOY, "--model.dropout=0.5", "--train.max_steps=45", *flags)

    return command


def test_one_that_draws_and_switches_modes_changes_nothing(run, watched):
    assert run("train", "--run=a", *TOY, "--model.dropout=0.5", "--train.max_steps=45").code == 0
    given = watched(Meddler, "b")
    assert given.code == 0 and "left out" not in given.out, given.err + given.out
    assert rows("a") == rows("b") and same_run(state("a"), state("b"))


def test_one_that_fails_costs_a_sentence(run, watched):
    given = watched(Failing, "a")
    assert given.code == 0 and len(rows("a", phase="train")) == 45
    told = [line for line in given.out.splitlines() if "Failing" in line]
    assert told == ["the watcher Failing is left out from here on: after_step: no idea"]
    silent = watched(Speechless, "b")
    assert silent.code == 0 and "left out from here on: after_validation: RuntimeError" in silent.out


def test_the_hooks_of_one_that_fails_do_not_stay():
    task = nn.Linear(2, 2)
    group = Watchers([Failing()], SimpleNamespace(task=task, eval_task=task, say=print))
    group.begin()
    assert task._forward_hooks
    group.after_step(None, {})
    assert not task._forward_hooks and not group.watchers


def test_what_is_no_watcher_is_told(run):
    given = run("check", "--log.watchers=[Pictures, Pictres]")
    assert given.code == 2 and re.search(r"no 'Pictres' in trainer/watchers; did you mean 'Pictures'\?", given.err)


def test_hooks_are_removed_however_the_run_ends():
    task, closed = nn.Linear(2, 2), []

    class Hooked(Watcher):
        def begin(self, run):
            self.hook = run.task.register_forward_hook(lambda *_: None)

        def close(self):
            closed.append(self.hook.remove())

    run = SimpleNamespace(task=task, eval_task=task, say=print)
    group = Watchers([Hooked()], run)
    group.begin()
    assert task._forward_hooks
    group.close()
    assert not task._forward_hooks and len(closed) == 1
