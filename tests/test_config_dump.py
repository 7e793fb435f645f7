"""What is written of a config is read back as the same config."""

import math
from pathlib import Path

import pytest
from config_text import at
from test_components import ADAM, GAN

from configs import load_stored
from utils.config.convert import flatten, to_plain
from utils.config.tree import plain_value
from utils.config.yaml_text import dump_line, dump_yaml, parse_text
from utils.errors import ConfigError


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


TEXTS = [
    "",
    "1e-3",
    "012",
    "no",
    "NO",
    "null",
    "~",
    "true",
    "1:30",
    "0x1f",
    "深度学习",
    "a: b",
    "#x",
    "- a",
    "'",
    '"',
    "a\nb",
]
TEXTS += [
    " a ",
    "{a}",
    "[1, 2]",
    "*x",
    "&x",
    "!x",
    "%x",
    "@x",
    "=",
    "<<",
    ".inf",
    "x" * 300,
    "word " * 60,
    "\t",
    "\x85",
    "\u2028",
    "😀",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_read_back_as_it_was_written(text):
    cfg = load_stored({"log": {"env": text}}, Path("x"))
    assert cfg.log.env == text
    assert at(dump_yaml(to_plain(cfg))) == cfg
    for dump in (dump_yaml, dump_line):
        assert plain_value(parse_text(dump({"a": [text, {text: text}]}), "x")) == {"a": [text, {text: text}]}


@pytest.mark.parametrize(
    "number", [1e-05, 1e16, 1e300, 0.1, -0.0, 1.0, math.inf, -math.inf, 5e-324, 123456789.123456789]
)
def test_a_number_is_read_back_to_the_last_bit(number):
    noise = {"name": "GaussianNoise", "mean": number}  # an argument of any value
    cfg = load_stored({"data": {"transform": {"train": [noise]}}}, Path("x"))
    again = at(dump_yaml(to_plain(cfg))).data.transform.train[0].args["mean"]
    assert (again, math.copysign(1, again)) == (number, math.copysign(1, number))


@pytest.mark.parametrize(
    "extra", ["", GAN + "schedule: null", ADAM, "schedule: {name: StepLR, step_size: 3}", "model: torchvision:resnet18"]
)
def test_a_config_is_read_back_as_it_was_written(extra):
    cfg = at("base: dogcat_small.yaml\n" + extra)
    assert at(dump_yaml(to_plain(cfg))) == cfg == load_stored(to_plain(cfg), Path("x"))
    assert flatten(to_plain(at(dump_yaml(to_plain(cfg))))) == flatten(to_plain(cfg))


def test_mistakes_in_a_stored_config_name_its_file():
    with pytest.raises(ConfigError, match=r"^runs/last.pth: no key 'train.old_key'"):
        load_stored({"train": {"old_key": 3}}, Path("runs/last.pth"))
