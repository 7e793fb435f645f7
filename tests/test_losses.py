"""Losses: torch's and our own by name, what a batch weighs, and weights of classes that come from the data."""

import math
from dataclasses import replace

import pytest
import torch
from config_text import at
from conftest import PLAIN, rows, same, state
from torch import nn
from torch.nn import functional as F

from configs import COMPONENTS, Component, load
from trainer.build import build_task
from trainer.losses._balanced import tensors_in, with_balance
from trainer.losses._measure import measure
from trainer.losses.dice import DiceLoss
from trainer.losses.focal import FocalLoss
from trainer.losses.soft_target import SoftTargetCrossEntropy
from trainer.optim.update import make_updates
from trainer.tasks.classification import Classification
from trainer.tasks.regression import Regression
from trainer.tasks.segmentation import Segmentation
from trainer.tasks.supervised import Supervised
from utils.errors import ConfigError, DataError


class Net(nn.Module):
    """A linear layer; of two inputs the distance of what it gives; `steps` gives log-probabilities [T, N, C]."""

    def __init__(self, outputs: int, last: str = "", steps: int = 0):
        super().__init__()
        self.fc, self.last, self.steps = nn.Linear(6, outputs), last, steps

    def forward(self, x, other=None):
        y = self.fc(x)
        if other is not None:
            return F.pairwise_distance(y, self.fc(other))
        if self.steps:
            return y.view(len(x), self.steps, -1).log_softmax(2).movedim(1, 0)
        return {"": lambda y: y, "log": lambda y: y.log_softmax(1), "sigmoid": torch.sigmoid}[self.last](y)


def parts(*more):
    """A batch of 16 samples: six numbers each, and more parts."""
    return (torch.randn(16, 6), *more)


def signs():
    return torch.randint(0, 2, (16,)) * 2 - 1


