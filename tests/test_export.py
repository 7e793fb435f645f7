"""export: networks in other formats, which are believed only after they ran again."""

import importlib.util
import json
import os
from pathlib import Path

import pytest
import torch
from bare import hide
from conftest import PLAIN, state

import main
from trainer.deploy import formats
from trainer.deploy.export import Normalised

SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2", "torchscript": ".pt", "safetensors": ".safetensors"}
NORMALIZE = "--data.transform.eval=[{name: Normalize, mean: [0.3], std: [0.2]}]"
PLACE = "checkpoints/a/model"


def needs(name: str, *marks) -> object:
    missing = [p for p in formats.FORMATS[name].packages if not importlib.util.find_spec(p)]
    return pytest.param(name, marks=[*marks, pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")])


EVERY = [needs("torchscript"), needs("safetensors"), needs("torch_export", pytest.mark.slow)]
EVERY.append(needs("onnx", pytest.mark.slow))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The folder of a run with averaged weights and a Normalize."""
    folder, before = tmp_path_factory.mktemp("digits"), os.getcwd()
    os.chdir(folder)
    try:
        arguments = ["--run=a", "--model=LeNet", "--train.max_steps=3", "--train.ema=0.5", NORMALIZE, *PLAIN]
        assert main.main(["train", *arguments]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def at(run, digits, monkeypatch):
    monkeypatch.chdir(digits)
    return run


@pytest.mark.parametrize("name", EVERY)
def test_a_file_holds_network_classes_and_preprocessing(at, digits, name):
    given = at("export", "checkpoints/a", f"--format={name}")
    assert given.code == 0 and given.err == "", given
    path = Path(PLACE + SUFFIXES[name])
    assert f"{path}: " in given.out and "read and run again: largest difference " in given.out
    assert "on 32 validation samples" in given.out and "output: logits, not probabilities" in given.out
    inside = name != "safetensors"
    assert ("Normalize is inside of the file" in given.out) == inside
    other = torch.nn.Identity()
    other.load_state_dict = lambda weights: None  # type: ignore[method-assign]
    rerun, text = formats.FORMATS[name].load(path, other)
    about = json.loads(text)
    assert about["classes"] == list("0123456789") and about["input"]["shape"] == ["batch", 1, 8, 8]
    assert [spec["name"] for spec in about["inside" if inside else "preprocessing"]] == ["Normalize"]
    if inside:
        from trainer.inference.trained import LoadedRun

        _, task, _ = LoadedRun("checkpoints/a").load_task([])
        pictures = torch.rand(5, 1, 8, 8)
        expected = task.get_submodule("model")((pictures - 0.3) / 0.2)
        assert torch.allclose(rerun(pictures)[0], expected, atol=1e-4), "the averaged weights, any number of pictures"
    else:
        from safetensors.torch import load_file

        weights = load_file(path)
        assert all(torch.equal(weights[key], value) for key, value in state("a", "best.pth")["ema"].items())


def test_other_numbers_are_not_written(at, monkeypatch):
    whole = formats.FORMATS["torchscript"]

    def load(path, network):
        rerun, text = whole.load(path, network)
        return lambda inputs: [value + 0.01 for value in rerun(inputs)], text

    monkeypatch.setitem(formats.FORMATS, "torchscript", whole._replace(load=load))
    given = at("export", "checkpoints/a", "--format=torchscript", "--out=bad/x.pt")
    assert given.code == 1 and "gives other numbers (largest difference 0.01 on 32" in given.err
    assert not Path("bad/x.pt").exists() and "Traceback" not in given.err


def test_without_the_data_samples_are_made(run, tmp_path):
    from conftest import dogcats

    dogcats(tmp_path / "train", 4)
    small = ["--model=MLP", "--model.hidden=[4]", "--train.max_steps=1", "--batch-size=4", "--train-data-root=train"]
    assert run("train", "dogcat_small", "--run=a", *small, *PLAIN).code == 0
    (tmp_path / "train").rename(tmp_path / "gone")
    given = run("export", "checkpoints/a", "--format=torchscript")
    assert given.code == 0 and "made ones take their place" in given.out and "on 4 made samples" in given.out
    assert "left to do before it, and described in the file: Resize, CenterCrop" in given.out


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (
            ["checkpoints/a"],
            2,
            "export: which format; --format= takes onnx, torch_export, torchscript, safetensors, pth",
        ),
        (["checkpoints/a", "--format=tflite"], 2, "--format=tflite: no such format"),
        (["checkpoints/b", "--format=torchscript"], 4, ""),
        (["checkpoints/a", "--format=onnx"], 2, "--format=onnx: needs onnx, onnxruntime, which is not installed; pip"),
        (["checkpoints/a", "--format=safetensors"], 2, "pip install safetensors"),
        (
            ["checkpoints/a", "--format=torchscript", "--out=checkpoints/a/last.pth"],
            2,
            "is no pt file, and would be lost",
        ),
        (["checkpoints/a", "--format=torchscript", "--out=checkpoints"], 2, "is a folder; name a file in it"),
        (["checkpoints/a", "--format=pth", "--out=checkpoints/a/config.yaml"], 2, "is no pth file, and would be lost"),
        ([], 2, "export: which checkpoint?"),
    ],
)
def test_mistakes_are_one_sentence(at, monkeypatch, words, code, told):
    monkeypatch.setattr("trainer.deploy.formats.installed", lambda name: name == "onnxscript")
    given = at("export", *words)
    assert given.code == code and told in given.err and "Traceback" not in given.err, given


def test_the_sentence_about_several_networks(run):
    from trainer.deploy.export import _network
    from utils.errors import ConfigError

    task = torch.nn.ModuleDict({"netg": torch.nn.Identity(), "netd": torch.nn.Identity()})
    task.unsaved = ()
    with pytest.raises(ConfigError, match="of one network, and ModuleDict has netg, netd"):
        _network(task)


def test_a_package_counts_only_if_it_is_there(monkeypatch):
    hide(monkeypatch, "safetensors")
    with pytest.raises(Exception, match="needs safetensors, which is not installed"):
        formats.FORMATS["safetensors"].require("safetensors")


def test_normalised_is_torchvisions():
    from torchvision.transforms import v2

    pictures = torch.rand(2, 3, 4, 4)
    found = Normalised(torch.nn.Identity(), [0.1, 0.2, 0.3], [0.5, 0.6, 0.7])(pictures)
    assert torch.allclose(found, v2.Normalize([0.1, 0.2, 0.3], [0.5, 0.6, 0.7])(pictures))
