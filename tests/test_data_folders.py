"""ImageFolder and CSVImages, on folders that the tests make."""

import os
import threading
from pathlib import Path

import pytest
from PIL import Image

from data.csv_images import CSVImages
from data.image_folder import ImageFolder
from utils.errors import DataError


def paint(root: Path, *names: str) -> str:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4)).save(root / name)
    return str(root)


# ImageFolder


def test_folders_of_their_own_are_not_split(tmp_path: Path) -> None:
    root = paint(tmp_path, "train/cat/1.jpg", "train/dog/deep/2.jpg", "valid/dog/3.jpg", "test/9.jpg", "test/10.jpg")
    train, val, test = (ImageFolder(root, split) for split in ("train", "val", "test"))
    assert train.ids == ["cat/1.jpg", "dog/deep/2.jpg"] and train.labels.tolist() == [0, 1]
    assert val.ids == ["dog/3.jpg"] and val[0][1] == 1  # as the training folder numbers it
    assert sorted(test.ids) == ["10.jpg", "9.jpg"] and test[0].shape == (3, 4, 6)


@pytest.mark.parametrize("inner", ["", "train/"])
def test_without_a_val_folder_train_is_split(tmp_path: Path, inner: str) -> None:
    root = paint(tmp_path, *(f"{inner}{name}/{n}.png" for name in ("cat", "dog") for n in range(5)), "test/1.png")
    train, val = ImageFolder(root, "train"), ImageFolder(root, "val")
    assert len(train) == 7 and len({*train.ids, *val.ids}) == 10 and train.classes == ["cat", "dog"]
    assert ImageFolder(root, "train", seed=1).ids != train.ids
    assert all(label == (name[:3] == "dog") for name, label in zip(train.ids, train.labels.tolist(), strict=True))


def test_a_val_folder_beside_class_folders(tmp_path: Path) -> None:
    root = paint(tmp_path, "cat/1.jpg", "dog/2.jpg", "val/dog/3.jpg")
    assert len(ImageFolder(root, "train")) == 2 and ImageFolder(root, "val").ids == ["dog/3.jpg"]


def test_test_root_may_be_the_folder_itself(tmp_path: Path) -> None:
    flat = ImageFolder(paint(tmp_path / "flat", "a.jpg", "b.jpg"), "test", classes=["x", "y"])
    assert flat.ids == ["a.jpg", "b.jpg"] and flat.labels is None and flat.meta["num_classes"] == 2
    inner = ImageFolder(paint(tmp_path / "inner", "y/a.jpg"), "test", classes=["x", "y"])
    assert inner.ids == ["y/a.jpg"] and inner[0][1] == 1


def test_given_classes_keep_their_order(tmp_path: Path) -> None:
    root = paint(tmp_path, "val/cat/1.jpg", "val/dog/2.jpg")
    assert ImageFolder(root, "val", classes=["dog", "cat"]).labels.tolist() == [1, 0]
    with pytest.raises(DataError, match=r"val.cat is none of the classes \(dog, fox\)"):
        ImageFolder(root, "val", classes=["dog", "fox"])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "holds no class folders.*--train-data-root"),
        (["1.jpg"], "holds pictures and no class folders"),
        (["cat/1.jpg"], "only the class folder cat, but two are needed"),
        (["train/cat/1.jpg", "val/dog/1.jpg"], "train holds only the class folder cat"),
        (["cat/1.jpg", "dog/notes.gif/1.jpg"], None),
    ],
)
def test_folder_faults(tmp_path: Path, files: list[str], message: str | None) -> None:
    root = paint(tmp_path, *files)
    if message:
        with pytest.raises(DataError, match=message):
            ImageFolder(root, "train")
    else:  # a folder named as a picture is told of when it is read
        dataset = ImageFolder(root, "train", val_fraction=0)
        with pytest.raises(DataError, match="notes.gif .it is not a regular file"):
            dataset[dataset.ids.index("dog/notes.gif")]


def test_empty_class_folder(tmp_path: Path) -> None:
    root = paint(tmp_path, "cat/1.jpg", "dog/1.jpg")
    (tmp_path / "fox").mkdir()
    with pytest.raises(DataError, match=r"no pictures in .*fox \(looked for \.jpg"):
        ImageFolder(root, "train")


