"""train.average_last: the mean of the weights of the last epochs."""

from pathlib import Path

import pytest
import torch
from conftest import TOY, same, state

from configs.schema import Train
from trainer.last_epochs import mean_weights
from trainer.progress import Progress

FLAGS = [*TOY[:-3], "--max-epoch=4", *TOY[-2:], "--train.average_last=3"]


def test_counters_are_those_of_the_last_and_numbers_are_means():
    found = mean_weights(
        [{"w": torch.tensor([1.0]), "n": torch.tensor(3)}, {"w": torch.tensor([2.0]), "n": torch.tensor(9)}]
    )
    assert found["w"].tolist() == [1.5] and found["w"].dtype == torch.float32 and int(found["n"]) == 9


def test_only_the_last_epochs_are_kept():
    kept: set[str] = set()
    progress = Progress()
    for epoch in range(6):
        progress.epoch, progress.score = epoch, [5.0, 1, 4, 3, 2, 6][epoch]
        names, dropped = progress.choose_kept(Train(average_last=2, keep_top=1, keep_every=3))
        kept = (kept | set(names)) - set(dropped)
    # the last two, the best one, each third
    assert kept == {"epoch-005.pth", "epoch-006.pth", "epoch-002.pth", "epoch-003.pth"}


def test_the_mean_is_kept_and_measured(run):
    given = run("train", "--run=a", *FLAGS)
    assert given.code == 0, given.err
    assert "mean of the last 3 epochs, accuracy 0." in given.out and ": checkpoints/a/averaged.pth" in given.out
    assert sorted(path.name for path in Path("checkpoints/a").glob("epoch-*.pth")) == [
        f"epoch-00{i}.pth" for i in (2, 3, 4)
    ]
    weights = mean_weights([state("a", f"epoch-00{i}.pth")["model"] for i in (2, 3, 4)])
    assert same(weights, state("a", "averaged.pth")["model"])
    assert not same(weights, state("a")["model"])
    told = given.out.partition("mean of the last 3 epochs, accuracy ")[2].partition(",")[0]
    measured = run("val", "checkpoints/a/averaged.pth")
    assert float(dict(line.split() for line in measured.out.splitlines()[1:])["accuracy"]) == pytest.approx(
        float(told), abs=1e-3
    )


def test_a_run_that_goes_on_has_the_same_mean(run):
    assert run("train", "--run=whole", *FLAGS).code == 0
    assert run("train", "--run=cut", *FLAGS, "--train.max_steps=60").code == 0
    assert run("train", "--resume=checkpoints/cut", "--train.max_steps=100000").code == 0
    assert same(state("cut", "averaged.pth")["model"], state("whole", "averaged.pth")["model"])


def test_one_epoch_has_no_mean(run):
    given = run("train", "--run=a", *(flag.replace("=4", "=1") for flag in FLAGS))
    assert given.code == 0 and "there is no mean of the last epochs, because fewer than two were kept" in given.out


def test_statistics_of_batch_norm_are_those_of_the_mean():
    from types import SimpleNamespace

    from torch import nn

    from configs import load
    from trainer.last_epochs import _renew_statistics
    from trainer.tasks.classification import Classification

    task = Classification(nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2)), ["a", "b"])
    task.model[0].running_mean.fill_(7)
    batches = [(torch.randn(8, 2), torch.zeros(8, dtype=torch.long)) for _ in range(3)]
    loader = SimpleNamespace(epoch=lambda epoch: ((list(range(8)), batch) for batch in batches))
    before = [p.clone() for p in task.parameters()]
    asked = []
    state = SimpleNamespace(progress=SimpleNamespace(epoch=1))
    parts = SimpleNamespace(cfg=load("default"), device=torch.device("cpu"), train_loader=loader, state=state)
    _renew_statistics(task, parts, lambda: asked.append(1))
    assert len(asked) == 3
    mean = torch.stack([x.mean(0) for x, _ in batches]).mean(0)
    assert torch.allclose(task.model[0].running_mean, mean, atol=1e-6) and task.model[0].momentum == 0.1
    assert same(before, list(task.parameters()))
