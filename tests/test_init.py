"""train.init: torch.nn.init's functions by layer type and by name; the recipes of DCGAN and He."""

from pathlib import Path

import pytest
import torch
from conftest import TOY, same, state
from torch import nn

from configs import ConfigError, load
from configs.components import COMPONENTS
from models.dcgan import DCGANGenerator
from models.resnet34 import ResNet34
from trainer.parameters.init import initialise
from trainer.tasks.classification import Classification
from trainer.tasks.gan import GAN

DCGAN = """
train:
  init:
    Conv2d: {name: normal, std: 0.02}
    ConvTranspose2d: {name: normal, std: 0.02}
    BatchNorm2d: {name: normal, mean: 1, std: 0.02}
    BatchNorm2d.bias: zeros
"""
HE = """
train:
  init:
    Conv2d: {name: kaiming_normal, mode: fan_out, nonlinearity: relu}
    BatchNorm2d: ones
    BatchNorm2d.bias: zeros
    Linear.bias: zeros
"""


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def begun(net: nn.Module, init, seed: int = 0) -> tuple[nn.Module, list[str]]:
    """A network whose first weights are drawn, and the lines about it."""
    if isinstance(init, str):
        Path("mine.yaml").write_text(init)
    cfg = load("mine.yaml", seed=seed) if isinstance(init, str) else load("default", {"train.init": init}, seed=seed)
    said: list[str] = []
    initialise(Classification(net, ["a", "b"]), cfg.train, said.append)
    return net, said


def test_the_recipe_of_dcgan_has_its_formulas():
    """Radford et al., 2016: weights N(0, 0.02), norms N(1, 0.02) and 0."""
    net = nn.Sequential(nn.Conv2d(3, 64, 5), nn.BatchNorm2d(2000), nn.ConvTranspose2d(64, 64, 5))
    nn.init.constant_(net[1].bias, 5.0)
    net, said = begun(net, DCGAN)
    for layer, mean in ((net[0], 0.0), (net[1], 1.0), (net[2], 0.0)):
        assert float(layer.weight.detach().mean()) == pytest.approx(mean, abs=2e-3)
        assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.06)
    assert (net[1].bias == 0).all()
    assert said[0] == "init Conv2d: normal (std 0.02): 1 tensor, 4,800 numbers (0.weight)"


def test_the_recipe_of_he_has_its_formulas():
    """He et al., 2015: convolutions N(0, sqrt(2 / n)), n = k k out; norms 1 and 0; biases of linear layers 0."""
    net = ResNet34(num_classes=3)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.constant_(layer.weight, 7.0)
            nn.init.constant_(layer.bias, 7.0)
    net, said = begun(net, HE)
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    for layer in convolutions:
        n = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels
        assert float(layer.weight.detach().std()) == pytest.approx((2 / n) ** 0.5, rel=0.06)
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert all((layer.weight == 1).all() and (layer.bias == 0).all() for layer in norms)
    assert (net.fc.bias == 0).all()
    assert said[0].startswith("init Conv2d: kaiming_normal (mode fan_out, nonlinearity relu): 36 tensors, 21,267,")
    assert said[0].endswith("(conv1.weight, layer1.0.conv1.weight, layer1.0.conv2.weight, …)")


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.LSTM(3, 2), nn.Linear(2, 2))


def test_the_first_match_counts_and_the_rest_stays():
    before = {name: value.clone() for name, value in small().state_dict().items()}
    net = small()
    net.load_state_dict(before)
    net, said = begun(net, {"0.weight": "ones", "Linear": {"name": "constant", "val": 3}, "LSTM.bias*": "zeros_"})
    assert (net[0].weight == 1).all() and (net[2].weight == 3).all()
    assert (net[1].bias_ih_l0 == 0).all() and (net[1].bias_hh_l0 == 0).all()
    for name in ("0.bias", "2.bias", "1.weight_ih_l0", "1.weight_hh_l0"):
        assert torch.equal(net.state_dict()[name], before[name])
    assert [line.partition(":")[0] for line in said] == ["init 0.weight", "init Linear", "init LSTM.bias*"]
    net, _ = begun(small(), {"LSTM": "zeros"})
    assert (net[1].weight_ih_l0 == 0).all() and (net[1].weight_hh_l0 == 0).all()


