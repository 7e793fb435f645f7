"""Files that are written completely or not at all, even if the program dies meanwhile."""

import errno
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from utils.errors import StorageError

__all__ = ["TEMPORARY", "Stored", "content", "open_regular", "write_atomic", "fsync", "storage_error", "write_durably"]

TEMPORARY = ".tmp"  # the suffix of a file while it is written


class Stored(NamedTuple):
    """A file within another one, which has been read: a name for messages, and its bytes."""

    name: str
    data: bytes

    def __str__(self) -> str:
        return self.name


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises OSError, also for a file that is not regular: reading from a pipe may never end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    return open(path, "rb")


def content(path: Path) -> bytes:
    """Return the bytes of a regular file. Raises OSError."""
    with open_regular(path) as file:
        return file.read()


def write_atomic(
    path: Path, data: bytes | memoryview, check: Callable[[Path], object] = lambda temporary: None
) -> None:
    """Write a file through a temporary one in the same folder; if that fails, an older file of that name stays.

    `check` may raise when it reads the temporary one. Raises StorageError when it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(temporary, data)
        check(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise storage_error(path, error, len(data)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes | memoryview) -> None:
    """Write bytes and wait until they are on the disk."""
    with open(path, "wb") as stream:
        stream.write(data)
        fsync(stream)


def fsync(stream: BinaryIO) -> None:
    """Wait until the written bytes are on the disk. Raises OSError."""
    stream.flush()
    os.fsync(stream.fileno())


def storage_error(path: Path, error: OSError, size: int, after: str = "") -> StorageError:
    """Return the error for a file of `size` bytes that could not be written; `after` replaces the advice at its end."""
    reason = error.strerror or str(error)
    try:
        free = f", {shutil.disk_usage(path.parent).free / 1e6:,.0f} MB free"
    except OSError:
        free = ""
    advice = after or "make room, check the folder's permissions, or choose another place"
    return StorageError(f"{path}: cannot be written: {reason} ({size / 1e6:,.1f} MB to write{free}); {advice}")
