"""Pictures in tar shards against the same pictures in files of their own: how long a batch is waited for.

python -m benchmarks.shards FILE SAMPLES FOLDER      the start of a run over an index, in a process of its own
"""

import io
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.order import _resident
from benchmarks.processes import answer, ask
from benchmarks.rows import Options, Row, Sample, alternate, fact, paired, timed
from configs import Component
from configs.schema import Data
from data._kept_tables import _write
from data.image_folder import ImageFolder
from data.loading.loader import Loader
from data.loading.transforms import make_transform
from data.protocol import identity_of, names_of
from data.web_dataset import WebDataset

__all__ = ["measure", "stall"]

PICTURES, SHARD = 2_000, 500  # written once; samples of a shard
INDEXED = 10_000_000
CHAIN = [Component("RandomResizedCrop", {"size": [64, 64]}), Component("RandomHorizontalFlip", {})]


def measure(options: Options) -> Iterator[Row]:
    """Whole shuffled epochs of JPEGs from either, then the start over an index of ten million samples."""
    yield from stall(options)
    samples = 100_000 if options.quick else INDEXED
    with tempfile.TemporaryDirectory() as folder:
        _pretend(Path(folder), samples)
        yield from ask("benchmarks.shards", str(samples), folder)


def stall(options: Options) -> Iterator[Row]:
    """The wait for a batch: shards against files, read by the training process and by two threads."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_both(folder, 200 if options.quick else PICTURES)
        chain = make_transform(CHAIN, fast=True)
        sharded = WebDataset(str(folder / "shards"), "train", chain, val_fraction=0)
        plain = ImageFolder(str(folder / "files"), "train", chain, val_fraction=0)
        for workers in (0, 2):
            sides = alternate([_epochs(one, workers) for one in (sharded, plain)], options.times(7))
            how = "two threads" if workers else "the training process"
            what = f"batches of 32 JPEGs, cut to 64x64, read by {how} from tar shards; from single files"
            yield paired("shards", what, "µs a batch", sides, 32e6 / len(plain))


def _epochs(dataset: Any, workers: int) -> Callable[[], Sample]:
    data = Data(batch_size=32, num_workers=workers, loader="threads", pin_memory=False)
    loader, epochs = Loader(dataset, data, 0, True), iter(range(1_000_000))
    return partial(timed, lambda: [len(batch) for _, batch in loader.epoch(next(epochs))])


def _write_both(folder: Path, count: int) -> None:
    """The same JPEGs in two class folders and in shards."""
    rng = np.random.default_rng(0)
    for first in range(0, count, SHARD):
        (folder / "shards").mkdir(exist_ok=True)
        with tarfile.open(folder / "shards" / f"train-{first // SHARD:06}.tar", "w") as tar:
            for i in range(first, min(first + SHARD, count)):
                pixels = rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)
                content = io.BytesIO()
                Image.fromarray(pixels).resize((256, 192)).save(content, "JPEG")
                for ending, data in (("jpg", content.getvalue()), ("cls", b"%d" % (i % 2))):
                    member = tarfile.TarInfo(f"{i:06}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
                path = folder / "files" / str(i % 2) / f"{i:06}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.getvalue())


# Ten million samples: their index alone, beside archives that are holes


def _pretend(folder: Path, samples: int, shards: int = 100) -> None:
    """Indices of `shards` shards, and files of their size without content."""
    each = samples // shards
    numbers = np.arange(each)
    for shard in range(shards):
        path = folder / f"train-{shard:06}.tar"
        path.touch()
        os.truncate(path, each * 102_400)
        keys = "".join(f"{shard * each + i:09}" for i in range(each)).encode()
        arrays = {
            "keys": np.frombuffer(keys, np.uint8),
            "ends": (9 * (numbers + 1)).astype(np.uint32),
            "first": np.arange(0, 2 * each + 1, 2, dtype=np.uint32),
            "offsets": np.arange(512, each * 102_400, 51_200, dtype=np.uint64),
            "sizes": np.full(2 * each, 50_000, np.uint64),
            "kinds": np.tile(np.array([0, 1], np.uint16), each),
        }
        _write(str(path), "samples", ({"endings": ["jpg", "cls"]}, arrays))


def _start(folder: str) -> list[Row]:
    """What a dataset over the index costs, and the names that a run keeps of it."""
    before, begin = _resident("VmRSS"), time.process_time()
    dataset = WebDataset(folder, "train", label="none", val_fraction=0)
    made, held = time.process_time() - begin, _resident("VmRSS") - before
    begin = time.process_time()
    identity_of(dataset)
    names_of({"train": dataset})
    named = time.process_time() - begin
    what = f"{len(dataset):,} samples in 100 shards"
    return [
        fact("shards", f"{what}: the dataset from its index", "s of CPU", made),
        fact("shards", f"{what}: memory that it holds, mapped pages of the index included", "MB", held),
        fact("shards", f"{what}: the hashes of their names, by which a resumed run knows them", "s of CPU", named),
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    answer(sys.argv[1], _start(sys.argv[3]))
