"""A mistake in the user's own file: exit 10, that file and line first, no frame of ours."""

import subprocess
import sys

import pytest
from conftest import PLAIN, ROOT

from configs import COMPONENTS

HEAD = '"""Mine."""\n\nimport torch\nfrom torch import nn\n\n__all__ = ["Mine"]\n\n\n'
RUN = ["--run=a", "--max-epoch=1", *PLAIN]


def model(body: str) -> str:
    return HEAD + f"class Mine(nn.Module):\n    def __init__(self, num_classes: int, width=8):\n{body}"


def dataset(body: str) -> str:
    return HEAD + (
        "class Mine:\n    def __init__(self, split):\n"
        '        self.meta = {"classes": [str(i) for i in range(10)], "num_classes": 10, "image_size": [8, 8]}\n'
        "    def __len__(self):\n        return 64\n"
        f"    def __getitem__(self, i):\n{body}"
    )


GOOD = "        super().__init__()\n        self.fc = nn.Linear(64, num_classes)\n"
MODELS = {
    "raises": (
        model(GOOD + "    def forward(self, x):\n        raise KeyError('attention')\n"),
        "models/mine.py:14: in forward: KeyError: 'attention'\n    raise KeyError('attention')\n",
    ),
    "no super": (
        model("        self.fc = nn.Linear(64, num_classes)\n"),
        "models/mine.py:11: in __init__: AttributeError: cannot assign module before Module.__init__() call; "
        "call super().__init__() first\n",
    ),
    "no super, and nothing that torch would miss": (
        model("        self.width = width\n    def forward(self, x):\n        return x.flatten(1)[:, :10]\n"),
        "models/mine.py:10: __init__ of Mine never calls super().__init__(); make it its first line\n",
    ),
    "another device": (
        model(
            GOOD + "    def forward(self, x):\n        return self.fc(x.flatten(1) * torch.ones(1, device='meta'))\n"
        ),
        "models/mine.py:14: in forward: RuntimeError: Tensor on device meta is not on the expected device cpu!; "
        "a tensor that forward makes lies on the CPU: make it with device=x.device, or in __init__ with "
        "register_buffer\n",
    ),
    "in a layer": (
        model(
            "        super().__init__()\n"
            "        self.parts = nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes), nn.PixelUnshuffle(2))\n"
            "    def forward(self, x):\n        return self.parts(x)\n"
        ),
        "models/mine.py:14: in forward: RuntimeError: pixel_unshuffle expects input to have at least 3 dimensions, but "
        "got input with 2 dimension(s) (the layer parts.2, PixelUnshuffle(downscale_factor=2), is given [32, 10])\n",
    ),
    "package": (
        model("        import einops_of_mine\n"),
        "models/mine.py:11: in __init__: ModuleNotFoundError: No module named 'einops_of_mine'\n",
    ),
    "exits": (
        model(GOOD + "    def forward(self, x):\n        raise SystemExit(0)\n"),
        "models/mine.py:14: in forward: SystemExit: 0 (this would end the program as if all were done; raise an error",
    ),
    "detached": (
        model(GOOD + "    def forward(self, x):\n        return self.fc(x.flatten(1)).detach()\n"),
        "models/mine.py:13: forward of Mine gives an output that depends on no weights: is it detached",
    ),
    "half a batch": (
        model(GOOD + "    def forward(self, x):\n        return self.fc(x.flatten(1))[::2]\n"),
        "models/mine.py:13: forward of Mine gives 16 outputs for 32 inputs",
    ),
    "at import": (
        model(GOOD) + "\nwidth = undefined\n",
        "models/mine.py:14: in <module>: NameError: name 'undefined' is not defined\n",
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_that_raises_is_shown_with_file_and_line(run, tmp_path, kind):
    text, expected = MODELS[kind]
    (tmp_path / "models").mkdir()
    (tmp_path / "models/mine.py").write_text(text)
    given = run("train", "--model=Mine", *RUN)
    assert given.code == 10 and given.err.startswith(expected), given
    assert "Traceback" not in given.err and len(given.err.splitlines()) <= 2
    assert "Traceback" in run("train", "--model=Mine", "--debug", "--run=b", *RUN[1:]).err


def test_shapes_that_do_not_meet_name_layer_sizes_and_line(run, tmp_path):
    (tmp_path / "models").mkdir()
    body = (
        "        super().__init__()\n"
        "        layers = nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(33, num_classes)\n"
        "        self.features = nn.Sequential(*layers)\n"
        "    def forward(self, x):\n        return self.features(x)\n"
    )
    (tmp_path / "models/mine.py").write_text(model(body))
    given = run("train", "--model=Mine", *RUN)
    told = "the layer features.3, Linear(in_features=33, out_features=10, bias=True), is given [32, 32] "
    assert given.code == 2 and told in given.err and given.err.endswith("; models/mine.py:15)\n"), given
    assert len(given.err.splitlines()) == 1
    given = run("train", "--model=LeNet", "--model.in_channels=3", *RUN)
    assert given.code == 2 and "the layer features.0, Conv2d(3, 6, kernel_size=(5, 5)" in given.err
    assert ", is given [32, 1, 8, 8] (" in given.err and "models/lenet.py:" in given.err


def test_a_target_that_is_not_long_is_told_with_the_line_of_the_step(run, tmp_path, monkeypatch):
    (tmp_path / "tasks").mkdir(parents=True)
    monkeypatch.setattr(COMPONENTS["task"], "here", True)
    text = task("update(loss); return {'loss': loss}").replace("self.model(x), y)", "self.model(x), y.to(torch.int32))")
    (tmp_path / "tasks/mine.py").write_text(text)
    given = run("train", "--model=MLP", "--task=Mine", *RUN)
    assert given.code == 3 and "labels must be whole numbers, int64, from 0" in given.err, given
    assert "tasks/mine.py:13" in given.err and len(given.err.splitlines()) == 1


def test_a_constructor_that_refuses_an_argument_is_named(run, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/mine.py").write_text(model(GOOD.replace("64, num_classes", "64, width")))
    given = run("train", "--model=Mine", "--model.width=abc", *RUN)
    assert given.code == 2 and given.err.startswith("model: Mine: ") and "Traceback" not in given.err
    (tmp_path / "models/mine.py").write_text(model("        raise ValueError('width is too small')\n"))
    assert run("train", "--model=Mine", *RUN)[::2] == (2, "model: Mine: width is too small\n")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataset_that_raises_is_shown_with_file_and_line(run, tmp_path, workers):
    (tmp_path / "data").mkdir()
    body = '        return torch.zeros(1, 8, 8), {"a": 1}["b" if i == 40 else "a"]\n'
    (tmp_path / "data/mine.py").write_text(dataset(body))
    given = run("train", "--model=MLP", "--data.dataset=Mine", f"--num-workers={workers}", *RUN)
    assert given.code == 10 and given.err.startswith("data/mine.py:15: in __getitem__: KeyError: 'b'"), given
    assert "(sample 40)" in given.err


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataset_that_calls_no_transform_is_told_the_reason(run, tmp_path, workers):
    (tmp_path / "data").mkdir()
    body = "        return self.transform(torch.zeros(1, 8, 8)), 1\n"
    taken = "def __init__(self, split, transform=None):\n        self.transform = transform\n"
    (tmp_path / "data/mine.py").write_text(dataset(body).replace("def __init__(self, split):\n", taken))
    flags = ["--model=MLP", "--data.dataset=Mine", f"--num-workers={workers}", *RUN]
    given = run("train", *flags)
    assert given.code == 10 and given.err.startswith("data/mine.py:16: in __getitem__: TypeError: 'NoneType' object"), (
        given
    )
    assert "transform is None because the config lists none under data.transform" in given.err


def test_a_dataset_without_meta_may_give_it(run, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "models").mkdir()
    text = dataset("        return torch.zeros(1, 8, 8), 1\n")
    meta = next(line for line in text.splitlines(keepends=True) if "self.meta" in line)
    (tmp_path / "data/mine.py").write_text(text.replace(meta, "        pass\n"))
    (tmp_path / "models/mine.py").write_text(model(GOOD))
    given = run("train", "--model=Mine", "--data.dataset=Mine", *RUN)
    assert given.code == 2 and given.err == (
        "model: Mine: missing a required argument: 'num_classes'; set it with --model.num_classes=… "
        "or give it in the meta of Mine\n"
    )


RETURNS = {
    "None": ("None if i == 50 else (torch.zeros(1, 8, 8), 1)", "None instead of (input, label) for the sample 50"),
    "a picture": ("__import__('PIL.Image').Image.new('L', (8, 8)), 1", "a PIL image instead of a tensor"),
    "three": ("(torch.zeros(1, 8, 8), 1, 2)[: 3 if i == 50 else 2]", "3 parts instead of 2"),
    "text": ("torch.zeros(1, 8, 8), 'a' if i == 50 else 1", "a str where others have a int for the sample 50"),
}


@pytest.mark.parametrize("kind", RETURNS)
def test_a_sample_that_fits_into_no_batch_is_named(run, tmp_path, kind):
    returned, expected = RETURNS[kind]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine.py").write_text(dataset(f"        return {returned}\n"))
    given = run("train", "--model=MLP", "--data.dataset=Mine", "--data.shuffle=false", "--batch-size=64", *RUN)
    assert given.code == 10 and given.err.startswith("data/mine.py:14: Mine.__getitem__ gives "), given
    assert expected in given.err


@pytest.mark.parametrize("name", ["fire", "torch", "tqdm", "sklearn"])
def test_a_package_that_is_not_installed_is_one_sentence(tmp_path, name):
    code = (
        "import sys, main\n"
        "from tests.bare import Hidden\n"
        f"sys.meta_path[:] = [Hidden(({name!r},), finder) for finder in sys.meta_path]\n"
        "sys.exit(main.main(sys.argv[1:]))\n"
    )
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}",
        "train",
        "--run=a",
        *PLAIN,
    ]
    command += ["--model=MLP", "--train.max_steps=2"]
    given = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert given.returncode in (0, 2), given.stderr
    if given.returncode:
        assert given.stderr == (
            f"{name} is not installed in {sys.executable}; activate the environment: source .venv/bin/activate "
            "(or: pip install -r requirements.txt)\n"
        )
    assert (given.returncode == 0) == (name in ("fire", "tqdm")), "there is another way to read flags, and no bar"


# Labels, steps and updates

ZEROS = "torch.zeros(1, 8, 8)"
LABELS = {  # what a sample is, and what is said about it
    "too large": (f"({ZEROS}, 10 if i == 50 else i % 10)", "the label 10 for the sample 50; there are 10 classes"),
    "negative": (f"({ZEROS}, -1 if i == 50 else i % 10)", "the label -1 for the sample 50; there are 10 classes"),
    "ignored by torch": (f"({ZEROS}, -100 if i == 50 else i % 10)", "the label -100 for the sample 50"),
    "one-hot": (f"({ZEROS}, nn.functional.one_hot(torch.tensor(i % 10), 10))", "10 numbers each, one for each class"),
    "a vector": (f"({ZEROS}, torch.tensor([i % 10]))", "labels of shape [1], where one number is due"),
    "text": (f"({ZEROS}, 'cat')", "labels that are no numbers, such as 'cat'"),
    "float": (f"({ZEROS}, torch.tensor(1.0))", "labels of type float32"),
    "bytes": (f"({ZEROS}, torch.tensor(1, dtype=torch.uint8))", "labels of type uint8"),
    "three parts": (f"({ZEROS}, 1, 2)", "3 parts for a sample, where (input, label) is due"),
    "a dict": (f"{{'x': {ZEROS}, 'y': 1}}", "a dict for a sample, where (input, label) is due"),
    "double inputs": (f"({ZEROS}.double(), i % 10)", "data: inputs must be float32"),
    "byte inputs": (f"({ZEROS}.byte(), i % 10)", "data: inputs must be float32"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_a_sample_of_the_wrong_kind_is_told_before_the_first_step(run, tmp_path, kind):
    returned, expected = LABELS[kind]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine.py").write_text(dataset(f"        return {returned}\n"))
    given = run("train", "--model=MLP", "--data.dataset=Mine", "--batch-size=64", *RUN)
    assert given.code == 3 and given.err.startswith("data/mine.py:14: ") and expected in given.err, given
    assert len(given.err.splitlines()) == 1


def test_a_wrong_label_in_the_validation_set_is_named_too(run, tmp_path):
    (tmp_path / "data").mkdir()
    text = dataset(f"        return ({ZEROS}, 10 if i == 50 and self.split == 'val' else i % 10)\n")
    (tmp_path / "data/mine.py").write_text(text.replace("split):\n", "split):\n        self.split = split\n"))
    given = run("train", "--model=MLP", "--data.dataset=Mine", *RUN)
    assert given.code == 3 and "the label 10 for the sample 50" in given.err, given


def task(step: str) -> str:
    return (
        '"""Mine."""\n\nimport torch\n\nfrom trainer.tasks.classification import Classification\n\n'
        '__all__ = ["Mine"]\n\n\nclass Mine(Classification):\n    def train_step(self, batch, update):\n'
        "        x, y = batch\n        loss = torch.nn.functional.cross_entropy(self.model(x), y)\n"
        f"        {step}\n"
    )


PLACE = "tasks/mine.py:11: "
STEPS = {
    "nothing": ("update(loss)", f"{PLACE}train_step gives nothing; it must return a dict of tensors"),
    "a number": ("update(loss); return loss", f"{PLACE}train_step gives a Tensor; it must return a dict"),
    "floats": ("update(loss); return {'loss': loss.item()}", f"{PLACE}train_step gives a float as 'loss'"),
    "vectors": ("update(loss); return {'loss': loss.expand(3)}", f"{PLACE}train_step gives [3] numbers as 'loss'"),
    "item": ("update(loss.item())", "TypeError: update(loss) was given a float; give the tensor, without .item()"),
    "not a scalar": ("update(loss.expand(3))", "TypeError: update(loss) was given [3] numbers; give one, such as"),
    "detached": ("update(loss.detach())", "TypeError: update(loss) was given a loss that depends on no weights"),
    "another role": ("update(loss, 'net')", "no network of that role has an optimizer; there is update(loss, 'model')"),
    "no update": ("return {'loss': loss}", f"{PLACE}in 15 steps train_step never called update(loss), so that"),
}


@pytest.mark.parametrize("kind", STEPS)
def test_a_wrong_step_of_a_task_is_told_in_the_first_steps(run, tmp_path, monkeypatch, kind):
    step, expected = STEPS[kind]
    (tmp_path / "tasks").mkdir(parents=True)
    monkeypatch.setattr(COMPONENTS["task"], "here", True)
    (tmp_path / "tasks/mine.py").write_text(task(step))
    given = run("train", "--model=MLP", "--task=Mine", "--print-freq=5", *RUN)
    assert given.code == 10 and expected in given.err and given.err.startswith("tasks/mine.py:1"), given
    assert len(given.err.splitlines()) <= 2


def test_a_metric_without_a_meter_is_told_before_the_first_step(run, tmp_path, monkeypatch):
    (tmp_path / "tasks").mkdir(parents=True)
    monkeypatch.setattr(COMPONENTS["task"], "here", True)
    text = task("update(loss); return {'loss': loss}") + '\n    metrics = {"precision": "max"}\n'
    (tmp_path / "tasks/mine.py").write_text(text)
    given = run("train", "--model=MLP", "--task=Mine", *RUN)
    assert given.code == 3 and "validation gives no 'precision' here (it gives accuracy, loss" in given.err, given
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("direction", ["minimum", "lower", "Min", ""])
def test_a_direction_that_is_neither_min_nor_max_is_refused(run, tmp_path, monkeypatch, direction):
    (tmp_path / "tasks").mkdir(parents=True)
    monkeypatch.setattr(COMPONENTS["task"], "here", True)
    text = task("update(loss); return {'loss': loss}") + f'\n    metrics = {{"loss": "{direction}"}}\n'
    (tmp_path / "tasks/mine.py").write_text(text)
    for command in ("check", "train"):
        given = run(command, "--model=MLP", "--task=Mine")
        assert given.code == 2 and "min" in given.err and "max" in given.err, (command, given)


@pytest.mark.parametrize(
    ("returned", "code", "told"),
    [
        ("None", 10, "models/mine.py:13: forward of Mine gives None; does it lack a return?"),
        (
            "(self.fc(x.flatten(1)),)",
            2,
            "models/mine.py:13: model: Mine gives a tuple, but the task takes a tensor of 2",
        ),
    ],
)
def test_a_forward_that_gives_no_tensor_is_named(run, tmp_path, returned, code, told):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/mine.py").write_text(model(GOOD + f"    def forward(self, x):\n        return {returned}\n"))
    given = run("train", "--model=Mine", *RUN)
    assert given.code == code and given.err.startswith(told), given


def test_the_sample_whose_input_is_not_finite_is_named(run, tmp_path):
    (tmp_path / "data").mkdir()
    body = f"        return {ZEROS} + (float('nan') if i == 50 else 0.0), i % 10\n"
    (tmp_path / "data/mine.py").write_text(dataset(body))
    given = run("train", "--model=MLP", "--data.dataset=Mine", "--batch-size=64", *RUN)
    assert given.code == 6 and "the loss is nan: the sample 50 of Mine holds NaN or infinite numbers" in given.err
    assert "--lr" not in given.err


NO_LENGTH = (
    HEAD
    + "class Mine:\n    def __init__(self, split):\n        pass\n    def __getitem__(self, i):\n        return i\n"
)
UNFINISHED = {
    "no length": ("data", NO_LENGTH, "data/mine.py:10: Mine has no __len__, which returns the number of samples\n"),
    "half a sample": (
        "data",
        NO_LENGTH + "    def __len__(self):\n        return 2.5\n",
        "data/mine.py:14: __len__ of Mine gives no number of samples ('float' object cannot be interpreted as an "
        "integer)\n",
    ),
    "no samples": (
        "data",
        HEAD + "class Mine(torch.utils.data.Dataset):\n    def __init__(self, split):\n        pass\n"
        "    def __len__(self):\n        return 3\n",
        "data/mine.py:10: Mine has no __getitem__(self, index), which returns a sample\n",
    ),
    "lazy": (
        "models",
        model(
            GOOD.replace("nn.Linear(64, ", "nn.LazyLinear(") + "    def forward(self, x):\n        return self.fc(x)\n"
        ),
        "models/mine.py:12: fc is a LazyLinear, whose sizes are not known before the first batch; take the layer of ",
    ),
    "misspelled": (
        "models",
        model(GOOD + "    def foward(self, x):\n        return self.fc(x.flatten(1))\n"),
        "models/mine.py:10: Mine has no forward; it has foward: is that meant?\n",
    ),
    "kept": (
        "models",
        model(
            GOOD + "        self.seen = 0\n    def forward(self, x):\n        y = self.fc(x.flatten(1))\n"
            "        self.seen = self.seen + y.mean()\n        return y + self.seen\n"
        ),
        "models/mine.py:14: a value of an earlier step is kept with its graph, by the network or by the task: ",
    ),
}


@pytest.mark.parametrize("kind", UNFINISHED)
def test_what_is_not_finished_is_told_with_its_line(run, tmp_path, kind):
    room, text, told = UNFINISHED[kind]
    (tmp_path / room).mkdir()
    (tmp_path / room / "mine.py").write_text(text)
    given = run("train", *RUN, "--train.rehearse=false", "--data.dataset=Mine" if room == "data" else "--model=Mine")
    assert given.code == 10 and given.err.startswith(told), given
