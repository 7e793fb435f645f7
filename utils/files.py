"""Files that are written completely or not at all, even if the program dies meanwhile."""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from utils.errors import ConfigError, StorageError

__all__ = [
    "TEMPORARY",
    "Stored",
    "content",
    "fsync",
    "open_regular",
    "output_file",
    "storage_error",
    "write_atomic",
    "write_durably",
]

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


def output_file(option: str, path: Path, suffixes: Sequence[str], read: Iterable[str | Path] = ()) -> Path:
    """Return the path of a file that a command writes, as `option` names it; `read` are files that it reads.

    Raises ConfigError for a folder, a device or pipe, and for a file that would be lost: one that is read, or one with
    another suffix.
    """
    if path.is_dir():
        raise ConfigError(f"{option}={path}: is a folder; name a file in it")
    if not path.exists():
        return path
    if not path.is_file():  # as /dev/null, in whose place a file would lie from then on
        raise ConfigError(f"{option}={path}: is no regular file, and would be replaced by one; name another file")
    if any(os.path.exists(one) and path.samefile(one) for one in read):
        raise ConfigError(f"{option}={path}: is read by this command and would be lost; name another file")
    if path.suffix.lower() not in suffixes:
        kind = suffixes[0].removeprefix(".")
        raise ConfigError(f"{option}={path}: is there, is no {kind} file, and would be lost; name another file")
    return path


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