def test_hidden_folders_and_foreign_files_are_ignored(tmp_path: Path) -> None:
    root = paint(tmp_path, "cat/1.jpg", "dog/1.jpg", ".cache/2.jpg")
    (tmp_path / "cat" / "Thumbs.db").touch()
    (tmp_path / "readme.txt").touch()
    assert sorted(ImageFolder(root, "train", val_fraction=0).ids) == ["cat/1.jpg", "dog/1.jpg"]


# CSVImages


def table(root: Path, text: str | bytes, pictures: str = "train") -> str:
    paint(root, *(f"{pictures}/{n}.png" for n in range(1, 5)))
    (root / "trainLabels.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return str(root)


ROWS = "1,cat\n2,dog\n3,cat\n4,dog\n"


@pytest.mark.parametrize(
    "text",
    [
        ROWS,
        "id,label\n" + ROWS,
        "\ufeff" + ROWS,
        "\ufeffImage_ID;Breed\r\n" + ROWS.replace(",", ";").replace("\n", "\r\n"),
        "path\tclass_\n" + ROWS.replace(",", ".png\t"),
        "label,image\ncat,1.png\ndog,2.png\ncat,3.png\ndog,4.png\n",
        'id,note,target\n1,"a, b",cat\n2,,dog\n3,"x\ny",cat\n\n4,,dog',
    ],
)
@pytest.mark.parametrize("pictures", ["train", ".", "photos"])
def test_csv_forms(tmp_path: Path, text: str, pictures: str) -> None:
    images = pictures if pictures == "photos" else ""
    dataset = CSVImages(table(tmp_path, text, pictures), "train", images=images, val_fraction=0)
    found = {name.removesuffix(".png"): dataset.classes[n] for name, n in zip(dataset.ids, dataset.labels, strict=True)}
    assert found == {"1": "cat", "2": "dog", "3": "cat", "4": "dog"} and dataset[0][0].shape == (3, 4, 6)


def test_csv_split_is_seeded_and_whole(tmp_path: Path) -> None:
    root = table(tmp_path, ROWS)
    train, val = CSVImages(root, "train"), CSVImages(root, "val")
    assert len(train) == 3 and sorted(train.ids + val.ids) == ["1", "2", "3", "4"]


def test_integer_classes_are_ordered_by_value(tmp_path: Path) -> None:
    root = table(tmp_path, "1,10\n2,9\n3,-1\n4,10\n")
    assert CSVImages(root, "train").meta["classes"] == ["-1", "9", "10"]
    given = CSVImages(root, "train", classes=["10", "9", "-1"], val_fraction=0)
    assert {name: int(n) for name, n in zip(given.ids, given.labels, strict=True)} == {"1": 0, "2": 1, "3": 2, "4": 0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\n2\n", "trainLabels.csv:1: has one column"),
        ("", "trainLabels.csv is empty"),
        ("id,label\n", "has no row with a label below its header"),
        ("1,cat\n2,dog\n3\n", "trainLabels.csv:3: has 1 columns, but the first row has 2"),
        ("id,label\n1,cat\n9,dog\n3,cat\n8,x\n", "trainLabels.csv:3: no picture '9' .*1 more in this file"),
        ("9,cat\n1,dog\n", "trainLabels.csv:1: no picture '9'"),
        ("1,cat\n2,dog\n9,dog\n3\n", "trainLabels.csv:3: no picture '9' .*1 more in this file"),
        ("9.png,cat\n1.png,dog\n", "trainLabels.csv:1: no picture '9.png'"),
        ("1,cat\n2,dog\n1.png,cat\n", "trainLabels.csv:3: the picture '1.png' is also in line 1"),
        ("1,cat\n2,\n", "trainLabels.csv:2: has no label"),
        ("1,cat\n,dog\n", "trainLabels.csv:2: has no name of a picture"),
        (b"1,cat\n2,caf\xe9\n", "trainLabels.csv:2: is not UTF-8"),
        ("1,cat\n2,d\0g\n", "trainLabels.csv:2: holds NUL bytes"),
        ('1,cat\n2,"dog\n3,cat\n', "trainLabels.csv:3: is no CSV"),
        ("1,cat\n2,cat\n", "has only the label 'cat'"),
    ],
)
def test_csv_faults_name_the_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        CSVImages(table(tmp_path, text), "train")
    assert "\n" not in str(caught.value)


def test_unknown_label_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"trainLabels.csv:2: the label 'dog' is none of the 2 classes.*1 more"):
        CSVImages(table(tmp_path, ROWS), "val", classes=["cat", "fox"])


