"""Regression: a line that is found again, a network that varies, the task, and its data."""

from pathlib import Path

import pytest
import torch
from conftest import PLAIN, rows, same_run, state
from torch import nn

from data.random_regression import RandomRegression
from data.straight_line import StraightLine
from models.linear import LinearRegression
from models.two_layer import DynamicNet, TwoLayerNet
from trainer.tasks.regression import Regression, RootMean
from utils.errors import ConfigError

QUICK = [*PLAIN, "--print-freq=1"]
DYNAMIC = ["two_layer", "--model=DynamicNet", "--data.dataset.passes=4", "--max-epoch=3", "--train.ema=0.9", *QUICK]


# A line


@pytest.mark.learns
def test_another_line_is_found_too(run):
    line = ["--data.dataset.w=-1.5", "--data.dataset.b=0.5", "--data.dataset.noise=0"]
    assert run("train", "linear_regression", "--run=a", *line, *PLAIN).code == 0
    weights = state("a")["model"]
    assert weights["linear.weight"].item() == pytest.approx(-1.5, abs=0.05)
    assert weights["linear.bias"].item() == pytest.approx(0.5, abs=0.05)


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
    assert given.code == 2 and "task.loss: no 'median' in" in given.err
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
