"""timm:NAME: names that are read without importing, classes, channels and sizes from the data, weights from a file."""

import importlib
import sys

import pytest
import torch
from conftest import PLAIN, dogcats, rows, state

from configs import COMPONENTS
from models.basic_module import read_weights
from utils.errors import CheckpointError, ConfigError

SOURCE = '''
raise ImportError("never imported by check")

@register_model
def resnet18(pretrained: bool = False, **kwargs) -> ResNet:
    """ResNet-18."""


@register_model
def vit_tiny_patch16_224(pretrained: bool = False, **kwargs):
    """ViT."""


def helper(pretrained):
    """Registered by nobody."""
'''


@pytest.fixture
def names(tmp_path, monkeypatch):
    """A package timm of two networks that cannot be imported, or with `absent` none at all."""

    def installed(absent: bool = False) -> None:
        library = COMPONENTS["model"].variants["timm"]
        (tmp_path / "timm" / "models").mkdir(parents=True)
        (tmp_path / "timm" / "models" / "resnet.py").write_text(SOURCE)
        monkeypatch.setattr(library, "_path", lambda: None if absent else tmp_path / "timm" / "models")

    return installed


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("timm:resnet18", None),
        ("timm:resnet18.a1_in1k", None),
        ("timm:resnet81", "no 'resnet81' in timm; did you mean 'timm:resnet18'?"),
        ("timm:helper", "no 'helper' in timm"),
        ("timm", "timm needs a variant, as timm:resnet18"),
        ("vit_tiny_patch16_224", "did you mean 'timm:vit_tiny_patch16_224'?"),
    ],
)
def test_names_are_checked_without_an_import(run, names, model, told):
    names()
    given = run("check", f"--model={model}")
    assert given.code == (2 if told else 0) and (told or "no mistakes") in given.out + given.err
    assert "timm" not in sys.modules or hasattr(sys.modules["timm"], "create_model")


def test_an_absent_package_is_one_sentence_with_the_remedy(run, names):
    names(absent=True)
    given = run("check", "--model=timm:resnet18")
    assert (given.code, given.err.count("\n")) == (2, 1)
    assert "model: timm is not installed; pip install 'deeptrain[timm]' installs it" in given.err
    assert "pip install 'deeptrain[timm]'" in " ".join(run("help", "models").out.split())


@pytest.fixture(scope="module")
def timm():
    return pytest.importorskip("timm")


SMALL = ["dogcat_small", "--train-data-root=train", "--schedule=null", "--batch-size=8", "--print-freq=1"]
SMALL += ["--train.precision=fp32", *PLAIN]


def test_a_network_takes_what_the_data_tell_and_weights_of_a_file(run, timm, tmp_path):
    dogcats(tmp_path / "train", 14)
    theirs = timm.create_model("test_resnet", num_classes=9)
    from safetensors.torch import save_file

    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    flags = ["--model=timm:test_resnet", "--load-model-path=theirs.safetensors"]
    given = run("train", *SMALL, *flags, "--run=a", "--train.max_steps=2", "--lr=0", "--optim.weight_decay=0")
    assert given.code == 0, given.err
    assert "weights of ResNet from theirs.safetensors" in given.out and "fc.weight" in given.out
    model = state("a")["model"]
    assert model["fc.weight"].shape[0] == 2 and torch.equal(
        model["conv1.0.weight"], theirs.state_dict()["conv1.0.weight"]
    )
    assert run("val", "checkpoints/a").code == 0 and rows("a", phase="val")[-1]["loss"] > 0


def test_one_that_is_made_for_a_size_is_made_for_that_of_the_data(timm):
    build = COMPONENTS["model"].get("timm:test_vit")
    net = build(num_classes=3, in_channels=1, image_size=[32, 48])
    assert net(torch.rand(2, 1, 32, 48)).shape == (2, 3)
    same = COMPONENTS["model"].get("timm:test_vit.r160_in1k")(num_classes=3, in_channels=1, image_size=[32, 48])
    assert {k: v.shape for k, v in same.state_dict().items()} == {k: v.shape for k, v in net.state_dict().items()}
    with pytest.raises(ConfigError, match="timm:test_vit cannot be built: .*'foo'"):
        build(foo=1)
    with pytest.raises(ConfigError, match="model.weights: expected DEFAULT, got 'w.pth'; a file is --load-model-path="):
        build(weights="w.pth")


def test_every_name_that_is_read_is_one_of_timms(timm):
    importlib.import_module("timm.models")
    read = set(COMPONENTS["model"].variants["timm"].names())
    assert read == set(timm.list_models()) and len(read) > 1000


def test_a_broken_safetensors_file_is_told(tmp_path):
    pytest.importorskip("safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match="is damaged or is no file of plain weights"):
        read_weights(tmp_path / "w.safetensors")
