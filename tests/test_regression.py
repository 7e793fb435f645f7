"""Regression: the tutorial's ladder, a line that is found again, functions of our own, and a network that varies."""

import copy
from pathlib import Path

import ladder
import pytest
import torch
from conftest import PLAIN, rows, same_run, state
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from data.random_regression import RandomRegression
from data.straight_line import StraightLine
from models._functions import Binarize, MultiplyAdd, MyReLU, Sigmoid, Sign
from models.linear import LinearRegression
from models.two_layer import DynamicNet, TwoLayerNet
from trainer.tasks.regression import Regression, RootMean
from utils.errors import ConfigError

QUICK = [*PLAIN, "--print-freq=1"]
DYNAMIC = ["two_layer", "--model=DynamicNet", "--data.dataset.passes=4", "--max-epoch=3", "--train.ema=0.9", *QUICK]


# The ladder


def start(hidden=100):
    """Data and weights of the tutorial's sizes; small weights, so that the losses say something for some steps."""
    generator = torch.Generator().manual_seed(1)
    weights = tuple(0.1 * torch.randn(*shape, generator=generator) for shape in ((1000, hidden), (hidden, 10)))
    dataset = RandomRegression("train")
    return dataset.inputs, dataset.targets, weights


@pytest.mark.learns
def test_every_rung_has_the_losses_of_the_frameworks_run(run):
    x, y, weights = start()
    ladder.module_of(weights).save("start.pth")
    given = run("train", "two_layer", "--run=a", "--load-model-path=start.pth", "--train.max_steps=10", *QUICK)
    assert given.code == 0, given.err
    assert "every one" in given.out
    losses = [row["loss"] for row in rows("a", phase="train")]
    assert losses[0] > 2 * losses[-1], "nothing was learned: nothing is compared"
    for rung in ladder.RUNGS:
        assert rung(x, y, weights, 1e-4, 10) == pytest.approx(losses, rel=1e-4), rung.__name__


def test_the_rungs_leave_the_start_as_it_was():
    x, y, weights = start(hidden=8)
    before = copy.deepcopy(weights)
    for rung in ladder.RUNGS:
        rung(x, y, weights, 1e-4, 2)
        assert all(map(torch.equal, weights, before)), rung.__name__


@pytest.mark.learns
def test_the_book_s_two_ways_and_the_framework_find_the_same_line(run):
    given = run("train", "linear_regression", "--run=a", *PLAIN)
    assert given.code == 0, given.err
    weights = state("a", "best.pth")["model"]
    dataset = StraightLine("train")
    ways = [way(dataset.x, dataset.y, 0.05, 1000) for way in (ladder.line_by_hand, ladder.line_by_autograd)]
    for w, b in [*ways, (weights["linear.weight"].item(), weights["linear.bias"].item())]:
        assert (w, b) == (pytest.approx(2.0, abs=0.05), pytest.approx(3.0, abs=0.05))
    assert ways[0] == pytest.approx(ways[1], abs=1e-4)


@pytest.mark.learns
def test_another_line_is_found_too(run):
    line = ["--data.dataset.w=-1.5", "--data.dataset.b=0.5", "--data.dataset.noise=0"]
    assert run("train", "linear_regression", "--run=a", *line, *PLAIN).code == 0
    weights = state("a")["model"]
    assert weights["linear.weight"].item() == pytest.approx(-1.5, abs=0.05)
    assert weights["linear.bias"].item() == pytest.approx(0.5, abs=0.05)


def test_a_graph_that_is_drawn_once_repeats_what_it_saw():
    """Control flow in plain Python follows the data; a trace of it does not (the book's static and dynamic graphs)."""
    near, far = torch.tensor([1.0, 0.0]), torch.tensor([0.01, 0.0])
    assert (ladder.doubled_beyond(near, 3).norm(), ladder.doubled_beyond(far, 3).norm()) == (4, pytest.approx(5.12))
    graph = torch.fx.Graph()
    drawn = graph.placeholder("x")
    for _ in range(2):  # as often as for `near`
        drawn = graph.call_function(torch.mul, (2, drawn))
    graph.output(drawn)
    static = torch.fx.GraphModule(nn.Module(), graph)
    assert static(near).norm() == 4
    assert static(far).norm() == pytest.approx(0.04)
    x = far.clone().requires_grad_()
    ladder.doubled_beyond(x, 3).sum().backward()
    assert x.grad.tolist() == [512, 512]


# Functions of our own


def doubles(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)


def test_my_relu_is_relu():
    x = doubles(4, 5)
    assert gradcheck(MyReLU.apply, (x,))
    assert torch.equal(MyReLU.apply(x), torch.relu(x))
    zero = torch.zeros(1, requires_grad=True)
    MyReLU.apply(zero).backward()
    assert zero.grad == 0, "as torch has it at the kink"