@pytest.mark.parametrize("kind", ["missing", "pipe"])
def test_a_csv_that_is_no_file(tmp_path: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(tmp_path / "trainLabels.csv")
    with pytest.raises(DataError, match="cannot read .*trainLabels.csv"):
        CSVImages(str(tmp_path), "train")


def test_lists_choose_the_samples(tmp_path: Path) -> None:
    root = table(tmp_path, ROWS)
    (tmp_path / "train.txt").write_text("3.png\n\n1\n4\n")
    (tmp_path / "test.txt").write_text("2\n")
    train, test = (CSVImages(root, split, lists="{split}.txt") for split in ("train", "test"))
    assert train.ids == ["3.png", "1", "4"] and train.labels.tolist() == [0, 0, 1]
    assert test.ids == ["2"] and test[0][1] == 1
    with pytest.raises(DataError, match="cannot read .*val.txt"):
        CSVImages(root, "val", lists="{split}.txt")
    with pytest.raises(ValueError, match="must have {split} in it"):
        CSVImages(root, "train", lists="train.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\n9\n", "train.txt:2: no picture '9'"),
        ("1\n2\n1.png\n", "train.txt:3: the picture '1.png' stands twice"),
        ("1\n5\n", "train.txt:2: the picture '5' has no label in the CSV"),
        ("\n", "train.txt is empty"),
    ],
)
def test_list_faults(tmp_path: Path, text: str, message: str) -> None:
    root = table(tmp_path, ROWS)
    paint(tmp_path, "train/5.png")
    (tmp_path / "train.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        CSVImages(root, "train", lists="{split}.txt")


def test_test_list_without_labels(tmp_path: Path) -> None:
    root = table(tmp_path, ROWS)
    paint(tmp_path, "test/77.png")
    (tmp_path / "test.txt").write_text("77\n")
    dataset = CSVImages(root, "test", lists="{split}.txt")
    assert dataset.ids == ["77"] and dataset.labels is None and dataset[0].shape == (3, 4, 6)


@pytest.mark.parametrize(("suffix", "ids"), [("", ["1", "6"]), (".png", ["1.png", "6.png"])])
def test_test_folder_has_ids_like_the_csv(tmp_path: Path, suffix: str, ids: list[str]) -> None:
    root = table(tmp_path, ROWS.replace(",", f"{suffix},"))
    with pytest.raises(DataError, match="no folder test.*--test-data-root"):
        CSVImages(root, "test")
    paint(tmp_path, "test/1.png", "test/6.png")
    assert CSVImages(root, "test").ids == ids
    assert CSVImages(str(tmp_path / "test"), "test", classes=["cat", "dog"]).ids == ["1.png", "6.png"]


def test_a_train_picture_is_not_found_among_test_pictures(tmp_path: Path) -> None:
    root = table(tmp_path, ROWS + "6,cat\n")
    paint(tmp_path, "test/6.png")
    with pytest.raises(DataError, match="trainLabels.csv:5: no picture '6'"):
        CSVImages(root, "train")


# Folders of splits, of links, and of other things


def class_folders(root: Path, *folders: str, count: int = 5) -> str:
    return paint(
        root, *(f"{folder}/{name}/{n}.png" for folder in folders for name in ("cat", "dog") for n in range(count))
    )


@pytest.mark.parametrize(
    ("train", "other"),
    [
        ("Training", "Testing"),
        ("TRAIN", "TEST"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("train_set", "test_set"),
        ("train2017", "test2017"),
        ("training_data", "testing_data"),
        ("Train/images", "Test/images"),
        ("trainset", "testset"),
    ],
)
def test_folders_of_splits_are_known_by_their_usual_names(tmp_path: Path, train: str, other: str) -> None:
    root = class_folders(tmp_path, train, other)
    parts = {split: ImageFolder(root, split, val_fraction=0.2) for split in ("train", "val", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 8, "val": 2, "test": 10}
    assert all(part.classes == ["cat", "dog"] for part in parts.values())
    assert "data.dataset.splits" in "".join(parts["train"].facts.lines)


@pytest.mark.parametrize("name", ["val", "Valid", "VALIDATION", "dev", "eval_set"])
def test_a_folder_for_validation_is_known(tmp_path: Path, name: str) -> None:
    root = class_folders(tmp_path, "Train", name, count=3)
    assert len(ImageFolder(root, "train")) == len(ImageFolder(root, "val")) == 6
    assert ImageFolder(root, "val").facts.source.endswith(name)


def test_doubtful_folders_are_errors_that_name_the_key(tmp_path: Path) -> None:
    twice = class_folders(tmp_path / "twice", "train", "Training")
    with pytest.raises(DataError, match=r"holds Training and train, which both .*'train'; set data.dataset.splits"):
        ImageFolder(twice, "train")
    named = ImageFolder(twice, "train", splits={"train": "Training"}, val_fraction=0)
    assert len(named) == 10
    vehicles = paint(tmp_path / "vehicles", *(f"{name}/{n}.png" for name in ("bus", "car", "train") for n in range(3)))
    with pytest.raises(DataError, match=r"is it a class or the split 'train'"):
        ImageFolder(vehicles, "train")
    with pytest.raises(DataError, match=r"data.dataset.splits.val names it"):
        ImageFolder(twice, "train", splits={"train": "train", "val": "nowhere"})


def test_a_root_one_level_too_high_is_told(tmp_path: Path) -> None:
    class_folders(tmp_path, "dataset/train", "dataset/test")
    with pytest.raises(DataError, match=r"dataset holds folders: is it the root\?"):
        ImageFolder(str(tmp_path), "train")


def test_links_are_followed_but_never_for_ever(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "root", ".", count=2)
    paint(tmp_path / "more", "3.png", "4.png")
    (tmp_path / "root/cat/more").symlink_to(tmp_path / "more")
    (tmp_path / "root/cat/up").symlink_to(tmp_path / "root")
    (tmp_path / "root/dog/gone").symlink_to(tmp_path / "nowhere")
    found = ImageFolder(root, "train", val_fraction=0)
    assert len(found) == 6 and "cat/more/3.png" in found.ids
    assert found.facts.left_out == {"a link to a folder above": ["cat/up"], "a link to nothing": ["dog/gone"]}


def test_what_is_left_out_or_odd_is_told(tmp_path: Path) -> None:
    root = class_folders(tmp_path, ".", count=30)
    paint(tmp_path, "cat/imageNotFound.gif", "__MACOSX/cat/1.png", ".ipynb_checkpoints/1.png")
    for name in ("cat/9.heic", "cat/Thumbs.db", "dog/._1.png", "dog/notes"):
        (tmp_path / name).touch()
    found = ImageFolder(root, "train", val_fraction=0)
    assert found.classes == ["cat", "dog"] and len(found) == 61
    assert found.facts.left_out == {"no picture by its suffix": ["cat/9.heic", "dog/notes"]}
    assert list(found.facts.odd.values()) == [["cat/imageNotFound.gif"]]
    without = ImageFolder(root, "train", val_fraction=0, exclude=["*NotFound*", "dog/2?.png"])
    assert len(without) == 50 and len(without.facts.left_out["data.dataset.exclude names them"]) == 11


def test_a_pipe_among_pictures_is_not_waited_for(tmp_path: Path) -> None:
    root, found = class_folders(tmp_path, ".", count=12), []
    os.mkfifo(tmp_path / "cat/5.pgm")
    thread = threading.Thread(target=lambda: found.append(ImageFolder(root, "train", val_fraction=0)), daemon=True)
    thread.start()
    thread.join(20)
    assert found, "the sizes of pictures are read from regular files only"


@pytest.mark.parametrize("kind", ["ImageFolder", "DogCat"])
def test_another_folder_is_scored_whole(run, tmp_path: Path, kind: str) -> None:
    names = ["cat/{}.png", "dog/{}.png"] if kind == "ImageFolder" else ["cat.{}.png", "dog.{}.png"]
    for folder, first in (("one", 0), ("two", 100)):
        paint(tmp_path / folder, *(name.format(n) for name in names for n in range(first, first + 10)))
    flags = ["dogcat_small", f"--data.dataset={kind}", "--model=LeNet", "--model.in_channels=3", "--max-epoch=1"]
    size = "[{name: Resize, size: [28, 28]}]"
    flags += [f"--data.transform.train={size}", f"--data.transform.eval={size}", "--batch-size=4", "--run=a"]
    given = run("train", *flags, "--train-data-root=one", "--log.visdom=false", "--log.pictures=false")
    assert given.code == 0, given.err
    assert "6 samples, 30 % of one" in run("val", "checkpoints/a").out
    assert "20 samples, two" in run("val", "checkpoints/a", "--train-data-root=two").out


def test_the_same_folders_in_each_class_folder_may_be_the_classes(tmp_path: Path) -> None:
    for upper in ("X_train", "X_test"):
        paint(tmp_path, *(f"{upper}/{name}/{i}.png" for name in ("cat", "dog") for i in range(4)))
    with pytest.raises(DataError, match=r"X_test, X_train, and each of them the folders cat, dog: which are the"):
        ImageFolder(str(tmp_path), "train")
    assert len(ImageFolder(str(tmp_path), "train", splits={"train": "X_train", "val": "X_test"})) == 8
    assert ImageFolder(str(tmp_path), "train", classes=["X_test", "X_train"]).classes == ["X_test", "X_train"]


def test_folders_below_classes_and_pictures_beside_them_are_told(tmp_path: Path) -> None:
    paint(tmp_path, *(f"{name}/{i}.png" for name in ("animals/cat", "plants/oak") for i in range(4)), "more.png")
    facts = ImageFolder(str(tmp_path), "train").facts
    assert "folders in class folders count for the class above: animals/cat, plants/oak" in facts.lines
    assert facts.left_out == {"a picture beside the class folders": ["more.png"]}


def test_a_flat_folder_and_folders_of_a_zip_get_a_hint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds pictures and no class folders \(--data.dataset=CSVImages"):
        ImageFolder(paint(tmp_path / "flat", "cat.1.jpg", "dog.1.jpg"), "train")
    with pytest.raises(DataError, match="archive/pets holds folders: is it the root"):
        ImageFolder(paint(tmp_path / "zip", "archive/pets/train/cat/1.jpg", "archive/pets/test/1.jpg"), "train")


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (("cat", "Cat", "dog"), "labels Cat, cat look like one class written in several ways"),
        (("1", "1.0", "2"), "look like one class written in several ways"),
        (("cat", "NaN", "dog"), ":3: its label 'NaN' means none"),
    ],
)
def test_labels_that_may_be_one_or_none_are_errors(tmp_path: Path, labels: tuple[str, ...], told: str) -> None:
    paint(tmp_path, *(f"{i}.jpg" for i in range(12)))
    rows = [f"{i}.jpg,{labels[i % 3]}\n" for i in range(12)]
    (tmp_path / "trainLabels.csv").write_text("file,label\n" + "".join(rows))
    with pytest.raises(DataError, match=told):
        CSVImages(str(tmp_path), "train")
    assert len(CSVImages(str(tmp_path), "train", classes=sorted(labels)).classes) == 3


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        (("cat", "Cat", "dog"), "the folders Cat, cat look like one class"),
        (("cat", "cat ", "dog"), "the folders 'cat', 'cat ' look like one class"),
        (("caf\u00e9", "cafe\u0301", "tea"), r"the folders 'cafe\\u0301', 'caf\\xe9' look like one class"),
        (("1", "01", "2"), "the folders 01, 1 look like one class"),
    ],
)
def test_folders_that_may_be_one_class_are_an_error(tmp_path: Path, folders: tuple[str, ...], told: str) -> None:
    root = paint(tmp_path, *(f"{name}/{i}.png" for name in folders for i in range(4)))
    with pytest.raises(DataError, match=told):
        ImageFolder(root, "train")
    assert len(ImageFolder(root, "train", classes=sorted(folders)).classes) == 3


