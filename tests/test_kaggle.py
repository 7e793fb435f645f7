"""val and test from a checkpoint alone, and a submission that can be trusted."""

import csv
from pathlib import Path

import pytest
from conftest import DATA, PLAIN, TOY, dogcats, rows

SMALL = [*PLAIN, "--num-workers=0", "--batch-size=8", "--print-freq=1"]


def table(path: str | Path) -> list[list[str]]:
    with Path(path).open(newline="") as stream:
        return list(csv.reader(stream))


@pytest.fixture
def trained(run, tmp_path):
    """A classifier that tells dark cats from bright dogs, and nine test pictures: dogs have odd numbers."""
    from PIL import Image

    dogcats(tmp_path / "train", 12)
    (tmp_path / "test").mkdir()
    for i in range(1, 12):
        Image.new("RGB", (40, 32), (200, 200, 200) if i % 2 else (70, 70, 70)).save(tmp_path / "test" / f"{i}.jpg")
    args = ["--run=a", "--model=MLP", "--model.hidden=[8]", "--optim=Adam", "--lr=3e-3", "--max-epoch=8", *SMALL]
    given = run("train", "dogcat_small", *args, "--train-data-root=train")
    assert given.code == 0, given.err
    assert rows("a", phase="val")[-1]["accuracy"] > 0.9, "the classifier learned nothing: nothing can be tested"
    return run


@pytest.mark.learns
def test_val_repeats_the_stored_figures_exactly(trained):
    given = trained("val", "checkpoints/a/last.pth", "--num-workers=2")
    assert given.code == 0, given.err
    said = dict(line.split() for line in given.out.splitlines()[1:])
    stored = {k: v for k, v in rows("a", phase="val")[-1].items() if k not in ("phase", "epoch", "step")}
    assert {k: float(v) for k, v in said.items()} == stored


@pytest.mark.learns
def test_probability_is_that_of_the_dog(trained):
    """The ancestor wrote P(cat) under the name of P(dog), and nobody could see it."""
    given = trained("test", "checkpoints/a", "--test-data-root=test")
    assert (
        given.code == 0 and "11 rows from checkpoints/a/best.pth, the probability of dog (test.positive)" in given.out
    )
    header, *lines = table("checkpoints/a/submission.csv")
    assert header == ["id", "probability"]
    assert [line[0] for line in lines] == [str(i) for i in range(1, 12)], "ids are numbers, sorted as numbers"
    for key, probability in lines:
        assert (float(probability) > 0.5) == (int(key) % 2 == 1)


@pytest.mark.learns
def test_the_other_class_on_request(trained):
    args = ["test", "checkpoints/a", "--test-data-root=test", "--result-file=cats.csv", "--test.positive=cat"]
    assert trained(*args).code == 0
    assert trained("test", "checkpoints/a", "--test-data-root=test").code == 0
    dogs, cats = dict(table("checkpoints/a/submission.csv")[1:]), dict(table("cats.csv")[1:])
    assert all(float(dogs[key]) + float(cats[key]) == pytest.approx(1) for key in dogs)
    wrong = trained(*args[:-1], "--test.positive=fish")
    assert wrong.code == 2
    assert "no class 'fish'; there is cat, dog" in wrong.err


@pytest.mark.learns
def test_label_and_class(trained):
    for output, dog in (("label", "1"), ("class", "dog")):
        given = trained("test", "checkpoints/a", "--test-data-root=test", f"--test.output={output}")
        assert given.code == 0
        header, *lines = table("checkpoints/a/submission.csv")
        assert header == ["id", output] and dict(lines)["3"] == dog


def test_header_ids_and_order_of_the_sample(trained, tmp_path):
    order = [5, 3, 11, 1, 2, 4, 6, 7, 8, 9, 10]
    (tmp_path / "sample.csv").write_text("Id,Probability\n" + "".join(f"{i},0.5\n" for i in order))
    args = ["test", "checkpoints/a", "--test-data-root=test", "--test.sample=sample.csv", "--result-file=out/s.csv"]
    assert trained(*args).code == 0
    header, *lines = table("out/s.csv")
    assert header == ["Id", "Probability"]
    assert [int(line[0]) for line in lines] == order


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ("id,label\n" + "".join(f"{i},0\n" for i in range(1, 11)), "1 predictions are not in it (11)"),
        ("id,label\n" + "".join(f"{i},0\n" for i in range(1, 13)), "1 of its ids have no prediction (12)"),
        ("id,cat,fox\n" + "".join(f"{i},0,0\n" for i in range(1, 12)), "columns cat, fox"),
        ("id,label\n1,0\n1,0\n", "each id once"),
        ("", "header"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused(trained, tmp_path, sample, message):
    (tmp_path / "sample.csv").write_text(sample)
    given = trained("test", "checkpoints/a", "--test-data-root=test", "--test.sample=sample.csv")
    assert given.code == 3
    assert message in given.err
    assert not Path("checkpoints/a/submission.csv").exists()


@pytest.fixture
def trained_on_folders(run, tmp_path):
    """A classifier on class folders, whose test pictures have their file names as ids."""
    from PIL import Image

    for name in ("a", "b"):
        for i in range(4):
            (tmp_path / f"data/{name}").mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (28, 28), (60 * i, 0, 200 * (name == "b"))).save(tmp_path / f"data/{name}/{i}.png")
    (tmp_path / "test").mkdir()
    for i in range(3):
        Image.new("RGB", (28, 28), (60 * i, 0, 0)).save(tmp_path / f"test/t{i}.png")
    args = ["--data.dataset=ImageFolder", "--model=LeNet", "--model.in_channels=3", "--max-epoch=1", *SMALL]
    size = "[{name: Resize, size: [28, 28]}]"
    args += [f"--data.transform.train={size}", f"--data.transform.eval={size}", "--train-data-root=data", "--run=a"]
    given = run("train", "csv_images", *args)
    assert given.code == 0, given.err
    return run


