"""Torchvision's classifiers: any by name, with other classes, other channels, and published weights."""

import urllib.error

import pytest
import torch
from torch import nn
from torchvision import models as catalogue

from models.basic_module import load_weights
from models.zoo import torchvision
from utils.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("variant", "channels", "size"),
    [
        ("resnet18", 3, 32),
        ("squeezenet1_1", 1, 32),
        ("mobilenet_v3_small", 1, 32),
        ("googlenet", 1, 64),
    ],
)
def test_zoo_forward(variant, channels, size):
    net = torchvision(variant, num_classes=5, in_channels=channels).train()
    assert net(torch.rand(2, channels, size, size)).shape == (2, 5)


@pytest.mark.parametrize("variant", ["vgg11", "vit_b_16", "densenet121", "inception_v3", "maxvit_t", "swin_t"])
def test_zoo_shapes_of_large_networks(variant):
    size = 299 if variant == "inception_v3" else 32 if variant == "vgg11" else 224
    with torch.device("meta"):
        assert torchvision(variant, num_classes=5, in_channels=1)(torch.empty(2, 1, size, size)).shape == (2, 5)


def test_zoo_passes_further_arguments():
    with torch.device("meta"):
        assert torchvision("alexnet", num_classes=5, dropout=0.25).classifier[0].p == 0.25
        with pytest.raises(ConfigError, match="torchvision:alexnet cannot be built: .*'drop'"):
            torchvision("alexnet", drop=0.25)


def test_zoo_suggests_the_right_name():
    with pytest.raises(ConfigError, match="'resnt18'; did you mean resnet18"):
        torchvision("resnt18")
    with pytest.raises(ConfigError, match="'IMAGENET1K'; did you mean IMAGENET1K_V1"):
        torchvision("resnet18", weights="IMAGENET1K")


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A function that lays a network's weights where torchvision keeps those it has downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def lay(variant: str, **arguments: object) -> nn.Module:
        net = catalogue.get_model(variant, **arguments)
        file = tmp_path / "hub" / "checkpoints" / catalogue.get_model_weights(variant)["DEFAULT"].url.rpartition("/")[2]
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(net.state_dict(), file)
        return net

    return lay


def test_zoo_weights_are_loaded_and_the_classifier_starts_afresh(published):
    theirs = published("mobilenet_v3_small").state_dict()
    net = torchvision("mobilenet_v3_small", num_classes=5, weights="DEFAULT")
    assert net.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 5)
    ours = net.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours if not k.startswith("classifier.3"))
    assert ours["classifier.3.weight"].shape == (5, 1024)


def test_zoo_weights_with_all_classes_stay_whole(published):
    theirs = published("squeezenet1_1").state_dict()
    ours = torchvision("squeezenet1_1", weights="DEFAULT").state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_zoo_weights_on_grey_pictures_act_as_on_three_equal_channels(published):
    theirs = published("squeezenet1_1").eval()
    net = torchvision("squeezenet1_1", in_channels=1, weights="DEFAULT").eval()
    grey = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(net(grey), theirs(grey.expand(-1, 3, -1, -1)), atol=1e-5, rtol=1e-4)
    fresh = torchvision("squeezenet1_1", num_classes=5, weights="DEFAULT")
    assert fresh.classifier[1].weight.shape == (5, 512, 1, 1)


@pytest.mark.parametrize(("variant", "size"), [("googlenet", 64), ("inception_v3", 96)])
def test_zoo_weights_lose_their_auxiliary_classifiers(published, variant, size):
    published(variant, aux_logits=True, init_weights=False)
    net = torchvision(variant, num_classes=5, weights="DEFAULT")
    assert net.train()(torch.rand(2, 3, size, size)).shape == (2, 5)
    rebuilt = torchvision(variant, num_classes=5)
    assert load_weights(rebuilt, net.state_dict(), "checkpoint", strict=True) == []
    x = torch.rand(1, 3, size, size)
    assert torch.equal(rebuilt.eval()(x), net.eval()(x))


def test_zoo_weights_that_cannot_be_had_say_where_to_put_them(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(DataError) as caught:
        torchvision("resnet18", weights="DEFAULT")
    assert "no route to host" in str(caught.value) and "\n" not in str(caught.value)
    assert str(tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth") in str(caught.value)
