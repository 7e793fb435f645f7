"""The notebooks of docs/notebooks: the same code in both languages, which holds, and prints what is stored."""

import ast
import re

import pytest
from conftest import ROOT

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")

from tests.notebooks import CHINESE, FOLDER, NAMES, code, execute, read, run  # noqa: E402

NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]\d+)?")  # with a point: another processor may round it otherwise
LINK = re.compile(r"\[[^\]]*\]\(([^)]+)\)")
HAN = re.compile(r"[\u4e00-\u9fff]")
TITLES = re.compile(r"\*[^*]+\*|\[中文\]")  # may be Chinese on an English page


def printed(notebook) -> list[str]:
    """What stands below each cell; of a picture that it is one."""
    return ["".join(map(shown, cell.outputs)) for cell in code(notebook)]


def shown(output) -> str:
    return output.get("text") or " ".join([output.data.get("text/plain", ""), *(output.data.keys() & {"image/png"})])


def told(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def shape(text: str) -> tuple:
    """Give what both languages have in common: headings, code, links, cells of tables."""
    names = {name.replace(CHINESE, "") for name in re.findall(r"`[^`]+`", text)}
    links = [target.replace(CHINESE, "") for target in LINK.findall(text)]
    return re.findall(r"^#+ ", text, re.M), names, links, text.count("|")


def test_there_are_notebooks():
    assert len(NAMES) >= 6
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == {*NAMES, *(name + CHINESE for name in NAMES)}


@pytest.mark.parametrize("name", NAMES)
def test_both_languages_have_the_same_code_and_outputs(name):
    english, chinese = read(name), read(name + CHINESE)
    assert [(c.id, c.cell_type) for c in english.cells] == [(c.id, c.cell_type) for c in chinese.cells]
    for cell, twin in zip(code(english), code(chinese), strict=True):
        assert ast.dump(ast.parse(cell.source)) == ast.dump(ast.parse(twin.source)), cell.id
        assert cell.outputs == twin.outputs, cell.id
        assert cell.source.count("#") == twin.source.count("#"), cell.id
    for one, other in zip(told(english), told(chinese), strict=True):
        assert shape(one) == shape(other)
        assert not HAN.search(TITLES.sub("", one)) and HAN.search(other)


@pytest.mark.parametrize("name", [name + language for name in NAMES for language in ("", CHINESE)])
def test_a_notebook_is_whole(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    assert not any("error" in output.output_type for cell in code(notebook) for output in cell.outputs)
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 60_000
    for target in LINK.findall("\n".join(told(notebook))):
        assert (FOLDER / target).exists(), target
    page = (ROOT / "docs/from-the-book.md").read_text()
    assert f"(notebooks/{name}.ipynb)" in page


@pytest.mark.learns
@pytest.mark.parametrize("name", NAMES)
def test_every_claim_of_a_notebook_holds(name, tmp_path):
    """Its cells end in assertions."""
    run(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_prints_what_is_stored(name, tmp_path):
    """In a kernel of its own. Anew: python -m tests.notebooks NAME."""
    stored, fresh = read(name), read(name)
    execute(fresh, tmp_path)
    for before, now in zip(printed(stored), printed(fresh), strict=True):
        assert NUMBER.sub("…", " ".join(before.split())) == NUMBER.sub("…", " ".join(now.split()))
        numbers = [float(number) for number in NUMBER.findall(before)]
        assert [float(number) for number in NUMBER.findall(now)] == pytest.approx(numbers, rel=0.05, abs=0.02)
