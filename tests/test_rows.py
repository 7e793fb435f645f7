"""The table of the features page: every row of the sources has a command that works, or a notebook, and a test."""

import ast
import re
import shlex

import pytest
from conftest import ROOT
from test_docs import house, run_typed, shortened, typing  # noqa: F401 - fixtures

COUNTS = {"P": 12, "M": 31, "D": 21, "L": 5, "O": 8, "S": 3, "I": 3, "F": 4, "G": 9, "C": 8, "V": 14, "B": 5, "T": 4}
SEVERAL_DEVICES = {"G-04", "G-05", "G-06"}
ROW = re.compile(r"^\| ([A-Z]-\d\d) \| (.+) \| (.+) \| `(\w+\.py)::(\w+)` \|$", re.M)


def rows(page: str) -> list[tuple[str, ...]]:
    """Id, what it is, command or notebook, the test's file and name."""
    return ROW.findall((ROOT / page).read_text(encoding="utf-8"))


def test_each_row_is_listed_once():
    ids = [f"{kind}-{number:02}" for kind, count in COUNTS.items() for number in range(1, count + 1)]
    assert [row[0] for row in rows("docs/features.md")] == [name for name in ids if name not in SEVERAL_DEVICES]


def test_both_languages_list_the_same():
    english, chinese = rows("docs/features.md"), rows("docs/zh/features.md")
    assert [(row[0], *row[3:]) for row in english] == [(row[0], *row[3:]) for row in chinese]
    typed = [[row[2] for row in page if row[2].startswith("`")] for page in (english, chinese)]
    assert typed[0] == typed[1]


def test_each_test_is_there():
    for name, _, _, file, test in rows("docs/features.md"):
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{name}: {file}::{test}"


@pytest.mark.slow
def test_each_command_works(house, typing):  # noqa: F811
    """In the order of the table, each once; runs are made by the rows above."""
    failed = []
    for words in dict.fromkeys(tuple(shlex.split(row[2].strip("`"))) for row in rows("docs/features.md")):
        if words[0] == "python":
            code, told = typing(shortened(list(words)))
            print(code, *words)  # shown when something fails
            if code:
                failed.append(f"{' '.join(words)}: exit {code}: {told[-500:]}")
    assert not failed, "\n".join(failed)
