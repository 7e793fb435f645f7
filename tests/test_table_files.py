"""Files of tables and of pixels: how they are read, and what is told about wrong ones."""

import pytest
import torch
from conftest import PLAIN
from tables import HEADER, TRAIN, house, table

from data.csv_pixels import CSVPixels
from data.tabular import Tabular
from utils.errors import DataError


@pytest.fixture
def houses(tmp_path):
    return table(tmp_path / "houses")


# What is told about a wrong file or option


@pytest.mark.parametrize(
    "header, train, message",
    [
        (HEADER, [*TRAIN, "11,100,3"], r"train.csv:12: has 3 columns, but the header has 7"),
        (HEADER.replace("Price", "Prize"), TRAIN, r"train.csv:1: has no column 'Price'; did you mean 'Prize'\?"),
        (HEADER.replace("Name", "Title"), TRAIN, r"train.csv:1: has no column 'Name'"),
        (HEADER.replace("Rooms", "Area"), TRAIN, r"train.csv:1: the column 'Area' stands there twice"),
        (HEADER, [*TRAIN[:-1], TRAIN[0]], r"train.csv:11: the Id '1' is also in line 2"),
        (HEADER, [*TRAIN[:-1], "10,1,1,A,NA,x,NA"], r"train.csv:11: its Price 'NA' is nothing to learn from"),
        (HEADER, [*TRAIN[:-1], "10,1,1,A,NA,x,dear"], r"train.csv:11: 'dear' in the column Price is no number"),
        (HEADER, [*TRAIN[:-1], "10,1,1,A,NA,x,-7"], r"train.csv:11: '-7' in the column Price .* logarithm"),
        (HEADER, [], r"train.csv is empty; it needs a header and rows"),
        (HEADER, [*TRAIN, '11,1,1,A,"N"A,x,3'], r"train.csv:12: is no CSV"),
    ],
)
def test_a_wrong_table_is_told_with_file_and_line(tmp_path, header, train, message):
    root = table(tmp_path / "wrong", train, header=header)
    with pytest.raises(DataError, match=message):
        for split in ("train", "val"):
            house(root, split)


def test_what_the_test_file_lacks_is_told(houses, tmp_path):
    meta = house(houses).meta
    path = tmp_path / "houses" / "test.csv"
    whole = path.read_text()
    path.write_text(whole.replace("Zone", "Zones"))
    with pytest.raises(DataError, match=r"test.csv:1: has no column 'Zone'; did you mean 'Zones'\?"):
        house(houses, "test", statistics=meta["statistics"])
    path.write_text(whole.replace(",110,", ",wide,"))
    with pytest.raises(DataError, match=r"test.csv:2: 'wide' in the column Area is no number, but training has"):
        house(houses, "test", statistics=meta["statistics"])
    path.unlink()
    with pytest.raises(DataError, match=r"test.csv does not exist; set data.dataset.test=FILE; there is train.csv"):
        house(houses, "test", statistics=meta["statistics"])


def test_a_file_that_is_not_utf8_is_told(houses, tmp_path):
    path = tmp_path / "houses" / "train.csv"
    path.write_bytes(path.read_bytes().replace(b"Lake", b"L\xe4ke"))
    with pytest.raises(DataError, match=r"train.csv:4: is not UTF-8"):
        house(houses)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"logs": []}, "no option 'logs'; did you mean 'log'"),
        ({"log": "Area"}, "columns.log must be a list"),
        ({"clip": "far"}, "columns.clip must be a number"),
        ({"derive": ["Area"]}, "columns.derive must hold a recipe"),
        ({"derive": {"Area": {"plus": ["Id"]}}}, "has a column of that name"),
        ({"derive": {"New": {"times": ["Id"]}}}, "must have plus or minus"),
        ({"derive": {"New": {"column": "Name", "pattern": "("}}}, "is no regular expression"),
    ],
)
def test_wrong_options_are_refused(houses, options, message):
    with pytest.raises(ValueError, match=message):
        house(houses, columns=options)


