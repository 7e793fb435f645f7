"""data.order: walk, a permutation that is computed where it is read: each sample once, evenly drawn, no memory."""

import hashlib
import math

import numpy as np
import pytest
import torch
from conftest import TOY, rows, same_run, state
from torch.utils.data import Dataset

from configs.schema import Data
from data.loading.loader import Loader
from data.loading.part import with_fraction
from data.loading.samplers import InOrder, spread
from data.loading.sampling import _walk
from data.loading.sampling._walk import BLOCK, Walk
from data.protocol import identity_of
from tests.test_world import Numbers, batches, together
from tests.test_world import as_rank as as_rank

SIZES = [1, 2, 3, 5, 10, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 5000, 12345, 2**16, 2**16 + 1, 330 * 330, 330 * 331, 10**6]


@pytest.mark.parametrize("size", SIZES)
def test_every_number_stands_at_one_position(size):
    for seed, epoch in ((0, 0), (3, 1)):
        walk = Walk(size, seed, epoch)
        assert len(walk) == size and torch.equal(walk[:].sort().values, torch.arange(size))
    positions = np.arange(size, dtype=np.uint64)  # also where it is not used
    assert np.array_equal(np.sort(walk.at(positions)), positions)


@pytest.mark.parametrize("size", range(1, 200))
def test_its_network_is_a_bijection_of_every_size(size):
    positions = np.arange(size, dtype=np.uint64)
    assert np.array_equal(np.sort(Walk(size, size, 0).at(positions)), positions)


@pytest.mark.parametrize("order", [Walk(3 * BLOCK + 77, 5, 2), Walk(100, 5, 2), InOrder(100)])
def test_parts_are_those_of_the_whole(order):
    whole, rng = order[:], np.random.default_rng(0)
    for _ in range(200):
        start, stop = sorted(rng.integers(0, len(order) + 20, 2).tolist())
        assert torch.equal(order[start:stop], whole[start:stop]) and order[start:stop].dtype == torch.int64


def test_seeds_and_epochs_have_orders_of_their_own():
    drawn = [Walk(50_000, seed, epoch)[:] for seed in range(3) for epoch in range(3)]
    for one in range(9):
        assert torch.equal(drawn[one], Walk(50_000, one // 3, one % 3)[:])
        equal = [int((drawn[one] == drawn[other]).sum()) for other in range(one)]
        assert all(count < 10 for count in equal), "as many as by chance"


def excess(counts: np.ndarray) -> float:
    """How many standard deviations chi-square lies above its mean, were all counts drawn alike."""
    expected, degrees = counts.mean(), counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - degrees) / math.sqrt(2 * degrees))


