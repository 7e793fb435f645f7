"""A table's columns are what a person would take them for, or an error that says how to settle it."""

import random

import pytest
from conftest import PLAIN, rows

from data._cells import guess, reader_of
from data._columns import Columns
from data._csv import Faults, read_rows
from data._table import split_fold
from data.tabular import Tabular
from utils.errors import DataError

RUN = [
    "--model=MLP",
    "--model.hidden=[16]",
    "--data.dataset=Tabular",
    "--data.dataset.target=y",
    "--data.dataset.id=id",
]
RUN += ["--data.dataset.columns={categories: [y]}", "--optim=AdamW", "--lr=1e-2", "--max-epoch=8", *PLAIN]


def read(cells, kind="", **told):
    return guess("t.csv", "a", list(enumerate(cells, 2)), told, kind)


def numbers(count=100):
    return [f"{i / 7:.3f}" for i in range(count)]


@pytest.mark.parametrize("odd", ["?", "inf", "-", ".", "unknown", "#N/A", "#DIV/0!", "abc", "nil"])
def test_a_cell_that_is_no_number_is_a_counted_gap(odd):
    reading = read([*numbers(), odd])
    assert reading.kind == "number" and reading.odd == ((102, odd),)
    known = [*numbers(), odd]
    if odd != "abc":
        assert reader_of(reading.options())(known[-1]) is None


@pytest.mark.parametrize("odd", ["1,000", "1_000", "1 000", "$12", "5%", "0x1F", "1e999"])
def test_a_number_in_another_notation_is_no_gap(odd):
    """As where thousands are grouped: the largest values would be lost."""
    with pytest.raises(DataError, match=r"t.csv:102: the column a holds '.*' among plain numbers; .*columns.gaps"):
        read([*numbers(), odd])
    with pytest.raises(DataError, match="among plain numbers"):
        read([*numbers(), odd], kind="number")
    assert read([*numbers(), odd], gaps=[odd]).kind == "number"


def test_many_other_texts_are_doubtful():
    with pytest.raises(
        DataError, match=r"t.csv:102: .*100 numbers and 20 other texts \('abc'\).*columns.numbers=\[a\]"
    ):
        read([*numbers(), *["abc"] * 20])
    assert read([*numbers(), *["abc"] * 20], kind="number").kind == "number"
    assert read([*numbers(), *["abc"] * 20], kind="category").kind == "category"
    assert read([*numbers(), *["?"] * 40]).kind == "number", "a word that means a gap, however often"
    assert read([*numbers(), *["abc"] * 20], gaps=["abc"]).odd == ()


@pytest.mark.parametrize(
    ("cells", "value"),
    [
        (["1,234,567", "12,345"], 1234567),
        (["1,234.50", "12,345.75"], 1234.5),
        (["3,14", "2,7"], 3.14),
        (["0,123", "0,456"], 0.123),
        (["1.234,5", "2.000,75"], 1234.5),
        (["１２", "３"], 12),
        (["+5", "-3"], 5),
    ],
)
def test_notations_that_mean_one_thing_are_understood(cells, value):
    reading = read(cells * 10)
    assert reading.kind == "number" and reader_of(reading.options())(cells[0]) == value


@pytest.mark.parametrize("cell", ["123,456", "1 234", "$12", "12%", "(12)", "1'234", "€ 3.50"])
def test_notations_that_are_not_sure_are_refused_with_the_choices(cell):
    with pytest.raises(DataError, match=r"the column a .*columns\.(decimal|thousands|categories)"):
        read([cell] * 20)
    assert read([cell] * 20, kind="category").kind == "category"


def test_keys_settle_the_notation():
    assert reader_of(read(["123,456"] * 9, thousands=",").options())("123,456") == 123456
    assert reader_of(read(["123,456"] * 9, decimal=",").options())("123,456") == 123.456


@pytest.mark.parametrize(
    ("cells", "days"),
    [
        (["1970-01-11", "2021-03-04"], 10),
        (["1970/01/11 10:00:00", "2021/03/04 00:00"], 10),
        (["11.01.1970", "04.03.2021"], 10),
        (["01/11/1970", "12/31/2021"], 10),
        (["11/01/1970", "31/12/2021"], 10),
    ],
)
def test_dates_are_days(cells, days):
    reading = read(cells)
    assert reading.kind == "date" and reader_of(reading.options())(cells[0]) == days


def test_a_date_of_either_order_is_refused():
    with pytest.raises(DataError, match="day and month could stand in either order"):
        read(["01/02/2021", "03/04/2021"])