def test_mistakes_of_a_user_end_in_one_line(run, houses):
    base = ["train", "titanic", f"--data.dataset.root={houses}", *PLAIN]
    given = run(*base)
    assert (given.code, given.err.count("\n")) == (3, 1)
    assert "train.csv:1: has no column 'Cabin'" in given.err
    given = run(*base[:2], "--data.dataset.columns={lgo: [Area]}", *base[2:])
    assert (given.code, given.err.count("\n")) == (2, 1)
    assert "did you mean 'log'?" in given.err
    given = run("train", "house_prices", "--data.dataset.root=nowhere", *PLAIN)
    assert (given.code, given.err.count("\n")) == (3, 1)


# Pixels in a CSV


def pixels(folder, lines, header="label,p0,p1,p2,p3"):
    folder.mkdir(exist_ok=True)
    (folder / "train.csv").write_text("\n".join([header, *lines]) + "\n")
    (folder / "test.csv").write_text("p0,p1,p2,p3\n0,255,51,0\n1,2,3,4\n")
    return str(folder)


def test_pixels_are_read_row_by_row(tmp_path):
    root = pixels(tmp_path / "p", [f"{i % 3 + 8},0,{i},102,255" for i in range(10)])
    train, val, test = (CSVPixels(root, split) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (8, 2, 2)
    assert train.classes == ["8", "9", "10"]
    image, label = train[0]
    index = int(train.ids[0]) - 1
    assert image.shape == (1, 2, 2) and label == index % 3
    assert torch.allclose(image.flatten() * 255, torch.tensor([0.0, index, 102.0, 255.0]))
    assert torch.allclose(test.read([0]).flatten(), torch.tensor([0.0, 1.0, 0.2, 0.0]))
    assert (test.ids, test.labels) == (["1", "2"], None)
    assert CSVPixels(root, "train", image_size=[1, 4])[0][0].shape == (1, 1, 4)


@pytest.mark.parametrize(
    "line, header, message",
    [
        ("1,0,0,0", None, r"train.csv:4: has 4 columns"),
        ("1,0,0,256,0", None, r"train.csv:4: holds other values than whole numbers"),
        ("1,0,0,x,0", None, r"train.csv:4: holds other values"),
        (",0,0,1,0", None, r"train.csv:4: has no label"),
        ("1,0,0,1,0", "lable,p0,p1,p2,p3", r"train.csv:1: has no column 'label'; did you mean 'lable'\?"),
    ],
)
def test_rows_that_are_no_pictures_are_told(tmp_path, line, header, message):
    root = pixels(tmp_path / "p", ["1,0,0,0,0", "2,0,0,0,0", line], header or "label,p0,p1,p2,p3")
    with pytest.raises(DataError, match=message):
        CSVPixels(root, "train")


def test_pixels_that_make_no_square_are_told(tmp_path):
    root = pixels(tmp_path / "p", ["1,0,0", "2,0,0"], "label,p0,p1")
    with pytest.raises(DataError, match="2 columns of pixels, which are not a square"):
        CSVPixels(root, "train")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["pixel0", "pixel1", "pixel2", "pixel3"], ""),
        (["1x1", "1x2", "2x1", "2x2"], ""),
        (["x0y0", "x1y0", "x0y1", "x1y1"], ""),
        (["a", "d", "c", "b"], ""),
        (["pixel1", "pixel10", "pixel2", "pixel3"], "pixel10 stands before pixel2"),
        (["pixel3", "pixel2", "pixel1", "pixel0"], "pixel3 stands before pixel2"),
    ],
)
def test_pixels_are_in_the_order_of_their_columns(tmp_path, names, told):
    rows = "".join(f"{i % 2},{i},1,2,3\n" for i in range(10))
    (tmp_path / "train.csv").write_text(f"label,{','.join(names)}\n{rows}")
    if not told:
        assert len(CSVPixels(str(tmp_path), "train")) == 8
        return
    with pytest.raises(DataError, match=rf"train.csv:1: the columns of pixels are not in their order: {told}"):
        CSVPixels(str(tmp_path), "train")


