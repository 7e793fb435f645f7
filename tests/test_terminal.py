"""Text from names, configs and files reaches the terminal as text: it never steers it."""

import re

import pytest
from conftest import ROOT, TOY

from utils.terminal import printable

ROOMS = ("commands", "configs", "data", "models", "trainer", "utils")
STEERING = ["\x1b]0;owned\x07", "\x1b[2J", "a\rb", "\x9b31m", "\u202egnp.exe", "\x7f", "\u2028", "\ud800"]


@pytest.mark.parametrize("text", STEERING)
def test_what_steers_is_written_as_its_code(text):
    shown = printable(f"it says {text} here")
    assert shown.isprintable() and shown.startswith("it says ") and "\\" in shown


@pytest.mark.parametrize("text", ["plain", "two\nlines\tand tab", "深度学习 → é …", "a\u200db", "", "👍🏽", "\\x1b"])
def test_plain_text_stays(text):
    assert printable(text) == text


ALLOWED = ("terminal", "notebook")  # a bundle's notebook prints in the cells that are written


def test_every_message_goes_one_way():
    """No file prints by itself, except the one that cleans, and the console, which colours what was cleaned."""
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    found = [
        path.name for path in files if re.search(r'(?<![\w."`])print\(', path.read_text()) and path.stem not in ALLOWED
    ]
    assert found == []
    writers = [path.name for path in files if "stdout.write" in path.read_text()]
    assert writers == ["console.py"]


@pytest.mark.parametrize("command", ["check", "train"])
def test_a_config_does_not_steer_the_terminal(run, tmp_path, command):
    (tmp_path / "a.yaml").write_text('optim: {name: SGD, lr: "\\e]0;owned\\a"}\n"\\e[2J": 1\n')
    given = run(command, "a.yaml")
    assert given.code == 2 and "\\x1b]0;owned\\x07" in given.err
    assert "\x1b" not in given.err and "\x07" not in given.err


def test_a_class_folder_does_not_steer_the_terminal(run, tmp_path):
    from PIL import Image

    for name in ("a\x1b[2J", "b\rc"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8)).save(tmp_path / "pets" / name / f"{i}.png")
    flags = [
        "image_folder",
        "--train-data-root=pets",
        "--run=a",
        "--max-epoch=1",
        "--model=MLP",
        "--data.transform.train=[]",
    ]
    given = run("train", *flags, "--data.transform.eval=[]", *TOY[-2:])
    assert "\\x1b[2J" in given.out + given.err and "\x1b" not in given.out + given.err, given
    assert "\r" not in given.out + given.err
