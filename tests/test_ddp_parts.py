"""Two ranks are one process with the batch of both: losses that count otherwise, groups, frozen layers, samplers."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import PLAIN, dogcats, rows, state
from test_bad_samples import spoil
from test_ddp import two_probed

pytestmark = pytest.mark.slow

BARE = ["--print-freq=1", "--schedule=null", *PLAIN]
DIGITS = ["--model=MLP", "--model.hidden=[16]", "--optim=SGD", "--optim.momentum=0.9", "--max-epoch=2", *BARE]
PHOTOS = ["dogcat_small", "--train-data-root=train", "--model=MLP", "--model.hidden=[4]", "--optim=SGD", *BARE]
PHOTOS += ["--train.precision=fp32", "--max-epoch=2", "--lr=0.01"]
RATE = "--lr=0.05"


def photos(folder: Path) -> None:
    dogcats(folder / "train", 15)


def damaged_photos(folder: Path) -> None:
    spoil(dogcats(folder / "train", 15), "cat.3", "cat.7", "dog.11")


def class_folders(folder: Path) -> None:
    photos(folder)
    for path in (folder / "train").iterdir():
        place = folder / "classes" / path.name[:3] / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)


TRIPLETS = ["image_folder", "--train-data-root=classes", "--task=Supervised", "--optim=SGD", "--lr=0.01", *BARE]
TRIPLETS += ["--model={name: MLP, num_classes: 6, hidden: [8]}", "--data.dataset=Triplets", "--max-epoch=2"]
TRIPLETS += ["--train.precision=fp32", "--loss={name: TripletMarginLoss, margin: 0.5}"]
TRIPLETS += ["--data.transform.train=[{name: Resize, size: [16, 16]}]"]
TRIPLETS += ["--data.transform.eval=[{name: Resize, size: [16, 16]}]"]
FREEZE = ["--train.freeze=[layers.0.*]", '--train.unfreeze={2: ["layers.0.weight"]}']
BAD = ["--data.max_bad=0.3", "--data.on_bad_sample=replace"]
GROUPS = ['--optim.groups=[{match: "*.bias", lr: 0.2}]', "--optim.layer_decay=0.5", "--optim.no_decay=[bias]"]
GROUPS += ["--optim.weight_decay=0.01"]
WEIGHTED = "--data.sampler={name: Weighted, weights: [9, 1, 1, 1, 1, 1, 1, 1, 1, 1], num_samples: 730}"
CROSS = "--task.loss={name: CrossEntropyLoss, %s}"
CASES = {  # samples of both ranks in a batch, flags, data
    "weight: balanced, accumulated": (50, [*DIGITS, RATE, CROSS % "weight: balanced", "--train.accumulate=3"], None),
    "a list of weights, Weighted": (
        100,
        [*DIGITS, RATE, CROSS % "weight: [0, 0, 0, 0, 9, 1, 1, 1, 1, 0.1]", WEIGHTED],
        None,
    ),
    "ignore_index": (100, [*DIGITS, RATE, CROSS % "ignore_index: 3"], None),
    "sum": (100, [*DIGITS, "--lr=1e-3", CROSS % "reduction: sum"], None),
    "FocalLoss": (100, [*DIGITS, RATE, "--task.loss={name: FocalLoss, gamma: 1, weight: balanced}"], None),
    "triplets": (6, TRIPLETS, class_folders),
    "groups, frozen": (100, [*DIGITS, RATE, *GROUPS, *FREEZE], None),
    "replaced": (6, [*PHOTOS, *BAD], damaged_photos),
}


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_are_one_with_the_batch_of_both(run, tmp_path, name):
    batch, flags, make = CASES[name]
    both_run(run, tmp_path, batch, flags, make)
    one, two = state("one")["model"], state("two")["model"]
    assert all(torch.allclose(one[key], two[key], rtol=1e-5, atol=1e-5) for key in one)
    begun = rows("one", phase="train")[0]["loss"]
    assert rows("one", phase="train")[-1]["loss"] != begun, "it learns"
    for left, right in zip(rows("one"), rows("two"), strict=True):
        assert left["step"] == right["step"]
        if left["phase"] == "val":
            assert left["loss"] == pytest.approx(right["loss"], abs=1e-5)
    if name == "replaced":
        assert listed("two") == listed("one") and len(listed("two")) == 3


def both_run(run, folder: Path, batch: int, flags: list[str], make: Callable[[Path], None] | None, *more: str) -> None:
    if make:
        make(folder)
    given = run("train", "--run=one", *flags, f"--batch-size={batch}", *more)
    assert given.code == 0, given.err
    given = two_probed(folder, "train", "run=two", *flags, f"--batch-size={batch}", *more)
    assert given.returncode == 0, given.stderr[-3000:]
    facts = [json.loads((folder / f"rank{r}.json").read_text()) for r in (0, 1)]
    assert facts[0]["weights"] == facts[1]["weights"]


def listed(run_name: str) -> list[list[str]]:
    with open(f"checkpoints/{run_name}/bad_samples.csv", newline="") as file:
        return sorted(csv.reader(file))[:-1]


def test_the_list_is_whole_where_a_run_ends_in_mid_epoch(run, tmp_path):
    both_run(run, tmp_path, 14, [*PHOTOS, *BAD], damaged_photos, "--train.max_steps=1")
    assert listed("two") == listed("one") and len(listed("two")) >= 2
    flags = ["--train.max_steps=null", "--max-epoch=1"]
    given = two_probed(tmp_path, "train", "--resume=checkpoints/two", *flags)
    assert given.returncode == 0, given.stderr[-3000:]
    assert run("train", "--resume=checkpoints/one", *flags).code == 0
    assert listed("two") == listed("one")


def test_mixed_batches_have_one_share_on_both_ranks(run, tmp_path):
    """Each sample is mixed with one of its own rank, so that the weights are others than those of one process."""
    both_run(run, tmp_path, 6, [*PHOTOS, "--data.mix={mixup: 0.4, cutmix: 1.0}"], photos)
    assert len(rows("two")) == len(rows("one"))
    assert not torch.equal(state("one")["model"]["layers.0.weight"], state("two")["model"]["layers.0.weight"])
