"""The number of processes is no part of a run: position in samples, a batch of all together, shares of it by rank."""

import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, TOY, rows, same_run, state
from torch.utils.data import Dataset
from warm import ranks_of

from configs import Component, load
from configs.schema import Data, Mix
from data.loading.loader import Loader
from trainer.build import build_task
from trainer.checkpointing.older import brought_up
from trainer.optim.step import OptimizerStep
from trainer.parallel.apart import drawn_apart
from utils import dist
from utils.errors import ConfigError

WORLDS = [1, 2, 4, 2, 1, 3]


class Numbers(Dataset):
    """Samples that are their own index, in three classes of other lengths."""

    def __init__(self, size: int):
        self.labels = [i % 3 for i in range(size)]
        self.lengths = [1 + i % 5 for i in range(size)]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return torch.tensor([float(index)]), self.labels[index]


@pytest.fixture
def as_rank(monkeypatch):
    """Be that rank of a world of that size, as far as a loader is concerned."""

    def command(rank: int, world: int) -> None:
        monkeypatch.setattr(dist, "rank", lambda: rank)
        monkeypatch.setattr(dist, "world_size", lambda: world)

    return command


def batches(as_rank, world: int, make, epoch: int, samples: int) -> list[list[list[int]]]:
    """Return what each rank reads of each batch from a position in samples on: [batch][rank][index]."""
    by_rank = []
    for rank in range(world):
        as_rank(rank, world)
        loader = make()
        by_rank.append([indices for indices, _ in loader.epoch(epoch, loader.batches_in(samples))])
    assert len({len(read) for read in by_rank}) == 1, "each rank takes part in each step"
    return [list(batch) for batch in zip(*by_rank, strict=True)]


def together(shares: list[list[int]]) -> list[int]:
    """Return a batch in the epoch's order from the shares of its ranks."""
    sharers = [share for share in shares if share]
    batch = [0] * sum(map(len, sharers))
    for rank, share in enumerate(sharers):
        batch[rank :: len(sharers)] = share
    return batch


SAMPLERS = {
    "each": {},
    "in order": {"shuffle": False},
    "balanced": {"balance_classes": True},
    "weighted": {"sampler": Component("Weighted", {"weights": [1, 2, 3]})},
    "subset": {"sampler": Component("Subset", {"indices": list(range(5, 76))})},
    "grouped": {"sampler": Component("Grouped", {"by": "length"})},
    "full batches": {"drop_last": True},
}


@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("least", [1, 2])
def test_any_sequence_of_worlds_reads_the_same_samples_in_the_same_order(as_rank, kind, least):
    """Every index is listed; the last batch of 103 by 10 has three, fewer than there are ranks."""

    def make():
        return Loader(Numbers(103), Data(batch_size=10, **SAMPLERS[kind]), 7, True, lambda text: None, least)

    whole = [indices for [indices] in batches(as_rank, 1, make, 0, 0)]
    assert len(whole) > len(WORLDS)
    as_rank(0, 1)
    position, read = 0, []
    for world in WORLDS:  # a stop after each batch
        again = batches(as_rank, world, make, 0, position)
        shares = again[0]
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        read.append(together(shares))
        position = make().taken(len(read))
    last_world = batches(as_rank, 4, make, 0, position)
    read += map(together, last_world)
    assert read == whole
    as_rank(0, 1)
    assert make().taken(len(read)) == sum(map(len, whole))
    if kind == "each":
        assert sorted(i for batch in read for i in batch) == list(range(103))


def test_ten_samples_of_four_ranks(as_rank):
    def make():
        return Loader(Numbers(10), Data(batch_size=10), 0, True, lambda text: None)

    [shares] = batches(as_rank, 4, make, 0, 0)
    assert [len(share) for share in shares] == [3, 3, 2, 2]
    as_rank(0, 4)
    assert make().tell_shares() == "4 processes share each batch of 10 samples (data.batch_size): 3 + 3 + 2 + 2"


