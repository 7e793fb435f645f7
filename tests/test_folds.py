"""Folds: each sample in one of them, classes even, groups whole, all a function of the seed; and shares of a split."""

from collections import Counter
from random import Random

import pytest
from conftest import TOY, dogcats, rows

from configs import load
from data._folds import Folds, deal, evenly
from data.loading.part import with_fraction
from data.protocol import ids_of, labels_of
from trainer.build import build_dataset
from utils.errors import ConfigError, DataError


def counted(folds, things) -> dict:
    """How often each thing is in each fold."""
    found = {}
    for fold, thing in zip(folds, things, strict=True):
        found.setdefault(thing, Counter())[fold] += 1
    return found


@pytest.mark.parametrize("case", range(20))
def test_folds_part_the_samples_evenly_in_each_class(case):
    rng = Random(case)
    count, samples, classes = rng.randint(2, 9), rng.randint(9, 200), rng.randint(1, 12)
    labels = [rng.choice("abcdefghijkl"[:classes]) for _ in range(samples)]
    folds = deal(samples, count, case, labels)
    for held in [Counter(folds), *counted(folds, labels).values()]:
        assert max(held[k] for k in range(count)) - min(held[k] for k in range(count)) <= 1
    assert folds == deal(samples, count, case, labels)
    assert samples < 30 or folds != deal(samples, count, case + 1, labels)
    parts = [Folds(k, count).choose(samples, "val", case, labels) for k in range(count)]
    assert sorted(i for part in parts for i in part) == list(range(samples))
    assert Folds(0, count).choose(samples, "train", case, labels) == sorted({*range(samples)} - {*parts[0]})


@pytest.mark.parametrize("case", range(20))
def test_no_group_is_divided_and_classes_stay_near_their_share(case):
    rng = Random(case)
    count = rng.randint(2, 6)
    groups = [rng.randrange(15 * count) for _ in range(400)]
    labels = [rng.randrange(3) for _ in groups]
    folds = deal(len(groups), count, case, labels, groups)
    assert all(len(held) == 1 for held in counted(folds, groups).values())
    assert set(folds) == set(range(count)) and folds == deal(len(groups), count, case, labels, groups)
    sklearn = pytest.importorskip("sklearn.model_selection")
    oracle = [0] * len(groups)
    for fold, (_, held) in enumerate(sklearn.StratifiedGroupKFold(count).split(labels, labels, groups)):
        for i in held:
            oracle[i] = fold
    spread = [max(max(h[k] for k in range(count)) - min(h[k] for k in range(count)) for h in found.values())
              for found in (counted(folds, labels), counted(oracle, labels))]  # fmt: skip
    assert spread[0] <= spread[1] + 10


def test_as_many_groups_as_folds_get_one_each():
    assert set(deal(8, 4, 0, None, list("aaaaabcd"))) == {0, 1, 2, 3}
    with pytest.raises(DataError, match="3 groups cannot be dealt out to 4 folds"):
        deal(8, 4, 0, None, list("aaaaabbc"))
    with pytest.raises(DataError, match="3 samples cannot be dealt out to 4 folds"):
        deal(3, 4, 0)


@pytest.mark.parametrize("case", range(20))
def test_a_share_has_its_part_of_each_class(case):
    rng = Random(case)
    labels = [rng.randrange(4) for _ in range(300)]
    share = rng.choice([0.01, 0.1, 0.3, 0.5, 0.99])
    chosen = evenly(300, share, case, labels)
    assert len(chosen) == len(set(chosen)) == round(300 * share)
    for label, held in Counter(labels).items():
        assert abs(sum(labels[i] == label for i in chosen) - held * share) <= 1


# In datasets

GROUPED = "--data.group=Owner"


@pytest.fixture
def table(tmp_path):
    rng = Random(0)
    rows = [f"{i},{rng.random():.3f},o{i // 4},{rng.choice(['yes', 'no', 'no'])}" for i in range(60)]
    (tmp_path / "train.csv").write_text("\n".join(["Id,x,Owner,y", *rows]) + "\n")
    (tmp_path / "test.csv").write_text("Id,x,Owner\n1,0.5,o1\n")
    return tmp_path


def split(cfg):
    return {name: build_dataset(cfg, name, {}) for name in ("train", "val")}


