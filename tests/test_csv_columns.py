"""CSVImages: which column names the picture, which one the class, and whether the first row is a header."""

from pathlib import Path

import pytest
from conftest import DATA
from PIL import Image

from data.csv_images import CSVImages
from utils.errors import DataError

LETTERS = [f"p{n}" for n in range(12)]


def folder(root: Path, text: str, names: list[str] | None = None, inside: str = "") -> str:
    """A folder of pictures and a CSV."""
    for name in names or LETTERS:
        (root / inside / f"{name}.png").parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / inside / f"{name}.png")
    (root / "trainLabels.csv").write_text(text)
    return str(root)


def table(header: str, row: str, names: list[str] | None = None) -> str:
    """A CSV with a row for each picture; {i} is its number, {c} its class, cat or dog, {k} the class's number."""
    names = names or LETTERS
    rows = [row.format(p=name, i=i, c=("cat", "dog")[i % 2], k=i % 2, r=1 - i % 2) for i, name in enumerate(names)]
    return "\n".join([header, *rows] if header else rows) + "\n"


def read(root: str, **options) -> dict[str, str]:
    found = CSVImages(root, "train", val_fraction=0, **options)
    return {
        Path(n.replace("\\", "/")).stem: found.classes[k] for n, k in zip(found.ids, found.labels.tolist(), strict=True)
    }


RIGHT = {name: ("cat", "dog")[i % 2] for i, name in enumerate(LETTERS)}


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("image_id,label", "{p},{c}"),
        ("file,label", "{p}.png,{c}"),
        ("label,file", "{c},{p}.png"),
        (",file,label", "{i},{p}.png,{c}"),
        ("Unnamed: 0,file,label", "{i},{p},{c}"),
        ("id,path,label", "{i},{p}.png,{c}"),
        ("id;file_name;Class", "{i};{p}.png;{c}"),
        ('"file"\t"species"', '"{p}"\t"{c}"'),
        ("sep=,\nfile,label", "{p},{c}"),
        ("file|label", "{p}|{c}"),
        ("bild,art,wert", "{p},{c},0.{i}7"),
        ("photo_id,remark,breed", "{p},a text {i},{c}"),
        ("class_id,category,file", "{k},{c},{p}.png"),
        ("path,label", "/kaggle/input/set/{p}.png,{c}"),
        ("path,label", "set\\{p}.png,{c}"),
        ("image,cat,dog", "{p},{r},{k}"),
        ("image,cat,dog,fox", "{p},{r}.0,{k}.0,0.0"),
        ("", "{p},{c}"),
        ("", "{c},{p}.png"),
    ],
)
def test_a_clear_case_is_read_and_told(tmp_path, header, row):
    root = folder(tmp_path, ("\ufeff" if "file" in header else "") + table(header, row))
    if header.startswith("class_id"):
        assert read(root) == {name: str(i % 2) for i, name in enumerate(LETTERS)}, "the same classes, by number"
    else:
        assert read(root) == RIGHT
    told = " ".join(CSVImages(root, "train").facts.lines)
    assert "(data.dataset.path)" in told and "(data.dataset.label)" in told
    assert ("is a header" in told) == bool(header)


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (
            "lesion_id,image_id,dx,sex",
            "L{k},{p},{c},m{k}",
            r"which column is the label\? lesion_id \(2\), dx \(2\), sex",
        ),
        ("image,species,breed", "{p},{c},b{i}", r"which column is the label\? species \(2\), breed \(12\)"),
        ("image,a,b", "{p},1,{k}", "2 of the columns a, b hold 1, but the task learns exactly one label"),
        ("image,a,b", "{p},0,{k}", ":2: none of the columns a, b holds 1"),
        ("image,a,b,age", "{p},{r},{k},{k}0", r"or several of 0 and 1, as data.dataset.label=\[a, b, …\]"),
        (
            "one,two,label",
            "p{i},p1{k},{c}",
            "each of the columns one, two names files that exist; set data.dataset.path",
        ),
        (
            "image,label",
            "{p},name {i}",
            "12 different labels in 12 rows; if it holds the classes, set data.dataset.label",
        ),
        ("", "{p},{c},{k}0", r"which column is the label\? 2 \(2\), 3 \(2\).*set data.dataset.path=1"),
    ],
)
def test_a_doubtful_case_lists_the_columns(tmp_path, header, row, message):
    names = [*LETTERS] if not header.startswith("one") else [*LETTERS, "p10", "p11"]
    root = folder(tmp_path, table(header, row), names)
    if header.startswith("one"):
        (tmp_path / "trainLabels.csv").write_text("one,two,label\np0,p1,cat\np1,p0,dog\np2,p3,cat\n")
    with pytest.raises(DataError, match=message):
        CSVImages(root, "train")


