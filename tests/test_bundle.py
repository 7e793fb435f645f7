"""bundle: everything for a kernel without internet in one zip, tried in one."""

import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest
from bare import bare_environment
from conftest import PLAIN, ROOT

MINE = '''"""A network of mine."""

import einops_of_mine_as_a_name_only as _unused  # noqa
'''
SHORT = ["--train.max_steps=4", "--print-freq=1", *PLAIN]


@pytest.fixture
def tables(run, tmp_path):
    """A run on a table with a network of one's own."""
    (tmp_path / "t").mkdir()
    (tmp_path / "models").mkdir()
    Path("models/own.py").write_text(
        '"""Mine."""\n\nfrom models.mlp import MLP\n\n__all__ = ["Own"]\n\n\nclass Own(MLP):\n    """Mine."""\n'
    )
    lines = "".join(f"{i % 7},{i % 3},{i % 2}\n" for i in range(60))
    Path("t/train.csv").write_text("a,b,y\n" + lines)
    Path("t/test.csv").write_text("a,b\n1,2\n3,0\n")
    Path("toy.yaml").write_text("data: {dataset: {name: Tabular, root: t, target: y}}\nmodel: Own\n")
    assert run("train", "toy.yaml", "--run=a", *SHORT).code == 0
    return run


def test_it_holds_code_run_and_a_notebook_of_three_cells(tables, tmp_path):
    given = tables("bundle", "checkpoints/a", "--out=b.zip", f"--data.dataset.root={tmp_path}/t")
    assert given.code == 0 and "wheels: none" in given.out and "1 of your own, checkpoints/a/best.pth" in given.out, (
        given
    )
    with zipfile.ZipFile("b.zip") as archive:
        names = archive.namelist()
        notebook = json.loads(archive.read("notebook.ipynb"))
    assert {"deeptrain/main.py", "deeptrain/configs/default.yaml", "deeptrain/data/loading/loader.py"} < set(names)
    assert {"models/own.py", "checkpoints/a/best.pth", "checkpoints/a/config.yaml"} < set(names)
    program = {name.removeprefix("deeptrain/") for name in names if name.startswith("deeptrain/")}
    assert not [name for name in program if not (ROOT / name).is_file() or "test" in name.split("/")[0]]
    assert not [name for name in names if name.endswith((".csv", ".pyc")) or name[:2] == "t/"]
    cells = ["".join(cell["source"]) for cell in notebook["cells"]]
    assert len(cells) == 3 and all(cell["cell_type"] == "code" for cell in notebook["cells"])
    assert '"test",\n    "checkpoints/a/best.pth",\n' in cells[1] and f'"--data.dataset.root={tmp_path}/t",' in cells[1]
    for number, cell in enumerate(cells):
        compile(cell, f"cell {number}", "exec")


def test_without_a_run_it_trains(run, tmp_path):
    assert run("bundle", "--out=b.zip", "--config=dogcat", "--lr=1").code == 0
    with zipfile.ZipFile("b.zip") as archive:
        cell = "".join(json.loads(archive.read("notebook.ipynb"))["cells"][1]["source"])
    assert '    "train",\n    "dogcat",\n    "--lr=1",\n' in cell


def test_own_imports_are_told(tables, tmp_path):
    Path("models/more.py").write_text(MINE)
    given = tables("bundle", "checkpoints/a", "--out=b.zip")
    assert "note: models/more.py imports einops_of_mine_as_a_name_only; if Kaggle lacks it: --wheels=" in given.out


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([], 2, "bundle: which file?"),
        (["--out=x.tar"], 2, "a bundle is a zip"),
        (["checkpoints/none", "--out=x.zip"], 4, "there is no such run folder"),
        (["--out=x.zip", "--config=dogcat", "--lrr=1"], 2, "--lrr"),
    ],
)
def test_mistakes_are_one_sentence(run, words, code, told):
    given = run("bundle", *words)
    assert given.code == code and told in given.err and not Path("x.zip").exists(), given


@pytest.mark.slow
@pytest.mark.parametrize("unpacked", [False, True], ids=["zip", "unpacked"])
def test_the_cells_run_without_internet_in_kaggles_packages(tables, tmp_path, unpacked):
    assert tables("test", "checkpoints/a").code == 0
    assert tables("bundle", "checkpoints/a", "--out=b.zip", f"--data.dataset.root={tmp_path}/t").code == 0
    kernel, python = tmp_path / "kernel", bare_environment(tmp_path / "venv")
    (site,) = (tmp_path / "venv").glob("lib/*/site-packages")
    (site / "sitecustomize.py").write_text(
        "import socket\n\n\ndef refuse(*words):\n    raise OSError('there is no network')\n\n\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
    )
    kernel.mkdir()
    archive = zipfile.ZipFile("b.zip")
    if unpacked:
        archive.extractall(kernel / "input")
    else:
        (kernel / "b.zip").write_bytes(Path("b.zip").read_bytes())
    code = ["".join(cell["source"]) for cell in json.loads(archive.read("notebook.ipynb"))["cells"]]
    (kernel / "cells.py").write_text("\n".join(code))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    given = subprocess.run(
        [python, "cells.py"], cwd=kernel, env=environment, capture_output=True, text=True, timeout=120
    )
    assert given.returncode == 0 and "submission.csv: 2 rows" in given.stdout, given
    assert (kernel / "submission.csv").read_bytes() == Path("checkpoints/a/submission.csv").read_bytes()
