"""Every optimizer of torch learns and goes on exactly; groups, closures and sparse gradients do what they say."""

import copy
import io
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from conftest import same
from torch import nn

from configs import COMPONENTS, Component, load
from trainer.build import Given, build
from trainer.checks.memory import timed_steps
from trainer.optim.joint import make_optimizer
from trainer.parameters.groups import layer_numbers, learnable
from trainer.trainer import Trainer
from utils.errors import CodeError, ConfigError

OWN = {
    "Muon": {"rest": {"name": "AdamW", "lr": 0.02}},
    "SparseAdam": {"rest": {"name": "Adam", "lr": 0.02}},
    "LBFGS": {"lr": 0.1, "max_iter": 3},
    "Adadelta": {"lr": 10.0},
    "RAdam": {"lr": 0.1},
    "ASGD": {"lr": 0.5},
    "SGD": {"lr": 0.5},
}
TINY = {"data.batch_size": 16, "log.visdom": False, "log.print_freq": 3, "schedule": None}


class Words(torch.utils.data.Dataset):
    """Sentences of 5 words; the first word decides the class."""

    def __init__(self, size: int = 48):
        self.x = torch.randint(0, 20, (size, 5), generator=torch.Generator().manual_seed(0))
        self.meta = {"num_classes": 2, "classes": ["even", "odd"]}

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int):
        return self.x[index], int(self.x[index, 0] % 2)


class Bag(nn.Module):
    """Words, with everything that an optimizer may stumble over: a norm, dropout, a bias, sparse gradients."""

    def __init__(self, sparse: bool = False, dropout: float = 0.5):
        super().__init__()
        self.embedding = nn.Embedding(20, 8, sparse=sparse)
        self.norm, self.dropout = nn.BatchNorm1d(8), nn.Dropout(dropout)
        self.hidden, self.fc = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.fc(self.dropout(self.hidden(self.norm(self.embedding(x)[:, :2].mean(1))).relu()))


def config(optim: object, **values):
    return load("default", {**TINY, "optim": optim, **{key.replace("__", "."): v for key, v in values.items()}})


def parts_of(cfg, stored=None, net=None):
    torch.manual_seed(0)
    given = Given(model=net or Bag(sparse="SparseAdam" in str(cfg.optim)), train=Words(), val=Words())
    return build(cfg, lambda text: None, stored, given)


def stored(parts) -> dict:
    """The state as a file would hold it."""
    stream = io.BytesIO()
    torch.save(parts.state.state_dict(), stream)
    stream.seek(0)
    return torch.load(stream, weights_only=True)


def trained(cfg, start=None, net=None):
    """The state after a run of 3 steps an epoch, and the losses of its epochs."""
    parts = parts_of(cfg, start, net)
    history = Trainer(cfg, parts).fit()
    return stored(parts), [row["loss"] for row in history if row["phase"] == "train"]


def resumed_is_whole(cfg) -> list[float]:
    """Train at once, and with a stop after the first epoch: the same to the last bit. Returns the losses."""
    whole, losses = trained(cfg)
    half, _ = trained(replace(cfg, train=replace(cfg.train, max_epoch=1)))
    again, _ = trained(cfg, half)
    assert same(again["model"], whole["model"]) and same(again["update"], whole["update"])
    assert whole["update"]["model"]["taken"] == cfg.train.max_epoch * half["update"]["model"]["taken"] > 0
    return losses


def spec_of(name: str) -> dict:
    return {"name": name, "lr": 0.02, **OWN.get(name, {})}


@pytest.mark.parametrize("name", COMPONENTS["optim"].all_names())
def test_every_optimizer_goes_on_exactly(name):
    """With dropout and a norm, whose random numbers and statistics go on, too."""
    halves = {"name": "StepLR", "step_size": 1, "gamma": 0.5}
    resumed_is_whole(config(spec_of(name), train__max_epoch=2, schedule=halves))


