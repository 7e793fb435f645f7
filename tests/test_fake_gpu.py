"""Every task's steps as they would go on a GPU, without one: nothing is left on the CPU, and no training step waits."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from fake_gpu import Waits, fake_gpu, sent
from torch import Tensor, nn
from torch.nn import functional as F

from configs import COMPONENTS, Component, Config
from configs.schema import Train
from data.loading.transforms import make_transform
from models.captioner import CaptionDecoder
from models.char_rnn import CharRNN
from models.crnn import CRNN
from models.dcgan import DCGANDiscriminator, DCGANGenerator
from models.lenet import LeNet
from models.mlp import MLP
from models.resnet34 import ResNet34
from models.sequence import SequenceClassifier
from models.transformer_net import TransformerNet
from models.two_layer import DynamicNet, TwoLayerNet
from models.unet import UNet
from trainer.losses.focal import FocalLoss
from trainer.optim.average import MovingAverage
from trainer.optim.update import make_updates
from trainer.progress import RowMeans
from trainer.task import Task
from trainer.tasks.captioning import Captioning
from trainer.tasks.char_rnn import LanguageModel
from trainer.tasks.classification import Classification
from trainer.tasks.gan import GAN
from trainer.tasks.multi_label import MultiLabel
from trainer.tasks.regression import Regression
from trainer.tasks.segmentation import Segmentation
from trainer.tasks.style_transfer import StyleTransfer
from trainer.tasks.supervised import Supervised
from trainer.tasks.transcription import Transcription

pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: test_gpu.py has it"),
    pytest.mark.filterwarnings("ignore:Accessing the data pointer"),  # deepcopy does
]


class Case(NamedTuple):
    """A task with small networks, and batches as its data make them; the test split's is like them unless given."""

    task: Callable[[], Task]
    batch: Any
    tested: Any = None


# fused as by default; of SGD torch cannot follow that
ADAMW, SGD = Component("AdamW", {"lr": 0.1}), Component("SGD", {"lr": 0.1, "momentum": 0.9, "fused": False})
ABC = ["a", "b", "c"]
GREY, LABELS = torch.rand(4, 1, 16, 16), torch.tensor([0, 1, 2, 1])
WORDS = torch.tensor([[4, 5, 6, 7], [4, 5, 6, 0], [8, 4, 0, 0], [5, 0, 0, 0]])
ROWS = torch.rand(4, 5), torch.rand(4, 2)


def classifier(net: Callable[..., nn.Module], **arguments: Any) -> Callable[[], Task]:
    return lambda: Classification(net(3, 1, (16, 16), **arguments), ABC)


def reader(**arguments: Any) -> Callable[[], Task]:
    return lambda: Classification(SequenceClassifier(3, vocabulary_size=9, width=8, **arguments), ABC)


def gan(loss: str) -> Case:
    shape = {"in_channels": 1, "image_size": (28, 28)}

    def task() -> Task:
        nets = DCGANGenerator(nz=4, ngf=2, **shape), DCGANDiscriminator(ndf=2, norm="instance", **shape)
        return GAN(*nets, loss, g_every=1)

    return Case(task, (torch.rand(4, 1, 28, 28), LABELS))


def captions(attention: bool) -> Case:
    decoder = partial(CaptionDecoder, 9, feature_size=8, embedding=4, width=8, attention=attention)
    features = torch.rand(2, 3, 8) if attention else torch.rand(2, 8)
    batch = features, torch.cat([WORDS, WORDS[:, :1]], 1), [4, 3, 2, 1], torch.tensor([0, 0, 1, 1])
    return Case(lambda: Captioning(nn.Identity(), decoder(), [*"abcdefghi"]), batch, features)


