"""Shipped configs with a mistake put into each of their keys, and texts and flags at random: each is told in words."""

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from config_text import at

import configs
import main
from configs.keys import schema_keys

SHIPPED = sorted(Path(configs.__file__).parent.glob("*.yaml"))
LETTERS = "abcdefghijklmnopqrstuvwxyz"
# An argument that is a mapping of its own is known to its constructor alone, which tells its mistakes when the run
# starts (see test_tabular.py and test_table_files.py).
FREE = {"columns"}
UNTYPED = {"degrees"}  # torchvision says only that it is a sequence


class Key(NamedTuple):
    """A key in a file's text: its name, where it begins and ends, where its value ends, and its own mapping's names."""

    name: str
    start: int
    end: int
    value_end: int
    flow: bool
    siblings: set[str]


def keys_of(node: yaml.Node) -> Iterator[Key]:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from keys_of(item)
    elif isinstance(node, yaml.MappingNode):
        names = {key.value for key, _ in node.value}
        for key, value in node.value:
            marks = key.start_mark.index, key.end_mark.index, value.end_mark.index
            yield Key(key.value, *marks, bool(node.flow_style), names)
            yield from keys_of(value) if key.value not in FREE else ()


def all_keys() -> list[tuple[Path, str, Key]]:
    texts = [(path, path.read_text()) for path in SHIPPED]
    return [(path, text, key) for path, text in texts for key in keys_of(yaml.compose(text))]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def mistakes(text: str) -> list[str]:
    """The mistakes in a text that stands where a shipped config does; none if there are none."""
    found = at(text)
    return found if isinstance(found, list) else []


def misspelled(name: str, rng: random.Random) -> list[str]:
    """One letter less, more, another one, and two swapped."""
    i, letter = rng.randrange(len(name)), rng.choice(LETTERS)
    j = min(i, max(len(name) - 2, 0))
    return [
        name[:i] + name[i + 1 :],
        name[:i] + letter + name[i:],
        name[:i] + letter + name[i + 1 :],
        name[:j] + name[j : j + 2][::-1] + name[j + 2 :],
    ]


@pytest.mark.slow
def test_each_misspelled_key_is_caught_and_the_right_one_suggested():
    rng, missed, unhelped, count = random.Random(0), [], [], 0
    for number, (path, text, key) in enumerate(all_keys()):
        for wrong in misspelled(key.name, rng)[number % 4 :: 4]:  # most keys stand in several configs
            if wrong in key.siblings or not wrong:
                continue
            count += 1
            found = mistakes(text[: key.start] + wrong + text[key.end :])
            suggested = {s.rpartition(".")[2] for line in found for s in re.findall(r"did you mean '([^']+)'", line)}
            line = text.count("\n", 0, key.start) + 1
            if not any(message.startswith(f"a.yaml:{line}: ") for message in found):
                missed.append((path.name, key.name, wrong, found))
            elif key.name not in suggested:
                unhelped.append((path.name, key.name, wrong, found))
    assert count > 400 and not missed, missed
    assert len(unhelped) <= 0.05 * count, f"{1 - len(unhelped) / count:.1%} of {count} suggest the key; not: {unhelped}"


@pytest.mark.slow
def test_each_key_given_twice_is_caught():
    for path, text, key in all_keys():
        copy = text[key.start : key.value_end].rstrip()
        column = key.start - text.rfind("\n", 0, key.start) - 1
        between = ", " if key.flow else "\n" + " " * column
        found = mistakes(text[: key.start] + copy + between + text[key.start :])
        assert len(found) == 1 and f"'{key.name}' is given twice" in found[0], (path.name, key.name, found)


@pytest.mark.slow
@pytest.mark.parametrize("value", ["[[{}]]", "{a: {b: [c]}}"])
def test_each_value_of_a_wrong_type_is_caught(value):
    for path, text, key in all_keys():
        end = key.value_end - len(text[key.end : key.value_end]) + len(text[key.end : key.value_end].rstrip())
        if (key.name in FREE and value.startswith("{")) or key.name in UNTYPED:
            continue
        found = mistakes(f"{text[: key.end]}: {value}{text[end:]}")
        assert found and all(re.match(r"\S+: .{10,}", line) for line in found), (path.name, key.name, found)


# At random

WORDS = [*schema_keys(), *{part for key in schema_keys() for part in key.split(".")}]
WORDS += [
    "name",
    "lr",
    "base",
    "generator",
    "ResNet34",
    "MLP",
    "Adam",
    "SGD",
    "StepLR",
    "DogCat",
    "Resize",
    "torchvision:vgg11",
]
WORDS += [
    "1",
    "0",
    "-3",
    "1e-3",
    "1e999",
    ".nan",
    ".inf",
    "true",
    "no",
    "null",
    "~",
    "''",
    '"x"',
    "1_0",
    "深度",
    "\ufeff",
    "x" * 300,
]
MARKS = [
    ":",
    ": ",
    ", ",
    "[",
    "]",
    "{",
    "}",
    "- ",
    "\n",
    "\n  ",
    "\n    ",
    "#",
    "&a ",
    "*a",
    "!!str ",
    "|\n",
    ">\n",
    "? ",
]
MARKS += ["\t", "'", '"', "---\n", "%", "@", "\0", "\ud800", "=", "<<", "."]


def test_texts_at_random_give_a_config_or_a_config_error():
    rng = random.Random(1)
    for _ in range(100):
        shape = rng.choice([0.2, 0.5, 0.8])
        parts = [rng.choice(MARKS) if rng.random() < shape else rng.choice(WORDS) for _ in range(rng.randrange(1, 40))]
        mistakes("".join(parts))
    texts = [path.read_text() for path in SHIPPED]
    for _ in range(100):  # a shipped one, hit here and there
        text = rng.choice(texts)
        for _ in range(rng.randrange(1, 4)):
            i = rng.randrange(len(text))
            text = text[:i] + rng.choice(MARKS + WORDS) + text[i + rng.randrange(3) :]
        mistakes(text)


def test_flags_at_random_end_with_0_or_2(tmp_path, capsys):
    rng = random.Random(2)
    for _ in range(100):
        flags = []
        for _ in range(rng.randrange(1, 5)):
            key = rng.choice(["", "no-", "model.", "optim.", "data.dataset."]) + rng.choice(WORDS)
            dashes = rng.choice(["--", "--", "--", "-", "", "—"])
            value = "".join(
                rng.choice(MARKS + WORDS).replace("\0", "").replace("\ud800", "\U0001f600")
                for _ in range(rng.randrange(3))
            )
            flags.append(dashes + key + rng.choice(["=", "=", "=", "", " "]) + value)
        assert main.main(["check", *flags]) in (0, 2), flags
    assert list(tmp_path.iterdir()) == []
    capsys.readouterr()
