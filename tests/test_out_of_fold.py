"""Hill climbing over several studies, on the rows that their folds held out."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from conftest import PLAIN
from sklearn.metrics import log_loss, root_mean_squared_error

from trainer.submission.average import average, climb
from trainer.submission.out_of_fold import held_out, loss_of
from utils.errors import CheckpointError, DataError
from utils.runs.study import Study, read_study

CLASSES = ["ant", "bee", "cow"]


def study(folder: Path, header: list, rows: list[list]) -> Study:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "oof.csv", "w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *rows])
    return Study(folder, "kfold", [], "Classification")


def guesses(rng, labels, sharp: float) -> np.ndarray:
    """Probabilities [N, 3] that lean to the label, each row with noise of its own."""
    logits = rng.normal(size=(len(labels), 3)) + sharp * np.eye(3)[labels]
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_classes_joined_by_id_give_sklearns_log_loss_and_a_better_mean(tmp_path):
    rng = np.random.default_rng(0)
    labels, order = rng.integers(0, 3, 300), rng.permutation(300)
    tables = [guesses(rng, labels, sharp) for sharp in (1.5, 1.2, 0.0)]
    header, studies = ["id", "truth", *CLASSES, "child"], []
    for number, table in enumerate(tables):
        rows = [[i, CLASSES[labels[i]], *table[i], f"fold{i % 5}"] for i in range(300)]
        studies.append(study(tmp_path / str(number), header, [rows[i] for i in order] if number == 1 else rows))
    held = held_out(studies)
    name, loss = loss_of(held[0].truth, {"classes": CLASSES})
    assert name == "log_loss"
    for one, table in zip(held, tables, strict=True):
        assert loss(one.rows) == pytest.approx(log_loss(labels, table, labels=[0, 1, 2]))
    weights = climb([one.rows for one in held], loss)
    mean = sum(weight * table for weight, table in zip(weights, tables, strict=True))
    assert loss(average([one.rows for one in held], weights=weights)) == pytest.approx(log_loss(labels, mean))
    assert log_loss(labels, mean) < min(log_loss(labels, table) for table in tables) and weights[2] < 0.1 < weights[1]


def test_numbers_and_labels_have_their_losses(tmp_path):
    truth, found = [3.0, 10.0, 200.0], [4.0, 9.0, 150.0]
    numbers = study(
        tmp_path / "n",
        ["id", "truth", "price", "child"],
        [[i, t, f, "a"] for i, (t, f) in enumerate(zip(truth, found, strict=True))],
    )
    (held,) = held_out([numbers])
    name, loss = loss_of(held.truth, {"outputs": [{"name": "price", "log": True}]})
    assert name == "rmse" and loss(held.rows) == pytest.approx(
        root_mean_squared_error(np.log1p(truth), np.log1p(found))
    )
    assert loss_of(held.truth, {"outputs": [{"name": "price"}]})[1](held.rows) == pytest.approx(
        root_mean_squared_error(truth, found)
    )
    labels = study(tmp_path / "l", ["id", "truth a", "truth b", "a", "b", "child"], [["x", 1, 0, 0.9, 0.2, "f"]])
    (held,) = held_out([labels])
    expected = -(math.log(0.9) + math.log(0.8)) / 2
    assert loss_of(held.truth, {"classes": ["a", "b"]})[1](held.rows) == pytest.approx(expected)


def test_studies_that_do_not_go_together_are_refused(tmp_path):
    header, one = ["id", "truth", "a", "b", "child"], [["1", "a", 0.5, 0.5, "f"], ["2", "b", 0.5, 0.5, "f"]]
    first = study(tmp_path / "1", header, one)
    for number, (rows, told) in enumerate(
        [
            (one[:1], "1 ids are in one oof.csv alone, as 2"),
            ([["1", "b", 0.5, 0.5, "f"], one[1]], "another truth for the row 1"),
        ]
    ):
        with pytest.raises(DataError, match=told):
            held_out([first, study(tmp_path / f"o{number}", header, rows)])
    with pytest.raises(CheckpointError, match="has no oof.csv"):
        held_out([first, Study(tmp_path / "none", "kfold", [], "")])
    with pytest.raises(CheckpointError, match="is damaged"):
        held_out([first, study(tmp_path / "bad", header, [["1", "a", "x", 0.5, "f"]])])


@pytest.mark.slow
def test_two_studies_of_folds_are_weighed_and_averaged(run, tmp_path):
    """As typed: the weights are those of the rows held out, and the submission is the weighed mean of the studies'."""
    for name, model in (("ka", "MLP"), ("kb", "LeNet")):
        flags = ["--folds=2", f"--model={model}", "--max-epoch=2", "--optim=Adam", "--lr=3e-3", *PLAIN]
        assert run("kfold", "default", *flags, f"--run={name}").code == 0
        given = run("test", f"checkpoints/{name}")
        assert given.code == 0 and f"-m {name}\n" in given.out
    given = run("test", "ka", "checkpoints/kb", "--test.average=climb")
    assert given.code == 0 and "climb: " in given.out and "on 1,527 rows that were held out" in given.out, given
    held = held_out([read_study(tmp_path / f"checkpoints/{name}") for name in ("ka", "kb")])
    classes = [str(i) for i in range(10)]
    weights = climb([one.rows for one in held], loss_of(held[0].truth, {"classes": classes})[1])
    tables = []
    for name in ("ka/submission.csv", "kb/submission.csv", "ka/submission-average.csv"):
        with open(tmp_path / "checkpoints" / name) as stream:
            tables.append({row["id"]: [float(row[c]) for c in classes] for row in csv.DictReader(stream)})
    one, other, mean = tables
    for key in mean:
        expected = weights[0] * np.array(one[key]) + weights[1] * np.array(other[key])
        assert np.allclose(mean[key], expected, atol=1e-6)
    for how in ("mean", "geometric", "rank"):
        assert run("test", "ka", "kb", f"--test.average={how}").code == 0
    assert run("train", "--run=lone", "--model=MLP", "--train.max_steps=2", *PLAIN).code == 0
    given = run("test", "ka", "checkpoints/lone", "--test.average=climb")
    assert given.code == 3 and "lone/best.pth is a lone run" in given.err, given
    given = run("test", "ka", "--test.average=climb")
    assert given.code == 3 and "several studies of folds" in given.err, given
