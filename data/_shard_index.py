"""The index of a tar shard: the keys of its samples, where their files lie, and their labels."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from data._kept_tables import Table, kept_tables
from data._tar import members
from utils.errors import DataError
from utils.words import shortened

__all__ = ["NO_LABEL", "Index", "Labels", "indices", "labels_in"]

MOST_ENDINGS = 1000
NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")  # as WebDataset has it: the key ends at the first dot
SKIPPED = re.compile(r"__[^/]*__($|/)")  # as WebDataset has it: files that tell about the archive
NO_LABEL = -1


class Index(NamedTuple):
    """The samples of a shard, and their files one after the other."""

    path: str
    endings: list[str]  # of its files, in lower case: what follows a key's dot, as jpg or seg.png
    keys: np.ndarray  # uint8: all keys in UTF-8
    ends: np.ndarray  # uint32 [N]: where each key ends in `keys`
    first: np.ndarray  # uint32 [N + 1]: the number of each sample's first file
    offsets: np.ndarray  # uint64 [files]: the position of a file's first byte in the shard
    sizes: np.ndarray  # uint64 [files]
    kinds: np.ndarray  # uint16 [files]: a file's ending, as its number in `endings`

    @property
    def samples(self) -> int:
        """The number of samples."""
        return len(self.ends)

    def key(self, row: int) -> str:
        """Return the key of a sample."""
        start = int(self.ends[row - 1]) if row else 0
        return self.keys[start : int(self.ends[row])].tobytes().decode("utf-8", "surrogateescape")

    def all_keys(self) -> list[str]:
        """Return the keys of all samples, faster than one after the other."""
        text, ends = self.keys.tobytes(), self.ends.tolist()
        return [text[i:j].decode("utf-8", "surrogateescape") for i, j in zip([0, *ends], ends, strict=False)]

    def counts(self) -> dict[str, int]:
        """Return the number of files of each ending."""
        found = np.bincount(self.kinds, minlength=len(self.endings)).tolist()
        return dict(zip(self.endings, found, strict=True))

    def files(self, endings: Sequence[str]) -> np.ndarray:
        """Return the number of each sample's file with one of these endings, int64 [N]; -1 where it has none.

        Raises DataError for a sample with two of them.
        """
        wanted = [number for number, ending in enumerate(self.endings) if ending in endings]
        found = np.isin(self.kinds, wanted).nonzero()[0]
        rows = np.searchsorted(self.first, found, side="right") - 1
        if len(twice := (rows[1:] == rows[:-1]).nonzero()[0]):
            both = " and ".join(self.endings[self.kinds[found[twice[0] + k]]] for k in (0, 1))
            raise DataError(
                f"{self.path}: the sample {self.key(rows[twice[0]])} has {both}; data.dataset.image names the "
                "one to read, as --data.dataset.image=[jpg, png]"
            )
        files = np.full(self.samples, -1, np.int64)
        files[rows] = found
        return files

    def read(self, file: int) -> bytes:
        """Return the content of a file."""
        with open(self.path, "rb", buffering=0) as stream:
            return os.pread(stream.fileno(), int(self.sizes[file]), int(self.offsets[file]))


def indices(paths: Sequence[str]) -> list[Index]:
    """Return the index of each shard. Raises DataError for a shard that cannot be read or is no archive of samples."""
    told = "the keys and positions of their samples"
    tables = kept_tables(paths, "samples", _index, told)
    return [Index(path, facts["endings"], **arrays) for path, (facts, arrays) in zip(paths, tables, strict=True)]


def _index(path: str) -> Table:
    keys, first = list[str](), list[int]()
    endings: dict[str, int] = {}
    offsets, sizes, kinds = list[int](), list[int](), list[int]()
    within: set[int] = set()  # endings of the present sample
    for member in members(path):
        found = None if SKIPPED.match(member.name) else NAME.fullmatch(member.name)
        if found is None:
            continue
        key, ending = found[1], found[2].lower()
        if not keys or key != keys[-1]:
            keys.append(key)
            first.append(len(kinds))
            within = set()
        kind = endings.setdefault(ending, len(endings))
        if kind in within:
            raise DataError(
                f"{path} holds {member.name} twice (byte {member.offset:,}), as one sample's; write it again"
            )
        if len(endings) > MOST_ENDINGS:
            raise DataError(
                f"{path}: its files have more than {MOST_ENDINGS:,} endings, as .{ending} in {member.name}; a key ends "
                "at the first dot: write the shards with keys without dots"
            )
        within.add(kind)
        offsets.append(member.offset)
        sizes.append(member.size)
        kinds.append(kind)
    encoded = [key.encode("utf-8", "surrogateescape") for key in keys]
    arrays = {
        "keys": np.frombuffer(b"".join(encoded), np.uint8),
        "ends": np.cumsum([len(key) for key in encoded], dtype=np.uint32),
        "first": np.array([*first, len(kinds)], np.uint32),
        "offsets": np.array(offsets, np.uint64),
        "sizes": np.array(sizes, np.uint64),
        "kinds": np.array(kinds, np.uint16),
    }
    return {"endings": list(endings)}, arrays


# Labels


class Labels(NamedTuple):
    """The labels of a shard's samples."""

    values: list[Any]  # each once: whole numbers or texts
    codes: np.ndarray  # int32 [N]: a sample's label, as its place in `values`; NO_LABEL where it has none


def labels_in(shards: Sequence[Index], label: str) -> list[Labels]:
    """Return the labels of each shard: those of the files with that ending, or as `json:key` a value in them.

    `cls` files hold numbers; others texts. Raises DataError for a label that cannot be read.
    """
    by_path = {shard.path: shard for shard in shards}
    told = "the labels of their samples"
    name = f"labels-{hashlib.sha256(label.encode()).hexdigest()[:12]}"
    tables = kept_tables(list(by_path), name, lambda path: _labels(by_path[path], label), told)
    return [Labels(facts["values"], arrays["codes"]) for facts, arrays in tables]


def _labels(shard: Index, label: str) -> Table:
    ending, _, key = label.partition(":")
    files, known = shard.files([ending]), dict[Any, int]()
    codes = np.full(shard.samples, NO_LABEL, np.int32)
    for row, file in enumerate(files.tolist()):
        if file < 0:
            continue
        try:
            value = _value(shard.read(file), ending, key)
        except (ValueError, KeyError, TypeError) as error:
            place = f"the sample {shard.key(row)}, {ending} at byte {int(shard.offsets[file]):,}"
            raise DataError(f"{shard.path}: {place}: {_fault(error, key)}; write it again") from error
        codes[row] = known.setdefault(value, len(known))
    return {"values": list(known)}, {"codes": codes}


def _value(content: bytes, ending: str, key: str) -> int | str:
    """Return a label. Raises ValueError, KeyError or TypeError for content that holds none."""
    text = content.decode("utf-8-sig")
    if ending == "cls" and not key:
        try:
            return int(text)
        except ValueError as error:
            raise ValueError(f"cls files hold numbers, this one '{shortened(text.strip(), 40)}'") from error
    if not key:
        return text.strip()
    value = json.loads(text)
    for part in key.split("."):
        value = value[part]
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"{key} is {json.dumps(value)[:40]}, neither a whole number nor a text")
    return value


def _fault(error: Exception, key: str) -> str:
    return f"it has no {key}" if isinstance(error, KeyError) else str(error)
