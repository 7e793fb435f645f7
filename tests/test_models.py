"""The networks: their sizes, names and outputs, and the folder that gives each by its name."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models as catalogue

from models.alexnet import AlexNet
from models.basic_module import load_weights
from models.lenet import LeNet
from models.mlp import MLP
from models.resnet34 import ResNet34
from models.squeezenet import SqueezeNet

ROOT = Path(__file__).parent.parent


def settle(net: nn.Module, size: int) -> nn.Module:
    """Batch norms as after some training: without, the activations of a deep network run off or die."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.normal_(module.bias, std=0.1)
    net.train()(torch.randn(4, 3, size, size))
    return net.eval()


@pytest.mark.parametrize(
    ("net", "channels", "size"),
    [
        (ResNet34, 3, (64, 64)),
        (ResNet34, 1, (28, 28)),
        (ResNet34, 3, (8, 8)),
        (AlexNet, 3, (64, 64)),
        (AlexNet, 1, (32, 40)),
        (SqueezeNet, 3, (64, 48)),
        (SqueezeNet, 1, (28, 28)),
        (LeNet, 1, (28, 28)),
        (LeNet, 3, (32, 32)),
        (LeNet, 1, (8, 8)),
        (LeNet, 3, (33, 47)),
        (MLP, 1, (28, 28)),
        (MLP, 3, (8, 6)),
    ],
)
def test_forward_gives_one_logit_for_each_class(net, channels, size):
    with torch.inference_mode():
        logits = net(num_classes=5, in_channels=channels, image_size=size).eval()(torch.rand(2, channels, *size))
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    ("net", "parameters"),
    [
        (ResNet34, 21_797_672),
        (AlexNet, 61_100_840),
        (SqueezeNet, 1_235_496),
        (LeNet, 61_706),
    ],
)
def test_parameter_count(net, parameters):
    with torch.device("meta"):
        assert net().parameter_count == parameters


@pytest.mark.parametrize(
    ("ours", "theirs", "size"),
    [
        (ResNet34, catalogue.resnet34, 64),
        (AlexNet, catalogue.alexnet, 64),
        (SqueezeNet, catalogue.squeezenet1_1, 64),
    ],
)
def test_torchvision_weights_load_and_give_its_outputs(ours, theirs, size):
    model, net = settle(theirs(), size), ours().eval()
    x = torch.randn(2, 3, size, size)
    assert load_weights(net, model.state_dict(), "torchvision", strict=True) == []
    with torch.inference_mode():
        expected = model(x)
        torch.testing.assert_close(net(x), expected, atol=1e-5, rtol=0)
    assert (expected[0] - expected[1]).abs().max() > 1e-3  # else the outputs say nothing of the layers


@pytest.mark.parametrize(
    ("stem", "size", "height"),
    [
        ("auto", None, 16),
        ("auto", (64, 64), 16),
        ("auto", (32, 48), 64),
        ("imagenet", (32, 32), 16),
        ("small", None, 64),
    ],
)
def test_resnet_stem(stem, size, height):
    with torch.device("meta"):
        net = ResNet34(num_classes=2, image_size=size, stem=stem)
        assert net.maxpool(net.conv1(torch.empty(1, 3, 64, 64))).shape == (1, 64, height, height)


def test_resnet_starts_with_the_variance_of_he():
    weight = ResNet34(num_classes=2).layer4[2].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)


def test_alexnet_keeps_its_maps_large_on_small_pictures():
    with torch.device("meta"):
        net = AlexNet(num_classes=2, image_size=(64, 64))
        assert net.features(torch.empty(1, 3, 64, 64)).shape == (1, 256, 6, 6)


@pytest.mark.parametrize(("net", "least"), [(AlexNet, 21), (SqueezeNet, 10)])
def test_least_size(net, least):
    with torch.device("meta"):
        net(2, 3, (least, 64)).features(torch.empty(1, 3, least, 64))
        with pytest.raises(ValueError, match=f"at least {least} x {least} pixels.* has {least - 1}$"):
            net(2, 3, (64, least - 1))


def test_no_class_of_a_new_squeezenet_is_dead():
    torch.manual_seed(0)
    net = SqueezeNet(num_classes=10, image_size=(32, 32)).eval()
    with torch.inference_mode():
        assert net(torch.randn(8, 3, 32, 32)).gt(0).all()


def test_mlp_takes_rows_of_numbers():
    net = MLP(num_classes=3, in_features=7, hidden=(5, 4))
    assert net.parameter_count == 7 * 5 + 5 + 5 * 4 + 4 + 4 * 3 + 3
    assert net(torch.rand(2, 7)).shape == (2, 3)
    assert MLP(num_classes=3, in_features=7, hidden=()).parameter_count == 7 * 3 + 3


def test_mlp_computes_what_torch_layers_compute():
    net = MLP(num_classes=3, in_features=7, hidden=(5,), dropout=0.5).eval()
    theirs = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 3)).eval()
    theirs.load_state_dict(net.layers.state_dict())
    x = torch.randn(4, 7)
    torch.testing.assert_close(net(x), theirs(x))


def test_mlp_must_know_its_input():
    with pytest.raises(ValueError, match="image_size"):
        MLP(num_classes=3)


@pytest.mark.learns
def test_lenet_learns():
    torch.manual_seed(0)
    net, x, y = LeNet(num_classes=2, image_size=(12, 12)), torch.randn(16, 1, 12, 12), torch.arange(16) % 2
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_the_folder_gives_each_network_by_name():
    import models

    assert models.ResNet34 is ResNet34 and models.registry.get("MLP") is MLP
    assert {"AlexNet", "LeNet", "MLP", "ResNet34", "SqueezeNet", "torchvision"} <= set(dir(models))
    assert not hasattr(models, "ResNet43") and "BasicModule" not in models.registry.names()


def test_only_the_file_asked_for_is_imported():
    program = (
        "import sys, models; assert 'LeNet' in dir(models); assert 'torch' not in sys.modules\n"
        "from models import LeNet; loaded = {name for name in sys.modules if name.startswith('models.')}\n"
        "assert loaded == {'models.basic_module', 'models._matching', 'models.lenet'}, loaded"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
