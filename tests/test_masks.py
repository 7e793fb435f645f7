"""Masks as programs write them: values kept exactly, palettes, colours, pixels without a class, mixed sizes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PLAIN, rows
from PIL import Image

from data._masks import IGNORED, Table, find_values
from data.segmentation import MaskFolder
from trainer.tasks.segmentation import Segmentation, dice_loss
from utils.errors import DataError

VALUES = np.arange(16).reshape(4, 4) % 3  # the classes 0, 1, 2
COLOURS = {0: [0, 0, 0], 1: [128, 64, 128], 2: [0, 0, 192]}


def pictures(root: Path, mask, count: int = 5, size=(4, 4)) -> str:
    """So many pictures whose masks are all written by `mask(path)`."""
    for part in ("image", "label"):
        (root / "train" / part).mkdir(parents=True, exist_ok=True)
    for n in range(count):
        Image.fromarray(np.full((*size, 3), 10 * n, np.uint8)).save(root / f"train/image/{n}.png")
        mask(root / f"train/label/{n}.png")
    return str(root)


def grey(values, kind=np.uint8):
    return lambda path: Image.fromarray(np.asarray(values, kind)).save(path)


def palette(path):
    image = Image.fromarray(VALUES.astype(np.uint8), mode="P")
    image.putpalette([part for colour in COLOURS.values() for part in colour])
    image.save(path)


def rgb(path):
    table = np.zeros((3, 3), np.uint8)
    table[list(COLOURS)] = list(COLOURS.values())
    Image.fromarray(table[VALUES]).save(path)


def tiff(path):
    Image.fromarray((VALUES * 70_000).astype(np.int32)).save(path.with_suffix(".tif"))


@pytest.mark.parametrize(
    ("mask", "values"),
    [
        (grey(VALUES), [0, 1, 2]),
        (grey(VALUES * 100), [0, 100, 200]),
        (grey(VALUES * 13_001, np.uint16), [0, 13_001, 26_002]),
        (grey(VALUES, np.uint16), [0, 1, 2]),
        (tiff, [0, 70_000, 140_000]),
        (palette, [0, 1, 2]),
    ],
)
def test_values_are_kept_exactly(tmp_path, mask, values):
    data = MaskFolder(pictures(tmp_path, mask), "train")
    assert data.mask_values == values and data.meta["num_classes"] == 3
    assert data[0][1].tolist() == VALUES.tolist()


def test_two_values_are_two_classes_as_they_were(tmp_path):
    data = MaskFolder(pictures(tmp_path, grey((VALUES > 0) * 255)), "train")
    assert data.mask_values == [0, 255] and data[0][1].max() == 1
    assert "masks: 0, 255 (data.dataset.classes" in "".join(data.facts.lines)


def test_255_among_small_values_is_doubtful(tmp_path):
    root = pictures(tmp_path, grey(np.where(VALUES == 2, 255, VALUES)))
    with pytest.raises(DataError, match=r"0, 1 and 255: if 255 means pixels without a class.*task.ignore_index=255"):
        MaskFolder(root, "train")
    data = MaskFolder(root, "train", ignore_index=255)
    assert data.mask_values == [0, 1] and data.meta["ignored_class"] == IGNORED
    assert data[0][1].tolist() == np.where(VALUES == 2, IGNORED, VALUES).tolist()
    named = MaskFolder(root, "train", classes={"sky": 0, "road": 1, "border": 255})
    assert named.meta["classes"] == ["sky", "road", "border"] and named[0][1].tolist() == VALUES.tolist()


@pytest.mark.parametrize("mask", [rgb, palette])
def test_colours_by_a_table(tmp_path, mask):
    root = pictures(tmp_path, mask)
    table = {"road": COLOURS[1], "car": COLOURS[2], "sky": COLOURS[0]}
    data = MaskFolder(root, "train", classes=table)
    assert data.meta["classes"] == ["road", "car", "sky"] and data[0][1].tolist() == ((VALUES - 1) % 3).tolist()
    void = MaskFolder(root, "train", classes={"road": COLOURS[1], "car": COLOURS[2]}, ignore_index=0)
    assert void[0][1].tolist() == np.where(VALUES == 0, IGNORED, VALUES - 1).tolist()


def test_colours_without_a_table_are_listed(tmp_path):
    with pytest.raises(DataError, match=r"data.dataset.classes=\{name: \[red, green, blue\].*\[0, 0, 0\] 38 %"):
        MaskFolder(pictures(tmp_path, rgb), "train")
    with pytest.raises(
        DataError, match=r"holds the value \[0, 0, 192\], but the classes are \[0, 0, 0\], \[128, 64, 128\]"
    ):
        MaskFolder(pictures(tmp_path, rgb), "train", classes={"a": COLOURS[0], "b": COLOURS[1]})[0]


def test_too_many_values_are_named(tmp_path):
    path = tmp_path / "m.png"
    Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10)).save(path)
    with pytest.raises(DataError, match=r"more than 64 different values \(0, 1, 2.*data.dataset.classes"):
        find_values([str(path)], None)


@pytest.mark.parametrize(
    ("values", "ignored", "message"),
    [([0, 0], None, "same value"), ([0, 1], 1, "is the value of a class"), ([0, [1, 2, 3]], None, "each a colour")],
)
def test_tables_that_make_no_sense_are_refused(values, ignored, message):
    with pytest.raises(ValueError, match=message):
        Table(values, ignored)


def learned(task, logits, masks):
    """The numbers that a step tells, where the network gives its input."""
    return task.train_step((logits, masks), lambda loss, role="model", weight=None: None)


def test_ignored_pixels_count_nowhere():
    torch.manual_seed(0)
    task = Segmentation(torch.nn.Identity(), [0, 1, 2], ["a", "b", "c"], ignore_index=255, ignored_class=255)
    logits, masks = torch.randn(2, 3, 6, 6), torch.randint(0, 3, (2, 6, 6))
    void = torch.rand(2, 6, 6) < 0.3
    holed = masks.where(~void, 255)
    parts = learned(task, logits, holed)
    flat = torch.nn.functional.cross_entropy(logits, holed, ignore_index=255)
    torch.testing.assert_close(parts["cross_entropy"], flat)
    other = logits + 50 * void[:, None] * torch.tensor([1.0, -1.0, 0.5])[None, :, None, None]
    assert learned(task, other, holed)["loss"] == parts["loss"], "whatever the network says there"
    meters = task.meters()
    task.val_step((logits, holed), meters)
    kept = ~void
    assert meters["accuracy"].value() == pytest.approx((logits.argmax(1) == masks)[kept].float().mean().item())
    assert int(meters["confusion"].value().sum()) == int(kept.sum())
    nothing = torch.full_like(masks, 255)
    assert torch.isfinite(learned(task, logits, nothing)["loss"]), "a picture without any class"


def test_without_ignored_pixels_the_loss_is_the_same():
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 3, 6, 6), torch.randint(0, 3, (2, 6, 6))
    losses = [
        learned(Segmentation(torch.nn.Identity(), [0, 1, 2], ignored_class=none), logits, masks)["loss"]
        for none in (None, 255)
    ]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(dice_loss(logits.softmax(1), masks), dice_loss(logits.softmax(1), masks, 255))


def test_mixed_sizes_are_padded_by_pixels_without_a_class(tmp_path):
    for part in ("image", "label"):
        (tmp_path / "train" / part).mkdir(parents=True)
    for n, (height, width) in enumerate([(4, 6), (5, 3), (4, 6)]):
        Image.fromarray(np.full((height, width), 200, np.uint8)).save(tmp_path / f"train/image/{n}.png")
        Image.fromarray((np.arange(height * width).reshape(height, width) % 2 * 255).astype(np.uint8)).save(
            tmp_path / f"train/label/{n}.png"
        )
    data = MaskFolder(str(tmp_path), "train", val_fraction=0)
    images, masks = data.collate([data[0], data[1]])
    assert images.shape == (2, 1, 5, 6) and masks.shape == (2, 5, 6)
    assert (masks[0, 4] == IGNORED).all() and (masks[1, :, 3:] == IGNORED).all() and (masks == IGNORED).sum() == 6 + 15
    assert "sizes: 2, from 3 x 5 to 6 x 4; batches are padded" in "".join(data.facts.lines)
    test = MaskFolder(str(tmp_path / "train/image"), "test", in_channels=1, mask_values=[0, 255], classes=["a", "b"])
    batch = test.collate([test[0], test[1]])
    task = Segmentation(torch.nn.Conv2d(1, 2, 1), [0, 255])
    assert [row["mask"].shape for row in task.test_step(batch)] == [(4, 6), (5, 3)]


def test_a_validation_folder_of_its_own_and_ends_of_names(tmp_path):
    for part, count in (("train", 4), ("val", 2)):
        for inner in ("image", "label"):
            (tmp_path / part / inner).mkdir(parents=True)
        for n in range(count):
            Image.fromarray(np.full((4, 4), 90, np.uint8)).save(tmp_path / part / f"image/{part}{n}.png")
            Image.fromarray(VALUES.astype(np.uint8)).save(tmp_path / part / f"label/{part}{n}_mask.png")
    train, val = MaskFolder(str(tmp_path), "train"), MaskFolder(str(tmp_path), "val")
    assert (len(train), len(val)) == (4, 2) and val.ids == ["val0", "val1"]
    assert val.facts.source.endswith("val") and "names of masks end in _mask" in train.facts.lines
    camvid = tmp_path / "camvid"
    camvid.mkdir()
    for part in ("train", "val"):
        (tmp_path / part / "image").rename(camvid / part)
        (tmp_path / part / "label").rename(camvid / f"{part}annot")
    keys = {"images": "{split}", "masks": "{split}annot"}
    assert len(MaskFolder(str(camvid), "train", **keys)) == 4 and len(MaskFolder(str(camvid), "val", **keys)) == 2


def test_the_whole_of_another_folder(tmp_path):
    root = pictures(tmp_path, grey(VALUES), count=10)
    assert len(MaskFolder(root, "val")) == 2 and len(MaskFolder(root, "val", whole=True)) == 10


def test_a_few_coloured_pictures_make_all_colour(tmp_path):
    root = pictures(tmp_path, grey(VALUES), count=20)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (4, 4, 3), np.uint8)).save(
        tmp_path / "train/image/11.png"
    )
    data = MaskFolder(root, "train")
    assert data.in_channels == 3 and "1 of 16 pictures are coloured" in "".join(data.facts.lines)


def scene(rng, size, classes):
    """A picture of squares, each class in a grey or colour of its own, and its mask."""
    mask = np.zeros(size, np.uint8)
    for _ in range(12):
        top, left = rng.integers(0, size[0] - 8), rng.integers(0, size[1] - 8)
        mask[top : top + rng.integers(8, 20), left : left + rng.integers(8, 20)] = rng.integers(0, classes)
    shades = np.stack([np.arange(12) * 20 + 10, 250 - np.arange(12) * 20, np.arange(12) * 37 % 256], 1).astype(np.uint8)
    return shades[mask], mask


CAMVID = """
base: unet.yaml
model: {name: UNet, width: 8, depth: 2}
task: {name: Segmentation, ignore_index: IGNORE}
data:
  dataset: {name: MaskFolder, root: ROOT, classes: CLASSES}
  batch_size: 4
  eval_batch_size: 2
  transform:
    train: [RandomHorizontalFlip]
    eval: []
