"""test.views: predictions averaged over views of each picture."""

import pytest
import torch
from conftest import TOY
from torch import nn

from configs import load
from trainer.inference.viewed import with_views
from trainer.inference.views import hflip, rot90, rot270, scale, vflip
from trainer.tasks.classification import Classification
from trainer.tasks.regression import Regression
from trainer.tasks.segmentation import Segmentation
from utils.errors import ConfigError


def views(*specs) -> object:
    return load("default", {"test.views": list(specs)})


def test_each_view_is_undone():
    pictures = torch.rand(2, 3, 4, 6)
    for view in (hflip(), vflip(), rot90(), rot270()):
        assert not torch.equal(view(pictures), pictures)
        assert torch.equal(view.undo(view(pictures), pictures), pictures)
    smooth = torch.linspace(0, 1, 6).expand(2, 3, 4, 6)
    assert scale(2.0)(smooth).shape == (2, 3, 8, 12)
    assert torch.allclose(scale(2.0).undo(scale(2.0)(smooth), smooth), smooth, atol=0.1)


class Left(nn.Module):
    """Logits that depend on the left half alone."""

    def forward(self, x):
        left = x[..., : x.shape[-1] // 2].mean((1, 2, 3))
        return torch.stack([left, -left], 1)


def test_probabilities_are_averaged():
    x = torch.randn(5, 1, 4, 4)
    task = with_views(Classification(Left(), ["a", "b"]), views("hflip"), {})
    expected = (Left()(x).softmax(1) + Left()(x.flip(-1)).softmax(1)) / 2
    assert torch.allclose(task.probabilities(x), expected, atol=1e-6)
    by_name = with_views(Classification(Left(), ["a", "b"]), views("RandomHorizontalFlip"), {})
    assert torch.allclose(by_name.probabilities(x), expected, atol=1e-6)
    crops = with_views(Classification(Left(), ["a", "b"]), views({"name": "FiveCrop", "size": 3}), {})
    assert crops.probabilities(x).shape == (5, 2) and torch.equal(crops.probabilities(x), crops.probabilities(x))


def test_numbers_are_averaged():
    x = torch.randn(5, 1, 4, 4)
    task = with_views(Regression(Left()), views("hflip"), {})
    assert torch.allclose(task.model(x), (Left()(x) + Left()(x.flip(-1))) / 2)


def test_masks_are_moved_back():
    pixels = nn.Conv2d(1, 2, 1)  # each pixel by itself: a view changes nothing
    x = torch.randn(2, 1, 4, 6)
    meta = {"mask_values": [0, 255]}
    task = with_views(Segmentation(pixels, [0, 255]), views("hflip", "rot90"), meta)
    assert torch.allclose(task.model(x).softmax(1), pixels(x).softmax(1), atol=1e-6)
    with pytest.raises(ConfigError, match="FiveCrop cannot be undone in a mask"):
        with_views(Segmentation(pixels, [0, 255]), views({"name": "FiveCrop", "size": 3}), meta)


def test_what_has_no_views_is_refused():
    task = with_views(Classification(nn.Linear(3, 2), ["a", "b"]), views("hflip"), {})
    with pytest.raises(ConfigError, match="are no pictures"):
        task.probabilities(torch.zeros(2, 3))
    crops = with_views(Classification(Left(), ["a", "b"]), views({"name": "FiveCrop", "size": 9}), {})
    with pytest.raises(ConfigError, match="FiveCrop of 4x4 pixels"):
        crops.probabilities(torch.zeros(2, 1, 4, 4))
    with pytest.raises(ConfigError, match="ColorJitter"):
        views("ColorJitter")


def test_val_and_test_take_them(run):
    assert run("train", "--run=a", *TOY).code == 0
    plain, viewed = run("val", "checkpoints/a"), run("val", "checkpoints/a", "--test.views=[hflip]")
    assert "views: the pictures, hflip (test.views)" in viewed.out and plain.out.splitlines()[1:] != viewed.out
    given = run("test", "checkpoints/a", "--test.views=[hflip,{name: scale, factor: 1.2}]")
    assert given.code == 0 and "mirror check: the file's column gives accuracy" in given.out, given
