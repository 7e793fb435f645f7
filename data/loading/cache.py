"""Pictures that are decoded once and kept: in memory, on disk for all runs, or small ones on the GPU."""

import copy
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from PIL import Image

from data._broken import broken_named
from data._stores import Files, Packed, Pixels
from data.protocol import batch_reader, draws, is_lenient, store_of
from utils.device import CPU
from utils.errors import ConfigError, DataError, PictureError
from utils.files import TEMPORARY, storage_error
from utils.images import DENSITY, read_image, read_size
from utils.runs.folder import ROOT
from utils.terminal import show

__all__ = ["stamp", "with_cache"]

FOLDER = ROOT / ".pixels"
CHECKSUM = hashlib.sha256().digest_size  # bytes of the checksum, which ends a file


def with_cache(dataset: Any, kind: str | None, say: Callable[[str], None] = show, device: torch.device = CPU) -> Any:
    """Return a copy of the dataset that keeps its pictures decoded, as uint8.

        kind  the pictures are kept                   for which datasets
        ram   in memory, for this run                 pictures in files
        disk  in checkpoints/.pixels, for all runs    pictures in files
        gpu   on `device`, which makes the batches    pixels in memory, as those of MNIST and CIFAR

    Pictures in files are first made as small as the first transform allows:

        first transform    the short side is kept at
        Resize             the size that it asks for
        RandomResizedCrop  a length at which the smallest square crop has 0.8 pixels for each pixel of the result
        any other          its full length

    The file's name is a fingerprint of everything that decides its pixels, and the file ends with a checksum. It is
    written completely or not at all. One process writes it while others wait. `say` announces its size. A dataset in
    memory is returned unchanged for `ram` and `disk`.

    Raises ConfigError for a dataset without pictures, or with pixels that the GPU cannot take; DataError for a picture
    that cannot be read; StorageError when the file cannot be written.
    """
    store, reader = store_of(dataset), batch_reader(dataset)
    in_memory = isinstance(store, Pixels) or (reader is not None and not draws(reader))
    if kind is None or (kind != "gpu" and in_memory):
        return dataset
    copied = copy.copy(dataset)
    if kind == "gpu":
        copied.store = _on_gpu(dataset, device)
        return copied
    if not isinstance(store, Files):
        raise ConfigError(f"data.cache: {type(dataset).__name__} has no picture files to keep; leave it out")
    files = [os.path.join(store.folder, name) for name in store.names]
    make = _in_memory if kind == "ram" else _on_disk
    with broken_named(dataset, files):
        kept = make(files, short_side(dataset.transform), say, is_lenient(dataset))
        if not is_lenient(dataset):  # the file may have been made for a run that passes over bad ones
            for index in (kept.sizes[:, 0] <= 0).nonzero()[0]:
                read_image(files[index])  # raises its error
    copied.store = replace(kept, files=files)
    return copied


def _on_gpu(dataset: Any, device: torch.device) -> Pixels:
    store = store_of(dataset)
    if not isinstance(store, Pixels):
        raise ConfigError(
            f"data.cache: gpu is for small pictures that lie in memory, as MNIST's do; those of "
            f"{type(dataset).__name__} do not: take ram or disk, or leave it out"
        )
    if batch_reader(dataset) is None:
        raise ConfigError(
            f"data.cache: gpu needs data.pixels=fast, pictures of 256 levels, and in data.transform only a crop that "
            f"fits, flips, and Normalize with one mean or one for each channel; these pictures of "
            f"{list(store.values.shape[1:])} and {store.white + 1} levels do not fit: leave it out"
        )
    try:
        return replace(store, values=store.values.to(device))
    except torch.OutOfMemoryError as error:
        size = store.values.numel() / 1e6
        raise ConfigError(f"data.cache: pixels of {size:,.0f} MB do not fit on the GPU; leave it out") from error


def short_side(transform: Any) -> int | None:
    """Return the length of the short side that a transform needs; None for the full length."""
    steps = getattr(transform, "steps", None) or getattr(transform, "transforms", [None])
    first = steps[0]
    name = getattr(first, "kind", type(first).__name__)
    if name == "Resize" and first.size and not getattr(first, "max_size", None):
        return max(first.size)
    if name == "RandomResizedCrop":
        return math.ceil(DENSITY * max(first.size) / math.sqrt(max(min(first.scale), 1e-4)))
    return None


def _in_memory(files: list[str], side: int | None, say: Callable[[str], None], lenient: bool) -> Packed:
    sizes = _sizes(files, side, lenient)
    packed = _packed(np.empty(3 * int(sizes.prod(1).sum()), np.uint8), sizes)
    say(f"data.cache: {len(files):,} pictures take {len(packed.pixels) / 1e6:,.0f} MB of memory")
    _fill(packed, files, lenient)
    return packed


