"""U-Net: pictures and their masks, moved together; the losses and mean IoU; masks written; resuming."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import DATA, PLAIN, rows, same_run, state
from PIL import Image
from sklearn.metrics import jaccard_score
from torchvision.transforms.v2.functional import gaussian_blur

from configs import Component
from data.loading.transforms import make_transform
from data.segmentation import MaskFolder
from models.unet import UNet
from trainer.submission.run_lengths import decode_runs
from trainer.tasks.segmentation import ClassIoU, MeanIoU, Segmentation, WorstIoU, dice_loss
from utils.errors import DataError
from utils.meters import Confusion
from utils.sinks.logger import Logger

SMALL = [
    "--model.width=4",
    "--model.depth=2",
    "--data.dataset.root=slices",
    "--data.transform.train=[{name: RandomCrop, size: 24}, RandomHorizontalFlip]",
    "--data.transform.eval=[]",
    "--optim.lr=2e-2",
    "--train.val_steps=null",
    "--print-freq=2",
    *PLAIN,
]


def save(path, pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def slices(folder, count=10, height=36, width=45, values=(0, 255)):
    """Bright discs on a noisy ground, each class a ring; the masks hold `values`. Test pictures are the first two."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    for i in range(count):
        away = np.hypot(y - rng.uniform(10, height - 10), x - rng.uniform(10, width - 10))
        mask = np.digitize(-away, np.linspace(-14, -9, len(values) - 1))  # 0 outside, 1, 2, … inwards
        save(folder / f"train/image/{i}.png", mask * 170 / (len(values) - 1) + rng.integers(0, 80, mask.shape))
        save(folder / f"train/label/{i}.png", np.take(values, mask))
        if i < 2:
            (folder / "test/image").mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / f"train/image/{i}.png", folder / f"test/image/{i}.png")
    return folder


@pytest.fixture
def folder(tmp_path):
    return slices(tmp_path / "slices")


# The data


def test_val_is_the_last_slices_by_number(folder):
    train, val = (MaskFolder(str(folder), split, val_fraction=0.25) for split in ("train", "val"))
    assert train.ids == [str(i) for i in range(8)] and val.ids == ["8", "9"]
    for i in (3, 10, 11):
        save(folder / f"train/image/{i}.png", np.zeros((4, 4)))
        save(folder / f"train/label/{i}.png", np.zeros((4, 4)))
    assert MaskFolder(str(folder), "val", val_fraction=0.25).ids == ["9", "10", "11"]
    assert MaskFolder(str(folder / "train"), "val", val_fraction=0.25).ids == ["9", "10", "11"]
    with pytest.raises(DataError, match=r"val_fraction=0\.01 leaves none of 12 pictures to 'val'"):
        MaskFolder(str(folder), "val", val_fraction=0.01)


def test_a_sample_is_a_picture_and_its_classes(tmp_path):
    data = MaskFolder(str(slices(tmp_path, values=(10, 90, 200))), "train")
    image, mask = data[0]
    assert image.shape == (1, 36, 45) and image.dtype == torch.float32 and image.min() >= 0 and image.max() <= 1
    assert mask.shape == (36, 45) and mask.dtype == torch.int64
    grey = np.asarray(Image.open(tmp_path / "train/label/0.png"))
    assert np.array_equal(np.array([10, 90, 200])[mask], grey)
    meta = {"in_channels": 1, "num_classes": 3, "mask_values": [10, 90, 200], "classes": ["10", "90", "200"]}
    assert data.meta == meta == json.loads(json.dumps(data.meta)) == MaskFolder(str(tmp_path), "val").meta


def test_a_colourful_picture_has_three_channels_unless_grey_is_asked_for(folder):
    save(folder / "train/image/0.png", np.random.default_rng(0).integers(0, 255, (36, 45, 3)))
    assert MaskFolder(str(folder), "train")[5][0].shape == (3, 36, 45)
    assert MaskFolder(str(folder), "train", in_channels=1)[0][0].shape == (1, 36, 45)
    assert MaskFolder(str(folder), "val").meta["in_channels"] == 3  # as the training pictures