def test_weights_of_the_ranks_add_up_to_those_of_one_process(as_rank):
    for world in (1, 2, 3, 4):
        for number, samples in ((0, 10), (10, 3)):
            given = []
            for rank in range(world):
                as_rank(rank, world)
                loader = Loader(Numbers(103), Data(batch_size=10), 7, True, lambda text: None)
                indices, batch = next(loader.epoch(0, number))
                assert len(batch[1]) > 0, "a rank without a share takes part"
                given.append(loader.weights(number, len(indices)))
            assert sum(own for own, _ in given) / world == pytest.approx(samples / 10)
            assert {whole for _, whole in given} == {samples / 10}


@pytest.mark.parametrize("size", [1, 3, 10])
def test_validation_has_each_sample_once_in_any_world(as_rank, size):
    for world in (1, 2, 3, 4):
        read = []
        for rank in range(world):
            as_rank(rank, world)
            loader = Loader(Numbers(23), Data(batch_size=4, eval_batch_size=size), 0, training=False)
            read += [i for indices, _ in loader.epoch(0) for i in indices]
        assert sorted(read) == list(range(23))


def test_where_bad_samples_are_left_out_each_rank_counts_its_own(as_rank):
    """Of three and one good samples the mean over four, in windows too."""
    as_rank(0, 2)
    loader = Loader(Numbers(20), Data(batch_size=10, on_bad_sample="skip"), 0, True, lambda text: None)
    assert loader.weights(0, 4) == (0.8, None)
    net = torch.nn.Linear(1, 1, bias=False)
    as_rank(0, 1)
    step = OptimizerStep(net, torch.optim.SGD(net.parameters(), lr=1.0), load("default", {"train.accumulate": 2}), None)
    before = net.weight.item()
    for mean, samples in ((2.0, 3), (6.0, 1)):
        step(net(torch.tensor([[mean]])).sum(), samples / 10, None, None)
    assert before - net.weight.item() == pytest.approx((3 * 2.0 + 6.0) / 4)


def test_mixing_takes_the_same_share_on_each_rank(as_rank):
    shares = set()
    for rank in range(2):
        as_rank(rank, 2)
        data = Data(batch_size=8, mix=Mix(mixup=0.5))
        loader = Loader(Numbers(16), data, 3, True, lambda text: None, classes=3)
        _, (_, labels) = next(loader.epoch(0, 1))
        shares |= {round(float(v), 6) for v in labels.flatten() if 0 < v < 1}
    assert len(shares) == 2 and sum(shares) == pytest.approx(1)


def test_more_processes_than_samples_of_a_batch(as_rank):
    as_rank(0, 4)
    for least, text in ((1, "at most 3 processes"), (2, "BatchNorm learns from 2 or more in each; start one process")):
        with pytest.raises(ConfigError, match=text):
            Loader(Numbers(20), Data(batch_size=3), 0, True, lambda text: None, least)


def test_older_checkpoints_count_the_batches_of_their_own_world():
    def older(processes, batch, **train):
        return {
            "progress": {"batch": batch},
            "config": {"data": {"batch_size": 32, "eval_batch_size": 8}, "train": train},
            "fingerprint": {"processes": processes, "training samples": 1000},
        }

    one, two = brought_up(older(1, 5)), brought_up(older(2, 4))
    assert one["progress"]["samples"] == 160 and one["config"]["data"] == {"batch_size": 32, "eval_batch_size": 8}
    assert two["progress"]["samples"] == 256 and two["config"]["data"] == {"batch_size": 64, "eval_batch_size": 16}
    assert two["each_process"] == 32 and "each_process" not in one
    assert brought_up(older(2, 16))["progress"]["samples"] == 1000, "the last batch is short"
    assert brought_up(older(1, 40, overfit=1))["progress"]["samples"] == 40 * 32
    now = {**older(2, 4), "progress": {"batch": 4, "samples": 128}}
    assert brought_up(now)["config"]["data"]["batch_size"] == 32


