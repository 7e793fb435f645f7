"""Models, datasets and configs of the current folder: looked at first, imported alone, read again after an edit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from config_text import at
from conftest import ROOT

import models
from configs import COMPONENTS, Component, ConfigError, load
from configs.layers import config_files
from utils.config.registry import Registry
from utils.config.source import public_names

MODELS = COMPONENTS["model"]
MINE = '''"""Mine."""

from models.mlp import MLP

__all__ = ["Mine"]


class Mine:
    """A network of my own."""

    def __init__(self, num_classes: int, width: int = {width}):
        self.width = width


class Unnamed(MLP):
    pass
'''


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(path: str, text: str) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    return Path(path)


def own_modules() -> list[str]:
    """The modules of files of this test's folder."""
    found = [(name, getattr(module, "__file__", None)) for name, module in sys.modules.items()]
    return sorted(name.rpartition(".")[2] for name, file in found if file and file.startswith(os.getcwd()))


def test_a_model_and_a_dataset_are_found_by_name():
    write("models/mine.py", MINE.format(width=8))
    write("data/points.py", '__all__ = ["Points"]\nclass Points:\n    def __init__(self, split, size: int = 3): ...\n')
    cfg = at("", "--model=Mine", "--width=3", "--data.dataset=Points", "--size=4")
    assert cfg.model == {"model": Component("Mine", {"width": 3})}
    assert cfg.data.dataset == Component("Points", {"size": 4})
    assert own_modules() == [], "nothing is imported"
    assert MODELS.build(cfg.model["model"], "model", num_classes=2).width == 3
    assert models.Mine is MODELS.get("Mine") and "Mine" in dir(models)
    assert own_modules() == ["mine"]
    assert {"Mine", "ResNet34", "MLP"} <= set(MODELS.all_names())


def test_mistakes_name_the_file():
    write("models/mine.py", MINE.format(width=8))
    write("models/broken.py", '__all__ = ["Broken"]\nclass Broken(:\n')
    write("models/forgotten.py", '__all__ = ["Other"]\n')
    told = "a.yaml:1: model: "
    assert at("model: Mien") == [
        f"{told}no 'Mien' in models (models/broken.py was left out: line 2: invalid syntax); did you mean 'Mine'?"
    ]
    told_alone = f"{told}no 'Minor' in models (models/broken.py was left out: line 2: invalid syntax)"
    assert at("model: Minor") == [told_alone], "a name that is little alike is no guess beside a broken file"
    assert at("model: {name: Mine, widht: 3}") == ["a.yaml:1: Mine takes no 'model.widht'; did you mean 'model.width'?"]
    assert at("model: Broken") == [
        f"{told}models/broken.py, which defines 'Broken', is no Python: line 2: invalid syntax"
    ]
    assert at("model: Unnamed") == [
        f"{told}no 'Unnamed' in models; models/mine.py defines it, but its __all__ does not name it: add it there"
    ]
    with pytest.raises(ConfigError, match=r"models/forgotten.py: __all__ names 'Other', but the file does not define"):
        MODELS.get("Other")


def test_a_class_of_the_same_name_wins_whatever_its_file_is_called():
    shipped = MODELS.get("LeNet"), MODELS.get("MLP")
    write("models/mlp.py", '__all__ = ["LeNet"]\nclass LeNet:\n    def __init__(self, depth: int = 1): ...\n')
    assert at("model: {name: LeNet, depth: 3}").model["model"].args == {"depth": 3}
    assert MODELS.get("LeNet") is not shipped[0] and MODELS.get("MLP") is shipped[1]
    os.unlink("models/mlp.py")
    assert MODELS.get("LeNet") is shipped[0]
    assert at("model: {name: LeNet, depth: 3}")[0].startswith("a.yaml:1: LeNet takes no 'model.depth'")


def test_a_file_that_is_younger_than_pythons_list_of_the_folder_is_found():
    folder = write("models/mine.py", MINE.format(width=8)).parent
    before = folder.stat()
    assert MODELS.get("Mine")
    write("models/other.py", "__all__ = ['Other']\nclass Other: ...\n")
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert MODELS.get("Other")


def test_a_name_in_two_files_of_one_folder_is_a_mistake():
    write("models/a.py", '__all__ = ["Mine"]\nclass Mine: ...\n')
    write("models/b.py", '__all__ = ["Mine"]\nclass Mine: ...\n')
    with pytest.raises(ConfigError, match=r"models/b.py: 'Mine' is also in .*models/a.py; a name may stand in one"):
        load("default", model="Mine")
    assert "LeNet" in MODELS.all_names() and load("default", model="LeNet"), "others are not stopped by it"