torch.manual_seed(0)
LABELS = torch.randint(0, 3, (16,))
HOLES = LABELS.where(torch.arange(16) % 5 != 0, -100)
WORDS = torch.randint(0, 3, (16, 4)).where(torch.rand(16, 4) < 0.7, -100)
CLASS_WEIGHTS = [0.2, 1.0, 3.0]
LOSSES: dict[str, tuple[str, nn.Module, tuple]] = {
    "L1": ("L1Loss", Net(2), parts(torch.randn(16, 2))),
    "MSE": ("MSELoss", Net(1), parts(torch.randn(16))),
    "MSE, summed": ("{name: MSELoss, reduction: sum}", Net(1), parts(torch.randn(16))),
    "SmoothL1": ("{name: SmoothL1Loss, beta: 0.5}", Net(2), parts(torch.randn(16, 2))),
    "Huber": ("{name: HuberLoss, delta: 0.5}", Net(2), parts(torch.randn(16, 2))),
    "CE": ("CrossEntropyLoss", Net(3), parts(LABELS)),
    "CE, holes": ("CrossEntropyLoss", Net(3), parts(HOLES)),
    "CE, weighted": (f"{{name: CrossEntropyLoss, weight: {CLASS_WEIGHTS}}}", Net(3), parts(HOLES)),
    "CE, all": (
        f"{{name: CrossEntropyLoss, weight: {CLASS_WEIGHTS}, ignore_index: 1, label_smoothing: 0.1}}",
        Net(3),
        parts(LABELS),
    ),
    "CE, soft": ("CrossEntropyLoss", Net(3), parts(torch.rand(16, 3).softmax(1))),
    "CE, summed": (
        f"{{name: CrossEntropyLoss, weight: {CLASS_WEIGHTS}, reduction: sum}}",
        Net(3),
        parts(HOLES),
    ),
    "NLL": ("NLLLoss", Net(3, "log"), parts(LABELS)),
    "NLL, weighted": (f"{{name: NLLLoss, weight: {CLASS_WEIGHTS}}}", Net(3, "log"), parts(HOLES)),
    "BCE": ("BCELoss", Net(1, "sigmoid"), parts(LABELS.clamp(max=1))),
    "BCE, weighted": ("{name: BCELoss, weight: [1, 2]}", Net(2, "sigmoid"), parts(torch.rand(16, 2))),
    "BCEWithLogits": ("{name: BCEWithLogitsLoss, pos_weight: [3]}", Net(1), parts(LABELS.clamp(max=1))),
    "BCEWithLogits, labels": ("{name: BCEWithLogitsLoss, pos_weight: [3, 1, 2]}", Net(3), parts(F.one_hot(LABELS, 3))),
    "PoissonNLL": ("PoissonNLLLoss", Net(1), parts(torch.randint(0, 9, (16,)))),
    "GaussianNLL": ("GaussianNLLLoss", Net(1), parts(torch.randn(16, 1), torch.rand(16, 1) + 0.1)),
    "KLDiv": ("{name: KLDivLoss, reduction: batchmean}", Net(3, "log"), parts(torch.rand(16, 3).softmax(1))),
    "KLDiv, elements": ("KLDivLoss", Net(3, "log"), parts(torch.rand(16, 3).softmax(1))),
    "HingeEmbedding": ("HingeEmbeddingLoss", Net(4), parts(torch.randn(16, 6), signs())),
    "CosineEmbedding": ("{name: CosineEmbeddingLoss, margin: 0.2}", Net(4), parts(torch.randn(16, 6), signs())),
    "MarginRanking": ("{name: MarginRankingLoss, margin: 1}", Net(1), parts(torch.randn(16, 6), signs())),
    "Triplet": ("TripletMarginLoss", Net(4), parts(torch.randn(16, 6), torch.randn(16, 6))),
    "TripletWithDistance": ("TripletMarginWithDistanceLoss", Net(4), parts(torch.randn(16, 6), torch.randn(16, 6))),
    "SoftMargin": ("SoftMarginLoss", Net(1), parts(signs())),
    "MultiMargin": (f"{{name: MultiMarginLoss, weight: {CLASS_WEIGHTS}}}", Net(3), parts(LABELS)),
    "MultiLabelMargin": ("MultiLabelMarginLoss", Net(3), parts(torch.tensor([[2, 0, -1]] * 16))),
    "MultiLabelSoftMargin": ("MultiLabelSoftMarginLoss", Net(3), parts(F.one_hot(LABELS, 3))),
    "CTC": (
        "CTCLoss",
        Net(20, steps=5),
        parts(torch.randint(1, 4, (16, 2)), torch.full((16,), 5), torch.randint(1, 3, (16,))),
    ),
    "Focal": (f"{{name: FocalLoss, gamma: 2, weight: {CLASS_WEIGHTS}}}", Net(3), parts(HOLES)),
    "SoftTarget": ("{name: SoftTargetCrossEntropy, temperature: 2}", Net(3), parts(torch.rand(16, 3).softmax(1))),
    "Words": (f"{{name: CrossEntropyLoss, weight: {CLASS_WEIGHTS}}}", Net(12), parts(WORDS)),
}


