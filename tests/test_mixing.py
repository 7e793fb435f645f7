"""mixup and cutmix: torchvision's, drawn by (seed, epoch, batch), and the labels become shares of classes."""

import numpy as np
import pytest
import torch
from conftest import PLAIN, dogcats, rows, same_run, state
from torchvision.transforms import v2

from configs.schema import Data, Mix
from data.loading import mixing
from data.loading.loader import Loader
from data.loading.mixing import Mixing
from trainer.losses.focal import FocalLoss
from utils.errors import ConfigError

FLAGS = ["dogcat_small", "--train-data-root=train", "--model=MLP", "--model.hidden=[4]", "--schedule=null"]
FLAGS += ["--batch-size=8", "--print-freq=1", "--max-epoch=3", "--log.visdom=false"]
BOTH = ["--data.mix.mixup=0.4", "--data.mix.cutmix=1.0"]


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(6, 3, 20, 31, generator=generator), torch.randint(3, (6,), generator=generator)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_it_is_torchvisions_own_with_the_same_numbers(batch, monkeypatch, name):
    ours = Mixing({name: 0.7}, 3, 3)
    kind = {"mixup": v2.MixUp, "cutmix": v2.CutMix}[name]
    for number in range(20):
        numbers = np.random.default_rng(mixing.mix(3, 2, number, mixing.PURPOSE))
        numbers.integers(1)
        share = torch.tensor([numbers.beta(0.7, 0.7)])
        theirs = kind(alpha=0.7, num_classes=3)
        theirs._dist = type("Drawn", (), {"sample": lambda self, shape, share=share: share})()
        drawn = {31: int(numbers.integers(31)), 20: int(numbers.integers(20))}
        with monkeypatch.context() as patch:
            patch.setattr(torch, "randint", lambda high, size, drawn=drawn: torch.tensor([drawn[high]]))
            expected = theirs(*batch)
        found = ours.mix(batch, 2, number)
        # the share passes through float32 there, and a box through it may differ by rounding alone
        assert torch.allclose(found[0], expected[0], atol=1e-6) and torch.allclose(found[1], expected[1], atol=1e-6)
        assert torch.allclose(found[1].sum(1), torch.ones(6))


def test_it_is_a_function_of_seed_epoch_and_batch_and_touches_nothing(batch):
    one, before = Mixing({"mixup": 0.4, "cutmix": 1.0}, 3, 3), torch.get_rng_state()
    inputs = batch[0].clone()
    first = [one.mix(batch, epoch, number) for epoch in range(2) for number in range(4)]
    again = [one.mix(batch, epoch, number) for epoch in range(2) for number in range(4)]
    assert all(torch.equal(a, b) for pair in zip(first, again, strict=True) for a, b in zip(*pair, strict=True))
    assert len({float(inputs[0].sum()) for inputs, _ in first}) > 4
    assert not torch.equal(
        Mixing({"mixup": 0.4}, 4, 3).mix(batch, 0, 0)[0], Mixing({"mixup": 0.4}, 3, 3).mix(batch, 0, 0)[0]
    )
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(inputs, batch[0])


def test_of_two_ways_each_comes_as_often(batch):
    both, seen = Mixing({"mixup": 0.4, "cutmix": 1.0}, 3, 3), []
    for number in range(200):
        mixed = both.mix(batch, 0, number)[0]
        pixels = (mixed[0] == batch[0][0]) | (mixed[0] == batch[0][0].roll(0)) | (mixed[0] == batch[0][5])
        seen.append(bool(pixels.all()))  # each pixel is one of the two pictures': cutmix
    assert 70 < sum(seen) < 130


class Points(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int):
        return torch.tensor([float(index), 1.0]), index % 2


@pytest.mark.parametrize(
    ("mix", "classes", "told"),
    [
        ({"mixup": 1.0}, None, r"data\.mix\.mixup: it mixes the labels of classes, and this task learns none"),
        ({"cutmix": 1.0}, 2, r"data\.mix\.cutmix: needs pictures \[B, C, H, W\], not \[4, 2\]; take mixup"),
    ],
)
def test_what_cannot_be_mixed_is_told(mix, classes, told):
    with pytest.raises(ConfigError, match=told):
        next(Loader(Points(), Data(batch_size=4, mix=Mix(**mix)), 0, True, classes=classes).epoch(0))


def test_validation_is_never_mixed_and_points_can_be():
    data = Data(batch_size=4, mix=Mix(mixup=1.0))
    (_, (inputs, labels)), *_ = Loader(Points(), data, 0, training=True, classes=2).epoch(0)
    assert labels.shape == (4, 2) and labels.is_floating_point() and not torch.equal(inputs, inputs.round())
    (_, (inputs, labels)), *_ = Loader(Points(), data, 0, training=False, classes=2).epoch(0)
    assert labels.tolist() == [0, 1, 0, 1] and torch.equal(inputs, inputs.round())


@pytest.fixture
def photos(tmp_path):
    return dogcats(tmp_path / "train", 14)


