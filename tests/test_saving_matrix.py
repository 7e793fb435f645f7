"""Each network, saved in each of four ways, loads into the bare network and into a wrapped one."""

from functools import cache

import pytest
import torch
from torch import nn

import models
from configs import COMPONENTS, Component
from models.basic_module import load_weights, read_weights

ARGUMENTS = {
    "AlexNet": {"num_classes": 2, "in_channels": 1},
    "BookResNet34": {},
    "CRNN": {"num_classes": 5},
    "CaptionDecoder": {"vocabulary_size": 9, "feature_size": 8, "embedding": 4, "width": 4},
    "CharRNN": {"vocabulary_size": 9, "embedding": 4, "width": 4},
    "DCGANDiscriminator": {"ndf": 2, "norm": "instance"},
    "DCGANGenerator": {"nz": 4, "ngf": 2},
    "DynamicNet": {"in_features": 3, "out_features": 2, "hidden": 4},
    "GPT": {"vocabulary_size": 9, "length": 8, "width": 8, "layers": 1, "heads": 2, "tied": False},
    "ImageEncoder": {"variant": "resnet18"},
    "LeNet": {},
    "LinearRegression": {},
    "MLP": {"num_classes": 2, "in_features": 4, "embedded": (3, 5)},
    "ResNet34": {"num_classes": 2},
    "SequenceClassifier": {"num_classes": 2, "vocabulary_size": 9, "width": 4},
    "Siamese": {"encoder": Component("MLP", {"num_classes": 2, "in_features": 4})},
    "SqueezeNet": {"num_classes": 2},
    "TransformerNet": {"width": 4, "blocks": 1},
    "TransformerPoet": {"vocabulary_size": 9, "length": 8, "width": 8, "layers": 1, "heads": 2},
    "TwoLayerNet": {"in_features": 3, "out_features": 2, "hidden": 4},
    "UNet": {"num_classes": 2, "width": 2},
    "VGG16Taps": {"weights": "none"},
    "torchvision:mobilenet_v3_small": {"num_classes": 2},
}
# one GPU or CPU; several; compiled; several of a compiled one
WAYS = ("", "module.", "_orig_mod.", "module._orig_mod.")


@cache
def network(name: str) -> nn.Module:
    with torch.device("meta") if name == "AlexNet" else torch.device("cpu"):  # it draws 57 million numbers
        net = COMPONENTS["model"].build(Component(name, ARGUMENTS[name]), "model")
    return net.to_empty(device="cpu") if name == "AlexNet" else net


def test_no_network_is_left_out():
    known = set(models.registry.names()) - {"timm"}  # an extra, see test_timm
    assert {name.partition(":")[0] for name in ARGUMENTS} == known and len(ARGUMENTS) >= 16


LARGE = {"AlexNet", "BookResNet34"}  # 200 MB each


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LARGE)) for n in ARGUMENTS])
@pytest.mark.parametrize("way", WAYS)
def test_saved_so_it_loads_bare_and_wrapped(name, way, tmp_path):
    net = network(name)
    own = net.state_dict()
    # each tensor has a number of its own; one number for all of it keeps the file small
    marks = {n: torch.tensor(float(i)).to(t.dtype).expand(t.shape) for i, (n, t) in enumerate(own.items(), 1)}
    torch.save({way + n: mark for n, mark in marks.items()}, tmp_path / "w.pth")
    state = read_weights(tmp_path / "w.pth")
    assert all(tensor.device.type == "cpu" for tensor in state.values())
    wrapped = nn.Sequential()
    wrapped.module = net  # as DataParallel and DistributedDataParallel hold it
    for target in (net, wrapped):
        for tensor in own.values():
            tensor.zero_()
        assert load_weights(target, state, "w.pth", strict=True) == []
        assert all(bool((own[n] == mark).all()) for n, mark in marks.items())


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["LeNet", "ResNet34"])
def test_saved_on_a_gpu_it_loads_on_the_cpu_and_back(name, tmp_path):
    net = network(name)
    torch.save({n: t.cuda() for n, t in net.state_dict().items()}, tmp_path / "w.pth")
    state = read_weights(tmp_path / "w.pth")
    assert all(tensor.device.type == "cpu" for tensor in state.values())
    assert load_weights(net.cuda(), state, "w.pth", strict=True) == []
    assert all(torch.equal(t.cpu(), state[n]) for n, t in net.state_dict().items())
    net.cpu()