@pytest.mark.parametrize(("suffix", "told"), [("", True), (".jpg", True), (".png", False)])
def test_ids_of_a_sample_may_have_a_suffix_or_not(trained_on_folders, tmp_path, suffix, told):
    (tmp_path / "sample.csv").write_text("Id,Prob\n" + "".join(f"t{i}{suffix},0\n" for i in (2, 0, 1)))
    args = ["test", "checkpoints/a", "--test-data-root=test", "--test.sample=sample.csv"]
    given = trained_on_folders(*args)
    assert given.code == 0, given.err
    assert ("its ids are matched with those of the pictures without suffix" in given.out) == told
    header, *lines = table("checkpoints/a/submission.csv")
    assert header == ["Id", "Prob"] and [line[0] for line in lines] == [f"t{i}{suffix}" for i in (2, 0, 1)]
    (tmp_path / "test/t1.bmp").write_bytes((tmp_path / "test/t1.png").read_bytes())
    given = trained_on_folders(*args)
    assert given.code == 3
    expected = "t1.bmp and t1.png are both 't1' there" if suffix != ".png" else "1 predictions are not in it (t1.bmp)"
    assert expected in given.err


def test_a_file_name_that_is_no_utf8_text_is_written_with_codes(trained_on_folders, tmp_path):
    import os

    os.rename(b"test/t1.png", b"test/caf\xe9.png")
    given = trained_on_folders("test", "checkpoints/a", "--test-data-root=test")
    assert given.code == 0, given.err
    assert "note: 1 ids are no UTF-8 text" in given.out
    assert [line[0] for line in table("checkpoints/a/submission.csv")] == ["id", "caf\\udce9.png", "t0.png", "t2.png"]


def test_a_class_whose_name_is_no_utf8_text_is_trained_and_written(trained_on_folders, tmp_path):
    import os

    os.rename(b"data/b", b"data/caf\xe9")
    size = "[{name: Resize, size: [28, 28]}]"
    args = ["--data.dataset=ImageFolder", "--model=LeNet", "--model.in_channels=3", "--max-epoch=1", "--run=b", *SMALL]
    args += [f"--data.transform.train={size}", f"--data.transform.eval={size}", "--train-data-root=data"]
    given = trained_on_folders("train", "csv_images", *args)
    assert given.code == 0, given.err
    for output in ("probability", "class"):
        given = trained_on_folders("test", "checkpoints/b", "--test-data-root=test", f"--test.output={output}")
        assert given.code == 0, given.err
    assert {line[1] for line in table("checkpoints/b/submission.csv")[1:]} <= {"a", "caf\\udce9"}


def test_checkpoint_alone_is_enough(trained, tmp_path):
    """Model, arguments, class names and transforms are in the file; nothing else of the run is needed."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "checkpoints/a/best.pth").rename(tmp_path / "elsewhere/model.pth")
    given = trained("test", "elsewhere/model.pth", "--test-data-root=test")
    assert given.code == 0, given.err
    assert len(table("elsewhere/submission.csv")) == 12


def test_more_classes_give_a_column_each(run):
    assert run("train", "--run=d", *TOY).code == 0
    assert run("test", "checkpoints/d").code == 0
    header, *lines = table("checkpoints/d/submission.csv")
    assert header == ["id", *map(str, range(10))]
    assert all(sum(map(float, line[1:])) == pytest.approx(1) for line in lines)
    assert len(lines) == 270


def test_load_model_path_stands_in_for_the_checkpoint(trained):
    assert trained("val", "--load-model-path=checkpoints/a").out == trained("val", "checkpoints/a").out


def test_other_keys_are_refused(trained):
    given = trained("val", "checkpoints/a", "--lr=3", "--max-epoch=2")
    assert given.code == 2
    assert "--lr=3: " in given.err and "train.max_epoch" in given.err


@pytest.mark.skipif(not (DATA / "dogcat").is_dir(), reason="the dogcat photos are not here")
def test_real_sample_and_photos(run):
    root = DATA / "dogcat"
    args = ["--run=r", "--model=LeNet", *SMALL, "--train.max_steps=3", f"--train-data-root={root}/train"]
    assert run("train", "dogcat_small", *args).code == 0
    sample = f"--test.sample={root}/sample_submission.csv"
    given = run("test", "checkpoints/r", f"--test-data-root={root}/test", sample, "--result-file=submission.csv")
    assert given.code == 0, given.err
    ours, theirs = table("submission.csv"), table(root / "sample_submission.csv")
    assert len(ours) == 201
    assert [line[0] for line in ours] == [line[0] for line in theirs]
    assert ours[0] == theirs[0] == ["id", "label"]
