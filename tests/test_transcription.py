"""Reading text by CTC: strings of digits, lines of a CSV, decoding, error rates, and runs that resume to the bit."""

import csv
import itertools
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DATA, PLAIN, rows, same_run, state
from PIL import Image
from torch import nn

from data.digit_strings import DigitStrings
from data.text_lines import TextLines
from models._ctc import best_path, prefix_search
from models.crnn import CRNN
from trainer.tasks.transcription import Transcription
from utils.errors import ConfigError, DataError
from utils.meters import ErrorRate
from utils.meters.edits import edit_distance

SMALL = ["digit_strings", "--data.dataset.root=made", "--model.width=4", "--model.hidden=24", "--print-freq=10", *PLAIN]
SMALL += ["--data.dataset.held_out=48", "--data.dataset.digits=[2,3]", "--batch-size=16"]
FEW = ["--data.dataset.strings=80", "--max-epoch=2", "--schedule=null"]


def glyph(label: int) -> np.ndarray:
    """A bar down, a bar across, or a ring."""
    pixels = np.zeros((28, 28), np.uint8)
    if label == 0:
        pixels[5:23, 12:16] = 255
    elif label == 1:
        pixels[12:16, 5:23] = 255
    else:
        pixels[6:22, 6:22] = 255
        pixels[10:18, 10:18] = 0
    return pixels


@pytest.fixture
def made(tmp_path) -> Path:
    """Files like MNIST's, of three glyphs: picture i has its number in its first pixels."""
    folder = tmp_path / "made"
    folder.mkdir()
    for part, count in (("train", 120), ("t10k", 30)):
        pictures = np.stack([glyph(i % 3) for i in range(count)])
        labels = np.arange(count) % 3
        for kind, values in (("images-idx3", pictures), ("labels-idx1", labels)):
            head = struct.pack(f">{values.ndim + 1}I", 0x0800 + values.ndim, *values.shape)
            (folder / f"{part}-{kind}-ubyte").write_bytes(head + values.astype(np.uint8).tobytes())
    return folder


@pytest.fixture
def lines(tmp_path) -> Path:
    """Twenty pictures of two to four letters, as a CSV names them, and two to read."""
    folder = tmp_path / "lines"
    (folder / "test").mkdir(parents=True)
    table = ["file,says"]
    for i in range(20):
        text = "".join("abc"[(i * k + k) % 3] for k in range(1, 3 + i % 3))
        Image.fromarray(np.full((20, 60, 3), 10 * i, np.uint8)).save(folder / f"{i}.png")
        table.append(f"{i}.png,{text}")
    (folder / "labels.csv").write_text("\n".join(table) + "\n")
    for i in range(2):
        Image.fromarray(np.full((20, 60, 3), 9, np.uint8)).save(folder / "test" / f"{i}.png")
    return folder


# Strings of digits


def test_pictures_of_another_size_are_told(made):
    head = struct.pack(">4I", 2051, 120, 20, 20)
    (made / "train-images-idx3-ubyte").write_bytes(head + bytes(120 * 400))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: has pictures of 20x20 pixels, 28x28 are needed"):
        DigitStrings(str(made), "train")


def test_a_string_is_a_function_of_seed_split_and_index(made):
    one, other = (DigitStrings(str(made), "train", strings=40) for _ in range(2))
    picture, target, steps, length = one[7]
    whole = other.read(torch.arange(40))
    assert torch.equal(picture, whole[0][7]) and torch.equal(target, whole[1][7][:length])
    assert (steps, length) == (whole[2][7], whole[3][7]) and whole[1][7][length:].sum() == 0
    assert torch.equal(other.read([9, 7])[0][1], picture), "alone, in a batch, in any order"
    assert DigitStrings(str(made), "train", strings=40, seed=1).texts != one.texts
    assert DigitStrings(str(made), "val", held_out=40).texts != one.texts
    assert picture.shape == (1, 28, 168) and picture.min() == 0 and picture.max() == 1


def test_pictures_show_their_strings(made):
    """Glyphs apart from each other are found again, from left to right, by their nearest shape."""
    data = DigitStrings(str(made), "train", strings=60, digits=(1, 4), gap=(2, 5), stride=2)
    assert data.width % 2 == 0 and {len(text) for text in data.texts} == {1, 2, 3, 4}
    for index in range(60):
        picture, target, *_ = data[index]
        assert "".join(str(number - 1) for number in target.tolist()) == data.texts[index]
        inked = (picture[0].amax(0) > 0).numpy()
        starts = np.flatnonzero(inked & ~np.concatenate([[False], inked[:-1]]))
        ends = np.flatnonzero(inked & ~np.concatenate([inked[1:], [False]])) + 1
        found = [{4: 0, 18: 1, 16: 2}[int(end - start)] for start, end in zip(starts, ends, strict=True)]
        assert "".join(map(str, found)) == data.texts[index]


