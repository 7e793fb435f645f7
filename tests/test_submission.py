"""Planted faults: predictions that are inverted, shifted, shuffled, doubled or of another kind are never written."""

import csv
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PLAIN

from data.loading.loader import Loader
from trainer.submission import write as submission
from trainer.submission.cells import encoded, quoted, read_lines, unquoted
from trainer.submission.run_lengths import decode_runs, encode_runs
from trainer.submission.sample import Sample, by_sample
from trainer.submission.write import Layout, check_file, write_rows
from trainer.tasks.classification import Classification
from utils.errors import DataError

DATA = '''"""Points of two classes, mostly far from each other."""

import torch
from torch.utils.data import Dataset

__all__ = ["Points"]


class Points(Dataset):
    """Points with the classes cat and dog."""

    meta = {"classes": ["cat", "dog"], "num_classes": 2, "in_features": 2}

    def __init__(self, split):
        count, seed = {"train": (80, 1), "val": (40, 2), "test": (12, 3)}[split]
        draws = torch.Generator().manual_seed(seed)
        self.labels = (torch.rand(count, generator=draws) < 0.3).long()
        self.x = torch.randn(count, 2, generator=draws) + 1.5 * self.labels[:, None]
        self.ids = [f"{split}{i}.jpg" for i in range(count)]
        self.labelled = split != "test"

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return (self.x[i], int(self.labels[i])) if self.labelled else self.x[i]
'''
IDS = [f"test{i}" for i in range(12)]
RIGHT, EPOCH = Classification.test_step, Loader.epoch


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with the dataset and a trained run."""
    import main

    folder, before = tmp_path_factory.mktemp("points"), Path.cwd()
    (folder / "data").mkdir()
    (folder / "data/points.py").write_text(DATA)
    args = ["--model=MLP", "--model.hidden=[8]", "--optim=Adam", "--lr=0.03", "--max-epoch=4", "--batch-size=8"]
    os.chdir(folder)
    try:
        assert main.main(["train", "--data.dataset=Points", "--run=a", *args, *PLAIN]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def test(run, finished, tmp_path):
    """Run `test checkpoints/a`, with a sample."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    write_sample()

    def command(*flags: str, sample: bool = True):
        return run("test", "checkpoints/a", *["--test.sample=sample.csv"] * sample, *flags)

    return command


def write_sample(header: str = "Id,Label", cell: str = "0.5", ids: list[str] = IDS) -> None:
    Path("sample.csv").write_text(f"{header}\n" + "".join(f"{key},{cell}\n" for key in ids))


def written(name: str = "checkpoints/a/submission.csv") -> list[list[str]]:
    with open(name, newline="") as stream:
        return list(csv.reader(stream))


def test_what_is_right_is_written_and_told(test):
    given = test()
    assert given.code == 0, given.err
    assert "sample.csv: its ids are matched with those of the pictures without suffix" in given.out
    assert "mirror check: the file's column gives accuracy 0." in given.out and "as validation does" in given.out
    line = "kaggle competitions submit -c COMPETITION -f checkpoints/a/submission.csv -m a\n(COMPETITION: its name in "
    assert line in given.out
    assert written()[0] == ["Id", "Label"] and [line[0] for line in written()[1:]] == IDS


def inverted(self, batch):
    return [{"probability": 1 - row["probability"]} for row in RIGHT(self, batch)]


def shifted(self, batch):
    rows = RIGHT(self, batch)
    return rows[1:] + rows[:1]


def numbers(self, batch):
    return [{"probability": float(row["probability"] > 0.5)} for row in RIGHT(self, batch)]


def short(self, batch):
    return [{"probability": round(row["probability"], 1)} for row in RIGHT(self, batch)]


def constant(self, batch):
    return [{"probability": 0.25 + i / 100} for i, _ in enumerate(RIGHT(self, batch))]


def logits(self, batch):
    return [{"probability": 9 * row["probability"]} for row in RIGHT(self, batch)]


def nan(self, batch):
    return [{"probability": float("nan")} for _ in RIGHT(self, batch)]


def other_case(self, batch):
    return [{"Cat": 0.5, "Dog": 0.5} for _ in RIGHT(self, batch)]


