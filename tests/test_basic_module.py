"""BasicModule: what it writes, what it loads or refuses, and what freezing stops."""

import re

import pytest
import torch
from torch import Tensor, nn
from torchvision import models as catalogue

from models.basic_module import BasicModule, load_weights
from models.lenet import LeNet
from models.resnet34 import ResNet34
from utils.errors import CheckpointError, StorageError


def weights_of(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def lenet() -> LeNet:
    return LeNet(num_classes=4)


def test_saved_weights_come_back(lenet, tmp_path):
    path = lenet.save(tmp_path / "weights.pth")
    other = LeNet(num_classes=4)
    assert not same(weights_of(other), weights_of(lenet))
    assert other.load(path) == []
    assert same(weights_of(other), weights_of(lenet))
    assert [file.name for file in tmp_path.iterdir()] == ["weights.pth"]


def test_a_load_changes_what_the_network_computes(lenet, tmp_path):
    # Assigning to `state_dict`, as some tutorials do, runs without a word and loads nothing.
    x, other = torch.rand(1, 1, 32, 32), LeNet(num_classes=4)
    before = other(x)
    other.load(lenet.save(tmp_path / "weights.pth"))
    assert torch.equal(other(x), lenet(x))
    assert not torch.equal(other(x), before)


def test_a_file_without_a_name_gets_a_portable_one(lenet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = lenet.save()
    assert re.fullmatch(r"checkpoints/LeNet_\d{4}_\d{6}\.pth", path.as_posix())
    assert path.is_file()


@pytest.mark.parametrize("suffix", ["pth", "pt", "pkl"])
def test_a_missing_folder_is_made_and_any_extension_will_do(lenet, tmp_path, suffix):
    path = tmp_path / "not" / "yet" / f"weights.{suffix}"
    assert lenet.save(str(path)) == path
    assert LeNet(num_classes=4).load(str(path)) == []


def test_the_file_holds_plain_tensors_only(lenet, tmp_path):
    content = torch.load(lenet.save(tmp_path / "weights.pth"), weights_only=True)
    assert same(content, weights_of(lenet))


def test_a_failed_save_leaves_the_old_file(lenet, tmp_path, monkeypatch):
    path = lenet.save(tmp_path / "weights.pth")
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StorageError, match="No space left on device"):
        LeNet(num_classes=4).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["weights.pth"]


def test_a_checkpoint_of_a_run_loads(lenet, tmp_path):
    torch.save({"model": lenet.state_dict(), "epoch": 3}, tmp_path / "last.pth")
    other = LeNet(num_classes=4)
    assert other.load(tmp_path / "last.pth") == []
    assert same(weights_of(other), weights_of(lenet))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.module."])
def test_wrapper_prefixes_are_ignored(lenet, prefix):
    other = LeNet(num_classes=4)
    state = {prefix + name: tensor for name, tensor in lenet.state_dict().items()}
    assert load_weights(other, state, "weights.pth", strict=True) == []
    assert same(weights_of(other), weights_of(lenet))


def test_weights_cross_wrappers_of_a_part_and_of_the_target(lenet):
    inner = LeNet(num_classes=4)
    inner.features = nn.DataParallel(inner.features)
    assert load_weights(inner, lenet.state_dict(), "weights.pth", strict=True) == []
    whole = nn.DataParallel(LeNet(num_classes=4))
    assert load_weights(whole, inner.state_dict(), "weights.pth", strict=True) == []
    assert same(weights_of(whole.module), weights_of(lenet))


@pytest.mark.parametrize("strict", [True, False])
def test_a_load_that_matches_nothing_is_refused(lenet, strict):
    before = weights_of(lenet)
    with pytest.raises(CheckpointError, match="strange.pth holds nothing that fits LeNet"):
        load_weights(lenet, {"generator.0.weight": torch.zeros(3)}, "strange.pth", strict)
    assert same(weights_of(lenet), before)


def test_what_does_not_fit_is_named_with_its_shapes(lenet):
    before, state = weights_of(lenet), LeNet(num_classes=7).state_dict()
    state["head.weight"] = state.pop("features.0.weight")
    with pytest.raises(CheckpointError) as caught:
        load_weights(lenet, state, "seven.pth", strict=True)
    message = str(caught.value)
    assert "seven.pth does not fit LeNet: features.0.weight (6, 1, 5, 5) is missing there; " in message
    assert "classifier.4.weight is (7, 84) there and (4, 84) here; " in message
    assert "and 1 more" in message and "head.weight" not in message and "\n" not in message
    assert same(weights_of(lenet), before)


def test_a_tolerant_load_takes_what_fits_and_names_the_rest(lenet):
    seven = LeNet(num_classes=7)
    before, state = weights_of(lenet), seven.state_dict() | {"extra": torch.zeros(2)}
    rest = load_weights(lenet, state, "seven.pth", strict=False)
    assert rest == ["classifier.4.weight", "classifier.4.bias", "extra"]
    assert torch.equal(lenet.features[0].weight, seven.features[0].weight)
    assert torch.equal(lenet.classifier[4].weight, before["classifier.4.weight"])


def test_files_older_than_the_counter_of_batch_norm_load():
    state = {k: v for k, v in catalogue.resnet34(num_classes=2).state_dict().items() if "num_batches" not in k}
    assert load_weights(ResNet34(num_classes=2), state, "old.pth", strict=True) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged or is no file of plain weights"),
        (b"not a checkpoint at all", "is damaged or is no file of plain weights"),
        (nn.Linear(1, 1), "is damaged or is no file of plain weights"),
        ({"model": {"lr": 0.1}}, "holds no state_dict"),
        ([torch.zeros(1)], "holds no state_dict"),
    ],
)
def test_a_foreign_file_is_refused_in_one_sentence(lenet, tmp_path, content, message):
    path = tmp_path / "foreign.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(CheckpointError, match=message) as caught:
        lenet.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_damaged_file_is_refused(lenet, tmp_path):
    path = lenet.save(tmp_path / "half.pth")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="half.pth is damaged"):
        lenet.load(path)


