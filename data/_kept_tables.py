"""Arrays that were read from a file once and are kept beside it, memory-mapped, until that file changes."""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout

from utils.errors import DataError
from utils.files import write_atomic
from utils.runs.folder import ROOT
from utils.terminal import show
from utils.words import count_of

__all__ = ["Table", "kept_tables"]

BESIDE = ".index"  # a folder beside the files
ELSEWHERE = ROOT / ".index"  # for files in a folder that cannot be written
MAGIC = b"kept arrays 1\n\0\0"
ALIGNED = 8  # an array begins at a multiple of so many bytes
PIECE = 1 << 20  # bytes that are read at a time

Table = tuple[dict[str, Any], dict[str, np.ndarray]]  # plain facts, and arrays by name


def kept_tables(files: Sequence[str], kind: str, make: Callable[[str], Table], told: str) -> list[Table]:
    """Return a table of each shard, made where none is kept that fits the file's size and time of change.

    The arrays are memory-mapped: of those that are kept nothing is in memory until it is used. One process makes them
    while others wait; `told` says in its message which things are read.

    Raises DataError for a missing file, and StorageError when a table cannot be written.
    """
    found = {file: table for file in files if (table := _read(file, kind)) is not None}
    if missing := [file for file in files if file not in found]:
        with _locked(_place(missing[0], kind, writing=True).parent):
            missing = [file for file in missing if _read(file, kind) is None]  # others are made by now
            if missing:
                show(f"reading {count_of(len(missing), 'shard')} once, for {told}")
            for file in missing:
                _write(file, kind, make(file))
        found |= {file: table for file in files if file not in found and (table := _read(file, kind)) is not None}
    if changed := [file for file in files if file not in found]:
        raise DataError(f"{changed[0]} changes while it is read; start again when it is complete")
    return [found[file] for file in files]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; the system frees the lock of a process that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        show(f"another process reads the same files; waiting for {folder / 'lock'}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _place(file: str, kind: str, writing: bool) -> Path:
    """Return where the table of a file is kept: beside it if possible, otherwise below checkpoints."""
    path = Path(os.path.abspath(file))
    beside = path.parent / BESIDE / f"{path.name}.{kind}"
    if beside.exists() or (writing and os.access(path.parent, os.W_OK)):
        return beside
    return ELSEWHERE / f"{hashlib.sha256(bytes(path.parent)).hexdigest()[:16]}-{path.name}.{kind}"


def _stamp(file: str) -> list[int]:
    try:
        status = os.stat(file)
    except OSError as error:
        raise DataError(f"cannot read {file} ({error.strerror}); put it back") from error
    return [status.st_size, status.st_mtime_ns]


def _write(file: str, kind: str, table: Table) -> None:
    facts, arrays = table
    shapes = {name: [array.dtype.str, len(array)] for name, array in arrays.items()}
    head = json.dumps({"stamp": _stamp(file), "facts": facts, "arrays": shapes}).encode()
    parts = [MAGIC, len(head).to_bytes(ALIGNED, "little"), _padded(head)]
    content = b"".join([*parts, *(_padded(np.ascontiguousarray(array).tobytes()) for array in arrays.values())])
    write_atomic(_place(file, kind, writing=True), content + zlib.crc32(content).to_bytes(ALIGNED, "little"))


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % ALIGNED)


def _read(file: str, kind: str) -> Table | None:
    """Return the table of a file; None if there is none, or one of another size or time, or a damaged one."""
    stamp = _stamp(file)
    try:
        with open(_place(file, kind, writing=False), "rb") as stream:
            if not _is_whole(stream):
                return None
            content = np.memmap(stream, np.uint8, "r")
    except (OSError, ValueError):  # absent, empty
        return None
    start = len(MAGIC) + ALIGNED
    size = int.from_bytes(content[len(MAGIC) : start].tobytes(), "little")
    head = json.loads(content[start : start + size].tobytes())
    if head["stamp"] != stamp:
        return None
    place, arrays = start + size + -size % ALIGNED, {}
    for name, (kind_of_number, count) in head["arrays"].items():
        array = content[place : place + count * np.dtype(kind_of_number).itemsize].view(kind_of_number)
        arrays[name] = array
        place += array.nbytes + -array.nbytes % ALIGNED
    return head["facts"], arrays


def _is_whole(stream: BinaryIO) -> bool:
    """Return whether the checksum at the end fits; pieces are read, because mapped pages would count as memory."""
    length = os.fstat(stream.fileno()).st_size - ALIGNED
    if length < len(MAGIC) or stream.read(len(MAGIC)) != MAGIC:
        return False
    found, left = zlib.crc32(MAGIC), length - len(MAGIC)
    while left > 0 and (piece := stream.read(min(PIECE, left))):
        found, left = zlib.crc32(piece, found), left - len(piece)
    stated = stream.read(ALIGNED)
    stream.seek(0)
    return left == 0 and stated == found.to_bytes(ALIGNED, "little")
