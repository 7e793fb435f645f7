"""Several labels a sample: read from a CSV, learned, measured as scikit-learn does, and written so that they hold."""

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import PLAIN, rows, same_run, state
from several import COLOURS, corners, truth_of
from sklearn import metrics

from configs import load
from data.csv_images import CSVImages
from data.protocol import label_table_of, labels_of
from trainer.evaluate import meters_of
from trainer.optim.update import make_updates
from trainer.submission.figures import Unreadable, reader_of
from trainer.tasks.multi_label import MultiLabel
from utils.errors import ConfigError, DataError

NAMES = list(COLOURS)


def pictures(root, split="train", **options):
    return CSVImages(str(root), split, target_kind="labels", **options)


def table(text: str, folder: Path, **options) -> CSVImages:
    """A dataset of the pictures p0 to p5 with this CSV."""
    if not (folder / "train").exists():
        corners(folder, 6)
    (folder / "trainLabels.csv").write_text(text)
    return pictures(folder, val_fraction=0, **options)


def rows_of(dataset) -> dict[str, list[str]]:
    """The names of each picture's labels."""
    found = zip(dataset.ids, dataset.labels.tolist(), strict=True)
    return {name: [dataset.classes[i] for i, there in enumerate(row) if there] for name, row in found}


# The CSV


@pytest.mark.parametrize(
    "form, sign", [("columns", ""), ("names", ";"), ("names", "|"), ("names", ", "), ("names", " ")]
)
def test_columns_of_0_and_1_and_a_column_of_names_give_the_same(tmp_path, form, sign):
    found = pictures(corners(tmp_path, form=form, sign=sign), val_fraction=0)
    assert found.classes == (NAMES if form == "columns" else sorted(NAMES))
    for name, labels in rows_of(found).items():
        truth = truth_of(int(name[1:]))
        assert sorted(labels) == sorted(label for label, there in zip(NAMES, truth, strict=True) if there)
    assert found.labels.dtype == torch.float32 and labels_of(found) is None
    assert label_table_of(found).shape == (60, 3)
    assert found[0][1].tolist() == found.labels[0].tolist()
    told = "\n".join(found.facts.lines)
    assert "pictures without any label" in told and "data.dataset.label" in told
    assert form == "columns" or f"separated by '{sign.strip() or ' '}'" in told


@pytest.mark.parametrize(
    ("cells", "options", "classes"),
    [
        (["a", "b", "a", "c", "b", "a"], {}, ["a", "b", "c"]),  # each has one, and yet the task learns any number
        (["wild cat;dog", "dog", "wild cat", "", "dog", "dog"], {}, ["dog", "wild cat"]),
        (["wild cat", "dog", "dog", "dog", "", "dog"], {"separator": ";"}, ["dog", "wild cat"]),
        (["a b", "b", "a", "c", "b c", "a"], {}, ["a", "b", "c"]),
        (["a b", "b", "a", "c", "b c", "a"], {"separator": "space"}, ["a", "b", "c"]),
        (["10 2", "2", "10", "3", "2", "10"], {}, ["2", "3", "10"]),
        (["a/b", "b", "a", "b/a/a", "b", "a"], {"separator": "/"}, ["a", "b"]),
        (["a", "b", "a", "b", "b", "a"], {"classes": ["b", "a", "z"]}, ["b", "a", "z"]),
    ],
)
def test_a_column_of_names(tmp_path, cells, options, classes):
    text = "\n".join(["id,tags", *(f'p{i},"{cell}"' for i, cell in enumerate(cells))])
    assert table(text, tmp_path, label="tags", **options).classes == classes


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        ('id,tags\np0,"a;b"\np1,"a|b"\np2,a', {}, "data.dataset.separator"),
        ("id,tags\np0,wild cat\np1,dog\np2,dog", {}, "is 'wild cat' in the column tags one label, or 2"),
        (
            "id,a,b\np0,1,0\np1,1,2\np2,0,0",
            {"label": ["a", "b"]},
            "trainLabels.csv:3: '2' in the column b is neither 0",
        ),
        ("id,a,b\np0,1,0\np1,1,1", {"label": ["a", "c"]}, "has no column 'c'"),
        ('id,tags\np0,"a;b"\np1,"a;z"', {"classes": ["a", "b"]}, "csv:3: the label 'z' is none of the 2 classes"),
        ('id,tags\np0,"a;nan"\np1,b', {}, "its label 'nan' means none"),
        ('id,tags\np0,"Cat;dog"\np1,"cat"', {}, "Cat, cat look like one class"),
        ("id,tags\np0,\np1,", {}, "no row with a label"),
        ("id,tags,split\np0,a,x\np1,b,y\np2,a,x\np3,b,x", {}, "which column is the label?"),
    ],
)
def test_a_doubtful_or_wrong_csv_is_one_sentence(tmp_path, text, options, told):
    with pytest.raises(DataError) as error:
        table(text, tmp_path, **options)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_a_label_of_one_column_is_one_label(tmp_path):
    found = table("id,sick\np0,1\np1,0\np2,1\np3,0\np4,0\np5,1", tmp_path)
    assert {name for name, labels in rows_of(found).items() if labels == ["sick"]} == {"p0", "p2", "p5"}