CASES = {
    "LeNet": Case(classifier(LeNet), (GREY, LABELS)),
    "ResNet34": Case(lambda: Classification(ResNet34(3), ABC), (torch.rand(4, 3, 32, 32), LABELS)),
    "two classes": Case(
        lambda: Classification(MLP(2, in_features=5), ABC[:2], label_smoothing=0.1), (ROWS[0], LABELS.clamp(max=1))
    ),
    "LSTM": Case(classifier(SequenceClassifier, width=8, layers=2, bidirectional=True), (GREY, LABELS)),
    "LSTM of cells": Case(reader(kind="lstm_cell", bidirectional=True), (WORDS, LABELS)),
    "LSTM of words": Case(reader(), (WORDS, LABELS)),
    "regression": Case(lambda: Regression(TwoLayerNet(5, 2), outputs=[{"name": "a", "std": 2.0}, {"name": "b"}]), ROWS),
    "regression of sums": Case(lambda: Regression(TwoLayerNet(5, 2), nn.MSELoss(reduction="sum")), ROWS, ROWS[0]),
    "weighted classes": Case(
        lambda: Classification(MLP(3, in_features=5), ABC, loss=FocalLoss(2, [1.0, 2.0, 3.0])), (ROWS[0], LABELS)
    ),
    "supervised": Case(
        lambda: Supervised(MLP(3, in_features=5), nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0]))),
        (ROWS[0], LABELS),
    ),
    "several labels": Case(lambda: MultiLabel(MLP(3, in_features=5), ABC), (ROWS[0], torch.eye(3)[LABELS])),
    "strings": Case(
        lambda: Transcription(CRNN(4, image_size=(16, 16), width=2, hidden=4), ABC, image_size=(16, 16)),
        (GREY, torch.ones(4, 2, dtype=torch.int64), [4, 4, 4, 4], [2, 2, 1, 2]),
    ),
    "triplets": Case(lambda: Supervised(MLP(3, in_features=5), nn.TripletMarginLoss()), (ROWS[0],) * 3),
    "DynamicNet": Case(lambda: Regression(DynamicNet(5, 2)), ROWS),
    "U-Net": Case(
        lambda: Segmentation(UNet(2, width=2, depth=2), [0, 255]),
        (GREY, torch.zeros(4, 16, 16, dtype=torch.int64)),
        (GREY, (torch.full((4,), 16), torch.full((4,), 9))),
    ),
    **{f"GAN {loss}": gan(loss) for loss in ("bce", "hinge", "wgan", "wgan-gp")},
    "poems": Case(lambda: LanguageModel(CharRNN(9, embedding=4, width=8)), (WORDS, WORDS)),
    "captions": captions(attention=False),
    "captions with attention": captions(attention=True),
    "style": Case(
        lambda: StyleTransfer(TransformerNet(2, 1), style_path="", weights="none", trained=True),
        (torch.rand(2, 3, 16, 16), LABELS[:2]),
    ),
}
NONE = "predicts nothing for a test split"
NUMBERS = "data-dependent"
PACKED = "batch_sizes should always be on CPU"
# What cannot be followed, and what it ends with: each does so, or it can be tested now and must leave this list.
OUT_OF_REACH = {
    ("DynamicNet", "train"): NUMBERS,  # draws how deep it is
    ("U-Net", "test"): NUMBERS,  # a mask has the size of its file, which the batch tells
    ("poems", "val"): NUMBERS,  # counts the characters that are no marks
    ("GAN wgan-gp", "train"): "hasPrimaryContext",  # wants a gradient, for which torch asks a real GPU
    **{("strings", step): "no NVIDIA driver" for step in ("train", "val")},  # CTC's loss asks cuDNN itself
    ("strings", "test"): NUMBERS,  # the best path is read
    **{("LSTM of words", step): PACKED for step in ("train", "val", "test")},
    **{(name, step): PACKED for name in ("captions", "captions with attention") for step in ("train", "val")},
    **{(name, "test"): NUMBERS for name in ("captions", "captions with attention")},  # reads the words it has written
    **{(f"GAN {loss}", "test"): NONE for loss in ("bce", "hinge", "wgan", "wgan-gp")},
}
IN_REACH = [(name, step) for name in CASES for step in ("train", "val", "test") if (name, step) not in OUT_OF_REACH]


class Ignore:
    """In the place of a meter, all of which look at what they are given."""

    def add(self, *values: Any) -> None:
        assert all(value.is_cuda for value in values if isinstance(value, Tensor))


@pytest.fixture
def backward(monkeypatch):
    """Torch's engine asks a real GPU: gradients are taken as given."""

    def fill(loss: Tensor, inputs: Any = None) -> None:
        assert loss.is_cuda and loss.requires_grad and loss.numel() == 1
        for parameter in fill.parameters if inputs is None else inputs:
            parameter.grad = torch.empty_like(parameter)

    monkeypatch.setattr(torch.Tensor, "backward", fill)
    return fill


