"""From Python and notebooks: load, fit, its result, objects in the place of names, and the loop without a folder."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from conftest import rows, same_run, state
from torch import nn
from torch.utils.data import TensorDataset

from configs import ConfigError, load
from trainer import Trainer, fit
from trainer.optim.step import stepper
from trainer.signals import Signals
from trainer.task import Task
from utils.errors import CheckpointError, DataError, UserError
from utils.meters import Mean

QUIET = {"log.visdom": False, "log.pictures": False, "log.print_freq": 1}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def small(**leaves):
    keys = {**QUIET, "optim": {"name": "Adam", "lr": 1e-2}}
    return load("default", keys, model="MLP", **{"max_epoch": 1, **leaves})


def test_fit_makes_the_run_that_the_command_makes(run):
    result = fit(small(), run="nb1")
    flags = ["--optim=Adam", "--lr=1e-2", "--model=MLP", "--max-epoch=1", "--print-freq=1"]
    assert run("train", "--run=typed", *flags, "--log.visdom=false", "--log.pictures=false").code == 0
    assert same_run(state("nb1"), state("typed")) and rows("nb1") == rows("typed")
    assert result.folder == Path("checkpoints/nb1") and not result.stopped
    assert [row["step"] for row in result.history if row["phase"] == "train"] == list(range(1, 41))
    assert result.metrics["accuracy"] == result.best == rows("nb1", phase="val")[-1]["accuracy"]
    for task, file in ((result.task, "last.pth"), (result.best_task(), "best.pth")):
        assert all(torch.equal(p, state("nb1", file)["model"][k]) for k, p in task.model.state_dict().items())


def test_a_run_goes_on_and_a_finished_one_is_told(capsys):
    first = fit(small(max_steps=7), run="a")
    assert first.history[-1]["step"] == 7
    with pytest.raises(ConfigError, match="leave out cfg and run"):
        fit(small(), resume="checkpoints/a")
    again = fit(resume="checkpoints/a")
    assert "is finished at" in capsys.readouterr().out and again.best == first.best
    assert all(map(torch.equal, again.task.state_dict().values(), first.task.state_dict().values()))


def test_an_interrupt_saves_and_returns_and_the_run_goes_on():
    whole = fit(small(max_epoch=3), run="whole")

    def interrupt():
        while not Path("checkpoints/cut/log.jsonl").exists() or len(rows("cut")) < 5:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    cut = fit(small(max_epoch=3), run="cut")
    assert cut.stopped == 130 and 5 <= cut.history[-1]["step"] < whole.history[-1]["step"]
    assert not fit(resume=cut.folder).stopped
    assert same_run(state("cut"), state("whole")) and rows("cut") == rows("whole")


def test_mistakes_are_errors_and_never_an_exit():
    with pytest.raises(ConfigError, match=r"lr.*expected a number(.|\n)*MPL.*did you mean 'MLP'"):
        load("default", {"optim.lr": "fast"}, model="MPL")
    with pytest.raises(ConfigError, match="needs a config"):
        fit()
    with pytest.raises(UserError, match="does not exist"):
        fit(load("mnist", QUIET), run="b")
    assert not Path("checkpoints/b").exists(), "the mended call may take the name"


@pytest.mark.learns
def test_without_a_folder_the_loop_prints_and_returns_the_history(capsys):
    history = Trainer(small()).fit()
    assert [row["step"] for row in history if row["phase"] == "train"] == list(range(1, 41))
    assert history[-1]["phase"] == "val" and history[-1]["accuracy"] > 0.5
    assert "accuracy" in capsys.readouterr().out and not Path("checkpoints").exists()


def test_what_a_trainer_is_not_handed_changes_nothing():
    trainer = Trainer(small())
    trainer.fit()
    fit(small(), run="a")
    weights = state("a")["model"]
    assert all(torch.equal(p, weights[k]) for k, p in trainer.state.task.model.state_dict().items())


def pairs(count=64):
    x = torch.linspace(-1, 1, count).view(-1, 1)
    return TensorDataset(x, 2 * x + 1)


class Line(Task):
    """A task as one writes it in a cell."""

    metrics = {"loss": "min"}

    def __init__(self, model):
        super().__init__()
        self.model = model

    def train_step(self, batch, update):
        loss = nn.functional.mse_loss(self.model(batch[0]), batch[1])
        update(loss)
        return {"loss": loss}

    def meters(self):
        return {"loss": Mean()}

    def val_step(self, batch, meters):
        meters["loss"].add(nn.functional.mse_loss(self.model(batch[0]), batch[1]), len(batch[0]))


def objects():
    torch.manual_seed(0)
    net = nn.Linear(1, 1)
    return {"task": Line(net), "train": pairs(), "val": pairs(10)}


@pytest.mark.learns
def test_objects_take_the_place_of_names_and_are_asked_for_again(run):
    cfg = load(
        "default", {**QUIET, "data.batch_size": 8, "optim": "SGD", "optim.lr": 0.1, "optim.momentum": 0.9}, max_epoch=4
    )
    whole = fit(cfg, run="whole", **objects())
    assert whole.best < 0.01 and whole.task.model.weight.item() == pytest.approx(2, abs=0.1)
    short = load(
        "default",
        {**QUIET, "data.batch_size": 8, "optim": "SGD", "optim.lr": 0.1, "optim.momentum": 0.9},
        max_epoch=4,
        max_steps=13,
    )
    fit(short, run="cut", **objects())
    told = Path("checkpoints/cut/config.yaml").read_text()
    assert "# task: Line (given from Python); fit(…, task=…) takes it again" in told
    for command in (["train", "--resume=checkpoints/cut"], ["val", "checkpoints/cut"], ["test", "checkpoints/cut"]):
        given = run(*command)
        assert given.code == 4 and "train TensorDataset and val TensorDataset and task Line handed in" in given.err
    assert "(given from Python)" in run("train", "checkpoints/cut/config.yaml").err, "no config can name it"
    with pytest.raises(CheckpointError, match=r"fit\(resume=…, val=…\)"):
        fit(resume="checkpoints/cut", **{k: v for k, v in objects().items() if k != "val"})
    again = fit(resume="checkpoints/cut", **objects())
    assert again.history[-1]["step"] == 13, "it ends where its config says"


@pytest.mark.learns
def test_a_network_from_a_cell_learns_in_a_shipped_task():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    result = fit(small(), run="a", model=net)
    assert result.task.model is net and result.best > 0.5
    assert "model: Sequential (given from Python)" in Path("checkpoints/a/config.yaml").read_text()


def test_without_a_validation_set_nothing_is_measured():
    given = {name: given for name, given in objects().items() if name != "val"}
    result = fit(load("default", {**QUIET, "optim.lr": 0.1}, max_epoch=1), run="a", **given)
    assert result.best is None and result.metrics == {} and not Path("checkpoints/a/best.pth").exists()


def test_an_empty_dataset_is_not_taken_for_none():
    with pytest.raises(DataError, match="0 training samples"):
        fit(small(), run="a", model=nn.Linear(1, 1), train=pairs(0), val=pairs(3), task=Line(nn.Linear(1, 1)))
    with pytest.raises(DataError, match="validation split has no samples"):
        fit(small(), run="b", **{**objects(), "val": pairs(0)})


def test_another_object_makes_another_run():
    fit(small(max_steps=3), run="a")
    with pytest.raises(ConfigError, match="was not trained with val: TensorDataset"):
        fit(resume="checkpoints/a", val=pairs())


def test_a_run_is_made_longer_with_its_objects():
    cfg = load(
        "default", {**QUIET, "data.batch_size": 8, "optim": "SGD", "optim.lr": 0.1, "optim.momentum": 0.9}, max_epoch=2
    )
    fit(cfg, run="a", **objects())
    longer = fit(resume="checkpoints/a", changes={"train.max_epoch": 4}, **objects())
    assert longer.history[-1]["epoch"] == 3
    with pytest.raises(ConfigError, match=r"optim.lr': 1}: a resumed run keeps its optim.lr"):
        fit(resume="checkpoints/a", changes={"optim.lr": 1}, **objects())


def test_trained_networks_are_ready_for_use():
    result = fit(small(max_steps=3, **{"model.dropout": 0.5}), run="a")
    assert result.task is result.task and not result.task.training and not result.best_task().training
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    assert fit(resume="checkpoints/a").task.training is False and torch.equal(torch.rand(1), expected)


def test_the_settings_of_a_session_stay():
    before = signal.signal(signal.SIGALRM, mine := lambda *_: None)
    try:
        fit(small(max_steps=3, deterministic=True, num_workers=1, loader="processes"), run="a")
        assert signal.getsignal(signal.SIGALRM) is mine and not torch.are_deterministic_algorithms_enabled()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGALRM, before)


def test_plain_mistakes_are_sentences():
    given = [{"model": nn.Linear}, {"train": iter([1])}, {"val": TensorDataset}, {"task": nn.Linear(1, 1)}]
    plain = [{"cfg": "default"}, {"cfg": {}}, {"cfg": small(), "run": 3}, {"cfg": small(), "output": "jsn"}]
    for wrong in [*plain, *({"cfg": small(), **one} for one in given)]:
        with pytest.raises(ConfigError, match="fit: "):
            fit(**wrong)


def test_the_loop_alone_lets_its_processes_go():
    for _ in range(2):
        Trainer(small(max_steps=3, num_workers=2, loader="processes")).fit()
    assert multiprocessing.active_children() == []


def test_a_second_interrupt_in_a_session_does_not_end_the_process(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    signals = Signals()
    signals._note(signal.SIGINT, None)
    assert signals.stop == signal.SIGINT
    with pytest.raises(KeyboardInterrupt):
        signals._note(signal.SIGINT, None)
    with signals:
        assert not signals.stop, "the next training begins anew"


def test_hooks_of_an_optimizer_are_heard():
    trainer, heard = Trainer(small(max_steps=3)), []
    optimizer = trainer.state.update.steps["model"].optimizer
    optimizer.register_step_post_hook(lambda *_: heard.append("post"))
    optimizer.register_step_pre_hook(lambda *_: heard.append("pre"))
    trainer.fit()
    assert heard == ["pre", "post"] * 3


def test_a_profiler_sees_the_optimizers_label():
    trainer = Trainer(small(max_steps=2))
    with torch.profiler.profile() as profiled:
        trainer.fit()
    assert "Optimizer.step#Adam.step" in {event.key for event in profiled.key_averages()}


def test_a_compiled_network_takes_the_optimizers_own_step():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    taken = []
    optimizer.step = lambda: taken.append("wrapped")
    stepper(optimizer)()
    assert not taken
    stepper(optimizer, compiled=True)()
    assert taken == ["wrapped"]