@pytest.mark.learns
@pytest.mark.parametrize("name", COMPONENTS["optim"].all_names())
def test_every_optimizer_learns(name):
    cfg = config(spec_of(name), train__max_epoch=10)
    _, losses = trained(cfg, net=Bag(sparse=name == "SparseAdam", dropout=0))
    assert losses[-1] < 0.9 * losses[0], losses


def test_groups_go_on_exactly():
    spec = {"name": "AdamW", "groups": [{"match": "fc.*", "lr": 0.05, "betas": [0.5, 0.9]}], "layer_decay": 0.5}
    resumed_is_whole(config({**spec, "no_decay": ["bias", "norm"]}, train__max_epoch=3))


def batches(data: Words):
    """The batches of an epoch in the order of the data."""
    for first in range(0, 48, 16):
        pairs = [data[i] for i in range(first, first + 16)]
        yield torch.stack([x for x, _ in pairs]), torch.tensor([y for _, y in pairs])


def evaluations_by_hand(net: nn.Module, optimizer, x, y) -> list:
    """Take a step with a closure as torch's documentation has it; the loss and the buffers of each evaluation."""
    before, buffers, seen = torch.get_rng_state(), copy.deepcopy(dict(net.named_buffers())), []

    def closure():
        torch.set_rng_state(before)
        for name, buffer in net.named_buffers():
            buffer.copy_(buffers[name])
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        seen.append((loss.item(), copy.deepcopy(dict(net.named_buffers()))))
        return loss

    optimizer.step(closure)
    return seen


def test_a_closure_is_torchs_own():
    """The same as a loop by hand, dropout included; batch norm moves once a step; the first loss is logged."""
    spec = {"name": "LBFGS", "lr": 0.3, "max_iter": 4, "history_size": 3}
    cfg = config(spec, train__max_epoch=1, log__print_freq=1, data__shuffle=False)
    parts = parts_of(cfg)
    net = copy.deepcopy(parts.state.task.model)
    drawn = torch.get_rng_state()
    history = Trainer(cfg, parts).fit()
    torch.set_rng_state(drawn)
    optimizer, data, losses = torch.optim.LBFGS(net.parameters(), lr=0.3, max_iter=4, history_size=3), Words(), []
    for x, y in batches(data):
        evaluations = evaluations_by_hand(net, optimizer, x, y)
        losses.append(evaluations[0][0])
        assert len(evaluations) > 2
        for name, buffer in net.named_buffers():
            buffer.copy_(evaluations[0][1][name])
    own = parts.state.task.model
    assert all(torch.equal(own.state_dict()[name], value) for name, value in net.state_dict().items())
    assert int(own.norm.num_batches_tracked) == 3
    assert [row["loss"] for row in history if row["phase"] == "train"] == losses


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"train__accumulate": 2}, "train.accumulate"),
        ({"train__clip": 1.0}, "train.clip"),
        ({"train__precision": "fp16"}, "train.precision: fp16"),
        ({"train__on_nonfinite": "skip"}, "train.on_nonfinite: skip"),
    ],
)
def test_a_closure_refuses_the_impossible_before_the_start(values, word):
    with pytest.raises(ConfigError, match=f"optim: LBFGS evaluates each batch several times .* with {word}; leave"):
        parts_of(config("LBFGS", **values))