def test_a_file_may_import_what_is_shipped_and_the_files_beside_it():
    write("models/_blocks.py", "class Block:\n    def __init__(self, width: int, deep: bool = False): ...\n")
    text = "from models.lenet import LeNet\nfrom ._blocks import Block\n__all__ = ['Mine', 'Wide']\n"
    write("models/mine.py", f"{text}class Mine(Block):\n    pass\nclass Wide(LeNet):\n    pass\n")
    write("models/other.py", "raise RuntimeError('imported')\n__all__ = ['Other']\n")
    assert at("model: {name: Mine, width: 3, deep: true}").model["model"].args == {"width": 3, "deep": True}
    assert at("model: {name: Mine, dep: 3}") == ["a.yaml:1: Mine takes no 'model.dep'; did you mean 'model.deep'?"]
    assert issubclass(MODELS.get("Wide"), MODELS.get("LeNet")) and own_modules() == ["_blocks", "mine"]
    with pytest.raises(RuntimeError, match="imported"):
        MODELS.get("Other")


@pytest.mark.parametrize("name", ["_mine.py", "mine.txt", "sub/mine.py", "__init__.py"])
def test_other_files_name_nothing(name):
    write(f"models/{name}", MINE.format(width=8))
    assert at("model: Mine")[0].startswith("a.yaml:1: model: no 'Mine' in models")


def test_a_folder_of_raw_data_is_nothing():
    for name in ("train/cat.1.jpg", "x.csv", "labels.json"):
        write(f"data/{name}", "")
    assert at("data: {dataset: Digits}").data.dataset == Component("Digits")
    write("models", "a file")
    assert isinstance(load("default"), type(load("dogcat")))


def test_each_folder_has_its_own(tmp_path, monkeypatch):
    classes = {}
    for width in (1, 2):
        write(f"{width}/models/mine.py", MINE.format(width=width))
    for width in (1, 2, 1):
        monkeypatch.chdir(tmp_path / str(width))
        found = MODELS.get("Mine")
        assert found(3).width == width and classes.setdefault(width, found) is found
    monkeypatch.chdir(tmp_path)
    assert "Mine" not in MODELS.all_names()


