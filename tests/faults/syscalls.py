"""Between the code under test and the file system: sees each call that changes files, before it is made."""

import builtins
import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEPT: list[contextlib.AbstractContextManager] = []  # or they would end as soon as they are forgotten


@dataclass(frozen=True)
class Call:
    """One call: create, write, truncate, fsync (of a file or a folder), replace, link or unlink."""

    name: str
    path: str
    target: str = ""  # the new name, of replace and link
    data: bytes = b""  # of write
    stream: Any = None  # of write: where it goes


@contextlib.contextmanager
def watched(folder: Path, before: Callable[[Call], object], sync: bool = True) -> Iterator[None]:
    """Within it every change below a folder is told before it is made; what `before` raises is raised in its place.

    `sync`: whether the disk is really waited for.
    """
    root = f"{folder.resolve()}"

    def tell(name: str, path: Any, target: Any = "", **more: Any) -> None:
        full = os.path.abspath(os.fspath(path))
        if full == root or full.startswith(root + os.sep):
            before(Call(name, full, os.path.abspath(os.fspath(target)) if target else "", **more))

    own_open, own_fsync = io.open, os.fsync

    def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax+"):
            return own_open(file, mode, *args, **kwargs)
        existed = os.path.exists(file)
        if not existed or "w" in mode:
            tell("truncate" if existed else "create", file)
        size = 0 if "b" not in mode else kwargs.get("buffering", io.DEFAULT_BUFFER_SIZE)
        return _Stream(own_open(file, mode, *args, **kwargs), os.path.abspath(file), tell, size)

    def fsync(handle: int) -> None:
        tell("fsync", os.readlink(f"/proc/self/fd/{handle}"))
        if sync:
            own_fsync(handle)

    def changing(name: str, own: Callable) -> Callable:
        def call(source: Any, *target: Any, **kwargs: Any) -> None:
            if os.path.lexists(source):  # or it fails, and changes nothing
                tell(name, source, *target[:1])
            own(source, *target, **kwargs)

        return call

    patches = [(builtins, "open", opened), (io, "open", opened), (os, "fsync", fsync)]
    names = {"replace": "replace", "rename": "replace", "link": "link", "unlink": "unlink", "remove": "unlink"}
    patches += [(os, own, changing(name, getattr(os, own))) for own, name in names.items()]
    patches += [(shutil, "_USE_CP_SENDFILE", False)]  # or copies would go past `write`
    before_all = [(where, name, getattr(where, name)) for where, name, _ in patches]
    for where, name, new in patches:
        setattr(where, name, new)
    try:
        yield
    finally:
        for where, name, old in before_all:
            setattr(where, name, old)


def watch(folder: Path, before: Callable[[Call], object]) -> None:
    """`watched` until the process ends."""
    KEPT.append(watched(folder, before))
    KEPT[-1].__enter__()


class _Stream:
    """A file that tells what is written to it, many small pieces as one write, as the system is told of them."""

    def __init__(self, stream: Any, path: str, tell: Callable, size: int):
        self._stream, self._path, self._tell, self._size = stream, path, tell, size
        self._pending = bytearray()

    def write(self, data: Any) -> int:
        raw = data.encode() if isinstance(data, str) else bytes(data)
        self._pending += raw
        if len(self._pending) >= self._size:
            self.flush()
        return len(data)

    def flush(self) -> None:
        raw, self._pending = bytes(self._pending), bytearray()
        if raw:
            self._tell("write", self._path, data=raw, stream=self._binary())
            self._binary().write(raw)
        self._stream.flush()

    def _binary(self) -> Any:
        return getattr(self._stream, "buffer", self._stream)

    def close(self) -> None:
        if self._stream.closed:
            return
        self.flush()
        self._stream.close()

    def __getattr__(self, name: str) -> Any:
        self.flush()
        return getattr(self._stream, name)

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator:
        return iter(self._stream)
