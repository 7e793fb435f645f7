"""What a run draws: the first batch, predictions, Chinese names; and that drawing never touches the run."""

import sys
import types

import numpy as np
import pytest
import torch
from conftest import TOY, rows, same_run, state
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image
from torch import nn
from visdom_server import Server, wait_for

import utils.figures.gallery
from configs import Component, load
from trainer.tasks.classification import Classification
from trainer.watchers import pictures, predictions
from trainer.watchers._thumbnails import thumbnails
from trainer.watchers.pictures import Pictures
from trainer.watchers.watcher import Watchers
from utils.errors import DataError
from utils.figures import fonts
from utils.figures.curves import draw_confusion
from utils.figures.fonts import fonts_for, printable, unprintable
from utils.figures.gallery import Row, draw_gallery
from utils.figures.palette import IGNORED, class_colours
from utils.sinks.logger import Logger

DRAWN = [flag for flag in TOY if "pictures" not in flag]
AUGMENTED = """\
model: MLP
data:
  dataset: Digits
  transform:
    train: [{name: RandomRotation, degrees: 40}, {name: Normalize, mean: [0.5], std: [0.25]}]
    eval: [{name: Normalize, mean: [0.5], std: [0.25]}]
"""
PNGS = {"lr.png", "samples_batch.png", "curves.png", "confusion_matrix.png", "predictions.png"}


def pngs(folder):
    return {path.name for path in folder.glob("*.png")}


def size(path):
    with Image.open(path) as picture:
        picture.load()
        return picture.size


def test_a_run_with_pictures_is_the_run_without(run, tmp_path):
    (tmp_path / "augmented.yaml").write_text(AUGMENTED)
    flags = ["augmented.yaml", "--optim=Adam", "--log.visdom=false", "--print-freq=1"]
    assert run("train", *flags, "--run=plain", "--train.max_steps=45", "--log.pictures=false").code == 0
    assert run("train", *flags, "--run=drawn", "--train.max_steps=20").code == 0
    folder = tmp_path / "checkpoints" / "drawn"
    assert pngs(folder) == PNGS and pngs(tmp_path / "checkpoints" / "plain") == set()
    first = (folder / "samples_batch.png").read_bytes()
    assert run("train", "--resume=checkpoints/drawn", "--train.max_steps=45").code == 0
    assert same_run(state("plain"), state("drawn"))
    assert rows("plain", phase="train") == rows("drawn", phase="train")
    assert (folder / "samples_batch.png").read_bytes() == first  # a resumed run leaves it as it is
    assert size(folder / "predictions.png")[0] > 1000


@pytest.mark.slow
def test_predictions_are_drawn_now_and_then_and_change_nothing(run, tmp_path, monkeypatch):
    drawn = []

    def draw(drawer, target, of, patience):
        drawn.append(of)
        own(drawer, target, of, patience)

    own = predictions.Drawer.draw_predictions
    (tmp_path / "augmented.yaml").write_text(
        AUGMENTED.replace("eval: [", "eval: [{name: RandomRotation, degrees: 9}, ")
    )
    flags = ["augmented.yaml", "--log.visdom=false", "--max-epoch=2"]
    assert run("train", *flags, "--run=plain", "--log.pictures=false").code == 0
    monkeypatch.setattr(predictions.Drawer, "draw_predictions", draw)
    assert run("train", *flags, "--run=short").code == 0 and drawn == ["the last weights"]
    monkeypatch.setattr(predictions, "TIME_SHARE", 1e9)
    assert run("train", *flags, "--run=drawn").code == 0
    assert drawn[1:] == ["epoch 1", "epoch 2", "the last weights"]
    assert same_run(state("plain"), state("drawn")) and rows("plain") == rows("drawn")


def test_visdom_shows_the_first_batch_at_once_and_predictions(run, tmp_path, monkeypatch):
    server = Server(tmp_path / "env").start()
    flags = [*(flag for flag in DRAWN if "visdom" not in flag), f"--log.visdom_port={server.port}"]

    def fail(*_):
        assert wait_for(lambda: "samples batch" in server.windows("a"))
        raise DataError("the end")

    try:
        with monkeypatch.context() as patched:
            patched.setattr("trainer.trainer.evaluate", fail)  # at the first validation
            assert run("train", "--run=a", *flags).code == 3
        assert run("train", "--run=b", *flags, "--train.max_steps=3").code == 0
        assert {"samples batch", "predictions", "confusion", "loss"} <= server.windows("b").keys()
    finally:
        server.kill()