def test_a_task_of_one_label_says_that_another_learns_several(tmp_path):
    root = corners(tmp_path)
    with pytest.raises(DataError, match="--task=MultiLabel learns several"):
        CSVImages(str(root), "train", target_kind="class")
    with pytest.raises(ValueError, match="MultiLabel learns several"):
        CSVImages(str(root), "train", target_kind="class", separator=";")


def test_each_fold_gets_its_share_of_the_rarest_labels(tmp_path):
    from data._folds import Folds

    counts = []
    for k in range(3):
        held = pictures(corners(tmp_path), "val", folds=Folds(k, 3))
        truth = [truth_of(int(name[1:])) for name in held.ids]
        rarest = [names.index(1) for names in truth if names == [0, 1, 0] or names == [1, 1, 0]]
        counts.append((len(held), len(rarest)))
    assert max(counts) != min(counts) or counts[0] == counts[1]
    assert all(abs(one[i] - other[i]) <= 1 for one in counts for other in counts for i in (0, 1))


# The task

LOGITS = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) * 2
TRUTH = (torch.rand(40, 3, generator=torch.Generator().manual_seed(1)) < torch.tensor([0.5, 0.3, 0.1])).float()


def of_identity(**options) -> MultiLabel:
    return MultiLabel(torch.nn.Identity(), classes=["a", "b", "c"], **options)


@pytest.mark.parametrize("threshold", [0.5, 0.2, [0.3, 0.6, 0.9]])
def test_metrics_are_scikit_learns(threshold):
    task = of_identity(threshold=threshold)
    meters = meters_of(task, load("default", {"task": "MultiLabel", "task.metrics_too": ["roc_auc_ovr"]}))
    for start, end in ((0, 1), (1, 30), (30, 40)):
        task.val_step((LOGITS[start:end], TRUTH[start:end]), meters)
    scores, truth = LOGITS.double().sigmoid().numpy(), TRUTH.numpy().astype(int)
    chosen = (scores >= np.array(threshold)).astype(int)
    expected = {
        "loss": float(torch.nn.functional.binary_cross_entropy_with_logits(LOGITS, TRUTH)),
        "average_precision": metrics.average_precision_score(truth, scores, average="macro"),
        "macro_f1": metrics.f1_score(truth, chosen, average="macro"),
        "micro_f1": metrics.f1_score(truth, chosen, average="micro"),
        "accuracy": 1 - metrics.hamming_loss(truth, chosen),
        "exact_match": metrics.accuracy_score(truth, chosen),
        "roc_auc_ovr": metrics.roc_auc_score(truth, scores),
    }
    assert {name: meters[name].value() for name in expected} == pytest.approx(expected, rel=1e-6)
    assert set(MultiLabel.metrics) | {"roc_auc_ovr", "predictions"} == set(meters)


def test_accumulated_batches_are_one_large_batch():
    net = torch.nn.Linear(5, 3)
    inputs = torch.randn(16, 5)

    def trained(parts):
        cfg = load("default", {"task": "MultiLabel", "optim": {"name": "SGD", "lr": 0.5}})
        cfg = replace(cfg, train=replace(cfg.train, accumulate=len(parts), precision="fp32"))
        own = torch.nn.Linear(5, 3)
        own.load_state_dict(net.state_dict())
        task = MultiLabel(own, ["a", "b", "c"], loss=torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 2, 3])))
        updates = make_updates(task, cfg, len(parts))
        for step, (start, end) in enumerate(parts):
            share = (end - start) * len(parts) / 16
            updates.begin(step, share, share)
            task.train_step((inputs[start:end], TRUTH[start:end]), updates)
        updates.close()
        return own.weight.detach()

    whole = trained([(0, 16)])
    assert (whole - net.weight).abs().max() > 1e-3, "it learns"
    torch.testing.assert_close(trained([(0, 8), (8, 16)]), whole)
    torch.testing.assert_close(trained([(0, 3), (3, 16)]), whole)


