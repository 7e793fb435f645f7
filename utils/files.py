"""Files that are there whole or not at all, whatever happens while they are written."""

import errno
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from utils.errors import StorageError

__all__ = ["TEMPORARY", "content", "open_regular", "write_atomic", "fsync", "storage_error", "write_durably"]

TEMPORARY = ".tmp"  # the suffix of a file that is being written


def open_regular(path: Path) -> BinaryIO:
    """A file to read; of those that are not regular a pipe would never end. Raises OSError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    return open(path, "rb")


def content(path: Path) -> bytes:
    """What a regular file holds. Raises OSError."""
    with open_regular(path) as file:
        return file.read()


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Write a file through a temporary one in the same folder; an older file of that name stays if it fails.

    Raises StorageError when it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(temporary, data)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise storage_error(path, error, len(data)) from error


def write_durably(path: Path, data: bytes | memoryview) -> None:
    """Write bytes and wait until they are on the disk."""
    with open(path, "wb") as stream:
        stream.write(data)
        fsync(stream)


def fsync(stream: BinaryIO) -> None:
    """Wait until what was written is on the disk. Raises OSError."""
    stream.flush()
    os.fsync(stream.fileno())


def storage_error(path: Path, error: OSError, size: int, after: str = "") -> StorageError:
    """The words for a file of `size` bytes that could not be written; `after` is said at the end."""
    reason = error.strerror or str(error)
    try:
        free = f", {shutil.disk_usage(path.parent).free / 1e6:,.0f} MB free"
    except OSError:
        free = ""
    advice = after or "make room, check the folder's permissions, or choose another place"
    return StorageError(f"{path}: cannot be written: {reason} ({size / 1e6:,.1f} MB to write{free}); {advice}")
