"""The loop's arithmetic: accumulation, averaging, clipping, schedules, stopping, meters."""

import math

import pytest
import torch
from conftest import PLAIN, TOY, dogcats, rows, same, state
from torch import nn

BARE = ["--model=MLP", "--optim=SGD", "--lr=0.1", *PLAIN, "--print-freq=1", "--max-epoch=1"]


def weights(name: str) -> dict:
    return state(name)["model"]


def close(one: dict, other: dict) -> bool:
    return all(torch.allclose(one[k], other[k], atol=1e-6) for k in one)


def test_accumulating_is_the_larger_batch_the_short_last_window_too(run):
    """1,258 samples: with 4 x 100 the last window holds 58; with batches of 400 the last one does."""
    assert run("train", "--run=a", *BARE, "--batch-size=400").code == 0
    assert run("train", "--run=b", *BARE, "--batch-size=100", "--train.accumulate=4").code == 0
    assert state("b")["update"]["model"]["taken"] == state("a")["update"]["model"]["taken"] == 4
    assert close(weights("a"), weights("b"))
    assert run("train", "--run=c", *BARE, "--batch-size=100", "--train.accumulate=3").code == 0
    assert not close(weights("a"), weights("c")), "everything is close: nothing is tested"


def test_a_run_is_what_a_loop_by_hand_gives(run):
    """The same network, batches and optimizer in ten lines of plain PyTorch."""
    from configs import load
    from data.digits import Digits
    from data.loading.loader import Loader
    from models.mlp import MLP

    assert run("train", "--run=a", *TOY, "--train.max_steps=50").code == 0
    data = Digits(split="train")
    torch.manual_seed(0)
    net = MLP(10, in_channels=1, image_size=(8, 8))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    batches, losses = Loader(data, load().data, seed=0, training=True), []
    for epoch in range(2):
        for _, (x, y) in batches.epoch(epoch):
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert [row["loss"] for row in rows("a", phase="train")] == losses[:50]


def test_rows_are_means_over_samples_since_the_last_one(run):
    assert run("train", "--run=a", *TOY).code == 0
    args = [arg for arg in TOY if "print-freq" not in arg]
    assert run("train", "--run=b", *args, "--print-freq=15").code == 0
    fine, coarse = rows("a", phase="train"), rows("b", phase="train")
    assert [row["step"] for row in coarse] == [15, 30, 45, 60, 75]
    sizes = [32 if row["step"] % 40 else 1258 - 39 * 32 for row in fine]
    for k, row in enumerate(coarse):
        part = range(15 * k, 15 * k + 15)
        mean = sum(fine[i]["loss"] * sizes[i] for i in part) / sum(sizes[i] for i in part)
        assert row["loss"] == pytest.approx(mean, rel=1e-12)
        assert row.keys() == {"phase", "epoch", "step", "loss", "lr"}


def test_validation_figures_are_scikit_learns(run):
    from sklearn.metrics import accuracy_score, f1_score, log_loss

    from data.digits import Digits
    from models.mlp import MLP

    assert run("train", "--run=a", *TOY).code == 0
    data = Digits(split="val")
    net = MLP(10, in_channels=1, image_size=(8, 8))
    net.load("checkpoints/a/last.pth")
    x, y = data.read(list(range(len(data))))
    p = net.eval()(x).detach().softmax(1)
    row = rows("a", phase="val")[-1]
    assert row["accuracy"] == accuracy_score(y, p.argmax(1))
    assert row["f1"] == pytest.approx(f1_score(y, p.argmax(1), average="macro"))
    assert row["loss"] == pytest.approx(log_loss(y, p.double(), labels=range(10)), rel=1e-5)


def test_averaged_weights_are_measured_and_raw_ones_are_kept(run):
    assert run("train", "--run=a", *TOY).code == 0
    assert run("train", "--run=b", *TOY, "--train.ema=0.99").code == 0
    assert same(weights("a"), weights("b")), "averaging changed the training"
    assert not same(state("b")["ema"], weights("b"))
    assert rows("a", phase="val") != rows("b", phase="val")
    said = dict(line.split() for line in run("val", "checkpoints/b/last.pth").out.splitlines()[1:])
    assert float(said["loss"]) == rows("b", phase="val")[-1]["loss"]