def test_a_checkpoint_of_before_goes_on(run):
    """It is the same run to the last bit, and its position is that of one of now."""
    for name in ("a", "b"):
        assert run("train", f"--run={name}", *TOY, "--train.max_steps=45").code == 0
    old = state("b")
    assert old["progress"]["samples"] == 5 * 32 and old["progress"]["batch"] == 5
    del old["progress"]["samples"]
    torch.save(old, "checkpoints/b/last.pth")
    os.remove("checkpoints/b/last.pth.sha256")
    for name in ("a", "b"):
        given = run("train", f"--resume=checkpoints/{name}", "--train.max_steps=50")
        assert given.code == 0, given.err
    assert same_run(state("a"), state("b"))
    assert rows("a") == rows("b") and state("b")["progress"]["samples"] == 10 * 32


SGD = [arg for arg in TOY if not arg.startswith(("--optim", "--lr"))]
SGD += ["--optim=SGD", "--lr=0.1", "--batch-size=10", "--schedule=OneCycleLR", "--schedule.total_steps=252"]
SEEN = """
import os, sys
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
from data.loading.loader import Loader
epoch = Loader.epoch

def listed(self, number, start=0):
    for position, (indices, batch) in enumerate(epoch(self, number, start), start):
        if self.training:
            with open("seen-" + os.environ.get("RANK", "0"), "a") as file:
                print(number, position, *indices, file=file)
        yield indices, batch

Loader.epoch = listed
import main
sys.exit(main.main(sys.argv[1:]))
"""


def launch(folder, world: int, *arguments: str, probe: str = SEEN) -> str:
    script = folder / "probe.py"
    script.write_text(probe.format(root=str(ROOT)))
    given = ranks_of(folder, *arguments, ranks=world if world > 1 else 0, script=script)
    assert given.returncode == 0, given.stderr[-3000:]
    return given.stdout


def seen(folder) -> dict[tuple[int, int], list[int]]:
    """Return the indices of each (epoch, batch), in order, that the ranks wrote down, and forget them."""
    shares: dict = {}
    for path in sorted(folder.glob("seen-*")):
        for line in path.read_text().splitlines():
            epoch, position, *indices = map(int, line.split())
            shares.setdefault((epoch, position), []).append(indices)
        path.unlink()
    return {key: together(found) for key, found in sorted(shares.items())}


@pytest.mark.slow
def test_a_run_over_worlds_of_1_2_4_2_1_is_the_uninterrupted_one(tmp_path):
    """Every sample of its 130 steps, the rate of each, and the weights; the epoch has 126 batches, the last of 8."""
    launch(tmp_path, 1, "train", "run=whole", *SGD, "--train.max_steps=130")
    whole, stops = seen(tmp_path), [20, 50, 80, 127, 130]
    read: dict = {}
    for world, stop in zip([1, 2, 4, 2, 1], stops, strict=True):
        where = ["resume=checkpoints/cut"] if read else ["run=cut", *SGD]
        told = launch(tmp_path, world, "train", *where, f"--train.max_steps={stop}")
        assert world == 1 or f"{world} processes share each batch of 10 samples" in told
        assert not read or "exact in steps and data" in told
        found = {key: indices for key, indices in seen(tmp_path).items() if key not in read}
        read |= found
    assert read == whole
    one, two = (state(name, folder=tmp_path)["model"] for name in ("whole", "cut"))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-6
    left, right = (rows(name, tmp_path, "train") for name in ("whole", "cut"))
    assert [(row["step"], row["lr"]) for row in left] == [(row["step"], row["lr"]) for row in right]
    assert all(a["loss"] == pytest.approx(b["loss"], rel=1e-5) for a, b in zip(left, right, strict=True))


COUNTED = """
import os, sys
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
from trainer.parallel import ddp
plain, counts = ddp.DistributedDataParallel, []

def counting(net, **options):
    wrapped = plain(net, **options)

    def hook(state, bucket):
        counts.append(1)
        future = torch.distributed.all_reduce(bucket.buffer(), async_op=True).get_future()
        return future.then(lambda done: done.value()[0] / torch.distributed.get_world_size())

    wrapped.register_comm_hook(None, hook)
    return wrapped

ddp.DistributedDataParallel = counting
import main
code = main.main(sys.argv[1:])
open("reductions-" + os.environ["RANK"], "w").write(str(len(counts)))
sys.exit(code)
"""
WINDOWS = [arg for arg in TOY if not arg.startswith(("--optim", "--lr", "--max-epoch"))]
WINDOWS += ["--optim=SGD", "--lr=0.1", "--train.clip=1", "--batch-size=100", "--train.accumulate=3", "--max-epoch=1"]