def learn(task: Task, batch: Any, backward: Any, optim: Component = ADAMW, **train: Any) -> None:
    """Two training steps with what a trainer does around them."""
    roles = [role for role, net in task.named_children() if any(p.requires_grad for p in net.parameters())]
    cfg = Config(optim=dict.fromkeys(roles, optim), train=Train(**train))
    update, means = make_updates(task, cfg, batches=10), RowMeans()
    averaged = None if cfg.train.ema is None else MovingAverage(task, cfg.train.ema)
    backward.parameters = [p for p in task.parameters() if p.requires_grad]
    for step in range(2):
        update.begin(step, 1.0, 1.0)
        scalars = task.train_step(batch, update)
        assert scalars and all(value.is_cuda for value in scalars.values())
        means.add(4, scalars)
        if averaged:
            averaged.follow(task, update.taken)
    assert update.taken


def follow(name: str, step: str, backward: Any, waits: Waits) -> None:
    """Go through one kind of step of a case."""
    case = CASES[name]
    task = case.task().train(step == "train")
    with fake_gpu(waits) as mode, torch.set_grad_enabled(step == "train"):
        batch = sent(mode, case.batch if step != "test" or case.tested is None else case.tested)
        sent(mode, task)
        if step == "train":
            learn(task, batch, backward)
        elif step == "val":
            task.val_step(batch, dict.fromkeys(task.meters(), Ignore()))
        else:
            task.test_step(batch)


def test_each_task_has_a_case():
    assert {type(case.task()).__name__ for case in CASES.values()} == set(COMPONENTS["task"].names())


@pytest.mark.parametrize(("name", "step"), IN_REACH)
def test_a_step_runs_on_a_gpu_and_in_training_never_waits_for_it(name, step, backward):
    follow(name, step, backward, waits := Waits())
    assert step != "train" or not waits.found


@pytest.mark.parametrize(("name", "step"), OUT_OF_REACH)
def test_what_is_out_of_reach_is_so(name, step, backward):
    waits = Waits()
    with pytest.raises(Exception, match=OUT_OF_REACH[name, step]):
        follow(name, step, backward, waits)
    assert step != "train" or bool(waits.found) == (name == "LSTM of words")  # whose lengths are read from the words


@pytest.mark.parametrize("optim", [SGD, ADAMW, Component("RMSprop", {"lr": 0.1})], ids=lambda spec: spec.name)
@pytest.mark.parametrize("keys", [{}, {"clip": 1.0}, {"accumulate": 2}, {"ema": 0.9}])
def test_optimizers_never_wait(optim, keys, backward):
    task = CASES["LeNet"].task()
    with fake_gpu(waits := Waits()) as mode:
        learn(sent(mode, task), sent(mode, CASES["LeNet"].batch), backward, optim, **keys)
    assert not waits.found


def test_pictures_that_lie_on_a_gpu_are_cut_and_normalised_without_waiting():
    chain = [Component("RandomCrop", {"size": 16, "padding": 2}), Component("RandomHorizontalFlip", {})]
    transform = make_transform([*chain, Component("Normalize", {"mean": [0.5], "std": [0.2]})], fast=True)
    with fake_gpu(waits := Waits()) as mode:
        made = transform.normalise(transform.cut(sent(mode, (GREY * 255).byte()), range(4)))
    assert made.is_cuda and made.dtype == torch.float32 and not waits.found


# What is planted is found

Plant = Callable[["Planted", Tensor, Tensor], object]


class Planted(Classification):
    """A classifier with something in its training step that should not be there."""

    def __init__(self, plant: Plant):
        super().__init__(LeNet(3, 1, (16, 16)), ABC)
        self.plant = plant
        self.offset = torch.ones(3)  # no buffer: it stays where it is

    def train_step(self, batch: Any, update: Any) -> dict[str, Tensor]:
        self.plant(self, *batch)
        return super().train_step(batch, update)


