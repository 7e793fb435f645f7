"""A model, task, watcher, optimizer or schedule of one's own that is not of the class which its kind asks for."""

import pytest
from conftest import PLAIN

from configs import COMPONENTS

RUN = ["--run=a", "--max-epoch=1", *PLAIN]
HEAD = (
    "import torch\nfrom torch import nn\nfrom torch.optim import Optimizer\n"
    "from trainer.watchers.watcher import Watcher\n\n__all__ = ['Mine']\n\n\n"
)
RATE = "    def __init__(self, params, lr=0.1):\n        "
KINDS = {  # room, flag, text of the class, the place and the sentence
    "model": ("models", "--model=Mine", "class Mine:\n    pass\n", "9: Mine is no Module: "),
    "task": (
        "tasks",
        "--task=Mine",
        "class Mine(nn.Module):\n    metrics = {}\n    def __init__(self, model: nn.Module):\n"
        "        super().__init__()\n        self.model = model\n",
        "9: Mine is no Task: begin it with class Mine(Task):",
    ),
    "watcher": ("watchers", "--log.watchers=[Mine]", "class Mine:\n    pass\n", "9: Mine is no Watcher: "),
    "optimizer": ("optimizers", "--optim=Mine", f"class Mine:\n{RATE}pass\n", "9: Mine is no Optimizer: "),
    "schedule": (
        "schedules",
        "--schedule=Mine",
        "class Mine:\n    def __init__(self, optimizer):\n        pass\n",
        "9: Mine is no LRScheduler: ",
    ),
    "optimizer without super": (
        "optimizers",
        "--optim=Mine",
        f"class Mine(Optimizer):\n{RATE}self.params = list(params)\n    def step(self, closure=None):\n        pass\n",
        "10: __init__ of Mine never calls super().__init__(params, {'lr': lr})",
    ),
    "optimizer without a rate": (
        "optimizers",
        "--optim=Mine",
        f"class Mine(Optimizer):\n{RATE}super().__init__(params, {{'rate': lr}})\n"
        "    def step(self, closure=None):\n        pass\n",
        "10: __init__ of Mine never calls super().__init__(params, {'lr': lr})",
    ),
    "optimizer without a step": (
        "optimizers",
        "--optim=Mine",
        f"class Mine(Optimizer):\n{RATE}super().__init__(params, {{'lr': lr}})\n",
        "10: Mine has no step(self, closure=None)",
    ),
}


@pytest.fixture
def own(run, tmp_path, monkeypatch):
    """Train with a file of one's own in a room of the current folder."""
    for kind in ("task", "watcher"):
        monkeypatch.setattr(COMPONENTS[kind], "here", True)

    def command(room: str, text: str, *flags: str):
        (tmp_path / room).mkdir(exist_ok=True)
        (tmp_path / room / "mine.py").write_text(text)
        model = [] if room == "models" else ["--model=MLP"]
        return run("train", *RUN, *model, *flags)

    return command


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_of_its_kind_is_told_with_its_line(own, kind):
    room, flag, text, told = KINDS[kind]
    given = own(room, HEAD + text, flag)
    assert given.code == 10 and given.err.startswith(f"{room}/mine.py:{told}"), given
    assert len(given.err.splitlines()) == 1