@pytest.mark.slow
def test_ranks_share_gradients_once_a_window(tmp_path):
    """Of 13 batches in windows of three the first four windows do; the last is an epoch's end, shared as it closes."""
    launch(tmp_path, 2, "train", "run=two", *WINDOWS, probe=COUNTED)
    assert [(tmp_path / f"reductions-{rank}").read_text() for rank in (0, 1)] == ["4", "4"]
    launch(tmp_path, 1, "train", "run=one", *WINDOWS)
    one, two = (state(name, folder=tmp_path)["model"] for name in ("one", "two"))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-6


@pytest.mark.slow
def test_a_window_that_is_open_is_saved_with_the_gradients_of_each_rank(tmp_path):
    """Stopped at step 5 of windows of three: the same bits on two ranks, the same weights on one."""
    launch(tmp_path, 2, "train", "run=whole", *WINDOWS)
    launch(tmp_path, 2, "train", "run=cut", *WINDOWS, "--train.max_steps=5")
    window = state("cut", folder=tmp_path)["update"]["model"]["window"]
    assert window["calls"] == 2 and len(window["ranks"]) == 2
    first, second = (rank[1] for rank in window["ranks"])
    assert not torch.equal(first[0], second[0]), "each has its own"
    (tmp_path / "checkpoints/one").mkdir()
    for path in (tmp_path / "checkpoints/cut").iterdir():
        (tmp_path / "checkpoints/one" / path.name).write_bytes(path.read_bytes())
    launch(tmp_path, 2, "train", "resume=checkpoints/cut", "--train.max_steps=null")
    launch(tmp_path, 1, "train", "resume=checkpoints/one", "--train.max_steps=null")
    whole, cut, one = (state(name, folder=tmp_path) for name in ("whole", "cut", "one"))
    assert same_run(whole, cut)
    differences = [float((whole["model"][k] - one["model"][k]).abs().max()) for k in one["model"]]
    assert max(differences) < 1e-6


@pytest.mark.parametrize("counted", [False, True])
def test_a_window_goes_on_in_another_world(as_rank, counted):
    """Weights and gradients of two ranks as one process would have them, and back."""
    net = torch.nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    ranks = [[2.0, [torch.tensor([[1.0]])]], [4.0, [torch.tensor([[5.0]])]]]
    window = {"calls": 1, "weight": 2.0, "gradients": ranks[0][1], "ranks": ranks}
    window |= {"counted": True} if counted else {}
    stored = {"optimizer": optimizer.state_dict(), "schedule": None, "scaler": {}, "window": window, "taken": 0}
    as_rank(0, 1)
    step = OptimizerStep(net, optimizer, load("default", {}), None)
    step.load_state_dict(stored)
    # a mean over words: sums of gradients and of words; otherwise the mean over ranks
    assert (step.params[0].grad.item(), step.weight) == ((6.0, 6.0) if counted else (3.0, 3.0))
    back = step.state_dict()
    as_rank(1, 2)
    again = OptimizerStep(net, optimizer, load("default", {}), None)
    again.load_state_dict(back)
    assert (again.params[0].grad.item(), again.weight) == (3.0, 3.0)
    as_rank(1, 2)
    again.load_state_dict(stored)
    assert (again.params[0].grad.item(), again.weight, again.scattered) == (5.0, 4.0, True)