def test_a_closure_in_half_precision_sees_the_weights_of_now():
    """Autocast keeps its copy of the weights within one step of the loop."""
    cfg = config({"name": "LBFGS", "lr": 0.5, "max_iter": 8}, train__precision="bf16", train__max_epoch=1)
    net, seen = Bag(dropout=0), []
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.startswith("fc."))  # whose weights autocast copies
    parts = parts_of(cfg, net=net)
    own = parts.state.task.train_step
    parts.state.task.train_step = lambda batch, update: seen.append(own(batch, update)) or seen[-1]
    step = parts.state.make_step()
    batch = next(iter(parts.train_loader.epoch(0)))[1]
    parts.state.update.begin(0, 1.0, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        step(batch, parts.state.update)
    assert len({float(scalars["loss"]) for scalars in seen}) > 2


def test_an_optimizer_with_a_closure_is_timed_as_it_steps():
    parts = parts_of(config({"name": "LBFGS", "max_iter": 2}))
    assert len(timed_steps(parts, 2)) == 3


def test_a_step_that_updates_twice_has_no_closure():
    parts = parts_of(config("LBFGS"))
    own = parts.state.task.train_step
    parts.state.task.train_step = lambda batch, update: own(batch, update) and own(batch, update)
    with pytest.raises(CodeError, match=r"train_step calls update 2 times, and this optimizer needs one loss a batch"):
        Trainer(parts.cfg, parts).fit()


def test_sparse_gradients_are_those_of_the_words_alone():
    """Adam's moments of a word that does not come stay as they are: SparseAdam's are lazy."""
    cfg = config({"name": "SparseAdam", "lr": 0.1, "rest": {"name": "SGD", "lr": 0.1}}, train__max_epoch=1)
    parts = parts_of(cfg)
    before = parts.state.task.model.embedding.weight.detach().clone()
    Trainer(cfg, parts).fit()
    after = parts.state.task.model.embedding.weight.detach()
    seen = set(Words().x[:, :2].flatten().tolist())
    moved = {word for word in range(20) if not torch.equal(before[word], after[word])}
    assert moved <= set(Words().x.flatten().tolist()) and moved & seen


@pytest.mark.parametrize(
    ("optim", "values", "message"),
    [
        (
            "SparseAdam",
            {},
            "SparseAdam learns embeddings whose gradients are sparse .* norm.weight .* optim.rest: AdamW",
        ),
        ("Muon", {}, r"Muon learns matrices only, which embedding.weight \[20, 8\] is not; .* optim.rest: AdamW"),
        ({"name": "SparseAdam", "rest": "Adam"}, {"train__clip": 1.0}, "sparse gradients .* train.clip"),
        ({"name": "SparseAdam", "rest": "Adam"}, {"train__accumulate": 2}, "sparse gradients .* train.accumulate"),
        ({"name": "Muon", "rest": "LBFGS"}, {}, "optim.rest: LBFGS must have all parameters"),
        (
            {"name": "SGD", "groups": [{"match": "fs.*"}]},
            {},
            r"groups\[0\].match: 'fs.\*': no parameter that learns has",
        ),
        (
            {"name": "SGD", "groups": [{"match": "fc.*"}, {"match": "fc.bias", "lr": 1}]},
            {},
            r"groups\[1\].match: 'fc.bias': groups before it take all",
        ),
        ({"name": "SGD", "no_decay": ["norms"]}, {}, r"no_decay\[0\]: 'norms' is neither bias nor norm"),
        (
            {"name": "Muon", "rest": "AdamW", "no_decay": ["bias", "norm"]},
            {},
            r"optim.no_decay\[0\]: 'bias': optim.rest learns all that it means; write it there",
        ),
        (
            {"name": "Muon", "rest": "AdamW", "groups": [{"match": "*.bias", "lr": 1}]},
            {},
            r"optim.groups\[0\].match: '\*.bias': optim.rest learns all that it means; write it there",
        ),
        (
            {"name": "Muon", "rest": {"name": "AdamW", "no_decay": ["hidden.weight"]}},
            {},
            r"optim.rest.no_decay\[0\]: 'hidden.weight' is neither bias nor norm, and optim learns all that it means",
        ),
    ],
)
def test_parameters_that_do_not_fit_an_optimizer_are_told(optim, values, message):
    with pytest.raises(ConfigError, match=message):
        parts_of(config(optim, **values))


def test_adam_is_told_of_sparse_gradients():
    with pytest.raises(ConfigError, match=r"optim: Adam takes no sparse gradients, as those of embedding.weight; take"):
        parts_of(config("Adam"), net=Bag(sparse=True))


def test_groups_are_those_of_a_loop_by_hand():
    """Rates, momentum and decay by name: the weights of a plain torch loop."""
    spec = {"name": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "no_decay": ["bias", "norm"]}
    spec["groups"] = [{"match": "fc.*", "lr": 0.5, "momentum": 0.5}]
    cfg = config(spec, train__max_epoch=1, data__shuffle=False)
    parts = parts_of(cfg, net=Bag(dropout=0))
    net = copy.deepcopy(parts.state.task.model)
    Trainer(cfg, parts).fit()
    by_hand = [
        {"params": [net.embedding.weight, net.hidden.weight], "lr": 0.1, "momentum": 0.9, "weight_decay": 0.1},
        {"params": [*net.norm.parameters(), net.hidden.bias], "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0},
        {"params": [net.fc.weight], "lr": 0.5, "momentum": 0.5, "weight_decay": 0.1},
        {"params": [net.fc.bias], "lr": 0.5, "momentum": 0.5, "weight_decay": 0.0},
    ]
    optimizer, data = torch.optim.SGD(by_hand, fused=True), Words()
    for x, y in batches(data):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    own = parts.state.task.model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in net.state_dict().items())
    told = parts.state.update.told()
    assert told == ["optim.groups[0] fc.*: 2 tensors, lr 0.5, momentum 0.5", "optim.no_decay: 4 of 7 tensors"]


def test_layers_are_counted_from_the_input():
    net = nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)),
            body=nn.ModuleList([Bag(), Bag()]),
            head=nn.Linear(2, 2),
        )
    )
    numbers = layer_numbers(net, learnable(net))
    assert {name.rpartition(".")[0].split(".embedding")[0]: n for name, n in numbers.items() if "body" not in name} == {
        "stem.0": 0,
        "stem.1": 0,
        "head": 3,
    }
    assert {n for name, n in numbers.items() if name.startswith("body.1")} == {2}
    rates = {
        g["lr"]
        for g in make_optimizer(Component("SGD", {"lr": 1.0, "layer_decay": 0.5}), "optim", net, learnable(net))[
            0
        ].param_groups
    }
    assert rates == {1.0, 0.5, 0.25, 0.125}


