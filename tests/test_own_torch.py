"""Mistakes in a network or a task of one's own that torch tells in its own words, or far from their place."""

import pytest
from conftest import PLAIN

from configs import COMPONENTS

RUN = ["--run=a", "--max-epoch=1", *PLAIN]
MODEL = (
    "import torch\nfrom torch import nn\n\n__all__ = ['Mine']\n\n\nclass Mine(nn.Module):\n"
    "    def __init__(self, num_classes):\n        super().__init__()\n        self.fc = nn.Linear(64, num_classes)\n"
)
FORWARD = "    def forward(self, x):\n        "
TASK = (
    "from torch import nn\n\nfrom trainer.tasks.classification import Classification\n\n__all__ = ['Mine']\n\n\n"
    "class Mine(Classification):\n    def train_step(self, batch, update):\n"
    "        loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])\n"
)
TWICE = "or train_step (tasks/mine.py:12) calls loss.backward() itself, or update(loss) twice\n"
MODELS = {  # what follows the constructor, and the beginning of the sentence
    "in place": (
        f"{FORWARD}h = torch.sigmoid(self.fc(x.flatten(1)))\n        h += 1\n        return h\n",
        "models/mine.py:11: a value that backward needs is changed in place, by +=, .mul_(…), x[…] = … or inplace=True",
    ),
    "a hidden method": (
        f"        self.train = True\n{FORWARD}return self.fc(x.flatten(1))\n",
        "models/mine.py:11: self.train of Mine hides the method train of nn.Module; give it another name\n",
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_mistake_in_a_network_is_told_with_its_place(run, tmp_path, kind):
    rest, told = MODELS[kind]
    (tmp_path / "models").mkdir()
    (tmp_path / "models/mine.py").write_text(MODEL + rest)
    given = run("train", "--model=Mine", *RUN)
    assert given.code == 10 and given.err.startswith(told), given
    assert len(given.err.splitlines()) == 1


@pytest.mark.parametrize("before", ["loss.backward()", "update(loss)"])
def test_a_step_that_goes_back_twice_is_told_with_its_line(run, tmp_path, monkeypatch, before):
    monkeypatch.setattr(COMPONENTS["task"], "here", True)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/mine.py").write_text(
        f"{TASK}        {before}\n        update(loss)\n        return {{'loss': loss}}\n"
    )
    given = run("train", "--model=MLP", "--task=Mine", *RUN)
    assert given.code == 10 and given.err.endswith(TWICE), given


@pytest.mark.parametrize("taken", ["self, x, y", ""])
def test_a_forward_of_other_arguments_is_told_with_its_line(run, tmp_path, taken):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/mine.py").write_text(
        MODEL + f"    def forward({taken}):\n        return self.fc(x.flatten(1))\n"
    )
    given = run("train", "--model=Mine", *RUN)
    assert given.code == 10 and given.err.startswith("models/mine.py:11: Mine.forward() "), given
    assert (
        "; its def does not fit its call (trainer/tasks/classification.py:" in given.err
        and len(given.err.splitlines()) == 1
    )


@pytest.mark.parametrize("method", ["train_step(self, batch)", "val_step(self, batch)", "meters()"])
def test_a_method_of_a_task_of_other_arguments_is_told_with_its_line(run, tmp_path, monkeypatch, method):
    monkeypatch.setattr(COMPONENTS["task"], "here", True)
    (tmp_path / "tasks").mkdir()
    text = TASK.partition("    def")[0] + f"    def {method}:\n        return {{}}\n"
    (tmp_path / "tasks/mine.py").write_text(text)
    given = run("train", "--model=MLP", "--task=Mine", *RUN)
    told = f"tasks/mine.py:9: Mine.{method.partition('(')[0]}() takes "
    assert given.code == 10 and given.err.startswith(told), given
    assert given.err.endswith("; its def does not fit its call\n"), given


def test_a_run_whose_metric_is_never_finite_says_why_it_has_no_best(run, tmp_path, monkeypatch):
    monkeypatch.setattr(COMPONENTS["task"], "here", True)
    (tmp_path / "tasks").mkdir()
    body = (
        "    metrics = {'loss': 'min'}\n    def val_step(self, batch, meters):\n"
        "        meters['loss'].add(float('nan'), len(batch[0]))\n"
    )
    (tmp_path / "tasks/mine.py").write_text(TASK.partition("    def")[0] + body)
    given = run("train", "--model=MLP", "--task=Mine", *RUN)
    assert given.code == 0 and "\nno best.pth: loss was no finite number in any validation\n" in given.out, given


def test_a_task_that_measures_nothing_is_told_so(run, tmp_path, monkeypatch):
    monkeypatch.setattr(COMPONENTS["task"], "here", True)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/mine.py").write_text(TASK.partition("    def")[0] + "    def meters(self):\n        return {}\n")
    given = run("train", "--model=MLP", "--task=Mine", *RUN)
    told = (
        "validation gives no 'accuracy' here (it gives nothing: the task's meters() returns none); see train.monitor\n"
    )
    assert given[::2] == (3, told)


def test_a_batch_of_one_for_batchnorm_is_told_without_a_word_of_processes(run):
    given = run("train", "--batch-size=1", *RUN)
    told = "data.batch_size: 1 is too few, for BatchNorm learns from 2 samples or more; take a larger one\n"
    assert given[::2] == (2, told)


def test_a_tensor_that_asks_for_gradients_and_is_no_parameter_is_told(run, tmp_path):
    (tmp_path / "models").mkdir()
    tensor = "        self.w = torch.ones(64, requires_grad=True)\n"
    (tmp_path / "models/mine.py").write_text(f"{MODEL}{tensor}{FORWARD}return self.fc(x.flatten(1) * self.w)\n")
    given = run("train", "--model=Mine", *RUN)
    told = (
        "note: models/mine.py:11: model.w is a plain tensor: its contents (64 parameters) neither learn nor are saved"
    )
    assert given.code == 0 and f"\n{told}; make it an nn.Parameter\n" in given.out, given