@pytest.mark.parametrize(
    ("steps", "agreement"),
    [
        (
            [Component("RandomCrop", {"size": 24}), Component("RandomHorizontalFlip"), Component("RandomVerticalFlip")],
            1,
        ),
        ([Component("RandomApply", {"transforms": [{"name": "RandomRotation", "degrees": [90, 90]}]})], 1),
        ([Component("ElasticTransform", {"alpha": 60.0})], 0.97),
        ([Component("RandomResizedCrop", {"size": [30, 20]})], 0.9),
        (
            [Component("RandomCrop", {"size": 50, "pad_if_needed": True}), Component("ColorJitter", {"contrast": 0.2})],
            1,
        ),
    ],
)
def test_picture_and_mask_are_moved_together(folder, steps, agreement):
    for i in range(8):  # a picture that is its own mask
        shutil.copy(folder / f"train/label/{i}.png", folder / f"train/image/{i}.png")
    transform = make_transform([*steps, Component("Normalize", {"mean": [0.5], "std": [0.25]})])
    plain, moved = (MaskFolder(str(folder), "train", transform=t) for t in (None, transform))
    torch.manual_seed(0)
    images, masks = zip(*(moved[i] for i in range(8)), strict=True)
    assert all(type(t) is torch.Tensor for t in (*images, *masks))
    assert {m.dtype for m in masks} == {torch.int64} and set(torch.stack(masks).unique().tolist()) == {0, 1}
    assert images[0].min() < -1 and images[0].max() > 1  # the picture is normalised, the mask is not
    agree = [((image[0] > 0) == mask).float().mean() for image, mask in zip(images, masks, strict=True)]
    assert min(agree) >= agreement
    assert any(not torch.equal(mask, plain[i][1]) for i, mask in enumerate(masks))


def test_the_test_split_has_pictures_and_their_sizes(folder):
    transform = make_transform([Component("Resize", {"size": [16, 16]})])
    for root in (folder, folder / "test", folder / "test/image"):
        data = MaskFolder(str(root), "test", transform=transform)
        assert data.ids == ["0", "1"]
        assert data[0][0].shape == (1, 16, 16) and data[0][1] == (36, 45)
    with pytest.raises(DataError, match="no pictures in .*empty, nor in test or image below it; set --data"):
        (folder / "empty").mkdir()
        MaskFolder(str(folder / "empty"), "test")


def bad_no_pictures(train):
    shutil.rmtree(train / "image")
    (train / "image").mkdir()


def bad_missing(train):
    (train / "label/4.png").unlink()


def bad_no_picture(train):
    (train / "image/3.png").write_text("no picture")


def bad_no_mask(train):
    (train / "label/3.png").write_bytes(b"")


def bad_size(train):
    save(train / "label/2.png", np.zeros((45, 36)))


def bad_colour(train):
    save(train / "label/2.png", np.eye(3)[np.zeros((36, 45), int)] * 255)


def bad_lossy(train):
    pixels = np.asarray(Image.open(train / "image/1.png"))
    Image.fromarray(pixels).save(train / "label/1.jpg", quality=50)
    (train / "label/1.png").unlink()


def bad_value(train):
    save(train / "label/9.png", np.full((36, 45), 7))


def bad_double(train):
    save(train / "image/5.bmp", np.zeros((36, 45)))


def bad_one_class(train):
    for path in (train / "label").iterdir():
        save(path, np.full((36, 45), 255))


