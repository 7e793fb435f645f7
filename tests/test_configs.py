"""The shipped configs: each is right, and opens with what it is, a command that can be typed, and what was measured."""

import re
import shlex
from pathlib import Path

import pytest

import configs
from configs import load

SHIPPED = sorted(Path(configs.__file__).parent.glob("*.yaml"))


@pytest.fixture(params=SHIPPED, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


def heading(path: Path) -> list[str]:
    """The lines of comment that a config opens with."""
    lines = path.read_text(encoding="utf-8").split("\n")
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return [line.removeprefix("#").strip() for line in lines[:end]]


def commands(path: Path) -> list[list[str]]:
    return [shlex.split(line)[2:] for line in heading(path) if line.startswith("python main.py ")]


def test_a_config_loads(path):
    assert load(path.stem) == load(str(path))


def test_it_opens_with_a_sentence_that_says_what_it_is(path):
    first = heading(path)[0]
    assert re.fullmatch(r"[A-Z].{20,130}\.", first) and not first.startswith("python")


def test_its_commands_can_be_typed(path, run):
    typed = commands(path)
    assert typed[0][0] == "train" and (path.stem in typed[0] or path.stem == "default")
    for command, *arguments in typed:
        flags = [argument for argument in arguments if argument.startswith("--")]
        result = run("check", path.stem, *flags) if command != "train" else run("check", *arguments)
        assert (result.code, result.err) == (0, ""), arguments


def test_it_tells_what_was_measured(path):
    measured = [line for line in heading(path) if line.startswith("Measured: ")]
    assert len(measured) == 1
    assert re.search(r"\d", measured[0])
