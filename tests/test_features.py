"""Features: computed once, kept under a fingerprint, and computed anew when anything has changed or is damaged."""

import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import rows, same_run, state
from PIL import Image
from test_captions import REST, SHRINK, photos  # noqa: F401 - a fixture
from torch import nn

import configs
from data._images import ImageDataset
from data._stores import Files
from data.loading.transforms import make_transform
from trainer import features as module
from trainer.features import with_features
from utils.errors import DataError

CPU = torch.device("cpu")


class Encoder(nn.Module):
    """Mean colours through a layer; it counts the pictures that it sees."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = nn.Linear(3, 5), 0
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        self.seen += len(x)
        return self.layer(self.dropout(x.mean((2, 3))))


class Seeing(nn.Module):
    """A task as far as features go."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.adapted = Encoder(), []

    def encode(self, pictures):
        return self.encoder(pictures)

    def adapt(self, features):
        self.adapted.append(features)


class Pairs(ImageDataset):
    """Pictures and what else belongs to a sample."""

    pictures = property(lambda self: self)
    files = property(lambda self: [os.path.join(self.store.folder, name) for name in self.store.names])

    def with_features(self, features):
        return [(row, 7) for row in features]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 255, (6, 9, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    return tmp_path


@pytest.fixture
def cfg():
    cfg = configs.load("captions")
    return replace(cfg, data=replace(cfg.data, batch_size=2))


def pictures(transform=None, size: int = 4) -> Pairs:
    names = [f"{i}.png" for i in range(5)]
    transform = transform or make_transform([configs.Component("Resize", {"size": [size, size]})])
    return Pairs(Files(".", names), names, None, [], transform)


def kept(folder):
    return sorted((folder / "checkpoints" / ".features").glob("*"))


def test_they_are_computed_once_and_equal_the_encoders(here, cfg):
    task, said = Seeing(), []
    first = with_features(task, pictures(), cfg, CPU, adapt=True, say=said.append)
    assert (
        task.encoder.seen == 5
        and len(kept(here)) == 1
        and said == ["features of 5 photos: computed once, kept in checkpoints/.features"]
    )
    expected = task.eval().encode(torch.stack([pictures()[i] for i in range(5)])).detach()
    assert torch.allclose(torch.stack([row for row, _ in first]), expected, atol=1e-6)
    again = Seeing()
    second = with_features(again, pictures(), cfg, CPU, adapt=False, say=said.append)
    assert again.encoder.seen == 0 and again.adapted == [] and len(said) == 1
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(first, second, strict=True))
    assert torch.equal(task.adapted[0], torch.stack([row for row, _ in first]))
    assert not task.adapted[0].requires_grad and task.adapted[0].dtype == torch.float32


def test_computing_them_disturbs_nothing(here, cfg):
    task = Seeing().train()
    before = torch.get_rng_state()
    with_features(task, pictures(), cfg, CPU, adapt=True)
    assert torch.equal(torch.get_rng_state(), before) and task.training and task.encoder.dropout.training


def another_photo(here, task):
    Image.new("RGB", (9, 6)).save(here / "3.png")


def another_time(here, task):
    os.utime(here / "3.png", ns=(1, 1))


def other_weights(here, task):
    with torch.no_grad():
        task.encoder.layer.bias[4] += 1e-6


def other_structure(here, task):
    task.encoder.dropout = nn.Dropout(0.4)


def damaged(here, task):
    (path,) = kept(here)
    content = bytearray(path.read_bytes())
    content[content.index(task.values) + 2] ^= 1
    path.write_bytes(content)


def cut_short(here, task):
    (path,) = kept(here)
    path.write_bytes(path.read_bytes()[:200])


def foreign(here, task):
    torch.save([1, 2], kept(here)[0])


@pytest.mark.parametrize(
    "change", [another_photo, another_time, other_weights, other_structure, damaged, cut_short, foreign]
)
def test_whatever_has_changed_they_are_computed_anew(here, cfg, change):
    task = Seeing()
    with_features(task, pictures(), cfg, CPU, adapt=True)
    other = Seeing()
    other.values = task.adapted[0].numpy().tobytes()[:16]
    change(here, other)
    with_features(other, pictures(), cfg, CPU, adapt=True)
    assert other.encoder.seen == 5
    expected = other.eval().encode(torch.stack([pictures()[i] for i in range(5)]))
    assert torch.allclose(other.adapted[0], expected, atol=1e-6)
    last = Seeing()
    change(here, last) if change in (other_weights, other_structure) else None
    with_features(last, pictures(), cfg, CPU, adapt=False)
    assert last.encoder.seen == 0


