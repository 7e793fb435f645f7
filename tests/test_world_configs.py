"""Each shipped config in any sequence of numbers of processes: every index of an epoch, in the same order, once."""

from dataclasses import replace

import pytest
from test_configs import SHIPPED
from test_world import WORLDS, as_rank, batches, together  # noqa: F401
from tiny_data import make_data

from configs import load
from data.loading.loader import Loader
from data.loading.samples import Samples
from trainer.build import build_dataset

BATCH = 7
OTHERS = {  # keys that a config leaves to its user; fewer samples of those that are made
    "table": {"data.dataset.root": "data/tabular/titanic", "data.dataset.target": "Survived"},
    "digit_strings": {"data.dataset.strings": 99, "data.dataset.held_out": 9},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worlds")
    make_data(folder / "data")
    return folder


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_index_is_read_once_and_in_the_same_order(path, data, as_rank, monkeypatch):  # noqa: F811
    monkeypatch.chdir(data)
    monkeypatch.setattr(Samples, "__getitems__", lambda self, keys: (keys[1].tolist(), None, ()))
    cfg = load(path.stem, OTHERS.get(path.stem, {}))
    dataset = build_dataset(cfg, "train", {}, lambda text: None)
    own = replace(cfg.data, batch_size=BATCH, num_workers=0)

    def make():
        return Loader(dataset, own, cfg.train.seed, True, lambda text: None)

    as_rank(0, 1)
    for epoch in (0, 1):
        whole = [indices for [indices] in batches(as_rank, 1, make, epoch, 0)]
        position, read = 0, []
        for world in WORLDS:  # a stop after each batch
            read += [together(shares) for shares in batches(as_rank, world, make, epoch, position)[:1]]
            as_rank(0, world)
            position = make().taken(len(read))
        read += map(together, batches(as_rank, 4, make, epoch, position))
        assert read == whole and len(whole) == -(-len(dataset) // BATCH)
        assert sorted(index for batch in read for index in batch) == list(range(len(dataset)))