optim: {name: Adam, lr: 1e-2}
train: {max_epoch: 50, val_steps: null}
"""


@pytest.mark.slow
@pytest.mark.learns
@pytest.mark.parametrize("kind", ["palette", "colours"])
def test_eleven_classes_and_one_ignored_train_by_yaml_alone(run, tmp_path, kind):
    rng = np.random.default_rng(0)
    colours = [[20 * i, 255 - 20 * i, 7 * i] for i in range(12)]
    names = [f"class {i}" for i in range(11)]
    for part, count in (("train", 16), ("val", 4)):
        for inner in ("image", "label"):
            (tmp_path / "camvid" / part / inner).mkdir(parents=True)
        for n in range(count):
            picture, mask = scene(rng, (48, 64), 12)
            Image.fromarray(picture).save(tmp_path / f"camvid/{part}/image/{n}.png")
            image = Image.fromarray(mask, mode="P")
            image.putpalette([part for colour in colours for part in colour])
            (image if kind == "palette" else image.convert("RGB")).save(tmp_path / f"camvid/{part}/label/{n}.png")
    classes = dict(zip(names, range(11) if kind == "palette" else colours, strict=False))
    text = CAMVID.replace("ROOT", "camvid").replace("CLASSES", json.dumps(classes))
    (tmp_path / "c.yaml").write_text(text.replace("IGNORE", "11" if kind == "palette" else str(colours[11])))
    given = run("train", "c.yaml", "--run=a", *PLAIN)
    assert given.code == 0, given.err
    last = rows("a", phase="val")[-1]
    assert last["mean_iou"] > 0.5, last
    assert {f"iou_class_{i}" for i in range(11)} <= last.keys()
    assert last["worst_iou"] == min(value for name, value in last.items() if name.startswith("iou_"))
    assert "16 train and 4 val samples" in given.out and "iou_class_3" not in given.out


@pytest.mark.slow
@pytest.mark.learns
def test_pictures_of_mixed_sizes_some_coloured_train_by_yaml_alone(run, tmp_path):
    rng = np.random.default_rng(1)
    for inner in ("image", "label"):
        (tmp_path / "nuclei/train" / inner).mkdir(parents=True)
    for n in range(24):
        picture, mask = scene(rng, (int(rng.integers(30, 60)), int(rng.integers(30, 60))), 2)
        picture = picture if n % 6 == 5 else np.repeat(picture.mean(2, keepdims=True).astype(np.uint8), 3, 2)
        Image.fromarray(picture).save(tmp_path / f"nuclei/train/image/{n}.png")
        Image.fromarray(mask * 255).save(tmp_path / f"nuclei/train/label/{n}.png")
    text = CAMVID.replace("task: {name: Segmentation, ignore_index: IGNORE}\n", "").replace(", classes: CLASSES", "")
    (tmp_path / "n.yaml").write_text(text.replace("ROOT", "nuclei"))
    given = run("train", "n.yaml", "--run=a", *PLAIN)
    assert given.code == 0, given.err
    assert rows("a", phase="val")[-1]["mean_iou"] > 0.6
    assert "batches are padded to their largest" in given.out and "of 19 pictures are coloured" in given.out
    assert run("test", "checkpoints/a", "--test-data-root=nuclei/train/image").code == 0
    sizes = {n: Image.open(tmp_path / f"nuclei/train/image/{n}.png").size for n in range(24)}
    written = {n: Image.open(tmp_path / f"checkpoints/a/masks/{n}.png").size for n in range(24)}
    assert written == sizes


# Masks that could mean several things


def voc(values):
    """A palette whose colours are grey for the classes 0 and 2 alone."""

    def write(path):
        image = Image.fromarray(np.asarray(values, np.uint8), mode="P")
        image.putpalette([0, 0, 0, 128, 0, 0, 128, 128, 128])
        image.save(path)

    return write


def test_a_palette_gives_its_numbers_where_one_mask_uses_grey_colours_only(tmp_path):
    voc(VALUES * 2 % 4)(tmp_path / "grey.png")
    voc(VALUES)(tmp_path / "all.png")
    assert find_values([str(tmp_path / name) for name in ("grey.png", "all.png")], None) == [0, 1, 2]


def test_a_value_whose_colour_changes_from_mask_to_mask_may_be_two_classes(tmp_path):
    root = pictures(tmp_path, palette, count=2)
    turned = Image.fromarray(np.asarray([0, 2, 1], np.uint8)[VALUES], mode="P")
    turned.putpalette([part for i in (0, 2, 1) for part in COLOURS[i]])
    turned.save(tmp_path / "train/label/1.png")
    told = f"1.png: the value 1 has the colour {COLOURS[2]}, and {COLOURS[1]} in {root}/train/label/0.png: are they one"
    with pytest.raises(DataError, match=re.escape(told)):
        MaskFolder(root, "train", val_fraction=0)
    classes = {f"c{i}": list(colour) for i, colour in COLOURS.items()}
    by_colour = MaskFolder(root, "train", val_fraction=0, classes=classes)
    assert torch.equal(by_colour[0][1], torch.from_numpy(VALUES)) and torch.equal(by_colour[0][1], by_colour[1][1])
    by_value = MaskFolder(root, "train", val_fraction=0, classes={"a": 0, "b": 1, "c": 2})
    assert not torch.equal(by_value[0][1], by_value[1][1])


def test_a_value_far_from_the_others_may_mean_no_class(tmp_path):
    for last, kind in ((254, np.uint8), (65_535, np.uint16)):
        grey(np.where(VALUES == 2, last, VALUES), kind)(tmp_path / "mask.png")
        with pytest.raises(DataError, match=f"--task.ignore_index={last}"):
            find_values([str(tmp_path / "mask.png")], None)
        assert find_values([str(tmp_path / "mask.png")], last) == [0, 1]


def test_a_jpeg_of_blurred_values_is_refused(tmp_path):
    grey(np.kron(VALUES == 1, np.ones((5, 5))) * 255)(tmp_path / "mask.jpg")
    with pytest.raises(DataError, match="a JPEG blurs the edges"):
        find_values([str(tmp_path / "mask.jpg")], None)


def test_a_mask_that_is_transparent_in_parts_is_refused(tmp_path):
    rgba = np.stack([VALUES] * 3 + [np.where(VALUES, 255, 0)], 2)
    grey(rgba)(tmp_path / "mask.png")
    with pytest.raises(DataError, match="a part of it is transparent"):
        find_values([str(tmp_path / "mask.png")], None)
    grey(np.where([[[0, 0, 0, 1]]], 255, rgba))(tmp_path / "mask.png")
    assert find_values([str(tmp_path / "mask.png")], None) == [0, 1, 2]


def test_classes_without_values_and_crops_beyond_the_picture_get_sentences(tmp_path):
    root = pictures(tmp_path, grey(VALUES))
    with pytest.raises(ValueError, match="'a:0' has no value"):
        MaskFolder(root, "train", classes={"a:0": None, "b:1": None})

    def fail(*_):
        raise ValueError("crop size (9, 9) is larger than input")

    with pytest.raises(DataError, match=r"data.transform: the picture 0 of 4x4 fails there: crop size"):
        MaskFolder(root, "train", transform=fail)[0]


def test_folders_of_other_names_are_listed(tmp_path):
    root = pictures(tmp_path, grey(VALUES))
    (tmp_path / "train/label").rename(tmp_path / "train/annotations")
    with pytest.raises(DataError, match="set data.dataset.masks to one of annotations, image, or"):
        MaskFolder(root, "train")
    assert MaskFolder(root, "train", masks="annotations").mask_values == [0, 1, 2]