def table(folder, odd="", header="id,f,g,y", count=400):
    """A table whose class is the sign of f; `odd` takes the place of one cell of it."""
    random.seed(0)
    lines = [header] * bool(header)
    for i in range(count):
        f = random.gauss(0, 1)
        lines.append(f"{i},{odd if odd and i == 7 else f'{f:.5f}'},{random.random():.4f},{int(f > 0)}")
    folder.mkdir(exist_ok=True)
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("odd", ["?", "inf", "n.a.", "x"])
def test_one_odd_cell_changes_next_to_nothing(run, tmp_path, odd):
    auc = {}
    for name, cell in (("plain", ""), ("odd", odd)):
        root = table(tmp_path / name, cell)
        given = run("train", *RUN, f"--data.dataset.root={root}", f"--run={name}")
        assert given.code == 0, given.err
        auc[name] = rows(name, phase="val")[-1]["auc"]
    assert auc["plain"] > 0.98 and abs(auc["plain"] - auc["odd"]) < 0.01
    assert "f: number, -3.13" not in given.out and f"1 gap, among them '{odd}' in line 9" in given.out


@pytest.mark.parametrize("word", ["NaN", "NA", "", "None", "null", "?"])
@pytest.mark.parametrize("kind", ["class", "number"])
def test_a_gap_in_the_target_is_an_error_with_its_line(tmp_path, word, kind):
    (tmp_path / "train.csv").write_text("a,y\n" + "".join(f"{i},{word if i == 3 else i % 2}\n" for i in range(10)))
    columns = {"categories": ["y"]} if kind == "class" else {}
    with pytest.raises(DataError, match=r"train.csv:5: its y '.*' is nothing to learn from"):
        Tabular(str(tmp_path), "train", "y", columns=columns)


def test_many_categories_are_embedded_and_texts_of_each_row_left_out(run, tmp_path):
    lines = ["name,city,y", *(f"user{i}@x.org,city{i % 150},{i % 150 % 2}" for i in range(1500))]
    (tmp_path / "train.csv").write_text("\n".join(lines))
    data = Tabular(str(tmp_path), "train", "y", columns={"categories": ["y"]})
    assert data.meta["embedded"] == [151] and data.inputs.shape == (1200, 1)
    assert any("name: left out, 1,200 different texts" in line for line in data.facts.lines)
    val = Tabular(str(tmp_path), "val", "y", columns={"categories": ["y"]}, statistics=data.statistics)
    assert val.inputs.min() >= 0 and val.inputs.max() <= 150
    (tmp_path / "models").mkdir()
    (tmp_path / "models/wide.py").write_text(
        "from torch import nn\n__all__ = ['Wide']\nclass Wide(nn.Linear):\n"
        "    def __init__(self, in_features: int, num_classes: int):\n"
        "        super().__init__(in_features, num_classes)\n"
    )
    flags = [flag for flag in RUN if "dataset.id" not in flag]
    given = run("train", *flags, f"--data.dataset.root={tmp_path}", "--run=a")
    assert given.code == 0 and rows("a", phase="val")[-1]["accuracy"] == 1, "the embedding is learned"
    others = [flag for flag in flags if "--model" not in flag]
    refused = run("train", *others, "--model=Wide", f"--data.dataset.root={tmp_path}", "--run=b")
    assert refused.code == 2 and "one_hot_at_most" in refused.err


def test_a_file_without_a_header_is_known(tmp_path):
    table(tmp_path, header="")
    with pytest.raises(DataError, match=r"train.csv:1: the first row .* holds numbers, no names .*columns.names=\["):
        Tabular(str(tmp_path), "train", "y")
    options = {"names": ["id", "f", "g", "y"], "categories": ["y"]}
    data = Tabular(str(tmp_path), "train", "y", "id", columns=options)
    assert len(data) == 320 and "0" in {*data.ids, *Tabular(str(tmp_path), "val", "y", "id", columns=options).ids}


@pytest.mark.parametrize("id", [None, "id"])
def test_columns_may_be_called_by_numbers(tmp_path, id):
    head, rows = ",".join(map(str, range(6))), [f"{i % 2},{','.join(str(i + k) for k in range(6))}" for i in range(20)]
    first, ids = ("id,", [f"{i}," for i in range(20)]) if id else ("", [""] * 20)
    (tmp_path / "train.csv").write_text(f"{first}y,{head}\n" + "\n".join(map("".join, zip(ids, rows, strict=True))))
    (tmp_path / "test.csv").write_text(
        f"{first}{head}\n" + "\n".join(a + b[2:] for a, b in zip(ids, rows, strict=True))
    )
    options = {"categories": ["y"]}
    data = Tabular(str(tmp_path), "train", "y", id, columns=options)
    assert [one["column"] for one in data.statistics["features"]] == list("012345")
    test = Tabular(str(tmp_path), "test", "y", id, columns=options, statistics=data.statistics)
    assert len(data) == 16 and len(test) == 20 and test.inputs.shape == (20, 6)