def bad_folder(train):
    (train / "label").rename(train / "masks")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (bad_no_pictures, "no pictures in slices/train/image (looked for"),
        (bad_missing, "slices/train/label has no mask for 4; add it"),
        (bad_no_picture, "cannot read the picture slices/train/image/3.png (its content is none of"),
        (bad_no_mask, "cannot read the picture slices/train/label/3.png (the file is empty)"),
        (bad_size, "slices/train/label/2.png is 36x45, but its picture is 45x36; mend"),
        (bad_colour, "slices/train/label/2.png is coloured, but a mask holds a value"),
        (bad_lossy, "more than 64 different values"),
        (bad_value, "slices/train/label/9.png holds the value 7, but the classes are 0, 255;"),
        (bad_double, "has the same name as slices/train/image/5."),
        (bad_one_class, "the training masks hold only the value 255, but two classes are needed"),
        (bad_folder, "slices/train/label does not exist"),
    ],
)
def test_bad_files_get_a_sentence(run, folder, spoil, told):
    spoil(folder / "train")
    given = run("train", "unet", "--max-epoch=1", *SMALL)
    assert given.code == 3
    assert told in given.err and len(given.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--data.dataset.val_fraction=2", "val_fraction must be from 0 to 1, got 2"),
        ("--data.dataset.mask_values=[0]", "mask_values=[0] must be two different values or more"),
        ("--data.dataset.in_channels=2", "in_channels=2 is neither 1, grey, nor 3, colour"),
        ("--model.depth=0", "model.depth must be from 1 to 16, got 0"),
        ("--task.dice_weight=-1", "task.dice_weight must be at least 0"),
    ],
)
def test_flags_that_make_no_sense_get_a_sentence(run, folder, flag, told):
    flags = [given for given in SMALL if given.partition("=")[0] != flag.partition("=")[0]]
    given = run("train", "unet", *flags, flag)
    assert given.code == 2
    assert told in given.err and len(given.err.strip().splitlines()) == 1


# The network


@pytest.mark.parametrize("size", [(16, 16), (37, 50), (5, 3), (1, 33)])
def test_the_output_has_the_size_of_the_input(size):
    net = UNet(3, in_channels=2, width=4).eval()
    assert net(torch.randn(2, 2, *size)).shape == (2, 3, *size)


def test_it_is_the_papers_network_and_sees_each_pixel_in_its_place():
    assert UNet(2, width=64).parameter_count == pytest.approx(31.0e6, rel=0.005)  # as published ones have it
    torch.manual_seed(0)
    net = UNet(2, width=4, depth=3).eval()
    x = torch.randn(1, 1, 21, 30)
    assert torch.allclose(net(torch.cat([x, x[..., -1:]], 3))[..., :30], net(x), atol=1e-6)  # padded by its border
    x.requires_grad_()
    for y, column in ((0, 0), (10, 17), (20, 29)):
        seen = torch.autograd.grad(net(x)[0, 1, y, column], x)[0].abs()[0, 0]
        assert seen[y, column] > 3 * seen.mean()
        assert (seen > 0).sum() > 200  # far more than the 25 pixels that two convolutions see


# Loss and measures


def test_dice_is_the_papers_formula_and_right_at_its_ends():
    masks = torch.tensor([[[0, 1], [1, 1]]])
    perfect = torch.nn.functional.one_hot(masks, 2).movedim(-1, 1).float()
    assert dice_loss(perfect, masks) == 0
    assert dice_loss(1 - perfect, masks) == pytest.approx(1 - 1 / 5)
    half = torch.full((1, 2, 2, 2), 0.5)  # class 0: (2 * 0.5 + 1) / (1 + 1 + 1), class 1: (2 * 1.5 + 1) / (1 + 3 + 1)
    assert dice_loss(half, masks) == pytest.approx(1 - (2 / 3 + 4 / 5) / 2)
    third = torch.cat([perfect, torch.zeros(1, 1, 2, 2)], 1)  # a third class that is rightly not seen
    assert dice_loss(third, masks) == 0
    both = dice_loss(torch.cat([half, perfect]), torch.cat([masks, masks]))
    assert both == pytest.approx(float(dice_loss(half, masks)) / 2)


def test_the_loss_is_cross_entropy_plus_weighted_dice_in_single_precision():
    class Constant(torch.nn.Module):
        def forward(self, images):
            return logits.bfloat16()

    torch.manual_seed(0)
    logits, masks = torch.randn(2, 3, 8, 8).bfloat16().float(), torch.randint(3, (2, 8, 8))
    losses = []
    scalars = Segmentation(Constant(), [0, 1, 2], dice_weight=0.5).train_step((None, masks), losses.append)
    expected = torch.nn.functional.cross_entropy(logits, masks) + 0.5 * dice_loss(logits.softmax(1), masks)
    assert losses[0].dtype == torch.float32 and torch.allclose(losses[0], expected)
    assert torch.equal(scalars["loss"], scalars["cross_entropy"] + 0.5 * scalars["dice_loss"])