class Folded(nn.Module):
    """A network whose outputs [B, 12] are 3 logits of 4 words each."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x).view(len(x), 3, 4)


def config(loss: str, accumulate: int = 1):
    cfg = load("default", {"task": {"name": "Supervised", "loss": "MSELoss"}, "optim": {"name": "SGD", "lr": 0.5}})
    text = at(f"task: {{name: Supervised, loss: {loss}}}")
    assert not isinstance(text, list), text
    return replace(cfg, task=text.task, train=replace(cfg.train, accumulate=accumulate, precision="fp32"))


def supervised(loss: str, net: nn.Module) -> Supervised:
    import copy

    net = copy.deepcopy(net)
    net = Folded(net) if net.fc.out_features == 12 else net
    return COMPONENTS["task"].build(tensors_in(config(loss).task), "task", model=net)


def trained(loss: str, net: nn.Module, batches: list) -> dict:
    """The weights after one optimizer step over these batches."""
    task, cfg = supervised(loss, net), config(loss, accumulate=len(batches))
    updates = make_updates(task, cfg, len(batches))
    for step, batch in enumerate(batches):
        share = len(batch[0]) * len(batches) / 16
        updates.begin(step, share, share)
        task.train_step(batch, updates)
    updates.close()
    return task.model.state_dict()


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", LOSSES)
def test_accumulated_batches_are_one_large_batch(name):
    loss, net, batch = LOSSES[name]
    whole = trained(loss, net, [batch])
    halves = trained(loss, net, [tuple(part[:8] for part in batch), tuple(part[8:] for part in batch)])
    uneven = trained(loss, net, [tuple(part[:5] for part in batch), tuple(part[5:] for part in batch)])
    moved = whole[next(iter(whole))] - next(iter(net.parameters()))
    assert moved.abs().max() > 1e-3, "it learns"
    for key, value in whole.items():
        torch.testing.assert_close(halves[key], value, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(uneven[key], value, rtol=1e-5, atol=1e-6)


def test_every_loss_of_torch_is_among_them():
    tried = {at(f"task: {{name: Supervised, loss: {loss}}}").task.args["loss"].name for loss, _, _ in LOSSES.values()}
    assert set(COMPONENTS["loss"].all_names()) - tried == {"DiceLoss"}


@pytest.mark.parametrize("name", LOSSES)
def test_validation_in_any_batches_gives_torchs_number(name):
    loss, net, batch = LOSSES[name]
    task = supervised(loss, net)
    expected = float(task.loss(*task._inputs(batch)).detach())
    meters = task.meters()
    for start, end in ((0, 3), (3, 11), (11, 16)):
        task.val_step(tuple(part[start:end] for part in batch), meters)
    summed = getattr(task.loss, "reduction", "mean") == "sum"
    assert meters["loss"].value() == pytest.approx(expected / (16 if summed else 1), rel=1e-5)
    assert "accuracy" not in meters or 0 <= meters["accuracy"].value() <= 1


def test_a_batch_in_which_nothing_counts_has_the_loss_zero():
    logits = torch.randn(4, 3, requires_grad=True)
    for loss in (nn.CrossEntropyLoss(), nn.NLLLoss(), FocalLoss()):
        value, weight = measure(loss, logits, torch.full((4,), -100))
        (gradient,) = torch.autograd.grad(value, logits)
        assert (float(value), float(weight), float(gradient.abs().sum())) == (0, 0, 0)


# Our own


def test_focal_loss_is_cross_entropy_at_0_and_torchvisions_of_two_classes():
    from torchvision.ops import sigmoid_focal_loss

    logits, labels = torch.randn(16, 3), HOLES
    weight = torch.tensor(CLASS_WEIGHTS)
    torch.testing.assert_close(
        FocalLoss(0, CLASS_WEIGHTS)(logits, labels), F.cross_entropy(logits, labels, weight=weight)
    )
    pair = torch.randn(16, 2)
    for gamma in (0.5, 2.0):
        expected = sigmoid_focal_loss(pair[:, 1] - pair[:, 0], (LABELS > 0).float(), -1, gamma, "mean")
        torch.testing.assert_close(FocalLoss(gamma)(pair, (LABELS > 0).long()), expected)
    sure = torch.tensor([[100.0, -100.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(FocalLoss(0.5)(sure, torch.tensor([0])), sure)
    assert gradient.isfinite().all()


def test_soft_targets_are_probabilities_or_class_numbers():
    logits, soft = torch.randn(16, 3), torch.rand(16, 3).softmax(1)
    expected = -(soft * (logits / 2).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(SoftTargetCrossEntropy(2)(logits, soft), expected)
    torch.testing.assert_close(SoftTargetCrossEntropy()(logits, LABELS), F.cross_entropy(logits, LABELS))
    with pytest.raises(ValueError, match="targets of shape"):
        SoftTargetCrossEntropy()(logits, soft[:, :2])


def test_dice_loss_of_classes_and_of_labels():
    logits, masks = torch.randn(2, 3, 6, 5), torch.randint(0, 3, (2, 6, 5))
    p, t = logits.softmax(1), F.one_hot(masks, 3).movedim(-1, 1)
    expected = 1 - (2 * (p * t).sum((2, 3)) / ((p * p).sum((2, 3)) + t.sum((2, 3)))).mean()
    torch.testing.assert_close(DiceLoss(smooth=0)(logits, masks), expected)
    several = torch.randint(0, 2, (2, 3, 6, 5)).float()
    assert DiceLoss()(100 * (2 * several - 1), several) < 1e-6 < 0.3 < DiceLoss()(100 * (1 - 2 * several), several)


# Where they are used


def test_a_loss_takes_the_place_of_cross_entropy_and_is_not_stored(run):
    flags = ["--model=MLP", "--max-epoch=1", "--train.max_steps=5", *PLAIN]
    given = run("train", "--run=a", *flags, "--loss=FocalLoss", "--gamma=1", "--task.loss.weight=balanced")
    assert given.code == 0, given.err
    assert "model 9,610 parameters; " in given.out
    assert all(not name.startswith(("model.", "loss")) for name in state("a")["model"]) and not state("a")["buffers"]
    assert {"loss", "log_loss", "accuracy"} <= rows("a", phase="val")[0].keys()
    assert run("val", "checkpoints/a").code == run("test", "checkpoints/a").code == 0


def test_the_words_of_before_stay():
    assert at("task: {name: Regression, loss: sum}").task == Component("Regression", {"loss": Component("sum")})
    task = COMPONENTS["task"].build(at("task: {name: Regression, loss: sum}").task, "task", model=Net(1))
    assert (type(task.loss), task.loss.reduction) == (nn.MSELoss, "sum")
    assert isinstance(Classification(Net(2), "ab", label_smoothing=0.1).loss, nn.CrossEntropyLoss)
    assert at("", "--task=Regression", "--loss=sum", "--task.loss.reduction=mean") == [
        "--task.loss.reduction=mean: sum takes no 'task.loss.reduction'; there is name"
    ]


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        (["--loss=L1Loss"], 2, "task.loss: L1Loss does not take logits of 10 classes and class numbers"),
        (["--loss=DiceLoss"], 2, "DiceLoss does not take logits of 10 classes and class numbers (logits of shape"),
        (["--loss=TripletMarginLoss"], 2, "takes 3 tensors (anchor, positive, negative), and Classification has two"),
        (["--loss=CrossEntropyLoss", "--task.loss.weight=[1,2]"], 2, "weight tensor should be defined either for all"),
        (["--loss=CrossEntropyLoss", "--task.loss.reduction=none"], 2, "expected one of mean, sum, batchmean"),
        (["--loss=CrosEntropyLoss"], 2, "did you mean 'CrossEntropyLoss'?"),
        (["--loss=CrossEntropyLoss", "--size_average=true"], 2, "no key 'size_average'"),
        (["--loss=FocalLoss", "--label_smoothing=0.1"], 2, "see task.loss.label_smoothing"),
        (["--loss=FocalLoss", "--gamma=-1"], 2, "task.loss.gamma must be at least 0"),
        (["--task=Supervised"], 2, "Supervised needs a loss"),
        (["--task=Supervised", "--loss=GaussianNLLLoss"], 2, "the batch has no part 2; it has 2 parts"),
        (["--task=Supervised", "--loss=MSELoss"], 2, "compares tensors of one shape, not model(0): [32, 10], 1: [32]"),
        (["--task=Supervised", "--loss=BCELoss", "--model.num_classes=1"], 2, "BCELoss does not take what task.route"),
        (["--loss=BCEWithLogitsLoss", "--task.loss.pos_weight=balanced"], 3, "needs `labels` of two classes"),
        (["--task=Supervised", "--loss=MSELoss", "--task.route=[0,1]"], 2, "no entry calls the network"),
        (
            ["--task=Supervised", "--loss=MSELoss", "--task.route=[model(0)]"],
            2,
            "MSELoss takes input, target: one entry for each of these 2, not 1",
        ),
        (["--task=Supervised", "--loss=MSELoss", "--task.route=[model,1]"], 2, "model takes the parts in brackets"),
        (["--task=Supervised", "--loss=MSELoss", "--task.route=[model(0,1),1]"], 2, "in a list it needs quotes"),
        (["--task=Supervised", "--loss=MSELoss", "--task.route=[model(0),y]"], 2, "the batch has no part y"),
    ],
)
def test_every_mistake_is_one_sentence(run, flags, code, told):
    given = run("train", "--model=MLP", "--max-epoch=1", *PLAIN, *flags)
    assert given.code == code and told in given.err and len(given.err.strip().splitlines()) == 1, given.err


def test_losses_that_would_be_quietly_wrong_are_refused():
    for loss in (nn.CrossEntropyLoss(), SoftTargetCrossEntropy()):
        with pytest.raises(ConfigError, match="is over classes, and Regression learns numbers"):
            Regression(Net(2), loss)
    with pytest.raises(ConfigError, match="has no ignore_index"):
        Segmentation(Net(2), [0, 1], ignored_class=255, loss=SoftTargetCrossEntropy())
    with pytest.raises(ConfigError, match="reduction: a mean over pictures"):
        Segmentation(Net(2), [0, 1], loss=nn.CrossEntropyLoss(reduction="sum"))
    own = nn.CrossEntropyLoss()
    own.centres = nn.Parameter(torch.zeros(2))
    with pytest.raises(ConfigError, match=r"has weights of its own \(centres\)"):
        Classification(Net(2), "ab", loss=own)


def test_segmentation_by_another_loss_leaves_out_what_has_no_class():
    logits, masks = torch.randn(2, 3, 6, 5), torch.randint(0, 3, (2, 6, 5))
    holed = masks.where(torch.rand(2, 6, 5) < 0.7, 255)
    task = Segmentation(nn.Identity(), [0, 1, 2], dice_weight=0, ignored_class=255, loss=FocalLoss(0))
    weights = []
    named = task.train_step((logits, holed), lambda loss, role="model", weight=None: weights.append(weight))
    torch.testing.assert_close(named["pixel_loss"], F.cross_entropy(logits, holed, ignore_index=255))
    assert float(weights[0]) == int((holed != 255).sum()) and task.at_chance() == {}
    plain = Segmentation(nn.Identity(), [0, 1, 2], ignored_class=255)
    plain.train_step((logits, holed), lambda loss, role="model", weight=None: weights.append(weight))
    assert plain.at_chance() == {"cross_entropy": math.log(3)} and weights[1] is None


def test_a_count_is_learned_by_its_logarithm_and_told_in_its_own_unit():
    outputs = [{"name": "visits", "mean": 3.0, "std": 2.0}]
    task = Regression(Net(1), nn.PoissonNLLLoss(), outputs)
    counts = torch.tensor([[0.0], [3.0], [9.0]])
    x = torch.randn(3, 6)
    learned = []
    task.train_step((x, (counts - 3) / 2), learned.append)
    torch.testing.assert_close(learned[0], F.poisson_nll_loss(task.model(x), counts))
    meters = task.meters()
    task.val_step((x, (counts - 3) / 2), meters)
    rates = task.model(x).exp()
    assert meters["rmse"].value() == pytest.approx(float((rates - counts).square().mean().sqrt()), rel=1e-5)
    assert [row["visits"] for row in task.test_step(x)] == pytest.approx(rates[:, 0].tolist(), rel=1e-5)
    with pytest.raises(ConfigError, match="takes no logarithms"):
        Regression(Net(1), nn.PoissonNLLLoss(), [{"name": "visits", "log": True}])


def test_only_cross_entropy_has_the_loss_of_a_guess():
    guess = {"loss": math.log(2)}
    assert Classification(Net(2), "ab").at_chance() == guess
    assert Classification(Net(2), "ab", loss=nn.CrossEntropyLoss(label_smoothing=0.1)).at_chance() == guess
    weighted = nn.CrossEntropyLoss(torch.tensor([1.0, 9.0]))
    for loss in (weighted, FocalLoss(), nn.MultiMarginLoss(), nn.CrossEntropyLoss(reduction="sum")):
        assert Classification(Net(2), "ab", loss=loss).at_chance() == {}


def test_a_loss_moves_with_its_task_and_is_in_no_checkpoint():
    """On the device meta, which torch has everywhere: what stayed behind shows."""
    from trainer.checkpointing.weights import buffer_state, load_network_state, network_state

    cfg = at("task: {name: Classification, loss: {name: CrossEntropyLoss, weight: [1, 2, 3]}}")
    task = COMPONENTS["task"].build(tensors_in(cfg.task), "task", model=Net(3), classes=["a", "b", "c"])
    assert list(network_state(task)) == ["fc.weight", "fc.bias"] and not buffer_state(task)
    kept = network_state(task)
    load_network_state(task, {name: torch.zeros_like(value) for name, value in kept.items()}, {}, "here")
    assert task.model.fc.weight.abs().sum() == 0 and task.loss.weight.tolist() == [1, 2, 3]
    assert task.to("meta").loss.weight.device.type == "meta"
    assert task.to(torch.float64).loss.weight.dtype == torch.float64


# Weights of classes


class Labelled:
    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)


def balanced(labels, name="weight", loss="CrossEntropyLoss", classes=()):
    cfg = load("default", {"task": {"name": "Classification", "loss": {"name": loss, name: "balanced"}}})
    said = []
    cfg = with_balance(cfg, Labelled(labels), {"classes": classes}, said.append)
    return cfg.task.args["loss"].args[name], said


def test_balanced_weights_are_scikit_learns():
    import numpy as np
    from sklearn.utils.class_weight import compute_class_weight

    labels = torch.tensor([0] * 50 + [1] * 7 + [2] * 13)
    weights, said = balanced(labels, classes=["a", "b", "c"])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())
    assert weights == pytest.approx(list(expected), rel=1e-5)
    assert said == ["task.loss.weight: balanced over 70 training samples: a 0.466667, b 3.33333, c 1.79487"]


def test_balanced_positives_are_negatives_over_positives():
    labels = torch.tensor([0] * 50 + [1] * 20)
    weights, said = balanced(labels, "pos_weight", "BCEWithLogitsLoss", ["cat", "dog"])
    assert weights == (2.5,) and said[0].endswith("dog 2.5")
    table = torch.tensor([[1, 0, 1], [0, 0, 1], [0, 1, 1], [0, 1, 0]])
    assert balanced(table, "pos_weight", "BCEWithLogitsLoss")[0] == (3, 1, pytest.approx(1 / 3, rel=1e-5))


@pytest.mark.parametrize(
    ("labels", "name", "told"),
    [
        (torch.rand(5), "weight", "Labelled has no class numbers as `labels`"),
        (torch.tensor([0, 2, 2]), "weight", "no training sample of the class 1"),
        (torch.tensor([0, 1, 2]), "pos_weight", "of two classes, or of 0 and 1 for each label"),
        (torch.tensor([[0, 1], [0, 1]]), "pos_weight", "no training sample with the label 0"),
    ],
)
def test_what_cannot_be_balanced_is_told(labels, name, told):
    with pytest.raises(DataError, match=told):
        balanced(labels, name, "CrossEntropyLoss" if name == "weight" else "BCEWithLogitsLoss")


def test_the_run_stores_numbers_and_trains_again_with_them(run, tmp_path):
    from utils.config.yaml_text import read_yaml

    flags = ["--model=MLP", "--max-epoch=1", "--train.max_steps=3", *PLAIN]
    loss = ["--loss=CrossEntropyLoss", "--task.loss.weight=balanced"]
    given = run("train", "--run=a", *flags, *loss)
    assert given.code == 0 and "task.loss.weight: balanced over 1,258 training samples: 0 0.975194, " in given.out
    stored = read_yaml(tmp_path / "checkpoints/a/config.yaml", "config.yaml").at("task.loss.weight")
    assert len(stored.value) == 10 and float(stored.value[0].value) == 0.975194
    again = run("train", "checkpoints/a/config.yaml", "--run=b", *flags)
    assert again.code == 0 and "balanced" not in again.out
    assert same(state("a")["model"], state("b")["model"])
    plain = run("train", "--run=c", *flags)
    assert plain.code == 0 and not same(state("a")["model"], state("c")["model"])
    with pytest.raises(ConfigError, match="come from a training split"):
        build_task(
            load("default", {"task": {"name": "Classification", "loss": {"name": "NLLLoss", "weight": "balanced"}}}), {}
        )


def test_the_page_has_a_line_for_each_loss_and_each_can_be_read():
    import re

    from conftest import ROOT

    table = (ROOT / "docs" / "losses.md").read_text().partition("| loss | learns")[2]
    lines = dict(re.findall(r"^\| (\w+) \|[^|]*\|(.*)\|$", table, re.M))
    assert lines.keys() == set(COMPONENTS["loss"].all_names())
    for name, cell in lines.items():
        for task in re.findall(r"`(\{name.*?)`", cell):
            cfg = at(f"task: {task}\noptim: SGD\n")
            assert not isinstance(cfg, list), cfg
            spec = cfg.task.args["loss"]
            assert spec.name in (name, "sum"), name
