"""Supervised, and data of pairs and triplets: from files to a run that resumes to the bit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PLAIN, rows, same_run, state
from PIL import Image
from torch import nn

from data._partners import partners
from data.csv_pairs import CSVPairs
from data.pairs import Pairs
from data.triplets import Triplets
from models.siamese import Siamese
from trainer.tasks.regression import Regression
from trainer.tasks.supervised import Supervised
from utils.config.route import read_entry, route_fault
from utils.errors import ConfigError, DataError

LEVELS = {"dark": 30, "grey": 110, "light": 200}
MLP = ["--model=MLP"]
SMALL = ["--batch-size=4", "--optim=Adam", "--lr=1e-3", "--print-freq=1", *PLAIN]


def picture(path: Path, level: int, seed: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 40, (8, 8, 3)) + level
    Image.fromarray(pixels.astype("uint8")).save(path)
    return path.name


@pytest.fixture
def folder(tmp_path):
    """Three classes of eight pictures each, and two pictures to predict."""
    for name, level in LEVELS.items():
        for i in range(8):
            picture(tmp_path / "photos" / "train" / name / f"{name}{i}.png", level, i)
    for i in range(2):
        picture(tmp_path / "photos" / "test" / f"{i}.png", 30, i)
    return tmp_path / "photos"


# Routes


@pytest.mark.parametrize(
    ("text", "parts", "network"),
    [
        ("1", (1,), False),
        (2, (2,), False),
        ("mask", ("mask",), False),
        (" model( 0 ) ", (0,), True),
        ("model(0,image)", (0, "image"), True),
    ],
)
def test_entries_of_a_route(text, parts, network):
    entry = read_entry(text)
    assert (entry.parts, entry.network) == (parts, network)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model",
        "model()",
        "model(0",
        "model(0,)",
        "net(0)",
        "-1",
        "1.5",
        "model(model(0))",
        "a b",
        True,
        None,
        "0;1",
    ],
)
def test_what_is_no_entry_is_refused(text):
    with pytest.raises(ValueError, match="is no entry of a route"):
        read_entry(text)
    assert route_fault(["model(0)", text], [], "L1Loss").startswith("task.route[1]: ")


def test_a_batch_with_names_and_a_network_of_two_inputs():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.calls = nn.Linear(2, 1), 0

        def forward(self, one, other=None):
            self.calls += 1
            return self.fc(one if other is None else one + other)

    net = Sum()
    batch = {"left": torch.ones(3, 2), "right": torch.ones(3, 2), "y": torch.zeros(3)}
    task = Supervised(net, nn.L1Loss(), ["model(left, right)", "y"])
    expected = (net.fc(torch.full((3, 2), 2.0)).squeeze(1)).abs().mean()
    learned = []
    task.train_step(batch, lambda loss, weight=None: learned.append(loss))
    torch.testing.assert_close(learned[0], expected)
    twice = Supervised(net, nn.MarginRankingLoss(), ["model(left)", "model(left)", "y"])
    net.calls = 0
    twice.train_step(batch | {"y": torch.ones(3)}, lambda loss, weight=None: None)
    assert net.calls == 1, "the same entry is computed once"
    with pytest.raises(ConfigError, match="the batch has no 'z'; it has left, right, y"):
        Supervised(net, nn.L1Loss(), ["model(left)", "z"]).train_step(batch, learned.append)


def test_a_loss_of_ones_own_may_bring_its_route():
    class Own(nn.Module):
        route = ("model(0)", "model(1)")

        def forward(self, one, other):
            return (one - other).abs().mean()

    assert [str(entry) for entry in Supervised(nn.Linear(2, 2), Own()).route] == ["model(0)", "model(1)"]

    class Three(nn.Module):
        def forward(self, one, two, three): ...

    with pytest.raises(ConfigError, match="Three takes one, two, three: say which parts"):
        Supervised(nn.Linear(2, 2), Three())


def test_siamese_gives_the_distance_of_two_inputs():
    net = Siamese(nn.Linear(2, 3))
    one, other = torch.randn(2, 5, 2)
    torch.testing.assert_close(net(one, other), nn.functional.pairwise_distance(net(one), net(other)))


# Data


def test_partners_are_a_function_of_seed_and_split():
    labels = [0, 1, 0, 2, 1, 2, 0, 1]
    found = partners(labels, "abc", "here", 0, "train")
    for number, (similar, different, _) in enumerate(found):
        assert similar != number and labels[similar] == labels[number] != labels[different]
    assert found == partners(labels, "abc", "here", 0, "train") != partners(labels, "abc", "here", 1, "train")
    assert found != partners(labels, "abc", "here", 0, "val")
    many = partners([0, 1, 2] * 200, "abc", "here", 0, "train")
    assert {number % 3 for _, number, _ in many} == {0, 1, 2} and 200 < sum(coin for *_, coin in many) < 400
    for wrong, told in (([0, 0, 1], "the class b has one picture"), ([0, 0], "are of one class")):
        with pytest.raises(DataError, match=told):
            partners(wrong, "ab", "here", 0, "train")


def test_triplets_and_pairs_hold_what_they_say(folder):
    brightness = [level / 255 for level in LEVELS.values()]

    def kind(image):
        return min(range(3), key=lambda i: abs(float(image.mean()) - brightness[i] - 20 / 255))

    triplets = Triplets(str(folder), "train")
    assert triplets.meta == {"classes": list(LEVELS), "in_channels": 3, "image_size": [8, 8]}
    for i in range(len(triplets)):
        anchor, positive, negative = triplets[i]
        assert kind(anchor) == kind(positive) == int(triplets.labels[i]) != kind(negative)
        assert not torch.equal(anchor, positive)
    pairs = Pairs(str(folder), "val")
    signs = {(kind(one) == kind(other), sign) for one, other, sign in map(pairs.__getitem__, range(len(pairs)))}
    assert signs <= {(True, 1), (False, -1)} and len(pairs) + len(triplets) == 24
    assert Triplets(str(folder), "test")[0].shape == Pairs(str(folder), "test")[1].shape == (3, 8, 8)


def test_pairs_of_a_csv(folder, tmp_path):
    root = folder / "train"
    lines = ["left,right,alike", "dark/dark0.png,dark1,1", "grey0,light0.png,0", "grey1,grey2,1", "dark2,light2,0"]
    (root / "pairs.csv").write_text("\n".join(lines))
    (root / "test.csv").write_text("dark0,dark1\nlight0,dark1\n")
    train, val = (CSVPairs(str(root), split, val_fraction=0.5) for split in ("train", "val"))
    assert len(train) == len(val) == 2 and {train[0][2], train[1][2], val[0][2], val[1][2]} == {1, -1}
    assert not set(train.ids) & set(val.ids) and train.meta == {"in_channels": 3, "image_size": [8, 8]}
    assert "below its header" in train.facts.lines[0]
    assert len(CSVPairs(str(root), "test")) == 2 and len(CSVPairs(str(root), "test")[0]) == 2
    for row, told in (
        ("dark0,absent,1", "no picture 'absent'"),
        ("dark0,dark1,7", "the third cell is '7', where 1 or 0 is due"),
    ):
        (root / "pairs.csv").write_text("\n".join([*lines, row]))
        with pytest.raises(DataError, match=rf"pairs.csv:6: {told}"):
            CSVPairs(str(root), "train")
    (root / "pairs.csv").write_text("dark0,dark1,1\ngrey0,light0,2\n")
    with pytest.raises(DataError, match="pairs.csv:2: the third cell is '2', where 1 or -1 is due"):
        CSVPairs(str(root), "train")
    (root / "pairs.csv").write_text("dark0,dark1,1,7\ngrey0,light0,-1,8\n")
    with pytest.raises(DataError, match="pairs.csv:1: has 4 columns, but a pair is a picture, a picture and"):
        CSVPairs(str(root), "train")


# Runs


def resumed(run, *flags: str, outputs: int = 4) -> None:
    """A run that was stopped within an epoch and resumed is the run that never was."""
    flags = (*MLP, f"--model.num_classes={outputs}", *SMALL, "--max-epoch=2", *flags)
    assert (given := run("train", "--run=whole", *flags)).code == 0, given.err
    assert run("train", "--run=cut", "--train.max_steps=6", *flags).code == 0
    assert (given := run("train", "--resume=checkpoints/cut", "--train.max_steps=null")).code == 0, given.err
    assert len(rows("whole", phase="train")) == 10
    assert rows("cut", phase="train") == rows("whole", phase="train")
    assert same_run(state("cut"), state("whole"))


@pytest.mark.slow
def test_triplets_resume_to_the_bit(run, folder):
    flags = ["--task=Supervised", "--loss=TripletMarginLoss", "--data.dataset=Triplets", f"--train-data-root={folder}"]
    resumed(run, *flags, "--data.transform.train=[RandomHorizontalFlip]", "--train.accumulate=2")
    assert {"loss", "accuracy"} <= rows("whole", phase="val")[0].keys()
    assert all("." in name and not name.startswith("model") for name in state("whole")["model"])
    given = run("test", "checkpoints/whole", f"--test-data-root={folder}/test")
    assert given.code == 0, given.err
    assert Path("checkpoints/whole/submission.csv").read_text().splitlines()[0] == "id,y0,y1,y2,y3"


def test_focal_loss_with_balanced_weights_resumes_to_the_bit(run, folder):
    flags = ["--loss=FocalLoss", "--task.loss.weight=balanced", "--train.accumulate=2"]
    resumed(run, *flags, "--data.dataset=ImageFolder", f"--train-data-root={folder}", outputs=3)
    weights = state("whole")["config"]["task"]["loss"]["weight"]
    assert len(weights) == 3 and state("cut")["config"]["task"] == state("whole")["config"]["task"]


@pytest.mark.parametrize(
    ("dataset", "flags"),
    [
        ("Pairs", ["--loss=CosineEmbeddingLoss", "--model={name: MLP, num_classes: 4}"]),
        ("Pairs", ["--loss=HingeEmbeddingLoss", "--model={name: Siamese, encoder: {name: MLP, num_classes: 4}}"]),
        ("CSVPairs", ["--loss=MarginRankingLoss", "--model={name: MLP, num_classes: 1}"]),
        ("Triplets", ["--loss=TripletMarginWithDistanceLoss", "--model={name: MLP, num_classes: 4}"]),
    ],
)
def test_losses_of_pairs_from_flags_alone(run, folder, dataset, flags):
    (folder / "pairs.csv").write_text("\n".join(f"dark{i},light{i},{1 if i % 2 else -1}" for i in range(8)))
    root = folder / "train" if dataset == "CSVPairs" else folder
    if dataset == "CSVPairs":
        (folder / "pairs.csv").rename(root / "pairs.csv")
    flags = [*flags, f"--data.dataset={dataset}", f"--train-data-root={root}", "--max-epoch=1"]
    given = run("train", "--run=a", "--task=Supervised", *SMALL, *flags)
    assert given.code == 0 and "note:" not in given.out, given.err + given.out
    assert run("val", "checkpoints/a").code == 0


def test_one_logit_learns_labels_of_0_and_1(run, folder):
    """Labels of class numbers beside outputs [B, 1]."""
    import shutil

    shutil.rmtree(folder / "train" / "grey")
    flags = ["--task=Supervised", "--loss=BCEWithLogitsLoss", "--task.loss.pos_weight=balanced", "--max-epoch=1"]
    flags += [*MLP, "--model.num_classes=1", "--data.dataset=ImageFolder", f"--train-data-root={folder}"]
    given = run("train", "--run=a", *SMALL, *flags)
    assert given.code == 0 and "task.loss.pos_weight: balanced over 11 training samples: light " in given.out, given.err
    assert "accuracy" in rows("a", phase="val")[0]
    assert run("test", "checkpoints/a", f"--test-data-root={folder}/test").code == 0
    lines = Path("checkpoints/a/submission.csv").read_text().splitlines()
    assert lines[0] == "id,y" and all(0 < float(line.split(",")[1]) < 1 for line in lines[1:])


BOTH = [Supervised, Regression]


class One(nn.Module):
    def forward(self, x):
        return x[:, :1]


@pytest.mark.parametrize(
    ("tasks", "loss", "right", "wrong", "told"),
    [
        (
            BOTH,
            nn.BCEWithLogitsLoss(),
            [0.0, 0.3, 1.0],
            [0.0, 1.0, 9.0],
            "BCEWithLogitsLoss takes targets from 0 to 1, .* 9",
        ),
        (
            [Supervised],
            nn.SoftMarginLoss(),
            [1.0, -1.0, 1.0],
            [1.0, 0.0, 1.0],
            "SoftMarginLoss takes targets of 1 or -1, .* 0",
        ),
        (BOTH, nn.PoissonNLLLoss(), [0.0, 3.0, 1.0], [0.0, 3.0, -2.0], "PoissonNLLLoss takes targets from 0 on, .* -2"),
    ],
)
def test_targets_that_a_loss_of_torch_takes_without_a_word_are_refused(tasks, loss, right, wrong, told):
    inputs, good, bad = torch.randn(3, 2), torch.tensor(right)[:, None], torch.tensor(wrong)[:, None]
    for learner in (task(One(), loss) for task in tasks):
        learner.train_step((inputs, good), lambda *_, **__: None)
        for step, given in ((learner.train_step, lambda *_, **__: None), (learner.val_step, learner.meters())):
            with pytest.raises(ConfigError, match=told):
                step((inputs, bad), given)


def test_ctc_reads_strings_by_its_usual_route():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 5)

        def forward(self, x):
            return self.fc(x).log_softmax(2).movedim(1, 0)  # [T, N, C]

    batch = (torch.randn(4, 6, 3), torch.randint(1, 5, (4, 3)), torch.full((4,), 6), torch.tensor([3, 2, 1, 3]))
    task, learned = Supervised(Reader(), nn.CTCLoss()), []
    task.train_step(batch, learned.append)
    expected = nn.functional.ctc_loss(task.model(batch[0]), *batch[1:])
    torch.testing.assert_close(learned[0], expected)
    with pytest.raises(ConfigError, match=r"model\(0\) gives outputs of shape \[6, 4, 5\]"):
        task.test_step(batch)