@pytest.mark.parametrize("absent", [None, 2])
def test_mean_iou_is_scikit_learns_whatever_the_batches(absent):
    rng = np.random.default_rng(1)
    kinds = [k for k in range(4) if k != absent]
    truth, predicted = torch.from_numpy(rng.choice(kinds, 900)), torch.from_numpy(rng.choice(kinds[:-1], 900))
    one, other, whole = Confusion(4), Confusion(4), Confusion(4)
    whole.add(predicted, truth)
    one.add(predicted[:7], truth[:7])
    other.add(predicted[7:], truth[7:])
    one.merge(other.state())
    each = jaccard_score(truth, predicted, average=None, labels=range(4))
    assert MeanIoU(one).value() == MeanIoU(whole).value() == pytest.approx(np.mean(each[kinds]))
    assert WorstIoU(one).value() == pytest.approx(min(each[kinds]))
    assert ClassIoU(one, 0).value() == pytest.approx(each[0])
    assert absent is None or ClassIoU(one, absent).value() is None, "a class that does not occur has none"
    assert MeanIoU(Confusion(4)).value() is WorstIoU(Confusion(4)).value() is None


def test_written_masks_have_the_size_of_the_file_and_the_masks_values():
    class Left(torch.nn.Module):  # class 2 in the left half, class 0 in the right
        def forward(self, images):
            logits = torch.zeros(len(images), 3, *images.shape[2:])
            logits[:, 2, :, : images.shape[3] // 2] = 1
            return logits

    task = Segmentation(Left(), [5, 90, 200])
    one, other = task.test_step((torch.zeros(2, 1, 8, 8), [torch.tensor([8, 30]), torch.tensor([8, 40])]))
    assert one["mask"].dtype == other["mask"].dtype == torch.uint8
    assert one["mask"].shape == (8, 8) and other["mask"].shape == (30, 40)
    assert (one["mask"][:, :4] == 200).all() and (one["mask"][:, 4:] == 5).all()
    assert (other["mask"][:, :18] == 200).all() and (other["mask"][:, 22:] == 5).all()  # the border lies at 20


def test_a_picture_its_mask_and_the_prediction_are_shown():
    class Pictures(Logger):
        def images(self, name, step, images):
            self.seen = (name, step, images)

    task, logger = Segmentation(UNet(2, width=2, depth=1), [0, 255]).eval(), Pictures()
    images, masks = torch.randn(3, 1, 20, 30), torch.zeros(3, 20, 30, dtype=torch.int64)
    masks[:, :, 15:] = 1
    before = torch.get_rng_state()
    with torch.no_grad():
        task.val_step((images, masks), task.meters())
    task.show(logger, 7)
    name, step, shown = logger.seen
    assert (name, step) == ("masks", 7) and shown.shape[:2] == (3, 1) and shown.min() >= 0 and shown.max() <= 1
    assert shown[1, 0].mean() == 0.5 and (shown[1, 0, :, 128:] == 1).all()
    assert torch.equal(torch.get_rng_state(), before) and "shown" not in task.state_dict()


# Runs


@pytest.fixture
def trained(run, folder):
    assert run("train", "unet", "--run=a", "--max-epoch=1", *SMALL).code == 0
    return folder


@pytest.mark.learns
def test_it_learns_made_discs(run, tmp_path):
    slices(tmp_path / "slices", values=(0, 100, 255))
    given = run("train", "unet", "--run=a", "--max-epoch=22", *SMALL)
    assert given.code == 0, given.err
    measured = rows("a", phase="val")
    assert measured[0]["mean_iou"] < 0.6 and measured[-1]["mean_iou"] > 0.8, measured
    assert measured[-1]["accuracy"] > 0.95 and measured[-1]["loss"] < measured[0]["loss"] / 2
    assert run("test", "checkpoints/a").code == 0
    mask = np.asarray(Image.open("checkpoints/a/masks/0.png"))
    truth = np.asarray(Image.open(tmp_path / "slices/train/label/0.png"))
    assert mask.shape == truth.shape and set(np.unique(mask)) == {0, 100, 255} and (mask == truth).mean() > 0.9


@pytest.mark.parametrize("way", ["--data.transform.eval=[{name: Resize, size: [32, 32]}]", "--batch-size=1"])
def test_masks_of_any_size_are_written_from_the_checkpoint_alone(run, trained, tmp_path, way):
    (trained / "test").rename(tmp_path / "others")
    save(tmp_path / "others/image/10.png", np.zeros((20, 61)))
    shutil.rmtree(trained)
    given = run("test", "checkpoints/a", "--data.dataset.root=others", way)
    assert given.code == 0, given.err
    text = "id,mask\n0,masks/0.png\n1,masks/1.png\n10,masks/10.png\n"
    assert (tmp_path / "checkpoints/a/submission.csv").read_text() == text
    for name, size in (("0", (45, 36)), ("1", (45, 36)), ("10", (61, 20))):
        mask = Image.open(tmp_path / f"checkpoints/a/masks/{name}.png")
        assert mask.mode == "L" and mask.size == size and set(np.unique(mask)) <= {0, 255}
    assert run("val", "checkpoints/a").code == 3  # whose data are gone


def test_val_measures_what_training_measured(run, trained):
    given = run("val", "checkpoints/a")
    assert given.code == 0, given.err
    told = dict(line.split(" ") for line in given.out.strip().split("\n")[1:])
    assert float(told["mean_iou"]) == rows("a", phase="val")[-1]["mean_iou"]


@pytest.mark.parametrize("steps", [1, 6])
def test_stopped_and_resumed_it_is_the_same_run(run, folder, steps):
    args = ["unet", "--max-epoch=3", "--train.ema=0.9", *SMALL]
    assert run("train", "--run=whole", *args).code == 0
    total = rows("whole")[-1]["step"]
    assert run("train", "--run=cut", *args, f"--train.max_steps={steps}", f"--schedule.total_steps={total}").code == 0
    assert run("train", "--resume=checkpoints/cut", "--train.max_steps=null").code == 0
    assert rows("whole", phase="val")[-1] == rows("cut", phase="val")[-1]
    assert same_run(state("cut"), state("whole"))


@pytest.mark.slow
def test_killed_it_resumes_from_the_last_save(killed_and_resumed, folder):
    args = ["unet", "--max-epoch=10", "--train.save_steps=3", *SMALL]
    killed_and_resumed(*args, after=5)


@pytest.mark.slow
def test_the_command_as_it_is_shipped(run, tmp_path):
    slices(tmp_path / "made", count=6, height=256, width=260)
    given = run("train", "unet", "--data.dataset.root=made", "--train.max_steps=3", "--run=a", "--log.visdom=false")
    assert given.code == 0, given.err
    given = run("test", "checkpoints/a")
    assert given.code == 0, given.err
    assert Image.open("checkpoints/a/masks/1.png").size == (260, 256)
    assert (tmp_path / "checkpoints/a/samples_masks_000003.png").exists()


# Real slices


def simple_answers(data: MaskFolder) -> tuple[float, float]:
    """Mean IoU of all one class, and of the best threshold on the brightness of the slices, somewhat blurred."""
    images, masks = zip(*(data[i] for i in range(len(data))), strict=True)
    grey = torch.stack([gaussian_blur(image, [17, 17], [2.0, 2.0]) for image in images]).flatten().numpy()
    truth = torch.stack(masks).flatten().numpy()
    guesses = [np.ones_like(truth), *(grey > level for level in np.linspace(0.3, 0.6, 16))]
    one, *cut = (jaccard_score(truth, guess, average="macro") for guess in guesses)
    return one, max(cut)


@pytest.mark.slow
@pytest.mark.chapter
@pytest.mark.skipif(not (DATA / "segmentation_isbi").is_dir(), reason="the slices are absent")
def test_on_real_slices_it_beats_one_class_and_a_threshold(run, tmp_path):
    root = str(DATA / "segmentation_isbi")
    given = run("train", "unet", "--run=a", f"--data.dataset.root={root}", *PLAIN)
    assert given.code == 0, given.err
    reached = max(row["mean_iou"] for row in rows("a", phase="val"))
    one_class, threshold = simple_answers(MaskFolder(root, "val"))
    assert (one_class, threshold) == (pytest.approx(0.40, abs=0.01), pytest.approx(0.62, abs=0.01))
    assert reached > 0.77, reached
    assert run("test", "checkpoints/a").code == 0
    for i in range(5):
        mask = Image.open(tmp_path / f"checkpoints/a/masks/{i}.png")
        assert mask.size == (512, 512) and set(np.unique(mask)) == {0, 255}


def test_masks_and_runs_pass_the_mirror_check(run, trained, tmp_path):
    given = run("test", "checkpoints/a")
    assert given.code == 0 and "mirror check: the file's column gives mean_iou" in given.out, given
    (tmp_path / "sample.csv").write_text("img,EncodedPixels\n1,1 1\n0,1 1\n")
    given = run("test", "checkpoints/a", "--test.sample=sample.csv")
    assert given.code == 0 and "mirror check: the file's column gives mean_iou" in given.out, given
    header, *lines = (tmp_path / "checkpoints/a/submission.csv").read_text().splitlines()
    assert header == "img,EncodedPixels" and [line.split(",")[0] for line in lines] == ["1", "0"]
    mask = np.asarray(Image.open("checkpoints/a/masks/1.png")) == 255
    assert np.array_equal(decode_runs(lines[0].split(",")[1], *mask.shape), mask)
    assert run("test", "checkpoints/a", "--test.output=rle", "--test.clip=0.1").code == 2


def test_runs_of_several_classes_have_a_column_or_a_line_each(run, tmp_path):
    slices(tmp_path / "slices", values=(0, 100, 255))
    assert run("train", "unet", "--run=a", "--max-epoch=1", *SMALL).code == 0
    assert run("test", "checkpoints/a").code == 0
    masks = {path.stem: np.asarray(Image.open(path)) for path in (tmp_path / "checkpoints/a/masks").glob("*.png")}

    def table(*flags: str) -> list[list[str]]:
        given = run("test", "checkpoints/a", *flags)
        assert given.code == 0 and "mirror check: the file's column gives" in given.out, given
        return [line.split(",") for line in (tmp_path / "checkpoints/a/submission.csv").read_text().splitlines()]

    def equal(runs: str, key: str, value: int) -> bool:
        return np.array_equal(decode_runs(runs, *masks[key].shape), masks[key] == value)

    header, *lines = table("--test.output=rle")
    assert header == ["id", "100", "255"] and len(lines) == len(masks) > 1
    assert all(equal(one, key, 100) and equal(other, key, 255) for key, one, other in lines)
    header, *lines = table("--test.output=rle", "--test.positive=255")
    assert header == ["id", "rle"] and all(equal(runs, key, 255) for key, runs in lines)
    (tmp_path / "wide.csv").write_text("img,255,100\n" + "".join(f"{key},1 1,1 1\n" for key in masks))
    header, *lines = table("--test.sample=wide.csv")
    assert header == ["img", "255", "100"] and all(equal(one, key, 255) for key, one, _ in lines)
    for names in (("100", "255"), ("1", "2")):
        ids = [f"{key}.jpg_{name}" for key in masks for name in names]
        (tmp_path / "sample.csv").write_text("Image_Label,EncodedPixels\n" + "".join(f"{one},1 1\n" for one in ids))
        header, *lines = table("--test.sample=sample.csv")
        assert header == ["Image_Label", "EncodedPixels"] and [line[0] for line in lines] == ids
        for line, (key, value) in zip(lines, ((key, value) for key in masks for value in (100, 255)), strict=True):
            assert equal(line[1], key, value)
    (tmp_path / "sample.csv").write_text("Image_Label,EncodedPixels\n" + "".join(f"{one},1 1\n" for one in ids[1:]))
    assert run("test", "checkpoints/a", "--test.sample=sample.csv").code == 3
    given = run("test", "checkpoints/a", "--test.output=rle", "--test.positive=cell")
    assert given.code == 2 and "no class 'cell'; there is 0, 100, 255" in given.err, given


def test_classes_that_differ_in_signs_have_figures_of_their_own():
    from trainer.tasks.segmentation import plain_names

    assert plain_names(["a b", "a-b", "猫", "+"]) == ["a_b_0", "a_b_1", "猫", "class"]