def test_sigmoid_is_torchs_and_can_be_differentiated_twice():
    x = doubles(4, 5)
    assert gradcheck(Sigmoid.apply, (x,))
    assert gradgradcheck(Sigmoid.apply, (x,))
    far = torch.tensor([-1e4, -80.0, 0.0, 80.0, 1e4], requires_grad=True)
    assert torch.allclose(Sigmoid.apply(far), torch.sigmoid(far), rtol=1e-6, atol=0)
    Sigmoid.apply(far).sum().backward()
    assert far.grad.isfinite().all()


def test_the_second_derivative_of_the_sigmoid():
    x = doubles(6)
    s = Sigmoid.apply(x)
    (first,) = torch.autograd.grad(s.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert torch.allclose(first, s * (1 - s))
    assert torch.allclose(second, s * (1 - s) * (1 - 2 * s))


def test_multiply_add_is_differentiable_once():
    w, x, b = doubles(3, 4), doubles(3, 4).detach().add(1).requires_grad_(), doubles(3, 4)
    assert gradcheck(MultiplyAdd.apply, (w, x, b))
    assert torch.equal(MultiplyAdd.apply(w, x, b), w * x + b)
    (first,) = torch.autograd.grad(MultiplyAdd.apply(w, x, b).square().sum(), w, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_sign_lets_the_gradient_through_within_one():
    x = torch.tensor([-1.5, -1.0, -0.2, 0.0, 0.7, 1.0, 1.1], requires_grad=True)
    y = Sign.apply(x)
    assert y.tolist() == [-1, -1, -1, 1, 1, 1, 1]
    (y * torch.arange(7.0)).sum().backward()
    assert x.grad.tolist() == [0, 1, 2, 3, 4, 5, 0]


@pytest.mark.learns
def test_a_network_with_binary_activations_learns():
    torch.manual_seed(0)
    x = torch.randn(256, 2)
    y = (x[:, 0] * x[:, 1] > 0).float()
    net = nn.Sequential(nn.Linear(2, 32), Binarize(), nn.Linear(32, 1), nn.Flatten(0))
    before = net[0].weight.detach().clone()
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(net(x), y).backward()
        optimizer.step()
    assert not torch.equal(before, net[0].weight), "nothing came through the sign"
    assert ((net(x) > 0) == y.bool()).float().mean() > 0.8


# The network of varying depth


@pytest.mark.parametrize("steps", [1, 4, 5, 11])
def test_dynamic_net_resumes_exactly(run, steps):
    assert run("train", "--run=whole", *DYNAMIC).code == 0
    assert run("train", "--run=cut", *DYNAMIC, f"--train.max_steps={steps}").code == 0
    resumed = run("train", "--resume=checkpoints/cut", "--train.max_steps=null")
    assert resumed.code == 0, resumed.err
    assert f"at step {steps}" in resumed.out
    assert rows("cut") == rows("whole")
    assert same_run(state("cut"), state("whole"))


def test_dynamic_net_draws_every_depth_and_gives_their_mean_when_it_does_not_learn():
    torch.manual_seed(0)
    net, x = DynamicNet(4, 2, hidden=8), torch.randn(3, 4)
    drawn = [net(x) for _ in range(60)]
    different = {tuple(y.flatten().tolist()): y for y in drawn}
    assert len(different) == 4
    before = torch.get_rng_state()
    mean = net.eval()(x)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.allclose(mean, torch.stack(list(different.values())).mean(0), atol=1e-6)


def test_dynamic_net_gives_every_parameter_a_gradient_at_every_depth():
    net = DynamicNet(4, 2, hidden=8, max_depth=0)
    net(torch.randn(3, 4)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    assert net.middle_linear.weight.grad.count_nonzero() == 0
    with pytest.raises(ValueError, match="below 0"):
        DynamicNet(4, 2, max_depth=-1)


# The task


class Fixed(nn.Module):
    """Gives the same prediction for every sample."""

    def __init__(self, *values):
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, x):
        return self.values.expand(len(x), -1)


def test_the_summed_loss_is_learned_from_whole_and_told_per_sample():
    learned = []
    batch = torch.zeros(4, 1), torch.zeros(4, 2)
    task = Regression(Fixed(1.0, 2.0), nn.MSELoss(reduction="sum"))
    assert task.train_step(batch, lambda loss, weight: learned.append(loss) or weight == "sum")["loss"] == 5
    assert learned[0] == 20
    meters = task.meters()
    task.val_step(batch, meters)
    assert meters["loss"].value() == 5
    assert meters["rmse"].value() == pytest.approx(2.5**0.5)
    assert Regression(Fixed(1.0, 2.0)).train_step(batch, learned.append)["loss"] == 2.5
    assert learned[1] == 2.5


def test_predictions_and_errors_are_in_the_targets_unit():
    outputs = [{"name": "price", "mean": 10.0, "std": 2.0, "log": True}, {"name": "age", "mean": 5.0, "std": 3.0}]
    task = Regression(Fixed(1.0, -1.0), outputs=outputs)
    row = task.test_step(torch.zeros(1, 3))[0]
    assert row == {"price": pytest.approx(torch.tensor(12.0).double().expm1().item()), "age": 2.0}
    meters = task.meters()
    task.val_step((torch.zeros(1, 3), torch.tensor([[0.0, 0.0]])), meters)
    assert meters["rmse"].value() == pytest.approx(((4 + 9) / 2) ** 0.5)
    assert meters["loss"].value() == pytest.approx(1.0)


def test_the_root_is_taken_of_the_mean_over_all_samples():
    whole, part = RootMean(), RootMean()
    assert whole.value() is None
    whole.add(1.0, 3)
    part.add(5.0, 1)
    whole.merge(part.state())
    assert whole.value() == pytest.approx(2**0.5)


def test_a_network_with_another_number_of_outputs_is_told():
    task = Regression(Fixed(1.0, 2.0))
    with pytest.raises(ConfigError, match=r"\[4, 2\] for targets of shape \[4, 1\]"):
        task.train_step((torch.zeros(4, 1), torch.zeros(4, 1)), lambda loss: None)
    with pytest.raises(ConfigError, match="is over classes, and Regression learns numbers"):
        Regression(Fixed(1.0), nn.CrossEntropyLoss())


def test_wrong_sizes_and_names_end_in_a_sentence(run):
    given = run("train", "linear_regression", "--model.out_features=2", *PLAIN)
    assert (given.code, "as many outputs" in given.err) == (2, True)
    given = run("check", "two_layer", "--task.loss=median")
    assert given.code == 2 and "task.loss: no 'median' in trainer/losses" in given.err
    assert run("check", "two_layer", "--train.monitor=rmse").code == 0


def test_predictions_come_from_the_checkpoint_alone(run):
    short = ["--data.dataset.passes=2", "--max-epoch=1"]
    assert run("train", "two_layer", "--run=a", *short, *PLAIN).code == 0
    assert run("test", "checkpoints/a").code == 0
    header, *lines = Path("checkpoints/a/submission.csv").read_text().splitlines()
    assert (header, len(lines)) == (",".join(["id", *(f"y{i}" for i in range(10))]), 64)
    assert run("train", "linear_regression", "--run=b", "--max-epoch=1", *PLAIN).code == 0
    assert run("test", "checkpoints/b").code == 0
    assert Path("checkpoints/b/submission.csv").read_text().startswith("id,y\n0,")


# Data and networks


def test_the_data_are_what_they_say():
    whole, once = RandomRegression("train", passes=3), RandomRegression("val", passes=3)
    assert (len(whole), len(once)) == (192, 64)
    assert (whole.inputs.shape, whole.targets.shape) == ((64, 1000), (64, 10))
    assert torch.equal(whole.inputs, once.inputs), "val is the training data"
    x, y = whole.read([0, 64, 129])
    assert torch.equal(x[0], x[1]) and torch.equal(y[2], whole[1][1])
    assert RandomRegression("test").read([0, 1]).shape == (2, 1000)
    train, val = StraightLine("train", noise=0), StraightLine("val", noise=0)
    assert not torch.equal(train.x, val.x)
    assert torch.allclose(train.y, 2 * train.x + 3)
    assert train.x.min() >= 0 and train.x.max() < 4
    assert torch.equal(train[3][0], train.read([3])[0][0])
    assert StraightLine("test")[0].shape == (1,)


def test_the_networks_have_the_tutorials_sizes():
    assert TwoLayerNet(1000, 10).parameter_count == 1000 * 100 + 100 + 100 * 10 + 10
    assert TwoLayerNet(1000, 10, bias=False).parameter_count == 101_000
    line = LinearRegression(3, 2)
    x = torch.randn(5, 3)
    assert torch.allclose(line(x), x @ line.linear.weight.t() + line.linear.bias)


def test_accumulating_a_sum_is_one_large_batch(run, tmp_path):
    """A sum over 64 samples is the sum of two halves, not their mean."""
    flags = ["--max-epoch=3", "--data.shuffle=false", *PLAIN]
    assert run("train", "two_layer", "--run=whole", "--batch-size=64", *flags).code == 0
    assert run("train", "two_layer", "--run=halves", "--batch-size=32", "--train.accumulate=2", *flags).code == 0
    whole, halves = (state(name)["model"] for name in ("whole", "halves"))
    for name, value in whole.items():
        torch.testing.assert_close(halves[name], value, rtol=1e-4, atol=1e-5)
