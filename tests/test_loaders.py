"""The order of an epoch is drawn once and cut a batch at a time; data in memory needs no process to be read."""

import tracemalloc

import pytest
import torch
from torch.utils.data import Dataset

from configs.schema import Data
from data.loading import loader as loaders
from data.loading import workers
from data.loading.loader import Loader
from data.loading.threads import Threads


class Numbers(Dataset):
    """So many samples, each its own number."""

    reads_batches = True

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def read(self, indices, seeds=()) -> torch.Tensor:
        return torch.as_tensor(indices) * 2


def read(count: int, start: int = 0, **keys) -> list[tuple[list[int], list[int]]]:
    batches = Loader(Numbers(count), Data(batch_size=8, **keys), seed=1, training=True)
    found = [(indices, batch.tolist()) for indices, batch in batches.epoch(3, start)]
    batches.close()
    return found


def test_what_a_datasets_own_collate_raises_keeps_its_words():
    """With samples of several lengths it was taken for torch's word on them."""

    class Lengths(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return torch.zeros(1 + index)

        def collate(self, samples):
            return torch.cat(samples).view(7, 13)

    with pytest.raises(RuntimeError, match="shape"):
        next(Loader(Lengths(), Data(batch_size=4), 0, training=False).epoch(0))


def test_an_epoch_of_a_million_makes_no_list_of_them():
    batches = Loader(Numbers(1_000_000), Data(batch_size=8), seed=0, training=True)
    tracemalloc.start()
    reader = batches.epoch(0, 100_000)
    indices, batch = next(reader)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert batch.tolist() == [2 * i for i in indices] and len(indices) == 8
    assert peak < 1_000_000, "Python objects for each sample or batch"


@pytest.mark.parametrize(
    "keys",
    [{"num_workers": 2, "loader": "threads"}, {"num_workers": 2}, {"num_workers": 1, "loader": "processes"}, {}],
)
def test_every_loader_gives_the_same_from_any_start(keys):
    whole = read(61)
    assert sorted(i for indices, _ in whole for i in indices) == list(range(61))
    assert all(batch == [2 * i for i in indices] for indices, batch in whole)
    assert read(61, **keys) == whole and read(61, 5, **keys) == whole[5:] and read(61, 8, **keys) == []


def test_no_loader_of_torchs_is_made_in_the_training_process(monkeypatch):
    monkeypatch.setattr(workers, "DataLoader", None)
    assert len(read(16)) == 2 and len(read(16, num_workers=2, loader="threads")) == 2


@pytest.mark.parametrize("size", [5, 8, 9, 10])
def test_ranks_share_each_batch(monkeypatch, size):
    monkeypatch.setattr(loaders.dist, "world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(loaders.dist, "rank", lambda rank=rank: rank)
        batches = Loader(Numbers(size), Data(batch_size=4), seed=1, training=False)
        parts.append([i for indices, _ in batches.epoch(0) for i in indices])
    assert sorted(parts[0] + parts[1]) == list(range(size)) and not set(parts[0]) & set(parts[1])


def test_threads_that_read_take_one_core_each():
    """Else each of them computes with a team of threads of its own, and all of them stand in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    threads = Threads(3, timeout=5)
    try:
        found = list(threads.batches(lambda _: torch.get_num_threads(), iter(range(9))))
        assert (found, torch.get_num_threads()) == ([1] * 9, 4)
    finally:
        torch.set_num_threads(before)
        threads.close()