def test_a_table_is_stratified_and_grouped_on_request(table):
    keys = {"data.dataset": "Tabular", "data.dataset.root": str(table), "data.dataset.target": "y"}
    keys |= {"data.dataset.id": "Id", "model": "MLP"}
    held = []
    for k in range(5):
        cfg = load("default", keys | {"data.fold": [k, 5], "data.group": "Owner"})
        parts = split(cfg)
        owners = [{int(i) // 4 for i in ids_of(parts[name])} for name in ("train", "val")]
        assert not owners[0] & owners[1]
        assert "grouped by Owner (data.group)" in parts["val"].facts.source
        held += ids_of(parts["val"])
        alone = split(load("default", keys | {"data.fold": [k, 5]}))["val"]
        assert len(alone) == 12
    assert sorted(held, key=int) == [str(i) for i in range(60)]


def test_csv_pictures_are_grouped_by_a_column(tmp_path):
    names = dogcats(tmp_path / "images", 20)
    rows = [f"{path.name},{path.name[:3]},p{i % 7}" for i, path in enumerate(sorted(names.iterdir()))]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label,patient", *rows]))
    patients = dict(row.split(",")[::2] for row in rows)
    keys = {"data.dataset": "CSVImages", "data.dataset.root": str(tmp_path), "data.dataset.labels": "labels.csv"}
    keys |= {"data.dataset.images": "images", "data.dataset.label": "label", "data.group": "patient"}
    held = []
    for k in range(3):
        parts = split(load("default", keys | {"data.fold": [k, 3]}))
        assert not {patients[i] for i in ids_of(parts["train"])} & {patients[i] for i in ids_of(parts["val"])}
        held += ids_of(parts["val"])
    assert sorted(held) == sorted(patients)
    with pytest.raises(DataError, match="has no column 'patent'; did you mean 'patient'"):
        split(load("default", keys | {"data.fold": [0, 3], "data.group": "patent"}))


@pytest.mark.parametrize("name", ["DogCat", "ImageFolder", "Digits", "Photos"])
def test_folds_of_pictures_have_each_one_once(tmp_path, name):
    for kind in ("cat", "dog"):
        for path in sorted(dogcats(tmp_path / "flat", 12).iterdir()):
            (tmp_path / "folders" / kind).mkdir(parents=True, exist_ok=True)
            if path.name.startswith(kind):
                (tmp_path / "folders" / kind / path.name).write_bytes(path.read_bytes())
    root = tmp_path / ("folders" if name == "ImageFolder" else "flat")
    keys = {"data.dataset": name} | ({} if name == "Digits" else {"data.train_data_root": str(root)})
    parts = [split(load("default", keys | {"data.fold": [k, 4]})) for k in range(4)]
    held = [i for part in parts for i in ids_of(part["val"])]
    assert len(held) == len(set(held)) == len(parts[0]["train"]) + len(parts[0]["val"])
    assert set(ids_of(parts[0]["train"])) == set(held) - set(ids_of(parts[0]["val"]))
    counts = [Counter(labels_of(part["val"]).tolist()) for part in parts if labels_of(part["val"]) is not None]
    assert name == "Photos" or all(max(c[k] for c in counts) - min(c[k] for c in counts) <= 1 for k in (0, 1))


def test_data_with_their_own_validation_refuse_folds(tmp_path, run):
    for part in ("train", "val"):
        for kind in ("a", "b"):
            dogcats(tmp_path / "own" / part / kind, 2)
    keys = ["--data.dataset=ImageFolder", f"--train-data-root={tmp_path / 'own'}", "--data.fold=[0,2]"]
    result = run("train", *TOY, *keys)
    assert result.code == 3 and "is for validation; leave one out" in result.err
    result = run("train", *TOY, "--data.dataset=StraightLine", "--data.fold=[0,2]", "--task=Regression")
    assert result.code == 2 and "StraightLine does not divide its samples itself" in result.err


def test_impossible_folds_and_shares_are_told_by_check(run):
    result = run("check", "--data.fold=[2,2]")
    assert result.code == 2 and "must be [k, n]: fold k of n, counted from 0" in result.err
    result = run("check", "--data.group=Owner")
    assert result.code == 2 and "needs data.fold" in result.err
    assert run("check", "--data.fraction=0").code == 2
    assert run("check", "--data.fraction=0.1", "--data.fold=[0,3]").code == 0


def test_a_column_is_asked_of_data_that_have_none(run):
    result = run("train", *TOY, "--data.fold=[0,2]", "--data.group=Owner")
    assert result.code == 2 and "data.group=Owner: only the rows of a table" in result.err


def test_a_fraction_trains_on_fewer_samples_and_tells_it(run, tmp_path):
    result = run("train", *TOY, "--data.fraction=0.1", "--data.fold=[0,5]", "--run=quick")
    assert result.code == 0, result.err
    told = (tmp_path / "checkpoints/quick/data.txt").read_text()
    assert "122 train and 306 val samples" in result.out
    assert "train: 122 samples, all folds except 0 of 5" in told
    assert "10 % of it, drawn by seed 0 (data.fraction)" in told and "data: Digits" in told
    assert "val: 306 samples, fold 0 of 5" in told
    assert run("val", "checkpoints/quick").out.splitlines()[0].endswith("(data.fold)")


def test_a_share_is_read_as_the_whole():
    whole = build_dataset(load("default"), "train", {})
    part = with_fraction(whole, 0.25, 3)
    assert len(part) == round(len(whole) / 4) and part.meta == whole.meta
    places = {name: i for i, name in enumerate(ids_of(whole))}
    chosen = [places[name] for name in ids_of(part)]
    assert (part.read([0, 5])[0] == whole.read([chosen[0], chosen[5]])[0]).all()
    assert labels_of(part).tolist() == labels_of(whole)[chosen].tolist()
    assert with_fraction(whole, None, 0) is whole and with_fraction(whole, 1.0, 0) is whole
    with pytest.raises(ConfigError, match="data.fraction"):
        load("default", {"data.fraction": 2.0})


@pytest.mark.parametrize("flags", [[], ["--data.fold=[1,5]"]])
def test_the_older_name_of_tables_is_told_once_and_keeps_its_rows(run, tmp_path, flags):
    text = "".join(f"{i},{i % 7},{'ab'[i % 2]}\n" for i in range(40))
    (tmp_path / "train.csv").write_text("id,x,y\n" + text)
    args = ["titanic", "--data.dataset.root=.", "--data.dataset.target=y", "--data.dataset.id=id", "--max-epoch=1"]
    args += ["--data.dataset.columns={numbers: [x]}", "--log.visdom=false", "--log.pictures=false", *flags]
    given = run("train", "--run=old", *args, "--data.dataset.fold=[1,5]")
    assert given.code == 0 and given.out.count("data.dataset.fold is the older name of data.fold") == 1, given.err
    assert ("data.fold is used" in given.out) == bool(flags)
    again = run("train", "--run=plain", *args)
    assert again.code == 0 and "older name" not in again.out
    given = run("train", "checkpoints/old/config.yaml", "--run=again")
    val = [[row["loss"] for row in rows(name, phase="val")] for name in ("old", "again", "plain")]
    assert val[0] == val[1] and (val[0] == val[2]) == bool(flags)