STEPS = [
    (inverted, 3, "it is inverted, the probability of the other class"),
    (shifted, 3, "mirror check: the file's column gives "),
    (numbers, 3, "it holds class numbers in place of probabilities"),
    (short, 3, "its numbers have too few digits"),
    (constant, 3, "mirror check: the file's column gives "),
    (logits, 3, "no probability from 0 to 1"),
    (nan, 6, "is nan; nothing was written"),
    (other_case, 3, "the predictions have Cat, Dog"),
    (lambda self, batch: RIGHT(self, batch)[:-1], 10, "test_step gives 7 rows for 8 samples"),
    (
        lambda self, batch: [{"probability": torch.tensor(0.5)} for _ in batch],
        10,
        "a tensor [] as 'probability'; a cell",
    ),
    (lambda self, batch: [{"a": 0.5, "b": 1.0} for _ in RIGHT(self, batch)][: len(batch)], 3, "has the columns Label"),
]


@pytest.mark.learns
@pytest.mark.parametrize(("step", "code", "said"), STEPS)
def test_a_test_step_that_is_wrong_is_refused(test, monkeypatch, step, code, said):
    monkeypatch.setattr(Classification, "test_step", step)
    given = test()
    assert given.code == code and said in given.err, given
    assert not Path("checkpoints/a/submission.csv").exists()


def reordered(self, epoch, start=0):
    for indices, batch in EPOCH(self, epoch, start):
        yield indices[::-1], batch


def without_last(self, epoch, start=0):
    yield from list(EPOCH(self, epoch, start))[:-1]


@pytest.mark.learns
@pytest.mark.parametrize(
    ("epoch", "said"),
    [(reordered, "mirror check: the file's column gives"), (without_last, "4 of 12 test samples were never read")],
)
def test_a_loader_that_is_wrong_is_refused(test, monkeypatch, epoch, said):
    monkeypatch.setattr(Loader, "epoch", epoch)
    given = test()
    assert given.code == 3 and said in given.err, given


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("range(count)]", "[0, *range(count - 1)]]", "different ids"),
        (
            "for i in range(count)]",
            "for i in range(count)]\n        self.files = [f'x/{split}{(i + 1) % count}.jpg' for i in range(count)]",
            "the id test0 is given to the sample of the file test1, and another file has that name",
        ),
        ("for i in range(count)]", "for i in range(1, count + 1)]", "1 of its ids have no prediction (test0)"),
    ],
)
def test_ids_that_are_wrong_are_refused(test, old, new, said):
    text = DATA.replace(old, new)
    assert text != DATA
    Path("data/points.py").write_text(text)
    given = test()
    assert given.code == 3 and said in given.err, given


@pytest.mark.parametrize(
    ("cell", "flag", "said"),
    [
        ("dog", "--test.output=probability", "holds words ('dog'), the predictions are numbers"),
        ("0.5", "--test.output=class", "holds numbers (0.5), the predictions are words"),
        ("0.5", "--test.output=label", "holds fractions (0.5), the predictions are class numbers"),
    ],
)
def test_types_that_are_not_the_samples_are_refused(test, cell, flag, said):
    write_sample(cell=cell)
    given = test(flag)
    assert given.code == 3 and said in given.err, given


@pytest.mark.parametrize("column", ["cat", "is_cat", "Cat-Probability"])
@pytest.mark.parametrize("output", ["probability", "label"])
def test_a_column_of_the_other_class_is_refused(test, column, output):
    write_sample(f"id,{column}", "0")
    told = f"sample.csv: the column '{column}' looks like that of cat, and the predictions are of dog; "
    given = test(f"--test.output={output}")
    assert given.code == 3 and told in given.err and not Path("checkpoints/a/submission.csv").exists(), given
    assert test(f"--test.output={output}", "--test.positive=dog").code == 0  # as the sentence says
    dogs = written()
    given = test("--test.positive=cat")
    assert given.code == 0 and "the probability of cat (test.positive)" in given.out, given
    if output == "probability":
        assert all(abs(float(a[1]) + float(b[1]) - 1) < 1e-9 for a, b in zip(dogs[1:], written()[1:], strict=True))