def fake_run(folder, transforms=()):
    """As much of a run as drawing asks for; what it says lies in `.said`."""
    said = []
    transform = types.SimpleNamespace(train=transforms, eval=transforms)
    cfg = types.SimpleNamespace(data=types.SimpleNamespace(transform=transform))
    task = nn.Identity()
    known = {"cfg": cfg, "task": task, "eval_task": task}
    return types.SimpleNamespace(folder=folder, say=said.append, said=said, logger=Logger(), **known)


def test_the_first_batch_is_drawn_at_once_with_its_labels_as_it_was_trained_on(tmp_path, monkeypatch):
    run = fake_run(tmp_path, (Component("Normalize", {"mean": [0.5], "std": [0.25]}),))
    run.train_loader, run.meta = types.SimpleNamespace(size=40), {"classes": [f"class {k}" for k in range(40)]}
    galleries = []
    monkeypatch.setattr(
        utils.figures.gallery, "draw_gallery", lambda *what: galleries.append(what) or draw_gallery(*what)
    )
    drawn, watched = Pictures(), Watchers([], run)
    watched.watchers = watched.of_steps = [drawn]
    pixels = torch.rand(40, 1, 2, 3)
    for batch in (pixels, pixels * 0):  # the second batch is not drawn
        watched.after_step(((batch - 0.5) / 0.25, torch.arange(40)), {})
    ((title, (row,), target),) = galleries
    assert run.said == [] and row.captions == [[f"class {k}"] for k in range(32)]
    assert title == "32 of 40 training samples, as the network got them (after augmentation)"
    assert np.allclose(row.pictures[0][0, ::32, ::32], pixels[0, 0] * 255, atol=1)
    assert target == tmp_path / "samples_batch.png" and size(target)[0] > 1000
    assert watched.of_steps == []  # and costs later steps nothing


@pytest.mark.parametrize(
    "batch", [torch.rand(4, 5), (torch.rand(4, 2, 8, 8), 1), {"x": 1}, [], torch.zeros(2, 1, 8, 8).int()]
)
def test_a_batch_without_pictures_is_not_drawn(tmp_path, batch):
    run = fake_run(tmp_path)
    assert Pictures().after_step(run, batch, {}) is False
    assert run.said == [] and list(tmp_path.iterdir()) == []


def test_masks_are_drawn_in_the_colours_of_their_classes_and_grey_where_there_is_none(tmp_path):
    run = fake_run(tmp_path)
    run.train_loader, run.meta = types.SimpleNamespace(size=9), {"classes": ["road", "sky"], "mask_values": [0, 255]}
    masks = torch.tensor([[0, 1], [1, 255]]).repeat_interleave(40, 0).repeat_interleave(40, 1)
    assert Pictures().after_step(run, (torch.rand(2, 3, 80, 80), torch.stack([masks, masks])), {}) is False
    assert run.said == []
    with Image.open(tmp_path / "samples_batch.png") as picture:
        seen = {tuple(c) for c in np.asarray(picture.convert("RGB")).reshape(-1, 3).tolist()}
    assert {*class_colours(2), IGNORED} <= seen


def test_class_colours_are_distinct_and_those_of_the_masks_where_they_have_some():
    assert len(set(class_colours(64))) == 64 and IGNORED not in class_colours(64)
    assert class_colours(2, [[1, 2, 3], [4, 5, 6]]) == [(1, 2, 3), (4, 5, 6)]


def test_thumbnails_are_seen_whatever_their_scale_and_size():
    wide = thumbnails(torch.rand(1, 3, 100, 400), ())[0]
    assert wide.shape == (3, 24, 96) and 100 < wide.mean() < 155
    strange = thumbnails(torch.tensor([[[[-7.0, 0.0, 7.0]]]]), ())[0]
    assert strange.dtype == np.uint8 and strange[0, 0, ::32].tolist() == [0, 128, 255]