def test_clipping_shortens_the_step(run):
    args = [*BARE, "--train.max_steps=1", "--seed=3"]
    for name, clip in (("a", []), ("b", ["--train.clip=0.01"]), ("zero", ["--lr=0"])):
        given = [arg for arg in args if not (name == "zero" and arg.startswith("--lr"))]
        assert run("train", f"--run={name}", *given, *clip).code == 0
    move = [math.sqrt(sum((weights(n)[k] - weights("zero")[k]).pow(2).sum() for k in weights(n))) for n in "ab"]
    assert move[0] > 0.01
    assert move[1] == pytest.approx(0.1 * 0.01, rel=1e-2)


@pytest.mark.parametrize(
    ("rule", "rates"),
    [
        (["--schedule=StepLR", "--schedule.step_size=1", "--schedule.gamma=0.5"], [0.1, 0.05, 0.025]),
        (["--schedule=CosineAnnealingLR"], [0.1, 0.075, 0.025]),
        (["--schedule=ExponentialLR", "--schedule.gamma=0.1"], [0.1, 0.01, 0.001]),
    ],
)
def test_rules_that_count_epochs(run, rule, rates):
    args = [arg for arg in BARE if "max-epoch" not in arg]
    assert run("train", "--run=a", *args, "--max-epoch=3", "--batch-size=400", *rule).code == 0
    seen = [row["lr"] for row in rows("a", phase="train")]
    assert seen == pytest.approx([rate for rate in rates for _ in range(4)])


def test_one_cycle_spans_the_run_whatever_its_length(run):
    """FEATURES of the rule: it begins at a 25th, peaks at --lr, ends near nothing; total_steps is filled in."""
    for epochs, accumulate in ((1, 1), (3, 2)):
        args = [arg for arg in BARE if "max-epoch" not in arg]
        args += [f"--max-epoch={epochs}", f"--train.accumulate={accumulate}", f"--run=e{epochs}"]
        assert run("train", *args, "--schedule=OneCycleLR").code == 0
        seen = [row["lr"] for row in rows(f"e{epochs}", phase="train")]
        assert max(seen) == pytest.approx(0.1, rel=0.02)
        assert seen[-1] < 1e-3


@pytest.mark.learns
def test_decay_when_the_loss_rises_keeps_momentum(run):
    """The book's rule, by the validation loss; the ancestor looked at the training loss and said otherwise."""
    rule = [
        "--schedule=DecayOnRise",
        "--lr-decay=0.5",
        "--momentum=0.9",
        "--max-epoch=6",
        "--train.accumulate=1",
    ]
    args = [arg for arg in BARE if not arg.startswith(("--max-epoch", "--lr"))]
    assert run("train", "--run=a", *args, "--lr=1.5", *rule).code == 0
    losses = [row["loss"] for row in rows("a", phase="val")]
    rate, wanted = 1.5, []
    for epoch in range(6):
        wanted.append(rate)
        if epoch and losses[epoch] > losses[epoch - 1]:
            rate *= 0.5
    seen = {row["epoch"]: row["lr"] for row in rows("a", phase="train")}
    assert list(seen.values()) == wanted
    assert len(set(wanted)) > 1, "the loss never rose: nothing is tested"
    momenta = state("a")["update"]["model"]["optimizer"]["state"]
    assert all(entry["momentum_buffer"].abs().sum() > 0 for entry in momenta.values())


def test_early_stop(run):
    args = [arg for arg in BARE if not arg.startswith(("--max-epoch", "--lr"))]
    given = run("train", "--run=a", *args, "--lr=0", "--max-epoch=9", "--train.early_stop=2")
    assert given.code == 0
    assert [row["epoch"] for row in rows("a", phase="val")] == [0, 1, 2]
    assert "is finished" in run("train", "--resume=checkpoints/a").out


