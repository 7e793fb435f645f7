"""Files that are there whole or not at all, whatever happens while they are written."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from utils.errors import StorageError

__all__ = ["TEMPORARY", "put", "storage_error", "write_durably"]

TEMPORARY = ".tmp"  # the suffix of a file that is being written


def put(path: Path, content: bytes | memoryview) -> None:
    """Write a file through a temporary one in the same folder; an older file of that name stays if it fails.

    Raises StorageError when it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(temporary, content)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise storage_error(path, error, len(content)) from error


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Write bytes and wait until they are on the disk."""
    with open(path, "wb") as stream:
        stream.write(content)
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