def test_rows_are_probabilities_or_names():
    logits = torch.tensor([[3.0, -1.0, 2.0], [-3.0, -3.0, -3.0]])
    first = of_identity().test_step(logits)[0]
    assert first == pytest.approx(dict(zip("abc", torch.sigmoid(logits[0]).tolist(), strict=True)))
    assert [row["labels"] for row in of_identity(output="label").test_step(logits)] == ["a;c", ""]
    assert of_identity(output="class", separator=" ", threshold=0.1).test_step(logits)[0] == {"labels": "a b c"}
    assert "with ';' between" in of_identity(output="label").predicts() and of_identity().predicts() == ""


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"threshold": [0.5, 0.5]}, ConfigError, "2 thresholds for 3 labels"),
        ({"loss": torch.nn.CrossEntropyLoss()}, ConfigError, "CrossEntropyLoss is over classes of which one is true"),
        ({"loss": torch.nn.BCELoss()}, ConfigError, "BCELoss takes probabilities"),
        (
            {"loss": torch.nn.BCEWithLogitsLoss(pos_weight=torch.ones(2))},
            ConfigError,
            "does not take logits of 3 labels",
        ),
        ({"classes": []}, DataError, "it tells no labels"),
    ],
)
def test_what_does_not_fit_is_one_sentence(options, error, told):
    with pytest.raises(error, match=told):
        MultiLabel(torch.nn.Identity(), **{"classes": ["a", "b", "c"], **options})


def test_other_data_and_networks_are_one_sentence():
    task, fake = of_identity(), SimpleNamespace()
    with pytest.raises(DataError, match="labels of shape .*for one class of several take Classification"):
        task.train_step((LOGITS, torch.zeros(40, dtype=torch.int64)), fake)
    with pytest.raises(ConfigError, match=r"gives \[2\] for each sample, the data has 3 labels"):
        task.train_step((LOGITS[:, :2], TRUTH), fake)


def test_a_guess_has_ln_2_where_nothing_is_weighted():
    assert of_identity().at_chance() == {"loss": pytest.approx(0.6931, abs=1e-4)}
    assert of_identity(loss=torch.nn.BCEWithLogitsLoss(pos_weight=torch.ones(3))).at_chance() == {}


# The mirror check


def written(scores, columns=("a", "b", "c")):
    lines = [dict(zip(columns, map(repr, row), strict=True)) for row in np.asarray(scores).tolist()]
    return lines, list(TRUTH)


def test_figures_of_a_file_see_what_is_inverted_and_which_names_are_wrong():
    meta = {"classes": ["a", "b", "c"]}
    scores = LOGITS.double().sigmoid().numpy()
    reader = reader_of(["c", "a", "b"], TRUTH[0], meta, "probability", None, Path())
    expected = metrics.average_precision_score(TRUTH.numpy().astype(int), scores, average="macro")
    assert reader.figures(*written(scores)).numbers == {"average_precision": pytest.approx(expected)}
    assert reader.flipped(*written(1 - scores)).numbers == {"average_precision": pytest.approx(expected)}
    chosen = scores >= 0.5
    lines = [{"labels": "|".join(n for n, there in zip("abc", row, strict=True) if there)} for row in chosen]
    named = reader_of(["labels"], TRUTH[0], {**meta, "separator": "|"}, "label", None, Path())
    f1 = metrics.f1_score(TRUTH.numpy().astype(int), chosen.astype(int), average="micro")
    assert named.figures(lines, list(TRUTH)).numbers == {"micro_f1": pytest.approx(f1)}
    with pytest.raises(DataError, match="which is no label"):
        named.figures([{"labels": "a;b"}] * 40, list(TRUTH))
    with pytest.raises(Unreadable, match="are not the labels"):
        reader_of(["a", "b"], TRUTH[0], meta, "probability", None, Path())


# A run

CONFIG = """
task: MultiLabel
model: {name: MLP, hidden: [8]}
data: {dataset: CSVImages, train_data_root: d, test_data_root: d, batch_size: 8}
optim: {name: Adam, lr: 3e-3}
train: {max_epoch: 2}
"""


@pytest.fixture
def several(run, tmp_path):
    corners(tmp_path / "d")
    (tmp_path / "m.yaml").write_text(CONFIG)
    return lambda *words: run(words[0], *(["m.yaml", *PLAIN] if words[0] in ("train", "kfold") else []), *words[1:])


def submission(name="a", file="submission.csv"):
    with open(f"checkpoints/{name}/{file}", newline="") as stream:
        return list(csv.reader(stream))


