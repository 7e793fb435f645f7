"""A table's predictions: ids that are row numbers, classes that are numbers, cells that training never saw."""

import csv
from pathlib import Path

import pytest
from conftest import PLAIN

from trainer.submission import ensemble
from utils.runs.study import Child, Study

TRAIN = [f"{i},{i % 7},{'rgb'[i % 3]},{1 + i % 3}" for i in range(60)]
SMALL = ["--model=MLP", "--model.hidden=[8]", "--optim=Adam", "--lr=0.05", "--max-epoch=8", "--batch-size=10", *PLAIN]


@pytest.fixture
def trained(run, tmp_path):
    """Train on a table whose classes are named 1, 2 and 3, and which the column c tells."""

    def train(*flags: str, name: str = "a"):
        Path("t").mkdir(exist_ok=True)
        Path("t/train.csv").write_text("\n".join(["id,a,c,y", *TRAIN]) + "\n")
        write_test("g", "b", "r")
        data = ["--data.dataset=Tabular", "--data.dataset.root=t", "--data.dataset.target=y"]
        given = run("train", *data, "--data.dataset.columns.categories=[c,y]", f"--run={name}", *SMALL, *flags)
        assert given.code == 0, given.err

    return train


def write_test(*cells: str, ids: tuple[str, ...] = ("3", "1", "2")) -> None:
    Path("t/test.csv").write_text("id,a,c\n" + "".join(f"{i},4,{c}\n" for i, c in zip(ids, cells, strict=True)))


def sample(cell: str = "1", ids: tuple[str, ...] = ("1", "2", "3")) -> str:
    Path("sample.csv").write_text("id,y\n" + "".join(f"{key},{cell}\n" for key in ids))
    return "--test.sample=sample.csv"


def written(name: str = "a") -> dict[str, str]:
    with open(f"checkpoints/{name}/submission.csv", newline="") as stream:
        return dict(list(csv.reader(stream))[1:])


def test_ids_of_a_column_are_no_row_numbers(run, trained):
    trained()
    given = run("test", "checkpoints/a", sample(), "--test.output=class")
    assert (
        given.code == 3
        and "set --data.dataset.id=id" in given.err
        and not Path("checkpoints/a/submission.csv").exists()
    )
    given = run("test", "checkpoints/a", sample(), "--test.output=class", "--data.dataset.id=id")
    assert given.code == 0 and written() == {"3": "2", "1": "3", "2": "1"}, given
    write_test("g", "b", "r", ids=("1", "2", "3"))  # the same under both names
    assert run("test", "checkpoints/a", sample(), "--test.output=class").code == 0


def test_places_of_classes_with_other_numbers_are_refused(run, trained):
    trained("--data.dataset.id=id")
    for words in (["a"], ["a", "checkpoints/a/last.pth"]):
        given = run("test", *words, sample(), "--test.output=label")
        assert given.code == 2 and "places 0 to 2 of classes that are named 1, 2, 3; --test.output=class" in given.err
    given = run("test", "a", sample("0.5"), "--test.output=class")
    assert given.code == 3 and "holds fractions (0.5), the predictions are class numbers" in given.err, given


def test_a_sample_of_classes_is_told(run, trained):
    trained("--data.dataset.id=id", "--data.dataset.columns={categories: [c, y], ignore: []}")
    Path("sample.csv").write_text("id,y\n1,1\n2,2\n3,1\n")
    lines = Path("t/train.csv").read_text().replace(",3\n", ",2\n")
    Path("t/train.csv").write_text(lines)
    data = ["--data.dataset=Tabular", "--data.dataset.root=t", "--data.dataset.target=y", "--data.dataset.id=id"]
    assert run("train", *data, "--data.dataset.columns.categories=[c,y]", "--run=two", *SMALL).code == 0
    given = run("test", "two", "--test.sample=sample.csv")
    assert given.code == 0 and "note: sample.csv holds classes (1, 2), the predictions are probabilities" in given.out


def test_cells_that_training_never_saw_are_told(run, trained):
    trained("--data.dataset.id=id")
    write_test("red", "green", "blue")
    told = "cells of test without a known value: c 3 unknown texts, the first 'red' in line 2"
    given = run("test", "a", sample(), "--test.output=class")
    assert given.code == 0 and told in given.out, given
    given = run("predict", "a", "t/test.csv")
    assert given.code == 0 and told in given.out, given
    write_test("r", "g", "b", ids=("1", "", "3"))
    given = run("test", "a", sample(), "--test.output=class")
    assert given.code == 3 and "t/test.csv:3: its id is empty; fill it in" in given.err, given


def test_a_run_given_twice_and_clipped_ranks_are_refused(run, trained):
    trained("--data.dataset.id=id")
    given = run("test", "a", "checkpoints/a/", sample())
    assert given.code == 2 and "a: is given twice, and would count twice; leave one out" in given.err
    given = run("test", "a", "checkpoints/a/last.pth", "--test.average=rank", "--test.clip=0.1")
    assert given.code == 2 and "test.clip: ranks are no probabilities" in given.err


def test_runs_of_a_study_that_do_not_count_are_told(monkeypatch, capsys):
    study = Study(
        Path("checkpoints/k"), "kfold", [], "Classification", children=[Child("fold0", {}), Child("fold1", {})]
    )
    monkeypatch.setattr(Study, "state", lambda self, child: {"fold0": "finished", "fold1": "failed"}[child.name])
    ensemble._tell_unfinished(study)
    told = "note: checkpoints/k counts without fold1, which is failed; kfold --resume=checkpoints/k trains it\n"
    assert capsys.readouterr().out == told