def test_an_accent_may_have_other_codes_than_in_the_sample():
    stored = {unicodedata.normalize("NFD", f"caf\u00e9{i}.jpg"): {"label": i} for i in range(3)}
    for suffix in (".jpg", ""):
        ids = [f"caf\u00e9{i}{suffix}" for i in (2, 0, 1)]
        _, rows = by_sample(Sample("s.csv", ["id", "y"], ids, [["0"] * 3]), stored)
        assert list(rows) == ids and [row["label"] for row in rows.values()] == [2, 0, 1]


@pytest.mark.parametrize(
    ("column", "classes", "named"),
    [
        ("dog", ["cat", "dog"], "dog"),
        ("label", ["cat", "dog"], ""),
        ("concatenated", ["cat", "dog"], ""),
        ("not_cat", ["cat", "not cat"], "not cat"),
        ("cat_or_dog", ["cat", "dog"], ""),
        ("class_0", ["0", "1"], "0"),
        ("target", ["-", "+"], ""),
    ],
)
def test_a_column_is_named_after_a_class_by_whole_words(column, classes, named):
    assert Sample("s.csv", ["id", column], [], []).class_of_column(classes) == named
    assert Sample("s.csv", ["id", column, "more"], [], []).class_of_column(classes) == ""


@pytest.mark.learns
@pytest.mark.parametrize(("output", "cell"), [("class", "dog"), ("label", "1")])
def test_labels_and_names_are_mirrored(test, monkeypatch, output, cell):
    write_sample(cell=cell)
    given = test(f"--test.output={output}")
    assert given.code == 0 and "mirror check: the file's column gives accuracy" in given.out, given
    other = {"cat": "dog", "dog": "cat", 0: 1, 1: 0}
    monkeypatch.setattr(Classification, "test_step", lambda s, b: [{output: other[r[output]]} for r in RIGHT(s, b)])
    given = test(f"--test.output={output}")
    assert given.code == 3 and "mirror check: the file's column gives accuracy" in given.err, given


@pytest.mark.parametrize("positive", ["cat", "dog"])
def test_both_classes_have_a_column_where_the_sample_has_two(test, positive):
    assert test(sample=False).code == 0
    dogs = {line[0].removesuffix(".jpg"): float(line[1]) for line in written()[1:]}
    write_sample("Id,cat,dog", "0.5,0.5")
    given = test(f"--test.positive={positive}")
    assert given.code == 0 and "mirror check: the file's column gives accuracy 0." in given.out, given
    assert written()[0] == ["Id", "cat", "dog"]
    for key, cat, dog in written()[1:]:
        assert float(dog) == pytest.approx(dogs[key]) and float(cat) == pytest.approx(1 - dogs[key])
    assert "is it the sample of these data?" in test("--test.output=label").err


def test_a_sample_with_another_sign_between_columns_is_told(test):
    Path("sample.csv").write_text("Id;Label\n" + "".join(f"{key};0.5\n" for key in IDS))
    given = test()
    assert given.code == 3 and "its columns are divided by another sign than a comma" in given.err


def test_probabilities_are_clipped(test):
    given = test("--test.clip=0.3", "--result-file=clipped.csv")
    assert given.code == 0, given.err
    assert {float(line[1]) for line in written("clipped.csv")[1:]} >= {0.3, 0.7} or len(written("clipped.csv")) == 13
    assert all(0.3 <= float(line[1]) <= 0.7 for line in written("clipped.csv")[1:])
    given = test("--test.clip=0.3", "--test.output=label", sample=False)
    assert given.code == 2 and "these predictions are no probabilities" in given.err
    assert test("--test.clip=0.7").code == 2


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("sample.csv", "is read by this command and would be lost"),
        ("checkpoints/a/best.pth", "is there, is no csv file, and would be lost"),
        ("checkpoints/a/config.yaml", "is there, is no csv file"),
        ("checkpoints", "is a folder; name a file in it"),
        ("pipe", "is no regular file, and would be replaced by one"),
        ("tables/train.csv", "tables/train.csv is among the data and would be lost"),
    ],
)
def test_no_other_file_is_lost(test, name, told):
    Path("tables").mkdir()
    os.mkfifo("pipe")
    Path("tables/train.csv").write_text("a,b,c\n1,2,3\n")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file() and "lock" not in path.name}
    given = test(f"--result-file={name}", "--test-data-root=tables")
    assert given.code == 2 and told in given.err and given.err.count("\n") == 1, given
    assert before == {path: path.read_bytes() for path in before}


