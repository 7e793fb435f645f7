"""Samples in tar shards, read by number from their positions; nothing of them is in memory."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from data._shard_index import Index
from utils.errors import DataError, PictureError
from utils.files import Stored
from utils.images import Region, read_image, read_region, to_tensor

__all__ = ["Keys", "ShardedPictures", "Shards"]

KEPT_OPEN = 128  # shards; each takes one of the process's open files


class Shards:
    """The samples of several shards, one shard after the other; `chosen` are the numbers of some of them, sorted."""

    def __init__(self, indices: Sequence[Index], chosen: np.ndarray | None = None):
        self.indices, self.chosen = list(indices), chosen
        self.starts = np.cumsum([0, *(index.samples for index in self.indices)])  # the first sample of each shard

    def __len__(self) -> int:
        return int(self.starts[-1]) if self.chosen is None else len(self.chosen)

    def place(self, number: int) -> tuple[int, int]:
        """Return the number of a sample's shard, and its row there."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        number = number if self.chosen is None else int(self.chosen[number])
        shard = int(np.searchsorted(self.starts, number, side="right")) - 1
        return shard, number - int(self.starts[shard])

    def taken(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """Return what `rows` has for the samples, an array [samples] for each shard."""
        whole = np.concatenate([*rows, np.empty(0, np.int64)]) if len(rows) != 1 else rows[0]
        return whole if self.chosen is None else whole[self.chosen]

    def by_shard(self) -> Iterator[tuple[int, np.ndarray | None]]:
        """Yield the number of each shard and the rows of its samples; None for all."""
        for shard in range(len(self.indices)):
            if self.chosen is None:
                yield shard, None
            else:
                low, high = np.searchsorted(self.chosen, self.starts[shard : shard + 2])
                yield shard, self.chosen[low:high] - self.starts[shard]


class Keys(Sequence):
    """The names of samples: their keys, and the shard's name before it if two samples have the same key."""

    def __init__(self, shards: Shards):
        self.shards = shards
        self.named = not self._are_unique()

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        shard, row = self.shards.place(int(number) + len(self) * (number < 0))
        return self._prefix(shard) + self.shards.indices[shard].key(row)

    def __iter__(self) -> Iterator[str]:
        for shard, rows in self.shards.by_shard():
            keys, prefix = self.shards.indices[shard].all_keys(), self._prefix(shard)
            yield from (prefix + key for key in (keys if rows is None else [keys[row] for row in rows.tolist()]))

    def _prefix(self, shard: int) -> str:
        return f"{os.path.basename(self.shards.indices[shard].path)}/" if self.named else ""

    def _are_unique(self) -> bool:
        """Return whether no two keys are equal: hashes are compared first, which take 8 bytes a sample for a moment."""
        hashes = np.fromiter(map(hash, self._every_key()), np.int64)
        hashes.sort()
        suspects = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
        alike = [key for key in self._every_key() if hash(key) in suspects] if suspects else []
        return len(set(alike)) == len(alike)

    def _every_key(self) -> Iterator[str]:
        return (key for index in self.shards.indices for key in index.all_keys())


class ShardedPictures:
    """Pictures in shards, a source of them as data/_stores.py has it."""

    def __init__(self, shards: Shards, endings: Sequence[str]):
        """`endings`: of the files that are the pictures; each sample has one of them.

        Raises DataError for a sample without one.
        """
        self.shards, self.endings = shards, list(endings)
        self.open: dict[int, int] = {}  # descriptors by shard
        for index in shards.indices:
            if len(missing := (index.files(endings) < 0).nonzero()[0]):
                raise DataError(
                    f"{index.path}: {len(missing):,} of {index.samples:,} samples have no picture "
                    f"({', '.join(endings)}), the first {index.key(int(missing[0]))}; write the shard again, or "
                    "set data.dataset.image"
                )

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "open": {}}  # another process opens the shards for itself

    def stored(self, number: int) -> Stored:
        """Return the content of a picture's file. Raises PictureError when it cannot be read."""
        shard, row = self.shards.place(number)
        index = self.shards.indices[shard]
        files = range(int(index.first[row]), int(index.first[row + 1]))
        file = next(file for file in files if index.endings[index.kinds[file]] in self.endings)
        offset, size = int(index.offsets[file]), int(index.sizes[file])
        name = f"{index.key(row)}.{index.endings[index.kinds[file]]} in {index.path} at byte {offset:,}"
        try:
            content = self._read(shard, offset, size)
        except OSError as error:
            raise PictureError(name, error.strerror or str(error)) from error
        if len(content) < size:
            raise PictureError(name, "the shard ends before")
        return Stored(name, content)

    def _read(self, shard: int, offset: int, size: int) -> bytes:
        """Return bytes of a shard. Several threads may read at a time, as a position is no part of the open file."""
        if (descriptor := self.open.get(shard)) is not None:
            return os.pread(descriptor, size, offset)
        descriptor = os.open(self.shards.indices[shard].path, os.O_RDONLY)
        if len(self.open) < KEPT_OPEN and self.open.setdefault(shard, descriptor) == descriptor:
            return os.pread(descriptor, size, offset)
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)

    def __del__(self) -> None:
        for descriptor in vars(self).get("open", {}).values():
            os.close(descriptor)

    def picture(self, number: int) -> Image.Image:
        """Return the picture, for transforms. Raises PictureError when it cannot be read."""
        return read_image(self.stored(number))

    def tensor(self, number: int) -> Tensor:
        """Return the picture as float32 [3, H, W] in [0, 1]. Raises PictureError when it cannot be read."""
        return to_tensor(self.picture(number))

    def region(self, number: int, choose: Callable[[int, int], Region]) -> np.ndarray:
        """Return a region of the picture as uint8 [H, W, 3]; `choose` gets the picture's width and height.

        Raises PictureError when it cannot be read.
        """
        return read_region(self.stored(number), choose)