# Columns that could be several things, and columns that say nothing


def of_column(root, cells, target=lambda i: i % 2, **options):
    """A table of 40 rows with the column c, and a target."""
    root.mkdir(exist_ok=True)
    rows = [f"{i * 0.5},{cells(i)},{target(i)}" for i in range(40)]
    (root / "train.csv").write_text("\n".join(["x,c,y", *rows]) + "\n")
    return Tabular(str(root), "train", target="y", columns=options, target_kind="class")


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (lambda i: f"{i * 977:05d}", "c holds '00000', which may be a number or a code such as a post code"),
        (lambda i: f"+49{i:08d}", r"c holds '\+4900000000', which may be a number or a code"),
        (lambda i: f"202401{i % 28 + 1:02d}", "c holds '20240101', which may be a number or a day"),
        (lambda i: f"−{i}", "c holds '−0', which looks like a number"),
        (lambda i: "2020-02-30" if i % 2 else "2020-02-28", "'2020-02-30' in the column c is no date"),
        (lambda i: "1e308" if i % 2 else "1", "1e.308 in the column c is too large"),
    ],
)
def test_digits_that_may_be_no_quantity_are_an_error(tmp_path, cells, told):
    with pytest.raises(DataError, match=told):
        of_column(tmp_path, cells)


def test_leading_zeros_are_read_as_the_config_says(tmp_path):
    assert of_column(tmp_path, lambda i: f"{i % 3:03d}", numbers=["c"]).inputs.shape[1] == 2
    assert of_column(tmp_path, lambda i: f"{i % 3:03d}", categories=["c"]).inputs.shape[1] == 4


@pytest.mark.parametrize("cell", ["5", "a", "", "2020-01-01 10:00"])
def test_a_column_with_one_value_is_told(tmp_path, cell):
    assert of_column(tmp_path, lambda i: cell).facts.odd == {"a column with one value only": ["c"]}


def test_a_column_whose_categories_are_all_rare_is_left_out_with_a_word(tmp_path):
    table = of_column(tmp_path, lambda i: f"w{i % 16}", rare=5)
    assert any("c: left out, none of its 16 different texts is in 5 rows" in line for line in table.facts.lines)
    assert table.inputs.shape[1] == 1


def test_dates_are_told_as_dates_without_their_times(tmp_path):
    lines = of_column(tmp_path, lambda i: f"2020-01-{i % 28 + 1:02d} 10:00").facts.lines
    assert "  c: date (ymd), 2020-01-01 to 2020-01-28, without the time of day" in lines


@pytest.mark.parametrize("word", ["-", ".", "unknown", "#DIV/0!"])
def test_a_word_for_a_gap_among_numbers_of_the_target_is_an_error(tmp_path, word):
    with pytest.raises(DataError, match="is nothing to learn from"):
        of_column(tmp_path, str, target=lambda i: word if i == 3 else i % 2)
    assert len(of_column(tmp_path, str, target=lambda i: word if i % 2 else "yes").meta["classes"]) == 2


@pytest.mark.parametrize("values", [("Yes", "yes", "no"), ("1", "1.0", "0"), ("True", "1", "0")])
def test_classes_written_in_several_ways_are_doubtful(tmp_path, values):
    with pytest.raises(DataError, match="look like one class written in several ways"):
        of_column(tmp_path, str, target=lambda i: values[i % 3])
    assert len(of_column(tmp_path, str, target=lambda i: values[i % 3], categories=["y"]).meta["classes"]) == 3


def test_a_column_that_rises_like_an_id_is_told(tmp_path):
    told = "a column that goes up from row to row, as an id does (columns.ignore)"
    assert of_column(tmp_path, lambda i: 1000 + 7 * i).facts.odd == {told: ["c"]}
    assert not of_column(tmp_path, lambda i: 1000 + 7 * i, numbers=["c"]).facts.odd