def test_a_missing_file_or_a_folder_is_named(lenet, tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(CheckpointError, match=f"{re.escape(str(path))} is not a file"):
            lenet.load(path)


def test_a_network_of_ones_own_is_saved_like_the_others(tmp_path):
    class Tiny(BasicModule):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)

    one, other = Tiny(), Tiny()
    other.load(one.save(tmp_path / "tiny.pth"))
    assert same(weights_of(one), weights_of(other)) and one.parameter_count == 6


def test_freeze_by_prefix_and_whole(lenet):
    assert lenet.freeze("features", "classifier.0") is lenet
    learning = [name for name, parameter in lenet.named_parameters() if parameter.requires_grad]
    assert learning == ["classifier.2.weight", "classifier.2.bias", "classifier.4.weight", "classifier.4.bias"]
    assert not any(parameter.requires_grad for parameter in lenet.freeze().parameters())


def test_a_prefix_that_matches_nothing_is_an_error(lenet):
    with pytest.raises(ValueError, match="LeNet begins with 'feature5'; did you mean features"):
        lenet.freeze("classifier", "feature5")
    assert all(parameter.requires_grad for parameter in lenet.parameters())


def test_a_frozen_batch_norm_keeps_its_statistics():
    net = ResNet34(num_classes=2, stem="small").freeze("bn1", "layer1")
    before = weights_of(net)
    net.train()(torch.rand(2, 3, 16, 16))
    after = weights_of(net)
    assert torch.equal(after["bn1.running_mean"], before["bn1.running_mean"])
    assert torch.equal(after["layer1.0.bn2.running_var"], before["layer1.0.bn2.running_var"])
    assert not torch.equal(after["layer2.0.bn1.running_mean"], before["layer2.0.bn1.running_mean"])


def test_name_and_optimizer_as_in_the_book(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = LeNet().freeze("features")
    assert net.model_name == "LeNet" and net.save().name.startswith("LeNet_")
    optimizer = net.get_optimizer(lr=0.1, weight_decay=0.01)
    (group,) = optimizer.param_groups
    assert type(optimizer).__name__ == "Adam" and (group["lr"], group["weight_decay"]) == (0.1, 0.01)
    assert {id(p) for p in group["params"]} == {id(p) for n, p in net.named_parameters() if n.startswith("classifier")}