MISPLACED: dict[str, Plant] = {
    "labels": lambda task, x, y: F.cross_entropy(task.model(x), torch.zeros(4, dtype=torch.int64)),
    "a tensor that is no buffer": lambda task, x, y: task.model(x) + task.offset,
    "noise": lambda task, x, y: x + torch.randn(x.shape),
    "inputs": lambda task, x, y: task.model(torch.zeros(x.shape)),
    "a network": lambda task, x, y: LeNet(3, 1, (16, 16))(x),
    "a condition": lambda task, x, y: torch.where(torch.ones(x.shape) > 0, x, 0.0),
    "a part": lambda task, x, y: torch.cat([x, torch.zeros(x.shape)]),
    "a factor": lambda task, x, y: x.flatten(1) @ torch.zeros(256, 3),
}
WAITING: dict[str, Plant] = {
    "a number": lambda task, x, y: x.sum().item(),
    "a float": lambda task, x, y: float(x.sum()),
    "a whole number": lambda task, x, y: int(y.sum()),
    "a branch": lambda task, x, y: 1 if x.sum() > 0 else 2,
    "a list": lambda task, x, y: y.tolist(),
    "a place": lambda task, x, y: x[y[0]],
    "a copy for the CPU": lambda task, x, y: x.cpu(),
    "an array": lambda task, x, y: x.cpu().numpy(),
    "a copy into memory": lambda task, x, y: torch.empty(x.shape).copy_(x),
    "a copy into the GPU": lambda task, x, y: x.copy_(torch.zeros(x.shape)),
    "a tensor that is sent": lambda task, x, y: torch.ones(3).to(x.device),
    "a tensor that is made of numbers": lambda task, x, y: x.new_tensor([1.0, 2.0]),
    "places in a list": lambda task, x, y: x[[0, 2]],
    "places on the CPU": lambda task, x, y: x[torch.tensor([0, 2])],
    "a mask": lambda task, x, y: x[x > 0],
    "values at a mask": lambda task, x, y: x.clone().index_put_((x > 0,), x.flatten()),
    "masked_select": lambda task, x, y: x.masked_select(x > 0),
    "nonzero": lambda task, x, y: x.nonzero(),
    "where": lambda task, x, y: torch.where(x > 0),
    "unique": lambda task, x, y: y.unique(),
    "bincount": lambda task, x, y: y.bincount(),
    "equal": lambda task, x, y: torch.equal(x, x + 1),
    "allclose": lambda task, x, y: torch.allclose(x, x + 1),
    "classes that are counted": lambda task, x, y: F.one_hot(y),
    "repetitions": lambda task, x, y: x.repeat_interleave(y, 0),
}
NOT_WAITING: dict[str, Plant] = {
    "known classes": lambda task, x, y: F.one_hot(y, 3),
    "places on the GPU": lambda task, x, y: x[y],
    "a number at a mask": lambda task, x, y: x.clone().masked_fill_(x > 0, 1.0),
    "a number set at a mask": lambda task, x, y: x.clone().__setitem__(x > 0, 1.0),
    "a number on the CPU": lambda task, x, y: x + torch.ones(()),
    "a tensor that is sent meanwhile": lambda task, x, y: torch.ones(3).to(x.device, non_blocking=True),
    "a copy on the GPU": lambda task, x, y: torch.empty_like(x).copy_(x.double()),
    "draws": lambda task, x, y: (torch.multinomial(x[0, 0], 1), torch.randperm(4, device=x.device)),
    "a norm": lambda task, x, y: nn.utils.get_total_norm([x]),
    "sums and choices": lambda task, x, y: torch.where(x.isfinite().all(), x.amax(), x.topk(2).values.sum()),
}


def plant_and_learn(plant: Plant, backward: Any) -> list[str]:
    task = Planted(plant)
    with fake_gpu(waits := Waits()) as mode:
        batch = sent(mode, (GREY, LABELS))
        try:
            learn(sent(mode, task), batch, backward)
        except Exception:  # a number that is read has no value here, which some cannot go on with
            if not waits.found:
                raise
    return waits.found


@pytest.mark.parametrize("name", MISPLACED)
def test_a_tensor_left_on_the_cpu_is_found(name, backward):
    with pytest.raises(Exception, match="two (different )?devices|the same device"):
        plant_and_learn(MISPLACED[name], backward)


@pytest.mark.parametrize("name", WAITING)
def test_a_hidden_wait_is_found_with_its_place(name, backward):
    found = plant_and_learn(WAITING[name], backward)
    assert found and all("in tests/test_fake_gpu.py:" in place for place in found)


@pytest.mark.parametrize("name", NOT_WAITING)
def test_what_does_not_wait_is_no_finding(name, backward):
    assert not plant_and_learn(NOT_WAITING[name], backward)