def test_without_matplotlib_a_run_is_still_a_run(run, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("train", "--run=a", *DRAWN, "--train.max_steps=3")
    assert result.code == 0 and "Traceback" not in result.out + result.err
    for name in PNGS - {"samples_batch.png"}:
        assert result.out.count(f"checkpoints/a/{name} is not drawn: ") == 1
    assert pngs(tmp_path / "checkpoints" / "a") == {"samples_batch.png"}  # drawn without it, and without labels


def test_what_fails_while_drawing_is_a_sentence(run, tmp_path, monkeypatch):

    def fail(*_):
        raise RuntimeError("no ink\nleft")

    monkeypatch.setattr(pictures, "thumbnails", fail)
    monkeypatch.setattr(predictions, "thumbnails", fail)
    monkeypatch.setattr("utils.figures.curves.draw_curves", fail)
    result = run("train", "--run=a", *DRAWN, "--train.max_steps=3")
    assert result.code == 0 and run("runs").out.split()[-1] == "finished"
    for name in ("samples_batch.png", "curves.png", "predictions.png"):
        assert f"checkpoints/a/{name} is not drawn: no ink\n" in result.out
    assert pngs(tmp_path / "checkpoints" / "a") == {"lr.png", "confusion_matrix.png"}


def test_a_table_has_no_pictures_to_predict(run, tmp_path):
    assert run("train", "linear_regression", "--run=a", "--log.visdom=false", "--train.max_steps=3").code == 0
    assert pngs(tmp_path / "checkpoints" / "a") <= {"lr.png", "curves.png"}


class Told(nn.Module):
    """A network whose logits are the pixels."""

    def forward(self, x):
        return x.flatten(1)


class Labelled:
    """Pictures [1, 1, 2], whose pixels are logits of two classes, and labels."""

    def __init__(self, logits, labels):
        self.logits, self.labels = logits, labels
        self.ids = [f"picture {i}" for i in range(len(logits))]

    def __len__(self):
        return len(self.logits)

    def __getitem__(self, index):
        return self.logits[index].view(1, 1, 2), self.labels[index]


@pytest.fixture
def galleries(monkeypatch):
    """What galleries are drawn with: title and shelves."""
    drawn = []
    monkeypatch.setattr(
        utils.figures.gallery, "draw_gallery", lambda title, shelves, target: drawn.append((title, shelves))
    )
    return drawn


def predict(dataset, tmp_path, patience=60.0):
    cfg, said = load("default"), []
    task = Classification(Told(), classes=["cat", "dog"])
    drawer = predictions.Drawer(task, dataset, cfg, torch.device("cpu"), said.append)
    drawer.draw_predictions(tmp_path / "predictions.png", "best.pth", patience)
    assert said == [] and task.training


def test_predictions_are_the_worst_the_least_certain_and_the_best(tmp_path, galleries):
    margins = torch.linspace(-5, 5, 41)  # of dog over cat
    logits = torch.stack([torch.zeros(41), margins], 1)
    predict(Labelled(logits, [1] * 38 + [0] * 3), tmp_path)  # all dogs, but for the last three
    (title, (wrong, unsure, best)) = galleries[0]
    assert title == "predictions of best.pth: 41.5% right, of 41 validation samples"
    assert wrong.title == "most confident mistakes, of 24" and best.title == "most certain and right"
    assert wrong.captions[0] in (
        ["truth dog", "→ cat  99.3%", "id picture 0"],
        ["truth cat", "→ dog  99.3%", "id picture 40"],
    )
    shares = [[float(lines[1].split()[-1].rstrip("%")) for lines in shelf.captions] for shelf in (wrong, unsure, best)]
    assert shares[0] == sorted(shares[0], reverse=True) and shares[2] == sorted(shares[2], reverse=True)
    assert shares[1] == sorted(shares[1]) and shares[1][0] == 50.0
    assert all(lines[0] != f"truth {lines[1].split()[1]}" for lines in wrong.captions)
    assert all(lines[0] == f"truth {lines[1].split()[1]}" for lines in best.captions)
    assert best.captions[0][2] == "id picture 37" and len(wrong.pictures) == len(best.pictures) == 8
    assert {len(shelf.pictures) for shelf in (wrong, unsure, best)} == {8}


def test_of_many_samples_a_random_choice_must_do(tmp_path, galleries):
    logits = torch.tensor([[3.0, 0.0]] * 100 + [[0.0, 3.0]] * 100)
    predict(Labelled(logits, [0] * 100 + [1] * 100), tmp_path, patience=0.0)
    (title, (wrong, _, best)) = galleries[0]
    assert title == "predictions of best.pth: 100.0% right, of 32 validation samples (chosen at random among 200)"
    assert wrong.title == "most confident mistakes, of 0: none" and wrong.pictures == []
    assert len({lines[0] for lines in best.captions}) == 2  # as the samples stand all would be cats


def test_plot_draws_what_a_checkpoint_predicts(run, tmp_path):
    assert run("train", "--run=a", *TOY, "--train.max_steps=30").code == 0
    folder = tmp_path / "checkpoints" / "a"
    assert run("plot", "a").code == 0 and pngs(folder) == {"curves.png"}
    result = run("plot", "a", "--predictions")
    assert result.code == 0 and pngs(folder) == {"curves.png", "confusion_matrix.png", "predictions.png"}
    assert result.out.splitlines()[1:] == [
        f"checkpoints/a/{name}: of a" for name in ("confusion_matrix.png", "predictions.png")
    ]
    assert run("plot", "a", "--predictions=maybe").err == "--predictions=maybe: is neither true nor false\n"
    (folder / "best.pth").unlink(), (folder / "last.pth").unlink(), (folder / "previous.pth").unlink()
    assert run("plot", "a", "--predictions").code == 4


# Chinese characters


@pytest.fixture
def font_file(tmp_path):
    """A font called SimHei in which 猫 and 狗 are black boxes."""
    pen = TTGlyphPen(None)
    for move, *points in [[pen.moveTo, (0, 0)], [pen.lineTo, (0, 800), (900, 800), (900, 0)]]:
        for point in points:
            move(point)
    pen.closePath()
    box = pen.glyph()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "box"])
    font.setupCharacterMap({ord("猫"): "box", ord("狗"): "box"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "box": box})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "box": (1000, 0)})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "SimHei", "styleName": "Regular"})
    font.setupOS2(sTypoAscender=800, sTypoDescender=-200)
    font.setupPost()
    font.save(tmp_path / "simhei.ttf")
    return tmp_path / "simhei.ttf"