def test_the_programs_own_folder_is_not_read_twice(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert MODELS.names()["LeNet"] == "models.lenet" and MODELS.origin("LeNet") == ""
    assert config_files()["default"] == ROOT / "configs/default.yaml"


def test_only_models_data_and_configs_are_looked_for_here():
    write("trainer/tasks/mine.py", MINE.format(width=1))
    write("tasks/mine.py", MINE.format(width=1))
    assert at("task: Mine")[0].startswith("a.yaml:1: task: no 'Mine' in trainer/tasks")


# Configs


def test_a_config_of_this_folder_wins_and_its_base_lies_beside_it_first():
    write("configs/dogcat.yaml", "base: other\ntrain: {seed: 7}\n")
    write("configs/other.yaml", "base: dogcat_small\ntrain: {seed: 6, max_epoch: 77}\n")
    assert config_files()["dogcat"] == Path("configs/dogcat.yaml")
    for name in ("dogcat", "dogcat.yaml", "configs/dogcat.yaml"):
        train = load(name).train
        assert (train.seed, train.max_epoch) == (7, 77)
    assert load("dogcat_small").train.seed == 0, "whose base is the shipped dogcat"
    assert at("base: dogcat").train.seed == 7 and at("base: titanic").task == load("titanic").task
    write("configs/other.yaml", "trian: {seed: 6}\n")
    with pytest.raises(ConfigError, match=r"^configs/other.yaml:1: no key 'trian'; did you mean 'train'\?$"):
        load("dogcat")
    with pytest.raises(ConfigError, match=r"^no config 'othr'; did you mean 'other'\?$"):
        load("othr")


# What help, check and completion tell


def test_help_tells_what_is_of_this_folder(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    write("models/mine.py", MINE.format(width=8))
    write("models/lenet.py", '__all__ = ["LeNet"]\nclass LeNet:\n    """Mine, too."""\n')
    write("configs/mine.yaml", "# A config of mine.\nmodel: Mine\n")
    write("configs/bare.yaml", "model: Mine\n")
    listed = run("help", "models").out
    assert "  Mine                 A network of my own. (models/mine.py in this folder)\n" in listed
    assert "  LeNet                Mine, too. (models/lenet.py in this folder, instead of the one that is" in listed
    assert "in this folder" not in next(line for line in listed.splitlines() if line.startswith("  MLP"))
    assert "\nFrom models/mine.py in this folder.\nAs model, with these arguments:\n" in run("help", "Mine").out
    assert "  mine              A config of mine. (configs/mine.yaml in this folder)\n" in run("help", "configs").out
    assert "  bare               (configs/bare.yaml in this folder)\n" in run("help", "configs").out
    assert "in this folder" not in run("help", "LinearRegression").out
    assert run("help", "mine").out.startswith("A config of mine.\n")
    given = run("check", "mine", "--print", "--width=3")
    assert given.code == 0 and "model.name: Mine  # configs/mine.yaml:2\n" in given.out
    assert "mine\n" in run("completion", "words", " check ").out
    assert "--model=Mine\n" in run("completion", "words", " check --model=M").out


# Edits


def test_a_file_that_was_edited_is_read_again_and_no_other(monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = write("models/mine.py", MINE.format(width=8))
    write("models/other.py", "__all__ = ['Other']\nclass Other: ...\n")
    first, other = MODELS.get("Mine"), MODELS.get("Other")
    assert MODELS.get("Mine") is first and MODELS.build(Component("Mine"), "model", num_classes=2).width == 8
    assert type(MODELS.build(Component("Mine"), "model", num_classes=2)) is first
    before = path.stat()
    path.write_text(MINE.format(width=9))
    later = before.st_mtime_ns // 10**9 * 10**9 + (before.st_mtime_ns + 1) % 10**9
    os.utime(path, ns=(before.st_atime_ns, later))  # as long as before, and in the same second
    second = MODELS.get("Mine")
    assert second is not first and second(2).width == 9 and MODELS.get("Mine") is second is models.Mine
    assert MODELS.get("Other") is other
    path.write_text(MINE.format(width=10).replace("num_classes", "classes"))
    assert MODELS.build(Component("Mine"), "model", classes=2).width == 10
    assert at("model: {name: Mine, num_classes: 2}")[0].startswith("a.yaml:1: Mine takes no 'model.num_classes'")


def test_an_edit_that_fails_is_tried_again():
    path = write("models/mine.py", MINE.format(width=8))
    first = MODELS.get("Mine")
    path.write_text(MINE.format(width=9) + "\nraise RuntimeError('not yet')\n")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not yet"):
            MODELS.get("Mine")
    path.write_text("class Mine(:")
    with pytest.raises(ConfigError, match="no 'Mine' in models"):
        MODELS.get("Mine")
    path.write_text(MINE.format(width=9))
    assert MODELS.get("Mine")(2).width == 9 and MODELS.get("Mine") is not first


def test_a_helper_that_was_edited_is_read_again():
    """Two files use it; what it says is asked of both after the edit."""
    write("models/_width.py", "WIDTH = 5\n")
    text = '__all__ = ["{0}"]\nfrom ._width import WIDTH\nclass {0}:\n    width = WIDTH\n'
    write("models/one.py", text.format("One"))
    write("models/two.py", text.format("Two"))
    before = MODELS.get("One")
    assert (before.width, MODELS.get("Two").width) == (5, 5) and MODELS.get("One") is before
    write("models/_width.py", "WIDTH = 777\n")
    assert (MODELS.get("One").width, MODELS.get("Two").width) == (777, 777)
    assert MODELS.get("Two") is MODELS.get("Two"), "read again once"


def test_a_shipped_file_that_was_edited_is_read_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    rooms = Registry("rooms_of_ours", write("rooms_of_ours/one.py", MINE.format(width=8)).parent.absolute())
    write("rooms_of_ours/__init__.py", "")
    first = rooms.get("Mine")
    assert first.__module__ == "rooms_of_ours.one" and rooms.get("Mine") is first
    write("rooms_of_ours/one.py", MINE.format(width=19))
    assert rooms.get("Mine")(1).width == 19 and rooms.get("Mine") is sys.modules["rooms_of_ours.one"].Mine
    for name in ("rooms_of_ours", "rooms_of_ours.one"):
        del sys.modules[name]


def test_an_edit_that_leaves_time_or_size_alone_is_noticed():
    path = write("models/mine.py", "__all__ = ['A']\n")
    assert public_names(path) == ["A"]
    before = path.stat()
    path.write_text("__all__ = ['A', 'B']\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert public_names(path) == ["A", "B"]
    new = write("models/new.py", "__all__ = ['A', 'C']\n")  # as editors save: a new file in place of the old one
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(path)
    assert public_names(path) == ["A", "C"]


def test_the_command_line_sees_this_folder():
    write("models/mine.py", MINE.format(width=8))
    given = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "check", "--model=Mine", "--width=x"], capture_output=True, text=True
    )
    assert (given.returncode, given.stderr) == (2, "--width=x: model.width: expected a whole number, got 'x'\n")
    assert not Path("models/__pycache__").exists()


def test_entries_that_are_no_files_of_ours_are_passed_over():
    """Raw data and editors leave all kinds of names."""
    write("data/mine.py", '__all__ = ["Points"]\nclass Points: ...\n')
    os.makedirs("data/raw.py")
    os.symlink("gone@host.1234", "data/.#mine.py")
    os.symlink("nowhere.py", "data/dangling.py")
    assert at("").model["model"].name == "ResNet34"
    assert "Points" in COMPONENTS["data"].all_names()