def test_a_weight_is_a_function_of_the_seed_and_its_name():
    one, two = (begun(small(), {"*weight*": "xavier_uniform"})[0].state_dict() for _ in range(2))
    other, _ = begun(small(), {"0.bias": "zeros", "2.weight": "xavier_uniform", "LSTM": "orthogonal"})
    changed, _ = begun(small(), {"*weight*": "xavier_uniform"}, seed=1)
    assert torch.equal(one["2.weight"], two["2.weight"]) and torch.equal(one["2.weight"], other[2].weight)
    assert not torch.equal(one["2.weight"], changed[2].weight)


@pytest.mark.parametrize("name", COMPONENTS["init"].all_names())
def test_every_function_of_torch_is_there(name):
    needed = {"constant_": {"val": 0.5}, "sparse_": {"sparsity": 0.5}}
    net = nn.Sequential(nn.Conv1d(3, 3, 3)) if name == "dirac_" else nn.Sequential(nn.Linear(3, 3))
    before = net[0].weight.clone()
    net, _ = begun(net, {"0.weight": {"name": name.rstrip("_"), **needed.get(name, {})}})
    assert not torch.equal(net[0].weight, before)
    assert len(COMPONENTS["init"].all_names()) >= 14


def test_of_several_networks_names_have_their_roles():
    task = GAN(DCGANGenerator(nz=4, ngf=2, in_channels=1, image_size=(28, 28)), nn.Sequential(nn.Conv2d(1, 1, 28)))
    said: list[str] = []
    train = load("default", {"train.init": {"generator.*.weight": "zeros", "Conv2d": "ones"}}).train
    initialise(task, train, said.append)
    assert all((p == 0).all() for name, p in task.generator.named_parameters() if name.endswith("weight"))
    assert (task.discriminator[0].weight == 1).all() and "(discriminator.0.weight)" in said[1]


@pytest.mark.parametrize(
    ("init", "told"),
    [
        ({"Conv2D": "zeros"}, "train.init.Conv2D: torch.nn has no layer 'Conv2D'; did you mean 'Conv2d'?"),
        ({"Linear": "kaiming"}, "train.init.Linear: torch.nn.init has no 'kaiming'; did you mean 'kaiming_normal'?"),
        (
            {"Linear": {"name": "normal", "sdt": 1}},
            "takes no 'train.init.Linear.sdt'; did you mean 'train.init.Linear.std'",
        ),
        ({"Linear": {"name": "normal", "std": "wide"}}, "train.init.Linear.std: expected a number, got 'wide'"),
        ({"Linear": "constant"}, "constant_ needs 'train.init.Linear.val'"),
        ({"Linear": {"std": 1}}, "train.init.Linear: needs a name, as in {name: normal, std: 0.01}"),
        ({"Conv2d": "zeros"}, "train.init.Conv2d: there is no Conv2d in the networks"),
        ({"LSTM.gamma": "zeros"}, "train.init.LSTM.gamma: LSTM has no such weight"),
        ({"fc.*": "zeros"}, "train.init: 'fc.*' matches no name of the networks; they begin with 0, 1, 2"),
        (
            {"*.weight": "ones", "Linear": "ones"},
            "train.init.Linear: entries before it take all 2 tensors; put it first",
        ),
        ({"*.bias": "kaiming_normal"}, "it was to fill 0.bias [3]: narrow the entry"),
    ],
)
def test_mistakes_are_told(init, told):
    with pytest.raises(ConfigError) as error:
        begun(small(), init)
    assert told in str(error.value)


def test_mistakes_of_functions_are_told_by_check_without_torch(run):
    given = run("check", "--train.init={Linear: kaiming_norml}")
    assert given.code == 2 and "did you mean 'kaiming_normal'?" in given.err


def test_a_run_begins_so_before_weights_are_loaded_and_goes_on_without_it(run):
    init = "--train.init={Linear: zeros, Linear.bias: ones}"
    toy = [flag for flag in TOY if not flag.startswith("--lr")]
    given = run("train", "--run=a", *toy, init, "--lr=0", "--train.max_steps=2")
    assert given.code == 0 and "init Linear: zeros: 2 tensors" in given.out, given.err
    weights = state("a")["model"]
    assert (weights["layers.0.weight"] == 0).all() and (weights["layers.0.bias"] == 1).all()
    given = run("train", "--resume=a", "--train.max_steps=4")
    assert given.code == 0 and "init Linear" not in given.out and same(state("a")["model"], weights)
    weights["layers.0.weight"] += 2
    torch.save(weights, "w.pth")
    assert run("train", "--run=b", *toy, init, "--lr=0", "--train.max_steps=1", "--load-model-path=w.pth").code == 0
    assert same(state("b")["model"], weights)
