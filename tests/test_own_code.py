"""A mistake in the user's own file: exit 10, that file and line first, no frame of ours."""

import subprocess
import sys

import pytest
from conftest import PLAIN, ROOT

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
        "models/mine.py:11: in __init__: AttributeError: cannot assign module before Module.__init__() call\n",
    ),
    "package": (
        model("        import einops_of_mine\n"),
        "models/mine.py:11: in __init__: ModuleNotFoundError: No module named 'einops_of_mine'\n",
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
        "class Hidden:\n"
        "    def find_spec(self, name, *more):\n"
        f"        if name.partition('.')[0] == {name!r}:\n"
        f"            raise ModuleNotFoundError('No module named ' + name, name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
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
    assert given.returncode == 2 or name == "tqdm", "without a terminal there is no bar"