def test_no_picture_is_in_two_splits(made):
    splits = {name: DigitStrings(str(made), name, val_fraction=0.25, strings=400) for name in ("train", "val", "test")}
    used = {name: {*data.chosen.flatten().tolist()} for name, data in splits.items()}
    assert not used["train"] & used["val"] and len(used["train"]) == 90 and len(used["val"]) == 30
    assert len(splits["test"].images) == 30 and used["test"] <= {*range(30)}
    assert len(splits["train"]) == 400 and len(splits["val"]) == len(splits["test"]) == 2000
    assert splits["train"].meta["num_classes"] == 11


@pytest.mark.parametrize("given", [{"digits": (4, 3)}, {"gap": (2, 1)}, {"gap": (-28, 0)}])
def test_bounds_that_no_string_has_are_refused(made, given):
    with pytest.raises(ValueError, match="must be"):
        DigitStrings(str(made), "train", **given)


# Lines of a CSV


def test_lines_of_a_csv(lines):
    train, val, test = (TextLines(str(lines), split, val_fraction=0.2) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (16, 4, 2) and not {*train.ids} & {*val.ids}
    assert train.meta == {
        "alphabet": ["a", "b", "c"],
        "num_classes": 4,
        "stride": 4,
        "in_channels": 3,
        "image_size": [20, 60],
    }
    assert "pictures from 'file', texts from 'says'" in train.facts.lines[0]
    said = dict(line.split(",") for line in (lines / "labels.csv").read_text().splitlines())
    assert all(said[name] == text for name, text in zip(train.ids, train.texts, strict=True))
    pictures, targets, steps, lengths = train.collate([train[3], train[0]])
    assert pictures.shape == (2, 3, 20, 60) and steps == [15, 15] and lengths == [len(train.texts[i]) for i in (3, 0)]
    assert ["".join("abc"[n - 1] for n in row if n) for row in targets.tolist()] == [train.texts[3], train.texts[0]]
    assert test.collate([test[0], test[1]]).shape == (2, 3, 20, 60) and not test.texts
    assert test.meta["image_size"] == [20, 60]


@pytest.mark.parametrize(
    ("row", "given", "told"),
    [
        ("absent.png,ab", {}, "labels.csv:22: no picture 'absent.png'"),
        ("3.png,ab", {}, "labels.csv:22: the picture '3.png' stands in another row"),
        ("test/0.png,", {}, "labels.csv:22: has no text"),
        ("test/0.png,abd", {"alphabet": "abc"}, "labels.csv:22: the text 'abd' has d, which is not learned"),
        ("test/0.png,aaaaaaaaa", {}, "the text 'aaaaaaaaa' needs 17 steps, and 60 pixels in steps of 4 are 15"),
        ("test/0.png,ab", {"text": "label"}, "no column 'label' .data.dataset.text.; there is file, says"),
    ],
)
def test_a_row_that_cannot_be_learned_is_told(lines, row, given, told):
    with (lines / "labels.csv").open("a") as file:
        file.write(row + "\n")
    with pytest.raises(DataError, match=told):
        _ = TextLines(str(lines), "train", val_fraction=0.0, **given).meta


# Decoding and error rates


def paths_of(log_probs: torch.Tensor) -> dict[tuple[int, ...], float]:
    """The probability of each text from [T, C], summed over all its paths."""
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        text = tuple(key for key, _ in itertools.groupby(path) if key)
        found[text] = found.get(text, 0.0) + math.exp(sum(float(log_probs[t, c]) for t, c in enumerate(path)))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_decoding_beside_all_paths(seed):
    log_probs = (2 * torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(seed))).log_softmax(2)
    for text, beside in zip(range(3), prefix_search(log_probs, 1000), strict=True):
        known = paths_of(log_probs[:, text])
        assert sum(known.values()) == pytest.approx(1)
        assert tuple(beside) == max(known, key=known.__getitem__)
        likeliest = max(
            itertools.product(range(4), repeat=5), key=lambda p: sum(log_probs[t, text, c] for t, c in enumerate(p))
        )
        assert best_path(log_probs)[text] == [key for key, _ in itertools.groupby(likeliest) if key]