@pytest.mark.parametrize(
    ("trained", "odd"),
    [
        ("2.5", "1,234"),
        ("2.5", "12%"),
        ("2020-01-05", "31/12/2020"),
        ("2020-01-05", "20200105"),
        ("5.1.2020", "2020-1-5"),
    ],
)
def test_a_cell_of_another_split_in_another_notation_is_no_gap(tmp_path, trained, odd):
    (tmp_path / "train.csv").write_text("id,a,y\n" + "".join(f"{i},{trained},{i % 2}\n" for i in range(40)))
    cells = [trained] * 40
    (tmp_path / "test.csv").write_text("id,a\n" + "".join(f'{i},"{text}"\n' for i, text in enumerate([*cells, odd])))
    learned = Tabular(str(tmp_path), "train", "y", "id", columns={"categories": ["y"]})
    with pytest.raises(DataError, match=rf"test.csv:42: '{odd}' in the column a is no .*; mend or empty the cell"):
        Tabular(str(tmp_path), "test", "y", "id", columns={"categories": ["y"]}, statistics=learned.statistics)


def test_all_other_texts_are_gaps_where_the_user_says_numbers(tmp_path):
    cells = ["<5" if i % 4 == 0 else f"{i % 9}.5" for i in range(80)]
    (tmp_path / "train.csv").write_text("id,a,y\n" + "".join(f"{i},{text},{i % 2}\n" for i, text in enumerate(cells)))
    (tmp_path / "test.csv").write_text("id,a\n" + "".join(f"{i},{text}\n" for i, text in enumerate(cells)))
    options = {"categories": ["y"], "numbers": ["a"]}
    learned = Tabular(str(tmp_path), "train", "y", "id", columns=options)
    test = Tabular(str(tmp_path), "test", "y", "id", columns=options, statistics=learned.statistics)
    assert test.inputs[:, 1].tolist() == [float(text == "<5") for text in cells]
    (tmp_path / "test.csv").write_text("id,a\n" + "".join(f"{i},$5\n" for i in range(9)))
    with pytest.raises(DataError, match=r"test.csv:2: '\$5' in the column a is no number"):
        Tabular(str(tmp_path), "test", "y", "id", columns=options, statistics=learned.statistics)


def test_a_name_that_is_a_value_too_is_no_sign_of_a_header(tmp_path):
    (tmp_path / "train.csv").write_text("".join(f"{i}.5,{i * i},3,{'yn'[i % 2]}\n" for i in range(20)))
    with pytest.raises(DataError, match="holds numbers, no names of columns"):
        Tabular(str(tmp_path), "train", "y", columns={"categories": ["y"]})


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_and_what_excel_and_pandas_write(tmp_path, separator):
    text = "\n".join(separator.join([str(i), str(i * 0.5), str(i % 2)]) for i in range(20))
    head = separator.join(["", "a", "y"])
    (tmp_path / "train.csv").write_text(f"\ufeffsep={separator}\n{head}\n{text}\n")
    data = Tabular(str(tmp_path), "train", "y", columns={"categories": ["y"]})
    assert data.inputs.shape == (16, 1), "the index that pandas writes is no input"
    assert any("it numbers the rows; columns.numbers=[''] takes it in" in line for line in data.facts.lines)


def test_other_file_names_and_the_whole_of_another_file(tmp_path):
    (table(tmp_path / "t") / "train.csv").rename(tmp_path / "t/mine.csv")
    with pytest.raises(DataError, match=r"train.csv does not exist; set data.dataset.train=FILE; there is mine.csv"):
        Tabular(str(tmp_path / "t"), "train", "y")
    columns = {"categories": ["y"]}
    data = Tabular(str(tmp_path / "t"), "train", "y", "id", columns=columns, train="mine.csv")
    assert len(data) == 320
    whole = Tabular(
        str(tmp_path / "t"), "val", "y", "id", columns=columns, train="mine.csv", statistics=data.statistics, whole=True
    )
    assert len(whole) == 400


