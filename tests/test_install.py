"""Installed with pip: the command, from any folder, and a checkout in which nothing is written."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MINE = '''"""A model of this folder."""

from models.mlp import MLP

__all__ = ["Mine"]


class Mine(MLP):
    """A network of my own."""
'''


def test_it_depends_on_what_requirements_txt_lists():
    lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    listed = {line.replace("./installer/visdom", "visdom") for line in lines if line and not line.startswith("-")}
    assert set(PROJECT["project"]["dependencies"]) == listed and "visdom" in listed


def test_every_package_of_the_program_is_named():
    shipped = set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])
    assert shipped == {"main.py"} | {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}


def files(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the project, with what people have lying about in it."""
    skip = shutil.ignore_patterns(".venv", ".git", "checkpoints", "tests", "__pycache__", ".*_cache")
    folder = shutil.copytree(ROOT, tmp_path_factory.mktemp("checkout") / "house", ignore=skip)
    for name in ("data/raw.jpg", "data/photos/cat.1.jpg", "checkpoints/a/last.pth", "models/weights.pth"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("hatchling"), reason="needs hatchling, of requirements-dev.txt")
@pytest.mark.parametrize("editable", [False, True])
def test_pip_installs_the_command_and_writes_nothing_into_the_checkout(checkout, tmp_path, editable):
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    bin_folder, (packages,) = venv / "bin", venv.glob("lib/*/site-packages")
    others = [path for path in sys.path if path.endswith("site-packages")]  # torch and the backend, as they are here
    (packages / "others.pth").write_text("\n".join(others))
    before = files(checkout)
    install = [sys.executable, "-m", "pip", f"--python={bin_folder / 'python'}", "install", "--no-deps", "--no-index"]
    install += ["--no-build-isolation", "--disable-pip-version-check", *(["-e"] if editable else []), str(checkout)]
    done = subprocess.run(install, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert files(checkout) == before

    def command(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        given = subprocess.run(arguments, capture_output=True, text=True, cwd=elsewhere, env=environment)
        assert (given.returncode, given.stderr) == (0, ""), given.stderr
        return given.stdout

    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "models").mkdir(parents=True)
    (elsewhere / "configs").mkdir()
    (elsewhere / "models" / "mine.py").write_text(MINE)
    (elsewhere / "configs" / "mine.yaml").write_text("# Mine.\nbase: digit_recognizer\nmodel: Mine\n")
    installed = str(bin_folder / next(iter(PROJECT["project"]["scripts"])))
    overview = command(installed, "help")
    assert all(f"  python main.py {name}" in overview for name in ("train", "check", "plot")) and "dogcat" in overview
    assert "A network of my own. (models/mine.py in this folder)" in re.sub(
        r"\s+", " ", command(installed, "help", "models")
    )
    assert command(installed, "check", "mine", "--hidden=[3]") == "mine: no mistakes found\n"
    where = command(str(bin_folder / "python"), "-c", "import main, models; print(main.__file__); models.Mine").strip()
    home = Path(where).parent
    assert home == (checkout if editable else packages)
    if not editable:
        for folder in ("commands", "configs", "data", "models", "trainer", "utils"):
            ours = [path for path in (checkout / folder).rglob("*") if path.suffix in (".py", ".yaml", ".po", ".mo")]
            assert {str(p.relative_to(checkout)) for p in ours} == {
                str(p.relative_to(home)) for p in (home / folder).rglob("*") if p.is_file() and p.suffix != ".pyc"
            }