def test_the_rate_of_the_config_is_the_first_groups():
    net = Bag()
    spec = Component("SGD", {"lr": 0.1, "layer_decay": 0.5, "groups": ({"match": "emb*", "lr": 3.0},)})
    optimizer, told = make_optimizer(spec, "optim", net, learnable(net))
    assert optimizer.param_groups[0]["lr"] == 0.1 and optimizer.param_groups[-1]["lr"] == 3.0 / 4
    assert told[-1] == "optim.layer_decay: 3 layers, lr from 0.025 to 0.75"


def test_layers_are_those_of_the_whole_network_also_where_an_optimizer_learns_the_first_alone():
    net = Bag(sparse=True)
    rest = Component("SGD", {"lr": 1.0, "layer_decay": 0.5})
    spec = Component("SparseAdam", {"lr": 1.0, "layer_decay": 0.5, "rest": rest})
    optimizer, _ = make_optimizer(spec, "optim", net, learnable(net))
    rates = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert [rates[p] for p in (net.embedding.weight, net.hidden.weight, net.fc.weight)] == [0.25, 0.5, 1.0]


@pytest.mark.parametrize(
    "keys", [{}, {"nesterov": True}, {"dampening": 0.3}, {"groups": [{"match": "b.*", "lr": 0.3}]}]
)
def test_a_layer_that_learns_later_is_as_with_torchs_plain_sgd(keys):
    """torch's fused SGD fails where one parameter of a group has its first gradient after another one."""

    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(5, 2), nn.Linear(5, 2)
            self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

        def forward(self, x):
            self.seen += self.training
            return self.a(x.float()) + (self.b(x.float()) if self.seen > 2 else 0)

    made, plain = (
        trained(config({"name": "SGD", "lr": 0.01, "momentum": 0.9, **keys, **more}, train__max_epoch=2), net=Late())[0]
        for more in ({}, {"fused": False, "foreach": False})
    )
    assert all(torch.allclose(made["model"][name], plain["model"][name], atol=1e-6) for name in made["model"])
    assert made["model"]["b.weight"].abs().max() > 0 and int(made["buffers"].get("seen", 6)) == 6