def test_validation_by_steps_leaves_training_as_it_was(run):
    """Dropout draws from the random numbers that validation must not touch."""
    args = [*TOY, "--model.dropout=0.3"]
    assert run("train", "--run=a", *args).code == 0
    assert run("train", "--run=b", *args, "--train.val_steps=7").code == 0
    assert same(weights("a"), weights("b"))
    assert rows("a", phase="train") == rows("b", phase="train")
    assert [row["step"] for row in rows("b", phase="val")] == [*range(7, 80, 7), 80]


def test_max_minutes_ends_with_a_save(run):
    args = [arg for arg in TOY if "max-epoch" not in arg]
    given = run("train", "--run=a", *args, "--max-epoch=100000", "--train.max_minutes=0.02")
    assert given.code == 0
    assert 0.9 < state("a")["progress"]["seconds"] < 5, "with the time that the last validation needs"
    assert rows("a")[-1]["phase"] == "val"


@pytest.mark.learns
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns(run, precision):
    given = run("train", "--run=a", *TOY, f"--train.precision={precision}")
    assert given.code == 0, given.err
    assert rows("a", phase="val")[-1]["accuracy"] > 0.6
    assert all(t.dtype == torch.float32 for t in weights("a").values())


def test_balanced_classes_and_order(tmp_path, run):
    from configs.schema import Data
    from data.dogcat import DogCat
    from data.loading.loader import Loader

    for path in sorted(dogcats(tmp_path / "photos", 30).glob("cat.*"))[:-6]:
        path.unlink()
    data = DogCat(root=str(tmp_path / "photos"), split="train")
    balanced = Loader(data, Data(batch_size=4, balance_classes=True), 0, training=True)
    order = [i for indices, _ in balanced.epoch(0) for i in indices]
    cats = sum(int(data.labels[i]) == 0 for i in order) / len(order)
    assert abs(cats - 0.5) < 0.25 < abs(sum(data.labels == 0) / len(data) - 0.5)
    plain = Data(batch_size=4)
    first = [i for indices, _ in Loader(data, plain, 0, training=True).epoch(0) for i in indices]
    assert sorted(first) == list(range(len(data)))
    assert first != [i for indices, _ in Loader(data, plain, 0, training=True).epoch(1) for i in indices]
    kept = [
        i for indices, _ in Loader(data, Data(batch_size=4, shuffle=False), 0, training=True).epoch(0) for i in indices
    ]
    assert kept == list(range(len(data)))


def test_a_fake_update_is_all_a_step_needs():
    """The task does not know the trainer: its step is tested alone."""
    from trainer.tasks.classification import Classification

    task, losses = Classification(nn.Linear(4, 2), classes=["a", "b"]), []
    scalars = task.train_step((torch.randn(3, 4), torch.tensor([0, 1, 1])), losses.append)
    assert losses == [scalars["loss"]]


def test_networks_without_optimizer_and_optimizers_without_network(run):
    given = run("train", "--run=a", *PLAIN, "--optim={generator: {name: SGD}}", "--schedule={}")
    assert given.code == 2
    assert "no network of that role" in given.err


def test_a_sure_classifier_is_ranked_by_its_logits():
    """Far from zero all probabilities are 1 in float32, and their ties would say nothing about the ranking."""
    from trainer.tasks.classification import Classification
    from utils.meters import AUC

    margins = torch.tensor([20.0, 30.0, 40.0, 50.0])
    logits = torch.stack([torch.zeros(4), margins], 1)
    labels = torch.tensor([0, 0, 1, 1])
    for positive, expected in (("b", 1.0), ("a", 1.0)):
        task = Classification(torch.nn.Identity(), ["a", "b"], positive)
        meters = {"auc": AUC(), **{name: task.meters()[name] for name in ("loss", "log_loss")}}
        task.val_step((logits, labels), meters)
        assert meters["auc"].value() == expected