def test_further_frames_and_pictures_nearly_black_are_told(tmp_path: Path) -> None:
    root = paint(tmp_path, *(f"{name}/{i}.png" for name in ("cat", "dog") for i in range(4)))
    frames = [Image.new("L", (6, 4), 50 * i) for i in range(3)]
    frames[0].save(tmp_path / "cat/moving.gif", save_all=True, append_images=frames[1:])
    for name, value in (("dark", 4000), ("full", 60_000)):
        Image.new("I;16", (6, 4), value).save(tmp_path / f"cat/{name}.png")
    odd = ImageFolder(root, "train").facts.odd
    told = {names[0]: reason for reason, names in odd.items() if "suffix" not in reason}
    assert set(told) == {"cat/moving.gif", "cat/dark.png"}
    assert "the first alone is read" in told["cat/moving.gif"] and "look black" in told["cat/dark.png"]


def test_a_column_of_splits_that_is_not_read_is_told(tmp_path: Path) -> None:
    paint(tmp_path, *(f"{i}.jpg" for i in range(12)))
    rows = [f"{i}.jpg,{'ab'[i % 2]},{('train', 'test')[i > 8]}\n" for i in range(12)]
    (tmp_path / "trainLabels.csv").write_text("file,label,part\n" + "".join(rows))
    assert any(
        "the column part names splits and is not read" in x for x in CSVImages(str(tmp_path), "train").facts.lines
    )