def test_measured_numbers_and_several_labels_in_a_cell_are_no_classes(tmp_path):
    names = [f"q{n}" for n in range(30)]
    root = folder(tmp_path, table("id,label", "{p},0.{i}5", names), names)
    for options in ({}, {"label": "label"}):
        with pytest.raises(DataError, match=r"the column label holds 30 different numbers such as 0.05"):
            CSVImages(root, "train", **options)
    (tmp_path / "trainLabels.csv").write_text("image,labels\nq0,rust\nq1,scab\nq2,rust scab\nq3,scab\n")
    with pytest.raises(DataError, match="several labels in a cell, such as 'rust scab'.*data.dataset.label=labels"):
        CSVImages(root, "train")
    assert CSVImages(root, "train", label="labels").classes == ["rust", "rust scab", "scab"]
    mixed = [f"{a} {b}" for a in ("haze", "clear", "cloudy") for b in ("water", "road", "crop", "mine", "town")]
    rows = "".join(f"q{i},{mixed[i % 15]} bare\n" for i in range(30))
    (tmp_path / "trainLabels.csv").write_text("image_name,tags\n" + rows)
    assert len(CSVImages(root, "train").classes) == 15, "few combinations may be names"
    more = [f"{a} {b}" for a in mixed for b in ("bare", "blow", "burn", "wet")]
    rows = "".join(f"r{i},{more[i % 60]}\n" for i in range(180))
    folder(tmp_path, "image_name,tags\n" + rows, [f"r{i}" for i in range(180)])
    with pytest.raises(DataError, match="several labels in a cell"):
        CSVImages(root, "train")


def test_folders_of_another_machine_are_told(tmp_path):
    root = folder(tmp_path, table("path,label", "/kaggle/input/set/{p}.png,{c}"))
    (found,) = CSVImages(root, "train").facts.odd.items()
    assert "found by the end of its path" in found[0] and len(found[1]) == 12
    inside = folder(tmp_path / "deep", table("path,label", "photos/{p},{c}"), inside="photos")
    assert CSVImages(inside, "train").facts.odd == {}
    whole = folder(tmp_path / "whole", "")
    (tmp_path / "whole/trainLabels.csv").write_text(table("path,label", f"{whole}/{{p}}.png,{{c}}"))
    assert CSVImages(whole, "train").facts.odd == {} and read(whole) == RIGHT


def test_classes_that_are_decimal_numbers_are_ordered_by_value(tmp_path):
    root = folder(tmp_path, "id,label\np0,10.0\np1,9.0\np2,10.0\np3,-1\n")
    assert CSVImages(root, "train").classes == ["-1", "9.0", "10.0"]


def test_the_first_row_is_never_lost(tmp_path):
    root = folder(tmp_path, "gone,cat\n" + table("", "{p},{c}"))
    with pytest.raises(
        DataError, match=r":1: no picture 'gone'.*1 of 13 rows have no picture: data.dataset.missing=skip"
    ):
        CSVImages(root, "train")
    assert read(root, missing="skip") == RIGHT
    assert CSVImages(root, "train", missing="skip").facts.left_out == {
        "a row whose picture is missing (data.dataset.missing)": ["gone"]
    }
    (tmp_path / "trainLabels.csv").write_text("gone,fox\n" + table("", "{p},{c}"))
    with pytest.raises(DataError, match=r"the first row \(gone, fox\) a header, or a picture without a file\?.*path=1"):
        CSVImages(root, "train")
    with pytest.raises(DataError, match=":1: no picture 'gone'"):
        CSVImages(root, "train", path=1, label=2)
    assert read(root, path=1, label=2, missing="skip") == RIGHT