def test_a_search_finds_a_text_of_many_paths():
    """Graves's example: no path is likelier than the blank alone, and yet the text is."""
    log_probs = torch.tensor([[[0.6, 0.4]], [[0.6, 0.4]]]).log()
    assert best_path(log_probs) == [[]] and prefix_search(log_probs, 2) == [[1]]
    assert prefix_search(log_probs, 2, [1]) == [[]]
    both = torch.tensor([1, 1, 0, 1, 2, 2]).eq(torch.arange(3)[:, None]).float().T[:, None].clamp(min=1e-3).log()
    assert best_path(both) == prefix_search(both, 3) == [[1, 1, 2]] and best_path(both, [2]) == [[1]]


def test_edit_distance_and_error_rate():
    def slow(one, other):
        if not one or not other:
            return len(one) + len(other)
        change = slow(one[1:], other[1:]) + (one[0] != other[0])
        return min(change, slow(one[1:], other) + 1, slow(one, other[1:]) + 1)

    texts = ["".join(letters) for n in range(4) for letters in itertools.product("ab", repeat=n)]
    assert all(edit_distance(a, b) == slow(a, b) for a in texts for b in texts)
    assert edit_distance("kitten", "sitting") == 3
    meter, part = ErrorRate(), ErrorRate()
    meter.add(["12", "3"], ["123", "3"])
    part.add(["4567"], ["5"])
    meter.merge(part.state())
    assert meter.value() == pytest.approx(4 / 5) and ErrorRate().value() is None


# The task


def example(steps: int = 8) -> tuple[Transcription, tuple]:
    torch.manual_seed(0)
    net = CRNN(4, 1, (16, 32), 4, width=2, hidden=3)
    batch = (torch.rand(3, 1, 16, 32), torch.tensor([[1, 2], [3, 0], [1, 1]]), [steps] * 3, [2, 1, 2])
    return Transcription(net, "abc", 1, (16, 32)), batch