def test_a_file_of_before_is_replaced(test):
    for header in ("Id,Label", '"Id, of a photo","=Label"'):  # which a CSV quotes
        write_sample(header)
        for name in ("out.csv", "out.txt", f"tables/{len(header)}.csv"):
            for flag in ([], ["--test.positive=cat"]):
                given = test(f"--result-file={name}", "--test-data-root=tables", *flag)
                assert given.code == 0, given
    assert test("--result-file=out.csv", "--test.output=class", sample=False).code == 0, "outside of the data"


def test_without_validation_data_the_check_is_left_out_and_told(test):
    Path("data/points.py").write_text(DATA.replace('"val": (40, 2), ', ""))
    text = DATA.replace(
        "        count, seed", '        if split == "val":\n            raise OSError("gone")\n        count, seed'
    )
    Path("data/points.py").write_text(text)
    given = test()
    assert given.code == 0 and "note: no mirror check: the validation split cannot be read (" in given.out, given
    assert "mirror" not in test("--test.mirror=false").out


@pytest.mark.learns
def test_another_metric_than_the_stored_one_is_told(test, run):
    import torch

    assert "note: accuracy is" not in test().out
    state = torch.load("checkpoints/a/best.pth", weights_only=True)
    state["model"] = {name: value * 0 for name, value in state["model"].items()}
    torch.save(state, "other.pth")
    given = run("test", "other.pth")
    assert given.code == 0 and "note: accuracy is 0." in given.out and "when other.pth was written" in given.out, given


# The file itself


LINES = [["a", 0.125], ["b", 0.5]]
LAYOUT = Layout(["id", "label"], ["probability"], exact=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,Label\na,0.125\nb,0.5\n", "it differs in upper and lower case"),
        (",id,label\n0,a,0.125\n1,b,0.5\n", "an index column stands before it"),
        ("id,label\na,0.1\nb,0.5\n", "the line of id a reads 0.1, not 0.125"),
        ("id,label\na,0.125\na,0.5\n", "the id a stands in several lines"),
        ("id,label\na,0.125\n", "1 ids have no line (b)"),
        ("id,label\nb,0.5\na,0.125\n", "the id b stands where a is due"),
        ("id,label\na,0.125\nb,0.5\nc,0.5\n", "the id c stands where nothing is due"),
        ("id,label\na,nan\nb,0.5\n", "reads nan"),
        ("id,label\na,0.125,1\nb,0.5\n", "the line of id a reads"),
        ("", "the header is"),
    ],
)
def test_a_written_file_with_a_fault_is_refused(tmp_path, text, said):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(DataError, match=said.replace("(", r"\(").replace(")", r"\)")):
        check_file(tmp_path / "s.csv", LAYOUT, LINES)


def test_an_older_file_stays_where_the_new_one_has_a_fault(tmp_path, monkeypatch):
    target, rows = tmp_path / "s.csv", {"a": {"probability": 0.125}}
    write_rows(target, LAYOUT, rows)
    before = target.read_text()
    monkeypatch.setattr(submission, "encoded", lambda lines, exact: encoded(lines, exact).replace(b"id", b"ID"))
    with pytest.raises(DataError, match="upper and lower case"):
        write_rows(target, LAYOUT, {"a": {"probability": 0.5}})
    assert target.read_text() == before and [*tmp_path.iterdir()] == [target]


@pytest.mark.parametrize(
    "text", ["=1+1", "+1-2", "-x", "@a", "'=1", "''@", "\tx", "a'=", "'", "-1", "+2.5e3", "a,b\nc"]
)
def test_no_cell_is_a_formula_and_each_is_read_back(tmp_path, text):
    assert unquoted(quoted(text)) == text
    assert quoted(text)[0] not in "=@\t" and (quoted(text) == text or quoted(text) == f"'{text}")
    (tmp_path / "s.csv").write_bytes(encoded([[text, 0.5]], exact=False))
    assert read_lines(tmp_path / "s.csv", exact=False) == [[text, "0.5"]]