def test_another_transform_gives_other_features(here, cfg):
    task = Seeing()
    for size in (4, 5, 4):
        with_features(task, pictures(size=size), cfg, CPU, adapt=False)
    assert task.encoder.seen == 10


def test_a_folder_that_cannot_be_written_costs_only_time(here, cfg):
    (here / "checkpoints").write_text("a file in the way")
    for _ in range(2):
        task = Seeing()
        assert len(with_features(task, pictures(), cfg, CPU, adapt=True)) == 5 and task.encoder.seen == 5


def test_pictures_that_cannot_be_used_get_a_sentence(here, cfg):
    (here / "2.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot read the picture ./2.png"):
        with_features(Seeing(), pictures(), cfg, CPU, adapt=True)
    Image.new("RGB", (5, 5)).save(here / "2.png")
    with pytest.raises(DataError, match="samples of different sizes"):
        with_features(Seeing(), pictures(make_transform([])), cfg, CPU, adapt=True)
    data = pictures()
    (here / "2.png").unlink()
    with pytest.raises(DataError, match="2.png .*put it back"):
        with_features(Seeing(), data, cfg, CPU, adapt=True)
    assert not kept(here)


def test_other_tasks_and_data_are_left_alone(here, cfg):
    data = pictures()
    assert with_features(nn.Identity(), data, cfg, CPU, adapt=True) is data
    plain = SimpleNamespace()
    assert with_features(Seeing(), plain, cfg, CPU, adapt=True) is plain and not kept(here)


def test_ranks_encode_a_share_each(here, cfg, monkeypatch):
    """Two ranks, one after the other: what each computes is what the other one is given."""
    whole = Seeing()
    with_features(whole, pictures(), cfg, CPU, adapt=True)
    kept(here)[0].unlink()
    shares = []
    monkeypatch.setattr(module.dist, "world_size", lambda: 2)
    monkeypatch.setattr(
        module.dist, "gather", lambda value: [False, False] if value is False else shares.append(value) or [{}, value]
    )
    for rank in (0, 1):
        monkeypatch.setattr(module.dist, "rank", lambda rank=rank: rank)
        with pytest.raises(KeyError):
            with_features(Seeing(), pictures(), cfg, CPU, adapt=True)
    assert sorted([*shares[0], *shares[1]]) == [0, 1, 2, 3, 4] and len(shares[0]) == 3
    both = Seeing()
    monkeypatch.setattr(module.dist, "gather", lambda value: [False, True] if isinstance(value, bool) else shares)
    with_features(both, pictures(), cfg, CPU, adapt=True)
    assert torch.allclose(both.adapted[0], whole.adapted[0], atol=1e-6)


def test_resumed_with_weights_from_a_file_it_is_the_same_run(run, photos, tmp_path):  # noqa: F811
    """The encoder is in the checkpoint: the file it came from, and the features kept, may be gone."""
    from torchvision import models

    torch.manual_seed(5)
    torch.save(models.resnet18().state_dict(), "net.pth")
    sight = ["--model.encoder=ImageEncoder", "--variant=resnet18", "--weights=net.pth", "--feature-size=512"]
    grid = ["--model.encoder.grid=true", "--model.decoder.attention=true"]
    rest = [arg.replace("size: 8}", "size: 64}") for arg in REST]
    args = ["captions", "--max-epoch=2", *sight, *grid, *rest, f"--data.transform.train={SHRINK}".replace("8", "64")]
    assert run("train", "--run=whole", *args).code == 0
    assert run("train", "--run=cut", *args, "--train.max_steps=2", "--schedule.decoder.total_steps=8").code == 0
    loaded = state("cut")["model"]["encoder.net.conv1.weight"]
    assert torch.equal(loaded, torch.load("net.pth")["conv1.weight"])
    os.unlink("net.pth")
    for path in kept(tmp_path):
        path.unlink()
    given = run("train", "--resume=checkpoints/cut", "--train.max_steps=null")
    assert given.code == 0, given.err
    assert same_run(state("cut"), state("whole")) and rows("cut", phase="val")[-1] == rows("whole", phase="val")[-1]
    shapes = [torch.load(path, weights_only=True)["features"].shape for path in kept(tmp_path)]
    assert sorted(shapes) == [(8, 4, 512), (16, 4, 512)]