def evenness(size: int, epochs: int, bins: int = 50) -> dict[str, float]:
    """The excess of places by positions, of places of pairs of positions, and of distances within pairs."""
    positions = np.arange(size, dtype=np.uint64)
    drawn = np.stack([Walk(size, 1, epoch).at(positions).astype(np.int64) for epoch in range(epochs)])
    places, row = drawn * bins // size, math.isqrt(size - 1) + 1
    where = np.broadcast_to(np.arange(size) * bins // size, drawn.shape)
    found = {"positions": excess(np.bincount((where * bins + places).ravel(), minlength=bins**2))}
    for lag in (1, 2, row):
        pairs = places[:, :-lag] * bins + places[:, lag:]
        found[f"pairs {lag}"] = excess(np.bincount(pairs.ravel(), minlength=bins**2))
        distances = (drawn[:, lag:] - drawn[:, :-lag]) % size
        found[f"distances {lag}"] = excess(np.bincount(distances.ravel(), minlength=size)[1:])
    return found


@pytest.mark.parametrize("size", [BLOCK + 1, 10_007, 2**16 + 1])
def test_positions_pairs_and_distances_are_as_even_as_by_chance(size):
    found = evenness(size, max(20, 1_000_000 // size))
    assert all(abs(value) < 5 for value in found.values()), found


@pytest.mark.parametrize(("rounds", "uneven"), [(1, "positions"), (2, "pairs 1"), (4, "distances 1")])
def test_fewer_rounds_would_show(monkeypatch, rounds, uneven):
    monkeypatch.setattr(_walk, "ROUNDS", rounds)
    assert evenness(BLOCK + 1, 250)[uneven] > 10


class Many(Dataset):
    """Samples that are their own index; as many as one likes."""

    def __init__(self, size: int):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        assert 0 <= index < self.size
        return torch.tensor([float(index)]), index % 3


def test_a_thousand_million_samples_need_no_list(tmp_path):
    said: list[str] = []
    loader = Loader(Many(10**9), Data(batch_size=100, order="walk"), 0, True, said.append)
    assert said == ["data.order: walk, a permutation by seed and epoch that is computed where it is read"]
    indices, (_, labels) = next(loader.epoch(7, 5_000_000))
    assert indices == Walk(10**9, 0, 7)[500_000_000:500_000_100].tolist() and labels.tolist() == [
        i % 3 for i in indices
    ]
    assert next(Loader(Many(10**9), Data(), 0, False, said.append).epoch(0, 20_000_000))[0][0] == 640_000_000
    loader.probe()
    assert spread(10**9, 8).tolist()[-1] == 10**9 - 1, "as a float32 it would be one more"
    assert len(loader.first(2)) == 200


@pytest.mark.parametrize("worlds", [[1], [2, 4], [3, 1, 2]])
def test_any_number_of_processes_reads_each_sample_once_in_the_same_order(as_rank, worlds):
    data = Data(batch_size=96, order="walk")

    def make():
        return Loader(Numbers(5000), data, 3, True, lambda text: None)

    read, position = [], 0
    for number, world in enumerate(worlds):
        part = [together(batch) for batch in batches(as_rank, world, make, 2, position)]
        part = part if number == len(worlds) - 1 else part[:17]
        read += [index for batch in part for index in batch]
        position = len(read)
    assert read == Walk(5000, 3, 2)[:].tolist()


def test_workers_change_nothing():
    def read(workers):
        loader = Loader(Numbers(9000), Data(batch_size=500, order="walk", num_workers=workers), 3, True)
        try:
            return [indices for epoch in range(2) for indices, _ in loader.epoch(epoch)]
        finally:
            loader.close()

    assert read(0) == read(2)


def test_a_run_that_is_stopped_goes_on_to_the_last_bit(run, monkeypatch):
    monkeypatch.setattr(_walk, "BLOCK", 64)  # the digits are few
    args = [*TOY, "--data.order=walk", "--batch-size=200"]
    for name in ("whole", "cut"):
        given = run("train", f"--run={name}", *args, *(["--train.max_steps=7"] if name == "cut" else []))
        assert given.code == 0 and "data.order: walk, a permutation" in given.out
    refused = run("train", "--resume=checkpoints/cut", "--data.order=exact")
    assert refused.code == 2 and "data.order" in refused.err
    assert run("train", "--resume=checkpoints/cut", "--train.max_steps=null").code == 0
    assert rows("cut") == rows("whole") and same_run(state("cut"), state("whole"))
    assert run("train", "--run=exact", *TOY, "--batch-size=200").code == 0
    assert rows("exact") != rows("whole")


def test_the_memory_of_a_large_order_is_told(monkeypatch):
    monkeypatch.setattr("data.loading.samplers.LARGE", 5000)
    said: list[str] = []
    for size in (5000, 6000):
        Loader(Many(size), Data(), 0, True, said.append)
        Loader(Many(size), Data(shuffle=False), 0, True, said.append)
    assert said == ["note: the order of 6,000 samples takes 0 MB in each process; data.order=walk takes none"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--data.sampler=ClassBalanced"], "data.sampler decides the order, not data.order=walk; leave one out"),
        (["--data.balance-classes"], "data.balance_classes decides the order, not data.order=walk; leave one out"),
        (["--data.shuffle=false"], "data.shuffle=false leaves data.order=walk nothing to do; leave one out"),
    ],
)
def test_an_order_that_something_else_decides_is_refused(run, flags, told):
    given = run("check", "--data.order=walk", *flags)
    assert given.code == 2 and told in given.err


class Named(Many):
    """Samples with names of a kind."""

    def __init__(self, ids):
        super().__init__(len(ids))
        self.ids = ids


@pytest.mark.parametrize("count", [0, 1, 9_999, 10_000, 10_001, 20_000])
def test_the_hash_of_names_is_that_of_the_whole_list(count):
    """A checkpoint has it."""
    names = [f"a'\"{i}\udce9漢" for i in range(count)]
    whole = hashlib.sha256(repr(names).encode("utf-8", "replace")).hexdigest()[:16]
    assert identity_of(Named(names)) == whole
    assert identity_of(Many(7)) == hashlib.sha256(b"range(0, 7)").hexdigest()[:16]


def test_a_part_of_the_samples_keeps_no_list_of_names():
    for whole, expected in ((Many(100), str), (Named([f"n{i}" for i in range(100)]), lambda i: f"n{i}")):
        part = with_fraction(whole, 0.2, 3)
        names = [expected(i) for i in part.chosen.tolist()]
        assert list(part.ids) == names == part.ids[:] and part.ids[-1] == names[-1] and len(part.ids) == 20
        assert identity_of(part) == identity_of(Named(names))
