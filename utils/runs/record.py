"""The record of a run: what it was made of, so that it can be trained again from its folder, or told why it differs."""

import hashlib
import io
import itertools
import json
import os
import platform
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from utils.config.places import own_folder
from utils.files import TEMPORARY, storage_error, write_durably

__all__ = [
    "CODE",
    "OWN",
    "RECORD",
    "USERS",
    "archive",
    "changes",
    "code_files",
    "commit",
    "content_of",
    "hashes",
    "processor",
    "read_record",
    "versions",
    "write_into",
    "write_record",
]

RECORD, CODE = "reproduce.json", "code.zip"
PROGRAM = Path(__file__).parents[2]
ROOMS = ("commands", "configs", "data", "models", "trainer", "utils")  # of the program
OWN = "own"  # the folder of the user's files in the archive
USERS = ("models", "data")  # rooms of the current folder that may add components
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "scipy", "scikit-learn")  # those that numbers depend on
LARGEST = 1 << 20  # bytes of a source file; a larger one is no source
WHOLE = 256 << 20  # bytes of data that are read whole; of more, the beginnings of some files are
MOST = 100_000  # files that are looked at
SOME, BEGINNING = 512, 1 << 16  # so many files, so many bytes of each
KINDS = ("code", "data", "versions", "hardware")  # of differences between two runs
PASSED = ("checkpoints", "__pycache__")  # folders that hold no data


def read_record(path: Path) -> dict[str, Any]:
    """Return the record in a run's folder; empty if there is none or it cannot be read."""
    try:
        found = json.loads((path / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write the record into a run's folder. Raises StorageError."""
    write_into(path, RECORD, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace"))


def write_into(folder: Path, name: str, data: bytes) -> None:
    """Write a file as `write_atomic` does, into a folder that must be there: a removed one does not come again."""
    temporary = folder / f"{name}{TEMPORARY}"
    try:
        write_durably(temporary, data)
        os.replace(temporary, folder / name)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise storage_error(folder / name, error, len(data)) from error


# Code


def code_files() -> dict[str, Path]:
    """Return the sources that a run from the current folder may use, by their names in the archive."""
    found = {file.name: file for file in PROGRAM.glob("*.py")}
    for room in ROOMS:
        files = [*(PROGRAM / room).rglob("*.py"), *(PROGRAM / room).glob("*.yaml")]
        found |= {str(file.relative_to(PROGRAM)): file for file in files}
    for room in USERS:
        folder = own_folder() / room
        if os.path.isdir(folder) and not _is_ours(folder.absolute()):
            found |= {f"{OWN}/{room}/{file.name}": file for file in folder.glob("*.py")}
    return {name: file for name, file in sorted(found.items()) if _is_source(file)}


def _is_ours(folder: Path) -> bool:
    return (PROGRAM / folder.name).is_dir() and os.path.samefile(folder, PROGRAM / folder.name)


def commit() -> str:
    """Return the commit of the program; empty without git.

    Its files are read: a process that is started in a thread, while data processes are forked, might never end.
    """
    with suppress(OSError, ValueError):
        git = PROGRAM / ".git"
        if git.is_file():  # of a second working tree
            git = PROGRAM / git.read_text(encoding="utf-8").partition(":")[2].strip()
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        kind, _, name = head.partition(": ")
        if kind != "ref":
            return head
        shared = git / (git / "commondir").read_text(encoding="utf-8").strip() if (git / "commondir").is_file() else git
        if (shared / name).is_file():
            return (shared / name).read_text(encoding="utf-8").strip()
        packed = (shared / "packed-refs").read_text(encoding="utf-8").splitlines()
        return next((line.partition(" ")[0] for line in packed if line.endswith(f" {name}")), "")
    return ""


def _is_source(file: Path) -> bool:
    with suppress(OSError):
        return file.is_file() and file.stat().st_size <= LARGEST and os.access(file, os.R_OK)
    return False


def archive(files: Mapping[str, Path]) -> bytes:
    """Return the files as a zip; the same files make the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target:
        for name, file in files.items():
            target.writestr(zipfile.ZipInfo(name.replace(os.sep, "/")), file.read_bytes(), zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def hashes(files: Mapping[str, Path]) -> dict[str, str]:
    """Return a hash of each file's content, by the same names."""
    return {name: _hash(file.read_bytes()) for name, file in files.items()}


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


# Versions, hardware, data


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def processor() -> str:
    """Return the name of the processor."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def content_of(path: str) -> dict[str, Any]:
    """Return number and size of the files at a path, and a hash of their names and contents.

    Up to 256 MB are read whole; of more, the beginnings of 512 files. Of more than 100,000 files the first are taken.
    """
    files = list(itertools.islice(_files_at(path), MOST))
    sizes = {file: os.path.getsize(file) for file in files}
    whole, total = sum(sizes.values()) <= WHOLE, sum(sizes.values())
    chosen = set(files if whole else files[:: max(1, len(files) // SOME)])
    digest = hashlib.blake2b(digest_size=8)
    for file in files:
        digest.update(f"{os.path.relpath(file, path)}\0{sizes[file]}\0".encode("utf-8", "surrogateescape"))
        if file in chosen:
            with open(file, "rb") as stream:
                digest.update(stream.read() if whole else stream.read(BEGINNING))
    return {"files": len(files), "bytes": total, "hash": digest.hexdigest(), "read": "all" if whole else len(chosen)}


def _files_at(path: str) -> Iterator[str]:
    """Yield the regular files at a path and below it, in order, except hidden ones and runs."""
    if os.path.isfile(path):
        yield path
    for folder, inner, names in os.walk(path):
        inner[:] = sorted(name for name in inner if name not in PASSED and not name.startswith("."))
        files = (os.path.join(folder, name) for name in sorted(names) if not name.startswith("."))
        yield from (file for file in files if os.path.isfile(file))


# Comparing


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the differences of two records in words, by kind; kinds that are equal are left out."""
    found = {kind: _differences(old.get(kind, {}), new.get(kind, {})) for kind in KINDS}
    return {kind: told for kind, told in found.items() if told}


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    told = []
    for name in sorted(old.keys() | new.keys()):
        one, other = old.get(name), new.get(name)
        if one == other:
            continue
        if isinstance(one, str) and isinstance(other, str) and not _is_hash(one):
            told.append(f"{name} {one} -> {other}")
        else:
            told.append(f"{name} {'is new' if one is None else 'is gone' if other is None else 'differs'}")
    return told


def _is_hash(text: str) -> bool:
    return len(text) == 16 and all(sign in "0123456789abcdef" for sign in text)