@pytest.mark.parametrize("more", [[], ["--train.accumulate=2", "--task.label_smoothing=0.1"]])
def test_a_run_is_the_same_with_workers_and_after_a_stop_in_mid_epoch(run, photos, more):
    flags = [*FLAGS, "--log.pictures=false", *BOTH, *more]
    for name, extra in {"whole": [], "two": ["--num-workers=2"], "cut": ["--train.max_steps=5"]}.items():
        assert run("train", *flags, f"--run={name}", *extra).code == 0
    assert run("train", "--resume=checkpoints/cut", "--train.max_steps=null").code == 0
    assert same_run(state("cut"), state("whole")) and same_run(state("two"), state("whole"))
    assert rows("two") == rows("whole")
    assert run("train", *FLAGS, "--log.pictures=false", *more, "--run=plain").code == 0
    assert not same_run(state("plain"), state("whole"))


def alarms(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("note:") and "does not exist" not in line]


def test_the_mixed_batch_is_drawn_and_there_is_no_false_alarm(run, photos, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "utils.figures.gallery.draw_gallery", lambda title, rows, target, *rest: drawn.update({target.name: rows})
    )
    monkeypatch.setattr("utils.figures.curves.draw_curves", lambda *_: None)
    flags = [flag for flag in FLAGS if "hidden" not in flag]
    given = run("train", *flags, "--run=a", *BOTH)
    assert given.code == 0 and not alarms(given.out), given.err
    captions = next(rows for name, rows in drawn.items() if name.startswith("samples_batch"))[0].captions
    assert any(len(lines) == 2 and lines[0].split()[0] in ("cat", "dog") for lines in captions), captions


@pytest.mark.slow
def test_a_rehearsal_knows_mixed_batches(run, photos):
    flags = [flag for flag in FLAGS if "hidden" not in flag]
    given = run("train", *flags, "--run=a", *BOTH, "--train.rehearse=true")
    assert given.code == 0 and "rehearsed in" in given.out and not alarms(given.out), given.out


def test_a_batch_that_is_learned_by_heart_is_not_mixed(run, photos):
    flags = [*FLAGS[:-1], "--log.visdom=false", "--log.pictures=false", "--optim=Adam", "--lr=1e-2"]
    for name, extra in (("plain", []), ("mixed", BOTH)):
        assert run("train", *flags, "--train.overfit=1", "--train.max_steps=9", f"--run={name}", *extra).code == 0
    assert same_run(state("plain"), state("mixed"))


def test_two_halves_are_no_whole_batch_and_selftest_knows(run, photos):
    given = run(
        "selftest", "dogcat_small", "--train-data-root=train", "--model=MLP", "--only=accumulation", *BOTH, *PLAIN
    )
    assert given.code == 0, given.err + given.out


@pytest.mark.parametrize("weight", [None, [1.0, 5.0, 0.2]])
def test_focal_loss_takes_shares_of_classes(weight):
    """Whole shares are class numbers; without gamma it is torch's, whose mean is not divided by weights."""
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(6, 3, generator=generator), torch.randint(3, (6,), generator=generator)
    shares = torch.nn.functional.one_hot(labels, 3).float()
    for gamma in (0.0, 2.0):
        loss = FocalLoss(gamma, weight)
        torch.testing.assert_close(loss(logits, shares), loss(logits, labels))
        torch.testing.assert_close(loss.weight_of(logits, shares), loss.weight_of(logits, labels))
    mixed = torch.rand(6, 3, generator=generator).softmax(1)
    torchs = torch.nn.CrossEntropyLoss(loss.weight)(logits, mixed)
    ours = FocalLoss(0.0, weight)
    torch.testing.assert_close(ours(logits, mixed) * ours.weight_of(logits, mixed), 6 * torchs)
    torch.testing.assert_close(
        FocalLoss(2.0)(logits, mixed), ((1 - logits.softmax(1)) ** 2 * -logits.log_softmax(1) * mixed).sum(1).mean()
    )


@pytest.mark.parametrize("loss", ["FocalLoss", "SoftTargetCrossEntropy", "{name: CrossEntropyLoss, weight: [1, 2]}"])
def test_losses_over_classes_learn_from_mixed_batches(run, photos, loss):
    flags = [*FLAGS, "--log.pictures=false", "--data.mix.mixup=0.4", f"--task.loss={loss}", "--train.max_steps=2"]
    given = run("train", *flags)
    assert given.code == 0, given.err


def test_a_loss_of_class_numbers_alone_is_told_of(run, photos):
    told = "data.mix: mixed labels are shares of classes, and task.loss="
    given = run("check", *FLAGS, "--data.mix.mixup=0.4", "--task.loss=MultiMarginLoss")
    assert given.code == 2 and given.err.count(told) == 1, given.err
    assert run("check", *FLAGS, "--task.loss=MultiMarginLoss").code == 0
    given = run("train", *FLAGS, "--data.mix.mixup=0.4", "--task.loss={name: CrossEntropyLoss, ignore_index: 1}")
    assert given.code == 2 and given.err.startswith(told) and "epoch 1" not in given.out, given.err
