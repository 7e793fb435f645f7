"""A model, task, watcher, optimizer or schedule of one's own that is not of the class which its kind asks for."""

import pytest
from conftest import PLAIN, ROOT

from configs import COMPONENTS
from utils.blame import OPEN_ROOMS

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


STEP = (
    "class Mine(Classification):\n    def train_step(self, batch, update):\n"
    "        loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])\n        update(loss)\n        return "
)
ROW = "the name 'step', by which each row of the journal has its own; it must return a dict of"
NAMES = {  # text of a task's class, exit code, beginning of the sentence
    "a key of the row": (f"{STEP}{{'loss': loss, 'step': loss}}\n", 10, f"tasks/mine.py:10: train_step gives {ROW} t"),
    "no text": (f"{STEP}{{0: loss}}\n", 10, "tasks/mine.py:10: train_step gives a name that is no text, 0; it must"),
    "a metric": (
        "class Mine(Classification):\n    def meters(self):\n        return {**super().meters(), 'step': Mean()}\n",
        10,
        f"tasks/mine.py:10: meters gives {ROW} meters, as {{'loss': Mean()}}",
    ),
    "no meters": (
        "class Mine(Classification):\n    def meters(self):\n        pass\n",
        10,
        "tasks/mine.py:10: meters gives a NoneType; it must return a dict of meters",
    ),
    "a list of metrics": (
        "class Mine(Classification):\n    metrics = ['accuracy']\n",
        2,
        "--task=Mine: task: Mine.metrics is ['accuracy']; write each with its direction, as {'loss': 'min'}",
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


@pytest.mark.parametrize("kind", NAMES)
def test_names_that_no_row_can_have_are_told_before_a_row_is_written(own, tmp_path, kind):
    text, code, told = NAMES[kind]
    head = HEAD + "from trainer.tasks.classification import Classification\nfrom utils.meters import Mean\n"
    given = own("tasks", head.replace("\n\n\n", "\n") + text, "--task=Mine", "--print-freq=1")
    assert given.code == code and given.err.startswith(told), given
    assert len(given.err.splitlines()) == 1
    assert not (tmp_path / "checkpoints/a").exists()


def test_every_room_where_one_adds_a_file_is_the_users():
    places = [registry.folder for registry in COMPONENTS.values() if registry.folder and registry.folder.is_dir()]
    folders = {place.relative_to(ROOT).as_posix() for place in places}
    assert folders <= OPEN_ROOMS, folders - OPEN_ROOMS


TRANSFORMS = {  # body of the transform, exit code, words of the sentence
    "raises": ("return {}['q']", 10, "transforms/mine.py:12: in __call__: KeyError: 'q'"),
    "wrong type": ("return x + 'a'", 10, "transforms/mine.py:12: in __call__: TypeError: "),
    "None": ("pass", 3, "fails there: one of the transforms gives None; does it lack a return?"),
}


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_a_mistake_in_a_transform_is_told_with_its_line(own, kind):
    body, code, told = TRANSFORMS[kind]
    text = f"class Mine:\n    '''Mine.'''\n\n    def __call__(self, x):\n        {body}\n"
    given = own("transforms", HEAD + text.replace("\n\n", "\n"), "--data.transform.train=[Mine]")
    assert given.code == code and told in given.err, given