@pytest.mark.parametrize("options", [{"clip": -1}, {"rare": 0}, {"one_hot_at_most": -5}, {"clip": float("nan")}])
def test_options_outside_of_their_range_are_refused(options):
    with pytest.raises(ValueError, match="must be above 0"):
        Columns.from_config(options)


def test_one_class_in_validation_is_told_before_the_first_step(tmp_path):
    (tmp_path / "train.csv").write_text("a,y\n" + "".join(f"{i},{int(i < 2)}\n" for i in range(50)))
    seeds = [seed for seed in range(20) if one_class(tmp_path, seed)]
    assert 0 < len(seeds) < 20
    for seed in range(20):
        told = any("validation holds one class only" in line for line in val(tmp_path, seed).facts.lines)
        assert told == (seed in seeds)


def val(folder, seed):
    return Tabular(str(folder), "val", "y", columns={"categories": ["y"]}, seed=seed)


def one_class(folder, seed):
    return len(set(val(folder, seed).labels.tolist())) == 1


# The target


@pytest.mark.parametrize(("task", "target", "told"), [
    ("Classification", "01", "target: y, 2 classes"),
    ("Classification", "ab", "target: y, 2 classes"),
    ("Regression", "01", "target: y, a number"),
])  # fmt: skip
def test_the_task_says_whether_the_target_is_a_class(run, tmp_path, task, target, told):
    (tmp_path / "data").mkdir()
    rows = "".join(f"{i},{i % 7},{target[i % 2]}\n" for i in range(60))
    (tmp_path / "data/train.csv").write_text(f"id,x,y\n{rows}")
    flags = ["table", "--data.dataset.root=data", "--data.dataset.target=y", "--data.dataset.id=id", f"--task={task}"]
    flags += ["--model.num_classes=1"] if task == "Regression" else []
    given = run("train", *flags, "--run=a", "--max-epoch=1", *PLAIN)
    assert given.code == 0 and told in given.out, given
    assert run("val", "checkpoints/a").code == 0


def test_a_number_is_not_taken_for_hundreds_of_classes(run, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.csv").write_text("x,y\n" + "".join(f"{i % 7},{i}.5\n" for i in range(60)))
    given = run("train", "table", "--data.dataset.root=data", "--data.dataset.target=y", "--run=a", *PLAIN)
    assert given.code == 3 and "the target y holds 60 different values in 60 rows" in given.err, given
    assert "--task=Regression" in given.err and "columns.categories=[y]" in given.err


@pytest.mark.parametrize("cell", ["?", "", "12 m", "q"])
def test_a_cell_of_validation_or_test_without_a_known_value_is_told(tmp_path, cell):
    """Training alone decides how a column is read, and so its facts say nothing of the other rows."""
    rows = [f"{i},{i * 10},{'AB'[i % 2]},{i}" for i in range(150)]
    places = {"val": house_rows(tmp_path, rows, cell, 0), "test": tmp_path}
    for split, root in places.items():
        told = "\n".join(Tabular(str(root), split, "Price", "Id").facts.lines)
        column = "Zone 1 unknown text" if cell == "q" else "Area 1 gap"
        assert f"cells of {split} without a known value: {column}, the first '{cell}' in line" in told, told


def house_rows(folder, rows, cell, fold):
    """Write the rows with a cell changed in the first row of the fold, and the same rows to test."""
    held_out = split_fold(len(rows), (fold, 5), 0)[1][0]
    parts = rows[held_out].split(",")
    parts[2 if cell == "q" else 1] = cell
    rows = [*rows[:held_out], ",".join(parts), *rows[held_out + 1 :]]
    (folder / "train.csv").write_text("\n".join(["Id,Area,Zone,Price", *rows]) + "\n")
    (folder / "test.csv").write_text("\n".join(["Id,Area,Zone", *(row.rpartition(",")[0] for row in rows)]) + "\n")
    return folder


def test_signs_inside_quotes_separate_nothing(tmp_path):
    question = "Age; in years | or months; or | days?"
    (tmp_path / "train.csv").write_text(f'id,"{question}",y\n' + "".join(f"{i},{i % 7},{i % 2}\n" for i in range(20)))
    data = Tabular(str(tmp_path), "train", "y", "id", columns={"categories": ["y"]})
    assert [one["column"] for one in data.statistics["features"]] == [question]
    (tmp_path / "d.csv").write_text(f'"{question}",label\na.png,0\n')
    assert read_rows(str(tmp_path / "d.csv"), Faults("d.csv"))[0][1] == [question, "label"]