NORM = """
import sys
sys.path.insert(0, {root!r})
import torch
import torch.distributed as dist
from torch import nn
from trainer.parallel.batch_norm import SyncedBatchNorm, synchronise
torch.set_num_threads(1)
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
for share, idle in (((0, 3), False), ((0, 5), True)):  # 3 and 2 of five samples; all five, and one that is idle
    torch.manual_seed(0)
    whole = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
    with torch.no_grad():
        whole[1].weight.normal_()
    synced = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
    synced.load_state_dict(whole.state_dict())
    task = nn.ModuleDict({{"model": synced}})
    synchronise(task, torch.device("cpu"))
    assert list(synced.state_dict()) == list(whole.state_dict()) and isinstance(synced[1], SyncedBatchNorm)
    x, weight = torch.randn(5, 2, 6, 6) * 3 + 7, torch.randn(5, 3, 4, 4)
    for _ in range(2):
        (whole(x) * weight).sum().backward()
        own = slice(*share) if rank == 0 else slice(0, 2) if idle else slice(share[1], 5)
        synced[1].idle = idle and rank == 1
        loss = (synced(x[own]) * weight[own]).sum()
        (loss * (not synced[1].idle)).backward()
    for one, two in zip(whole.parameters(), synced.parameters(), strict=True):
        dist.all_reduce(two.grad)
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-4, atol=1e-3)
    for one, two in zip(whole.buffers(), synced.buffers(), strict=True):
        torch.testing.assert_close(one, two)
    torch.testing.assert_close(whole.eval()(x), synced.eval()(x))
dist.barrier()
dist.destroy_process_group()
"""


def test_batch_norm_over_two_ranks_is_torchs_over_the_whole_batch(tmp_path):
    """Forward, backward and running statistics; a rank that is idle counts nothing."""
    script = tmp_path / "norm.py"
    script.write_text(NORM.format(root=str(ROOT)))
    command = [sys.executable, str(script)]
    both = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meet")], stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    told = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told


@pytest.mark.slow
def test_a_network_with_batch_norm_learns_the_same_on_two_ranks(tmp_path):
    """Deep layers see one pixel of each picture, so that rounding grows fast: few steps are compared."""
    args = ["--model=torchvision:resnet18", "--optim=SGD", "--lr=0.01", "--batch-size=100"]
    args += [arg for arg in TOY if arg.startswith(("--print", "--log"))]
    told = launch(tmp_path, 2, "train", "run=plain", *args, "--train.max_steps=1")
    assert "note: BatchNorm takes the statistics of each process's share" in told
    assert "each process has its own" not in told
    launch(tmp_path, 2, "train", "run=two", *args, "--train.max_steps=3", "--train.sync_batchnorm=true")
    launch(tmp_path, 1, "train", "run=one", *args, "--train.max_steps=3", "--train.sync_batchnorm=true")
    left, right = (rows(name, tmp_path, "train") for name in ("one", "two"))
    assert all(a["loss"] == pytest.approx(b["loss"], rel=1e-3) for a, b in zip(left, right, strict=True))
    one, two = (state(name, folder=tmp_path) for name in ("one", "two"))
    for part in ("model", "buffers"):
        for name, value in one[part].items():
            torch.testing.assert_close(value, two[part][name], rtol=1e-3, atol=1e-4)


OWN = {  # of a config with these keys
    "none": ("default", {"model": "MLP"}, ""),
    "dropout": ("default", {"model": {"name": "MLP", "dropout": 0.5}}, "dropout"),
    "an LSTM's": ("poetry", {"model.layers": 2, "model.dropout": 0.1}, "dropout"),
    "attention's": ("shakespeare", {"model.dropout": 0.1}, "dropout"),
    "mixed": (
        "default",
        {"model": {"name": "MLP", "dropout": 0.5}, "data.mix.mixup": 0.2},
        "dropout and partners of mixed samples",
    ),
    "noise": ("mnist_gan", {}, "noise"),
    "pixels": ("unet", {"task.ignore_index": 255}, "mean over pixels beside the Dice loss"),
}


@pytest.mark.parametrize("kind", OWN)
def test_each_process_s_own_numbers_are_named(kind):
    """They are the reason why another number of processes learns other weights."""
    config, keys, named = OWN[kind]
    cfg = load(config, keys)
    meta = {"num_classes": 10, "in_channels": 1, "image_size": [28, 28], "in_features": 784, "mask_values": [0, 255]}
    task = build_task(cfg, meta | {"vocabulary": ["a"] * 9, "vocabulary_size": 9})
    assert drawn_apart(task, cfg) == named