def _on_disk(files: list[str], side: int | None, say: Callable[[str], None], lenient: bool) -> Packed:
    path = FOLDER / f"{fingerprint(files, side, lenient)}.u8"
    try:
        FOLDER.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock"), say):
            if (found := _open(path, len(files))) is None:
                _make(path, files, side, say, lenient)
                found = _open(path, len(files))
    except OSError as error:
        raise storage_error(path, error, 0, "make room, or --data.cache=ram") from error
    assert found is not None, "it has just been made"
    return found


@contextmanager
def _locked(lock: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock, for which other processes wait; the system frees the lock of a process that ends."""
    taken = FileLock(lock)
    try:
        taken.acquire(timeout=0)
    except Timeout:
        say(f"data.cache: another process makes it; waiting for {lock}")
        taken.acquire()
    try:
        yield
    finally:
        taken.release()


def fingerprint(files: list[str], side: int | None, lenient: bool = False) -> str:
    """Return a sha256 of everything that decides the pixels: the files, the kept size, the library's version.

    Raises DataError for a missing picture, unless `lenient`.
    """
    return stamp(hashlib.sha256(repr(["RGB", side, version("pillow")]).encode()), files, lenient)


def stamp(digest: Any, files: Sequence[str], lenient: bool = False) -> str:
    """Add the files' paths, sizes and times to the digest, and return it as text.

    Raises DataError for a missing picture, unless `lenient`.
    """
    for file in files:
        try:
            status = os.stat(file)
        except OSError as error:
            if lenient:
                digest.update(repr([os.path.abspath(file), "absent"]).encode())
                continue
            raise DataError(f"cannot read the picture {file} ({error.strerror}); put it back") from error
        digest.update(repr([os.path.abspath(file), status.st_size, status.st_mtime_ns]).encode())
    return digest.hexdigest()


def _sizes(files: list[str], side: int | None, lenient: bool) -> np.ndarray:
    """Return width and height [N, 2] of the pictures as they are kept; no picture is enlarged.

    `lenient`: a picture whose size cannot be read has 0 and 0.
    """

    def size_of(file: str) -> tuple[int, int]:
        try:
            return read_size(file)
        except PictureError:
            if lenient:
                return 0, 0
            raise

    with ThreadPool() as pool:
        whole = pool.map(size_of, files)
    return np.array([_shrunk(size, side) for size in whole], np.int64).reshape(-1, 2)


def _shrunk(size: tuple[int, int], side: int | None) -> tuple[int, int]:
    """Return the size that torchvision's Resize would give."""
    short = min(size)
    if side is None or short <= side:
        return size
    width, height = (side if length == short else int(side * length / short) for length in size)
    return width, height


def _packed(pixels: np.ndarray, sizes: np.ndarray) -> Packed:
    ends = 3 * sizes.prod(1).cumsum()
    return Packed(pixels, sizes, ends - 3 * sizes.prod(1))


def _fill(packed: Packed, files: list[str], lenient: bool) -> None:
    """Read all pictures. `lenient`: the size of one that cannot be read becomes negative."""

    def put(index: int) -> None:
        size = tuple(packed.sizes[index].tolist())
        try:
            picture = read_image(files[index])
        except PictureError:
            if lenient:
                packed.sizes[index] = -packed.sizes[index]
                return
            raise
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        content = np.asarray(picture).reshape(-1)
        packed.pixels[packed.starts[index] :][: len(content)] = content

    with ThreadPool() as pool:  # decoding and resizing release Python's lock
        for _ in pool.imap_unordered(put, range(len(files))):
            pass


# The file: all pixels, the sizes, a checksum of both


def _make(path: Path, files: list[str], side: int | None, say: Callable[[str], None], lenient: bool) -> None:
    for left in path.parent.glob(f"{path.name}.*{TEMPORARY}"):  # files of killed processes: this process holds the lock
        left.unlink()
    sizes = _sizes(files, side, lenient)
    count = 3 * int(sizes.prod(1).sum())
    say(f"data.cache: {len(files):,} pictures take {count / 1e6:,.0f} MB on disk: made once, kept in {path.parent}")
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with open(temporary, "wb+") as file:
            if hasattr(os, "posix_fallocate"):  # so that a full disk raises now
                os.posix_fallocate(file.fileno(), 0, count + sizes.nbytes + CHECKSUM)
            content = np.memmap(file, np.uint8, "r+", shape=(count + sizes.nbytes,))
            _fill(_packed(content[:count], sizes), files, lenient)
            content[count:] = np.frombuffer(sizes.tobytes(), np.uint8)
            content.flush()
            file.seek(len(content))
            file.write(hashlib.sha256(content.data).digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _open(path: Path, number: int) -> Packed | None:
    """Return the pictures in a file; None if it is missing or damaged."""
    try:
        content = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError):  # absent, empty
        return None
    end = len(content) - CHECKSUM
    middle = end - number * 16
    if middle < 0 or hashlib.sha256(content[:end].data).digest() != content[end:].tobytes():
        return None
    return _packed(content[:middle], np.frombuffer(content[middle:end].tobytes(), np.int64).reshape(-1, 2))
