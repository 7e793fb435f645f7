"""A disk that keeps no promise but those of fsync, and every state that a power cut may leave it in."""

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path

from tests.faults.syscalls import Call

Disk = tuple[tuple[str, bytes], ...]  # names and contents
Held = tuple[tuple[tuple[str, ...], bytes], ...]  # the names of each inode, and its content


@dataclass
class File:
    """An inode: what was written, and what of it is safe."""

    written: bytes = b""
    safe: bytes = b""

    def contents(self) -> list[bytes]:
        """What it may hold after a power cut: what was safe; all, half or none of what was written; zeros."""
        if self.safe == self.written:
            return [self.written]
        half = self.written[: len(self.written) // 2]
        return list(dict.fromkeys([self.safe, half, bytes(len(self.written)), self.written]))


@dataclass
class Model:
    """A folder on a disk that keeps no promise but those of fsync: renames may be undone, or come in any order."""

    names: dict[str, File] = field(default_factory=dict)
    safe: dict[str, File] = field(default_factory=dict)
    pending: list[Callable[[dict[str, File]], object]] = field(default_factory=list)  # of names, since the last fsync

    @classmethod
    def of(cls, held: Held) -> "Model":
        """A folder that has been on the disk for long."""
        names = {name: file for all_names, data in held for file in [File(data, data)] for name in all_names}
        return cls(dict(names), dict(names))

    def held(self) -> Held:
        """What a process would find that begins now, without a power cut."""
        files = {id(file): file for file in self.names.values()}
        found = [
            (tuple(sorted(n for n, f in self.names.items() if f is file)), file.written) for file in files.values()
        ]
        return tuple(sorted(found))

    def apply(self, call: Call, root: Path) -> None:
        """One recorded call."""
        source, target = Path(call.path).name, Path(call.target).name
        if call.name == "fsync" and Path(call.path) == root:
            self.safe, self.pending = dict(self.names), []
        elif call.name == "fsync":
            self.names[source].safe = self.names[source].written
        elif call.name == "write":
            self.names[source].written += call.data
        elif call.name == "truncate":
            self.names[source].written = b""
        else:
            file = File() if call.name == "create" else self.names[source]
            change = {"create": _add, "link": _add, "replace": _move, "unlink": _drop}[call.name]
            self.pending.append(functools.partial(change, source=source, target=target or source, file=file))
            self.pending[-1](self.names)

    def states(self) -> Iterator[Disk]:
        """Every state that a power cut may leave now."""
        for count in range(len(self.pending) + 1):
            for chosen in combinations(self.pending, count):
                names = dict(self.safe)
                for change in chosen:
                    change(names)
                files = {id(file): file for file in names.values()}
                for contents in product(*(file.contents() for file in files.values())):
                    held = dict(zip(files, contents, strict=True))
                    yield tuple(sorted((name, held[id(file)]) for name, file in names.items()))


def _add(names: dict[str, File], source: str, target: str, file: File) -> None:
    names[target] = file


def _move(names: dict[str, File], source: str, target: str, file: File) -> None:
    if names.get(source) is file:
        del names[source]
    names[target] = file


def _drop(names: dict[str, File], source: str, target: str, file: File) -> None:
    names.pop(source, None)


def fill(folder: Path, held: Held) -> None:
    """Make the files."""
    folder.mkdir(exist_ok=True)
    for names, content in held:
        (folder / names[0]).write_bytes(content)
        for name in names[1:]:
            os.link(folder / names[0], folder / name)
