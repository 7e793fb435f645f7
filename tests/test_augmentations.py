"""Augmentations by name in data.transform.train: each at the right place of the chain, whatever it works on."""

import pytest
import torch
from conftest import PLAIN, dogcats, rows

from configs import Component
from data.loading.fast import FusedTransform
from data.loading.transforms import make_transform
from utils.images import read_image

CROP = Component("RandomResizedCrop", {"size": [16, 16], "scale": [0.5, 1.0]})
NORMALIZE = Component("Normalize", {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]})
ON_PICTURES = [Component(name, {}) for name in ("RandAugment", "AutoAugment", "TrivialAugmentWide", "AugMix")]
ERASING = Component("RandomErasing", {"p": 1.0})


@pytest.fixture
def photo(tmp_path):
    return read_image(str(next(iter(sorted(dogcats(tmp_path / "one", 1).iterdir())))))


@pytest.mark.parametrize("augmentation", ON_PICTURES, ids=lambda spec: spec.name)
def test_those_that_change_colours_get_the_picture_and_normalize_comes_after(photo, augmentation):
    chain = make_transform([CROP, augmentation, NORMALIZE], fast=True)
    assert not isinstance(chain, FusedTransform)  # torchvision's own, as with pixels=exact
    names = [type(step).__name__ for step in chain.transforms]
    assert names.index(augmentation.name) < names.index("ToImage") < names.index("Normalize")
    plain, found = make_transform([CROP, NORMALIZE]), []
    for seed in range(8):
        torch.manual_seed(seed)
        one = chain(photo)
        torch.manual_seed(seed)
        found.append(not torch.equal(one, plain(photo)))
        assert one.shape == (3, 16, 16) and one.dtype == torch.float32
        assert one.min() >= (0 - 0.5) / 0.2 - 1e-5 and one.max() <= (1 - 0.3) / 0.25 + 1e-5
    assert any(found)


def test_erasing_works_on_numbers_before_or_after_normalize(photo):
    for specs in ([CROP, ERASING, NORMALIZE], [CROP, NORMALIZE, ERASING]):
        chain = make_transform(specs, fast=True)
        assert not isinstance(chain, FusedTransform)
        names = [type(step).__name__ for step in chain.transforms]
        assert names.index("ToImage") < min(names.index("RandomErasing"), names.index("Normalize"))
        torch.manual_seed(0)
        pixels = chain(photo)
        erased = -torch.tensor([0.5, 0.4, 0.3]) / torch.tensor([0.2, 0.25, 0.3]) * (specs[1] is ERASING)
        assert int((pixels - erased.view(3, 1, 1)).abs().amax(0).lt(1e-6).sum()) >= 5  # 0.02 of 256 pixels


@pytest.mark.parametrize("augmentation", [ON_PICTURES[0], ERASING], ids=lambda spec: spec.name)
def test_a_run_with_one_is_the_same_for_any_number_of_workers(run, tmp_path, augmentation):
    dogcats(tmp_path / "train", 8)
    steps = (
        f"[{{name: RandomResizedCrop, size: 16}}, {augmentation.name}, {{name: Normalize, mean: [0.5], std: [0.2]}}]"
    )
    flags = ["dogcat_small", "--train-data-root=train", "--model=MLP", "--model.hidden=[4]", "--max-epoch=1", *PLAIN]
    flags += [f"--data.transform.train={steps}", "--data.transform.eval=[{name: Resize, size: [16, 16]}]"]
    for workers in (0, 2):
        given = run(
            "train", *flags, "--batch-size=4", "--print-freq=1", f"--run=w{workers}", f"--num-workers={workers}"
        )
        assert given.code == 0, given.err
    assert rows("w0") == rows("w2")
