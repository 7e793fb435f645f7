"""Kaggle's tables: what columns become, what a checkpoint keeps, how good the trained networks are."""

import csv
import json
import math

import pytest
import torch
from conftest import DATA, PLAIN, rows, same_run, state
from tables import COLUMNS, TRAIN, feature, house, table

from data._cells import parse_number
from data._columns import Columns
from data._table import derive, read_table, split_fold
from data.tabular import Tabular
from utils.errors import DataError


@pytest.fixture
def houses(tmp_path):
    return table(tmp_path / "houses")


# What a column becomes


def test_the_folds_part_the_rows_and_their_seed_shuffles_them():
    parts = [split_fold(23, (k, 5), seed=0) for k in range(5)]
    assert sorted(i for _, held_out in parts for i in held_out) == list(range(23))
    assert all(sorted(train + held_out) == list(range(23)) for train, held_out in parts)
    assert split_fold(23, (0, 5), seed=1) != parts[0] == split_fold(23, (0, 5), seed=0)
    for wrong in ((5, 5), (-1, 5), (0, 1), (0,)):
        with pytest.raises(ValueError, match="fold k of n"):
            split_fold(23, wrong, seed=0)


def test_numbers_are_standardised_over_the_training_rows_alone(houses):
    train, val, test = (house(houses, split) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (8, 2, 2)
    lines = {line.split(",")[0]: line.split(",") for line in TRAIN}
    known = [float(lines[i][1]) for i in train.ids if lines[i][1] != "NA"]
    statistic, values = feature(train, "Area")
    assert statistic["mean"] == pytest.approx(sum(known) / len(known))
    assert values[:, 0].sum().item() == pytest.approx(0, abs=1e-5)
    assert val.statistics == test.statistics == train.statistics
    assert feature(test, "Area")[1][1, 0] == pytest.approx((5000 - statistic["mean"]) / statistic["std"])


def test_a_gap_is_the_mean_and_marked_where_training_has_gaps(houses, tmp_path):
    train = house(houses, fold=(0, 10), seed=0)
    assert "3" in train.ids
    statistic, values = feature(train, "Area")
    assert statistic["gaps"] and values[train.ids.index("3")].tolist() == [0, 1]
    assert values[:, 1].sum() == 1
    test = house(houses, "test", statistics=train.meta["statistics"])
    assert feature(test, "Rooms")[1].tolist()[0] == [0.0], "a gap that only the test has is filled and not marked"
    assert test.inputs.isfinite().all()


def test_na_and_none_are_categories_and_the_unknown_is_all_zeros(houses):
    train = house(houses)
    assert feature(train, "Garage")[0]["values"] == ["Big", "NA", "Small"]
    test = house(houses, "test", statistics=train.meta["statistics"])
    assert feature(test, "Garage")[1].tolist() == [[0, 1, 0], [0, 0, 0]]
    assert feature(test, "Zone")[1][1].sum() == 0


def test_options_of_the_columns(houses):
    options = {"log": ["Price", "Area"], "categories": ["Rooms"], "rare": 2, "clip": 1.5, "without": [4, "7"]}
    options["derive"] = {
        "Title": {"column": "Name", "pattern": r"^(\w+)\."},
        "PerRoom": {"plus": ["Area", "Rooms"], "minus": ["Id"]},
    }
    train, val = (house(houses, split, options | {"ignore": ["Name"]}, fold=(0, 10)) for split in ("train", "val"))
    assert not {"4", "7"} & set(train.ids) and len(train) == 7
    assert "C" not in feature(train, "Zone")[0]["values"], "it is rare"
    assert feature(train, "Rooms")[0]["values"] == ["3", "4"]
    assert set(feature(train, "Title")[0]["values"]) <= {"Mr", "Mrs", "Miss"}
    assert train.inputs.abs().max() <= 1.5
    assert feature(train, "Area")[0]["mean"] < 7, "of logarithms"
    row, cells = train.ids.index("2"), {"Area": 200, "Rooms": 4, "Id": 2}
    statistic, values = feature(train, "PerRoom")
    z = (cells["Area"] + cells["Rooms"] - cells["Id"] - statistic["mean"]) / statistic["std"]
    assert values[row, 0].item() == pytest.approx(max(-1.5, min(1.5, z)), abs=1e-5)
    assert val.statistics == train.statistics


def test_left_out_rows_stay_in_validation(houses):
    val = house(houses, "val")
    again = house(houses, "val", COLUMNS | {"without": val.ids})
    assert again.ids == val.ids
    assert torch.equal(again.inputs, val.inputs)
    with pytest.raises(DataError, match=r"train.csv: columns.without names the row '99'"):
        house(houses, columns={"without": [99]})


def test_a_target_is_a_number_or_a_class(houses):
    train = house(houses)
    output = train.meta["outputs"][0]
    price = math.expm1(train.labels[0, 0].item() * output["std"] + output["mean"])
    assert price == pytest.approx(float(TRAIN[int(train.ids[0]) - 1].split(",")[-1]), rel=1e-4)
    assert train.labels.mean().item() == pytest.approx(0, abs=1e-5)
    rooms = house(houses, target="Rooms", columns={"categories": ["Rooms"]})
    assert (rooms.meta["classes"], rooms.meta["num_classes"]) == (["3", "4", "5"], 3)
    assert rooms.labels.dtype == torch.int64
    assert "outputs" not in rooms.meta
    x, y = rooms.read([1, 0])
    assert torch.equal(x[0], rooms[1][0]) and y[1] == rooms[0][1]


def test_numbers_in_cells():
    assert [parse_number(text) for text in ("", "NA", "nan", "None", "3", "-1e3")] == [None, None, None, None, 3, -1000]
    for text in ("inf", "1_000", "abc", "1,5"):
        with pytest.raises(ValueError):
            parse_number(text)


# A run on a small table


YAML = """# Houses.
task: Regression
model: {{name: MLP, num_classes: 1, hidden: [8], dropout: 0.2}}
data:
  dataset:
    {{name: Tabular, root: "{root}", target: Price, id: Id, columns: {{ignore: [Name], log: [Price, Area], clip: 3}}}}
  batch_size: 3
optim: {{name: AdamW, lr: 0.01}}
schedule: OneCycleLR
train: {{max_epoch: 4, ema: 0.9}}
log: {{visdom: false, pictures: false, print_freq: 1}}
"""


def test_resumed_after_any_step_it_is_the_same_run(run, houses, tmp_path):
    (tmp_path / "small.yaml").write_text(YAML.format(root=houses))
    assert run("train", "small.yaml", "--run=whole").code == 0
    for steps in (1, 3, 5, 11):
        cut = f"--run=cut{steps}"
        stop = [f"--train.max_steps={steps}", "--schedule.total_steps=12"]
        assert run("train", "small.yaml", cut, *stop).code == 0
        resumed = run("train", f"--resume=checkpoints/cut{steps}", "--train.max_steps=null")
        assert resumed.code == 0, resumed.err
        assert rows(f"cut{steps}") == rows("whole")
        assert same_run(state(f"cut{steps}"), state("whole"))


def test_the_checkpoint_alone_predicts_in_the_targets_unit(run, houses, tmp_path):
    (tmp_path / "small.yaml").write_text(YAML.format(root=houses))
    sample = tmp_path / "sample.csv"
    sample.write_text("Id,Cost\n12,0\n11,0\n")
    assert run("train", "small.yaml", "--run=a", "--max-epoch=30").code == 0
    (tmp_path / "houses" / "train.csv").unlink()
    (tmp_path / "small.yaml").unlink()
    given = run("test", "checkpoints/a", f"--test.sample={sample}")
    assert given.code == 0, given.err
    header, *lines = csv.reader((tmp_path / "checkpoints/a/submission.csv").read_text().splitlines())
    assert (header, [line[0] for line in lines]) == (["Id", "Cost"], ["12", "11"])
    assert 300 < float(lines[1][1]) < 6000, "not a price"
    json.dumps(state("a")["meta"])


@pytest.mark.learns
def test_the_journal_of_a_small_run_is_known(run, houses, tmp_path):
    """Golden: three steps on ten rows. What changes here changes every result that was measured."""
    (tmp_path / "small.yaml").write_text(YAML.format(root=houses).replace("dropout: 0.2", "dropout: 0.0"))
    assert run("train", "small.yaml", "--run=a", "--max-epoch=1").code == 0
    losses = [row["loss"] for row in rows("a", phase="train")]
    assert losses == pytest.approx([0.365746, 1.557960, 0.445944], abs=1e-4)


# The real tables


def needs(name):
    folder = DATA / "tabular" / name
    return pytest.mark.skipif(not folder.exists(), reason=f"{folder} is not there")


def trained(run, name, folds_or_seeds, metric):
    """What the last epoch of each of five runs measured: not the best one, which was chosen by these very rows."""
    found = []
    for i, flags in enumerate(folds_or_seeds):
        root = f"--data.dataset.root={DATA / 'tabular' / name}"
        given = run("train", name, f"--run={name}{i}", root, *flags, *PLAIN)
        assert given.code == 0, given.err
        found.append(rows(f"{name}{i}", phase="val")[-1][metric])
    return found


@pytest.mark.learns
@needs("house_prices")
@pytest.mark.slow
def test_house_prices_over_five_folds(run):
    errors = trained(run, "house_prices", [[f"--data.dataset.fold=[{k},5]"] for k in range(5)], "rmse")
    assert sum(errors) / 5 < 0.135, errors


@pytest.mark.learns
@needs("titanic")
@pytest.mark.slow
def test_titanic_over_five_seeds(run):
    seeds = [[f"--seed={k}", f"--data.dataset.seed={k}"] for k in range(5)]
    accuracies = trained(run, "titanic", seeds, "accuracy")
    assert sum(accuracies) / 5 > 0.79, accuracies


@pytest.mark.parametrize(
    "name, sample, count, header",
    [
        ("house_prices", "sample_submission.csv", 1459, "Id,SalePrice"),
        ("titanic", "gender_submission.csv", 418, "PassengerId,Survived"),
        ("digit_recognizer", "sample_submission.csv", 337, "ImageId,Label"),
    ],
)
def test_a_submission_has_every_row_under_the_samples_header(run, tmp_path, name, sample, count, header):
    folder = DATA / "tabular" / name
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    given = run("train", name, "--run=a", f"--data.dataset.root={folder}", "--train.max_steps=3", *PLAIN)
    assert given.code == 0, given.err
    assert run("test", "checkpoints/a", f"--test.sample={folder / sample}").code == 0
    first, *lines = (tmp_path / "checkpoints/a/submission.csv").read_text().splitlines()
    assert (first, len(lines)) == (header, count)
    values = {float(line.partition(",")[2]) for line in lines}
    assert all(map(math.isfinite, values))
    if name == "titanic":
        assert values <= {0, 1}
    if name == "house_prices":
        assert min(values) > 1000, "in dollars"


@needs("house_prices")
def test_the_quirks_of_the_houses():
    """NA and None are meanings; gaps, MSSubClass 150 and a garage of 2207 appear in the test only."""
    import configs

    spec = configs.load("house_prices").data.dataset
    root = str(DATA / "tabular" / "house_prices")
    train = Tabular(**{**spec.args, "root": root}, split="train")
    test = Tabular(**{**spec.args, "root": root}, split="test", statistics=train.meta["statistics"])
    assert feature(train, "PoolQC")[0]["values"] == ["NA"], "the others are rare"
    assert {"None", "BrkFace"} <= set(feature(train, "MasVnrType")[0]["values"])
    assert test.inputs.isfinite().all() and test.inputs.abs().max() <= 3
    lines = read_table(f"{root}/test.csv")
    odd = [i for i, (_, kind) in enumerate(lines.cells("MSSubClass")) if kind == "150"]
    assert odd and feature(test, "MSSubClass")[1][odd].sum() == 0
    assert derive(lines, {"Age": {"plus": ["YrSold"], "minus": ["GarageYrBlt"]}}).cells("Age")
    assert len(Columns.from_config(spec.args["columns"]).log) == 21