def test_the_loss_is_that_of_torch():
    task, batch = example()
    learned = []
    scalars = task.train_step(batch, learned.append)
    expected = nn.functional.ctc_loss(task.model(batch[0]), *batch[1:])
    torch.testing.assert_close(learned[0], expected)
    assert scalars["loss"] is learned[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        task.train_step(batch, learned.append)
    assert learned[1].dtype == torch.float32 and torch.allclose(learned[1], expected, rtol=0.05)
    meters = task.eval().meters()
    task.val_step(batch, meters)
    found = [row["text"] for row in task.test_step(batch)]
    edits = sum(map(edit_distance, found, ["ab", "c", "aa"]))
    assert meters["cer"].value() == pytest.approx(edits / 5) and found == [r["text"] for r in task.test_step(batch[0])]


def test_the_loss_on_the_cpu_for_the_same_bits_each_time(monkeypatch):
    task, batch = example()
    learned = []
    task.train_step(batch, learned.append)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    task.train_step(batch, learned.append)
    torch.testing.assert_close(learned[1], learned[0])


def test_what_does_not_fit_is_told():
    task, batch = example(steps=7)
    with pytest.raises(
        ConfigError, match="reads pictures 32 pixels wide in 8 steps, the data in 7; make data.dataset."
    ):
        task.train_step(batch, lambda loss: None)
    with pytest.raises(ConfigError, match="gives 4 classes, the data have 3 with the blank"):
        Transcription(task.model, "ab", 1, (16, 32)).test_step(batch)
    with pytest.raises(ConfigError, match="learns from pictures with texts"):
        task.train_step(batch[:2], lambda loss: None)
    with pytest.raises(ConfigError, match=r"task.loss: CrossEntropyLoss does not take log-probabilities \[T, B, C\]"):
        Transcription(task.model, "abc", loss=nn.CrossEntropyLoss())
    with pytest.raises(ConfigError, match="have their blank at 0"):
        Transcription(task.model, "abc", loss=nn.CTCLoss(blank=3))
    for given in ({"stride": 3}, {"image_size": (7, 64)}, {"image_size": (32, 2)}):
        with pytest.raises(ValueError, match="must be|too small"):
            CRNN(4, **given)


@pytest.mark.parametrize("stride", [2, 4, 16])
def test_a_step_of_the_network_is_its_stride(stride):
    net = CRNN(5, 3, (32, 70), stride, width=2, hidden=4, layers=2, dropout=0.1)
    found = net(torch.rand(2, 3, 32, 70))
    assert found.shape == (70 // stride, 2, 5) and torch.allclose(found.exp().sum(2), torch.ones(70 // stride, 2))


# Runs


@pytest.mark.learns
def test_it_learns_to_read_strings_of_glyphs(run, made):
    given = run("train", "--run=a", *SMALL, "--data.dataset.strings=320", "--max-epoch=8", "--lr=1e-2")
    assert given.code == 0 and "note:" not in given.out, given.err + given.out
    first, *_, last = rows("a", phase="val")
    assert first["cer"] > 0.4 and last["cer"] < 0.1 and last["sequence_accuracy"] > 0.8, (first, last)
    Path("sample.csv").write_text("name,said\n" + "".join(f"{i},0\n" for i in (*range(1, 48), 0)))
    given = run("test", "checkpoints/a", "--test.sample=sample.csv")
    assert given.code == 0 and "mirror check: the file's column gives cer" in given.out, given.err + given.out
    truth = DigitStrings("made", "test", held_out=48, digits=(2, 3)).texts
    read = list(csv.DictReader(Path("checkpoints/a/submission.csv").read_text().splitlines()))
    assert [row["name"] for row in read] == [*map(str, range(1, 48)), "0"]
    assert sum(row["said"] == truth[int(row["name"])] for row in read) > 38


def resumed(run, *flags):
    assert run("train", "--run=whole", *flags).code == 0
    assert run("train", "--run=cut", *flags, "--train.max_steps=7").code == 0
    assert run("train", "--resume=checkpoints/cut", "--train.max_steps=null").code == 0
    assert rows("whole", phase="val")[-1] == rows("cut", phase="val")[-1]
    assert same_run(state("cut"), state("whole"))


def test_stopped_and_resumed_it_is_the_same_run(run, made):
    resumed(run, *SMALL, *FEW, "--train.accumulate=2", "--task.beam=2")


def test_supervised_learns_by_ctc_too(run, made):
    resumed(run, *SMALL, *FEW, "--task=Supervised", "--task.loss=CTCLoss")
    assert rows("whole", phase="val")[-1].keys() >= {"loss"}


@pytest.mark.slow
def test_killed_it_resumes_from_the_last_save(killed_and_resumed, made):
    killed_and_resumed(*SMALL, "--data.dataset.strings=160", "--max-epoch=6", "--train.save_steps=7", after=6)


def test_lines_of_ones_own_from_flags_alone(run, lines):
    flags = ["--data.dataset=TextLines", "--train-data-root=lines", "--task=Transcription", "--model=CRNN"]
    flags += ["--model.width=2", "--model.hidden=4", "--max-epoch=1", "--batch-size=4", "--optim=Adam", *PLAIN]
    given = run("train", "--run=a", *flags)
    assert given.code == 0, given.err
    assert "3 characters, of all rows: abc" in given.out
    given = run("test", "checkpoints/a", "--test-data-root=lines")
    assert given.code == 0 and "mirror check: the file's column gives cer" in given.out, given.err + given.out
    assert Path("checkpoints/a/submission.csv").read_text().startswith("id,text\ntest/0.png,")
    given = run("predict", "checkpoints/a", "lines/test", "--out=read.csv")
    assert given.code == 0 and Path("read.csv").read_text().startswith("path,text\nlines/test/0.png,"), given.err


def test_a_loss_of_two_tensors_is_refused_before_anything_starts(run):
    given = run("check", "digit_strings", "--task.loss=MSELoss")
    assert given.code == 2 and "MSELoss takes 2 tensors (input, target), and Transcription has 4" in given.err


@pytest.mark.learns
@pytest.mark.slow
@pytest.mark.chapter
@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason="MNIST is absent")
def test_digits_not_trained_on_are_read(run):
    root = DATA / "mnist"
    given = run("train", "digit_strings", "--run=a", f"--data.dataset.root={root}", *PLAIN)
    assert given.code == 0, given.err
    assert min(row["cer"] for row in rows("a", phase="val")) < 0.05
    assert run("test", "checkpoints/a").code == 0
    read = [row["text"] for row in csv.DictReader(Path("checkpoints/a/submission.csv").read_text().splitlines())]
    meter = ErrorRate()
    meter.add(read, DigitStrings(str(root), "test").texts)
    assert meter.value() < 0.05, "digits that other people wrote"