def test_a_formula_as_an_id(test):
    Path("data/points.py").write_text(DATA.replace('f"{split}{i}.jpg"', 'f"={i}+1"'))
    given = test(sample=False)
    assert given.code == 0 and "note: 12 ids are formulas to a spreadsheet; they are written with a '" in given.out
    assert written()[1][0].startswith("'=") and unquoted(written()[1][0]).startswith("=")
    write_sample(ids=[f"={i}+1" for i in range(12)])
    given = test()
    assert given.code == 0 and "they stand there as in the sample" in given.out
    assert written()[1][0] == "=0+1"


# Run-length masks


def test_runs_go_down_the_columns_from_1():
    mask = np.array([[0, 1, 1], [1, 1, 0]], bool)  # as Kaggle numbers them: 2 3 4 5
    assert encode_runs(mask) == "2 4"
    assert encode_runs(np.zeros((2, 3), bool)) == "" and encode_runs(np.ones((2, 3), bool)) == "1 6"
    for seed in range(5):
        mask = np.random.default_rng(seed).random((7, 5)) < 0.5
        assert np.array_equal(decode_runs(encode_runs(mask), 7, 5), mask)


@pytest.mark.parametrize("text", ["1", "0 2", "5 3", "1 x", "-1 2"])
def test_runs_that_are_none_are_refused(text):
    with pytest.raises(DataError):
        decode_runs(text, 2, 3)


# Several runs


@pytest.fixture
def two(test, run):
    """A second run, that learned from another seed."""
    args = ["--model=MLP", "--model.hidden=[4]", "--optim=Adam", "--lr=0.03", "--max-epoch=2", "--batch-size=8"]
    assert run("train", "--data.dataset=Points", "--run=b", "--seed=5", *args, *PLAIN).code == 0

    def command(*flags: str):
        return run("test", "checkpoints/a", "checkpoints/b", *flags)

    return command


@pytest.mark.learns
def test_runs_are_averaged(two, run):
    given = two("--test.sample=sample.csv")
    assert given.code == 0, given.err
    assert "checkpoints/a/best.pth: mirror check: the file's column gives accuracy" in given.out
    assert "checkpoints/b/best.pth: mirror check" in given.out and "average: accuracy 0." in given.out
    for name in "ab":
        assert run("test", f"checkpoints/{name}", "--test.sample=sample.csv").code == 0
    columns = [
        [float(line[1]) for line in written(f"checkpoints/{name}.csv")[1:]]
        for name in ("a/submission", "b/submission", "a/submission-average")
    ]
    assert columns[2] == pytest.approx([(x + y) / 2 for x, y in zip(*columns[:2], strict=True)])
    write_sample("Id,dog,cat", "0.5,0.5")
    given = two("--test.sample=sample.csv")
    assert given.code == 0 and given.out.count("mirror check: the file's column gives") == 2, given
    header, *lines = written("checkpoints/a/submission-average.csv")
    assert header == ["Id", "dog", "cat"] and [float(line[1]) for line in lines] == pytest.approx(columns[2])


@pytest.mark.learns
def test_ways_of_averaging(two):
    given = two("--test.average=climb", "--result-file=climb.csv")
    assert given.code == 0 and "climb: " in given.out and " checkpoints/b/best.pth" in given.out, given
    given = two("--test.average=rank", "--result-file=rank.csv")
    assert given.code == 0 and "ranks are no probabilities" in given.out, given
    assert sorted(float(line[1]) for line in written("rank.csv")[1:])[-1] <= 1
    given = two("--test.average=geometric", "--test.output=class", "--result-file=class.csv")
    assert given.code == 0 and written("class.csv")[0] == ["id", "class"], given
    assert {line[1] for line in written("class.csv")[1:]} == {"cat", "dog"}
    assert two("--test.average=rank", "--test.output=label").code == 2


def test_runs_of_other_classes_are_refused(two):
    Path("data/points.py").write_text(DATA.replace('["cat", "dog"]', '["cat", "fox"]'))
    import main

    args = ["--model=MLP", "--max-epoch=1", "--batch-size=8", *PLAIN]
    assert main.main(["train", "--data.dataset=Points", "--run=c", *args]) == 0
    given = two("checkpoints/c")
    assert given.code == 3 and "have other classes (['cat', 'dog'] and ['cat', 'fox'])" in given.err, given