@pytest.mark.slow
def test_from_a_csv_to_a_submission(several, run):
    given = several("train", "--run=a", "--task.loss=BCEWithLogitsLoss", "--task.loss.pos_weight=balanced")
    assert given.code == 0, given.err
    assert "3 labels, samples in train + val: red: 20 + 10, green: 15 + 5, blue: 16 + 8" in given.out
    assert "note:" not in given.out.replace("note: the training loss is told each 20 steps", "")
    assert load("checkpoints/a/config.yaml").task.args["loss"].args["pos_weight"] == (1.1, 1.8, 1.625)
    tested = several("test", "checkpoints/a")
    assert tested.code == 0 and "mirror check: the file's column gives average_precision" in tested.out
    header, *lines = submission()
    assert header == ["id", *NAMES] and len(lines) == 20
    assert all(0 < float(cell) < 1 for line in lines for cell in line[1:])
    Path("s.csv").write_text("id,blue,red,green\n" + "".join(f"p{i},0,0,0\n" for i in range(79, 59, -1)))
    assert several("test", "checkpoints/a", "--test.sample=s.csv").code == 0
    other, *mixed = submission()
    assert other == ["id", "blue", "red", "green"] and [line[0] for line in mixed][:2] == ["p79", "p78"]
    plain = {line[0]: dict(zip(header, line, strict=True)) for line in lines}
    assert all(dict(zip(other, line, strict=True)) == plain[line[0]] for line in mixed)
    named = several("test", "checkpoints/a", "--test.output=label", "--task.threshold=[0.3,0.5,0.6]")
    assert "mirror check: the file's column gives micro_f1" in named.out
    at = dict(zip(NAMES, (0.3, 0.5, 0.6), strict=True))
    for key, names in submission()[1:]:
        assert names == ";".join(name for name in NAMES if float(plain[key][name]) >= at[name])
    assert several("predict", "checkpoints/a", "d/test", "--out=p.csv").code == 0
    with open("p.csv", newline="") as stream:
        found = list(csv.DictReader(stream))
    assert [*found[0]] == ["path", "labels", *NAMES]
    assert found[0]["labels"] == ";".join(name for name in NAMES if float(found[0][name]) >= 0.5)


def test_another_threshold_changes_what_val_tells_and_nothing_else(several):
    assert several("train", "--run=a").code == 0
    one, other = (several("val", "checkpoints/a", *flags).out for flags in ([], ["--task.threshold=0.05"]))
    lines = [dict(line.split(" ", 1) for line in text.splitlines()[1:]) for text in (one, other)]
    assert {name for name in lines[0] if lines[0][name] != lines[1][name]} <= set(MultiLabel.metrics)
    assert lines[0]["average_precision"] == lines[1]["average_precision"] and lines[0]["loss"] == lines[1]["loss"]
    assert lines[0]["accuracy"] != lines[1]["accuracy"]
    views = several("val", "checkpoints/a", "--test.views=[hflip]")
    assert views.code == 0 and "average_precision" in views.out


@pytest.mark.parametrize("steps", [4, pytest.param(6, marks=pytest.mark.slow)])
def test_a_run_that_was_stopped_goes_on_as_the_same_run(several, run, steps):
    """In the middle of an epoch and at its end."""
    assert several("train", "--run=whole", "--print-freq=1").code == 0
    assert several("train", "--run=cut", "--print-freq=1", f"--train.max_steps={steps}").code == 0
    assert run("train", "--resume=checkpoints/cut", "--train.max_steps=null").code == 0
    assert same_run(state("cut"), state("whole"))
    assert rows("cut", phase="train") == rows("whole", phase="train")


@pytest.mark.slow
def test_folds_give_a_row_of_truth_and_predictions_each(several, run):
    given = several("kfold", "--folds=2", "--run=k")
    assert given.code == 0, given.err
    header, *lines = submission("k", "oof.csv")
    assert header == ["id", *(f"truth {name}" for name in NAMES), *NAMES, "child"] and len(lines) == 60
    truth = np.array([[int(cell) for cell in line[1:4]] for line in lines])
    scores = np.array([[float(cell) for cell in line[4:7]] for line in lines])
    assert all(row.tolist() == truth_of(int(line[0][1:])) for row, line in zip(truth, lines, strict=True))
    assert f"average_precision {metrics.average_precision_score(truth, scores):.4g}"[:22] in given.out
    assert run("test", "checkpoints/k").code == 0
    assert submission("k")[0] == ["id", *NAMES]
    refused = run("test", "checkpoints/k", "--test.output=label")
    assert refused.code == 2 and "averages of several labels are written as probabilities" in refused.err


@pytest.mark.slow
def test_a_rehearsal_and_the_data_find_nothing_odd(several, run):
    given = several("train", "--train.rehearse=only", "--run=r")
    assert given.code == 0, given.err
    assert run("data", "m.yaml").code == 0
    part = several("train", "--run=p", "--data.fraction=0.5", "--max-epoch=1")
    assert part.code == 0 and "3 labels, samples in train + val: red: " in part.out
    mixed = several("train", "--run=q", "--data.mix.mixup=0.2")
    assert mixed.code == 2 and "it mixes the labels of classes" in mixed.err