@pytest.fixture
def no_chinese_font(monkeypatch):
    """Only matplotlib's own fonts, in its list and on the disk."""
    from matplotlib import font_manager

    own = [e for e in font_manager.fontManager.ttflist if e.name.startswith("DejaVu")]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    fonts._add_new_fonts.cache_clear()
    font_manager.fontManager._findfont_cached.cache_clear()
    yield
    fonts._add_new_fonts.cache_clear()
    font_manager.fontManager._findfont_cached.cache_clear()


@pytest.fixture
def chinese_font(no_chinese_font, font_file):
    from matplotlib.font_manager import fontManager

    fontManager.addfont(font_file)


def test_a_font_that_was_installed_after_the_first_run_is_found(no_chinese_font, font_file, monkeypatch):
    from matplotlib import font_manager

    assert fonts_for("猫") == (["DejaVu Sans"], {"猫"})
    looks = []
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: looks.append(1) or ["no font", str(font_file)])
    assert fonts_for("猫") == (["DejaVu Sans"], {"猫"})  # one look in a process is enough
    fonts._add_new_fonts.cache_clear()  # the next process
    assert fonts_for("猫") == (["DejaVu Sans", "SimHei"], set())
    assert fonts_for("猫鼠") == (["DejaVu Sans", "SimHei"], {"鼠"}) and len(looks) == 1


def ink(path):
    with Image.open(path) as picture:
        return (np.asarray(picture.convert("L")) < 60).mean()


def test_chinese_is_drawn_as_characters_where_a_font_is_there(tmp_path, chinese_font, recwarn):
    assert printable(["猫", "狗"]) == (["猫", "狗"], ["DejaVu Sans", "SimHei"])
    assert unprintable(["猫", "dog"]) == ""
    picture = np.full((1, 4, 4), 255, np.uint8)
    for name in ("猫", "."):
        draw_gallery("x", [Row("y", [picture], [[name * 8]])], tmp_path / f"{name}.png")
        draw_confusion(np.zeros((2, 2), int), [name * 8, "dog"], tmp_path / f"{name}2.png")
    assert ink(tmp_path / "猫.png") > ink(tmp_path / "..png") + 0.003  # black boxes
    assert ink(tmp_path / "猫2.png") > ink(tmp_path / ".2.png") + 0.003
    assert not recwarn.list  # matplotlib warns of a glyph that is missing


def test_without_a_font_chinese_is_told_in_a_sentence(run, tmp_path, no_chinese_font, recwarn):
    assert printable(["猫", "dog"]) == (["#0", "dog"], ["DejaVu Sans"])
    sentence = "#0 is 猫: no font here has these characters; install one, as by apt-get install fonts-noto-cjk"
    assert unprintable(["猫", "dog"]) == sentence
    assert fonts_for("a猫b") == (["DejaVu Sans"], {"猫"})
    said = []
    predictions.draw_matrices({"confusion": np.eye(2, dtype=int)}, ["猫", "dog"], tmp_path, "now", said.append)
    assert said == [sentence] and size(tmp_path / "confusion_matrix.png")
    draw_gallery("猫", [Row("猫", [np.zeros((3, 4, 9), np.uint8)], [["猫 a"]])], tmp_path / "gallery.png")
    assert not recwarn.list