def test_unknown_words_above_texts_may_be_a_header_or_a_picture(tmp_path):
    root = folder(tmp_path, table("bild,art", "{p},{c}"))
    with pytest.raises(DataError, match="a header, or a picture without a file"):
        read(root)
    assert read(root, path="bild", label="art") == read(root, label="art") == RIGHT


def test_keys_settle_every_case(tmp_path):
    root = folder(tmp_path, table("lesion,image_id,dx,sex,rust,scab", "L{k},{p},{c},m,{r},{k}"))
    assert read(root, label="dx") == RIGHT
    marks = {name: ("rust", "scab")[i % 2] for i, name in enumerate(LETTERS)}
    assert read(root, path="image_id", label=["rust", "scab"]) == marks
    with pytest.raises(DataError, match="has no column 'dxx'; did you mean 'dx'"):
        read(root, label="dxx")
    with pytest.raises(DataError, match=":2: 'L0' in the column lesion is neither 0 nor 1"):
        read(root, label=["lesion", "rust"])
    with pytest.raises(DataError, match="image_id holds pictures and cannot be the label"):
        read(root, path="image_id", label="image_id")


def test_most_rows_may_have_no_picture(tmp_path):
    names = [f"q{n:03}" for n in range(200)]
    root = folder(tmp_path, table("id,breed", "{p},{c}", names), names[::7])
    with pytest.raises(DataError, match="171 of 200 rows have no picture: data.dataset.missing=skip"):
        CSVImages(root, "train")
    assert len(read(root, missing="skip")) == 29


def test_pictures_without_a_row_and_folders_of_other_names(tmp_path):
    root = folder(tmp_path, table("id,label", "{p},{c}", LETTERS[:6]), inside="train_images")
    found = CSVImages(root, "train")
    assert any("train_images (data.dataset.images)" in line for line in found.facts.lines)
    assert len(found.facts.left_out["a picture without a row in the CSV"]) == 6
    with pytest.raises(DataError, match=r"set data.dataset.labels=FILE; there is trainLabels.csv"):
        CSVImages(root, "train", labels="train.csv")


def test_keys_on_the_command_line_and_another_csv_scored_whole(run, tmp_path):
    for name in ("one", "two"):
        names = [f"{name}{n}" for n in range(20)]
        folder(tmp_path / name, table("lesion,image_id,dx", "L{k},{p},{c}", names), names)
    flags = ["csv_images", "--data.dataset.labels=trainLabels.csv", "--model=LeNet", "--model.in_channels=3"]
    size = "[{name: Resize, size: [28, 28]}]"
    flags += [f"--data.transform.train={size}", f"--data.transform.eval={size}", "--max-epoch=1", "--batch-size=4"]
    flags += ["--log.visdom=false", "--log.pictures=false", "--train-data-root=one"]
    doubtful = run("train", *flags)
    assert doubtful.code == 3 and "set data.dataset.path=COLUMN and data.dataset.label=COLUMN" in doubtful.err
    given = run("train", *flags, "--data.dataset.path=image_id", "--data.dataset.label=dx", "--run=a")
    assert given.code == 0, given.err
    assert "label: the column dx" in given.out and "14 train and 6 val samples" in given.out
    assert "20 samples, two/trainLabels.csv" in run("val", "checkpoints/a", "--train-data-root=two").out
    assert "6 samples, 30 %" in run("val", "checkpoints/a").out


@pytest.mark.skipif(not (DATA / "faults").is_dir(), reason="the small faulty inputs are not here")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("csv_ham", r"lesion_id \(20\), dx \(2\)"),
        ("csv_headerless_missing_first", ":1: no picture 'img_gone'"),
        ("csv_onehot", ""),
    ],
)
def test_inputs_that_were_trained_wrong(name, message):
    root = str(DATA / "faults" / name / "data")
    if message:
        with pytest.raises(DataError, match=message):
            CSVImages(root, "train")
    else:
        assert CSVImages(root, "train").classes == ["healthy", "multiple_diseases", "rust", "scab"]
