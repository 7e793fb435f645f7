"""A checkpoint as a folder: tensors in parts by torch.distributed.checkpoint, the rest in one file, and checksums.

Nothing in such a folder is run when it is read: torch's own description of the parts is a pickle, of which only the
classes that make it up are accepted.
"""

import hashlib
import importlib
import os
import pickle
import re
import shutil
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.parallel.divided import is_divided
from utils.errors import CheckpointError
from utils.files import TEMPORARY, open_regular, write_durably
from utils.runs.saves import CHECKSUMS, LAST_FOLDER, NEWEST, PREVIOUS_FOLDER, REST, in_parts

__all__ = [
    "DESCRIPTION",
    "WRITTEN",
    "digest_of",
    "joined",
    "load_folder",
    "name_newest",
    "publish",
    "remove",
    "retire",
    "separate",
    "sweep",
    "sync_folder",
]

DESCRIPTION = ".metadata"  # where each part of a tensor lies
WRITTEN = f"{LAST_FOLDER}{TEMPORARY}"  # while it is written
LONGEST = 1 << 24  # bytes of the checksums of some 100,000 processes
META, FILES = "torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem"
OURS = re.compile(rf"__\d+_\d+\.distcp|\{DESCRIPTION}(\.tmp)?|{REST}|{CHECKSUMS}")  # the files of a folder
KNOWN = {  # the classes of a description
    *((META, name) for name in ("Metadata", "MetadataIndex", "TensorStorageMetadata", "TensorProperties")),
    *((META, name) for name in ("ChunkStorageMetadata", "StorageMeta", "_MEM_FORMAT_ENCODING")),
    (FILES, "_StorageInfo"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
}


def separate(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a state with None in place of its divided tensors, and these by their places."""
    parts: dict[str, Tensor] = {}
    return {"state": _without(state, "", parts), "parts": [*parts]}, parts


def _without(value: Any, place: str, parts: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, f"{place}/{key}", parts) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without(item, f"{place}/{i}", parts) for i, item in enumerate(value))
    if not is_divided(value):
        return value
    parts[place] = value
    return None


def joined(value: Any, place: str, parts: Mapping[str, Tensor]) -> Any:
    """Return a state with the tensors at their places again."""
    if isinstance(value, dict):
        return {key: joined(item, f"{place}/{key}", parts) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(joined(item, f"{place}/{i}", parts) for i, item in enumerate(value))
    return parts.get(place, value)


class ReplacedError(CheckpointError):
    """A checkpoint whose run saved a newer one while it was read; the newer one has its name."""


def load_folder(path: Path) -> Any:
    """Return the state in a folder, of whole tensors; any number of processes may read it, each on its own.

    Raises CheckpointError for a folder that is missing, damaged, foreign or not safe to load, ReplacedError for one
    that was replaced meanwhile.
    """
    if not path.is_dir():
        raise CheckpointError(f"{path}: is not there")
    before = _identity(path)
    try:
        sums = _sums(path)
        for name, digest in sums.items():
            if digest_of(path / name) != digest:
                raise CheckpointError(f"{path}: is damaged ({name} has another checksum than {CHECKSUMS} says)")
        if not {REST, DESCRIPTION} <= sums.keys():
            raise CheckpointError(f"{path}: is damaged ({CHECKSUMS} lacks {REST} or {DESCRIPTION})")
        state, fault = _joined(path, sums), None
    except Exception as error:  # torch raises what it likes on foreign content; all of it means the same here
        fault = error
    if _identity(path) != before:  # its files may be gone, or those of two checkpoints
        raise ReplacedError(f"{path}: was replaced while it was read; try again")
    if fault is None:
        return state
    if isinstance(fault, CheckpointError):
        raise fault
    told = getattr(fault, "strerror", None) or type(fault).__name__
    name = f" of {Path(fault.filename).name}" if isinstance(fault, OSError) and fault.filename else ""
    raise CheckpointError(f"{path}: is damaged or no checkpoint ({told}{name})") from fault


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return the values that another folder of that name would not have: an inode alone may come again."""
    with suppress(OSError):
        found = folder.stat()
        return found.st_ino, found.st_mtime_ns
    return None


def _sums(path: Path) -> dict[str, str]:
    """Return the checksum of each file. Raises CheckpointError for a list that no run wrote."""
    with open_regular(path / CHECKSUMS) as file:
        lines = file.read(LONGEST).decode(errors="replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if not sums or any(Path(name).name != name for name in sums):
        raise CheckpointError(f"{path}: is damaged ({CHECKSUMS} is no list of this folder's files)")
    return sums


def _joined(path: Path, sums: Mapping[str, str]) -> Any:
    rest = torch.load(path / REST, map_location="cpu", weights_only=True, mmap=True)
    description = _described(path, sums)
    parts = {name: torch.empty(tensor.size, dtype=tensor.properties.dtype) for name, tensor in description.items()}
    if set(rest["parts"]) != parts.keys():
        raise CheckpointError(f"{path}: is damaged ({REST} and {DESCRIPTION} are of two checkpoints)")
    if parts:
        import torch.distributed.checkpoint as dcp

        class Reader(dcp.FileSystemReader):
            """Reads the description without running anything that is in it."""

            def read_metadata(self, *args: Any, **kwargs: Any) -> Any:
                return _description(path)

        with warnings.catch_warnings():  # it is meant that each process reads by itself
            warnings.simplefilter("ignore")
            dcp.load(parts, storage_reader=Reader(path), no_dist=True)
    return joined(rest["state"], "", parts)


def _described(path: Path, sums: Mapping[str, str]) -> dict[str, Any]:
    """Return the tensors in the description. Raises CheckpointError where it leads out of the folder's own files."""
    found = _description(path)
    files = {place.relative_path for place in found.storage_data.values()}
    size = sum(tensor.size.numel() * tensor.properties.dtype.itemsize for tensor in found.state_dict_metadata.values())
    if not files <= sums.keys() or size > sum((path / name).stat().st_size for name in files):
        raise CheckpointError(f"{path}: is damaged ({DESCRIPTION} is not that of its files)")
    return dict(found.state_dict_metadata)


class _Plain(pickle.Unpickler):
    """Makes the classes of a description alone."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in KNOWN:
            return getattr(importlib.import_module(module), name)
        if module == "torch" and isinstance(dtype := vars(torch).get(name), torch.dtype):
            return dtype
        raise pickle.UnpicklingError(f"{module}.{name}")


def _description(path: Path) -> Any:
    with open_regular(path / DESCRIPTION) as file:
        return _Plain(file).load()


def digest_of(path: Path) -> str:
    """Return a file's sha256. Raises OSError."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def publish(run: Path, sums: Mapping[str, str]) -> None:
    """Name the folder whose files all processes have written to the disk; only then the one before it goes.

    There is no moment at which neither of the two is there.
    """
    written = run / WRITTEN
    write_durably(written / CHECKSUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode())
    sync_folder(written)
    os.replace(written, run / NEWEST)
    sync_folder(run)
    name_newest(run)


def name_newest(run: Path) -> None:
    """Rename the newest checkpoint to last and the one before it to previous, also where a kill left that half done."""
    if not in_parts(run / NEWEST):
        return
    single, had_folder = run / "last.pth", in_parts(run / LAST_FOLDER)
    if single.is_file():  # the run went on with train.shard
        with suppress(FileNotFoundError):
            os.replace(run / "last.pth.sha256", run / "previous.pth.sha256")
        os.replace(single, run / "previous.pth")
    elif had_folder:
        remove(run / "previous.pth", run / "previous.pth.sha256")
    if had_folder:
        remove(run / PREVIOUS_FOLDER)
        os.replace(run / LAST_FOLDER, run / PREVIOUS_FOLDER)
    sync_folder(run)
    os.replace(run / NEWEST, run / LAST_FOLDER)
    sync_folder(run)


def retire(run: Path) -> None:
    """Make a folder the one before last.pth, which was just written, or remove it once there is a previous.pth."""
    if in_parts(run / LAST_FOLDER):
        remove(run / PREVIOUS_FOLDER)
        os.replace(run / LAST_FOLDER, run / PREVIOUS_FOLDER)
    elif (run / "previous.pth").is_file():
        remove(run / PREVIOUS_FOLDER)


def sweep(run: Path) -> None:
    """Remove what a killed process left half written or half removed."""
    for name in (LAST_FOLDER, PREVIOUS_FOLDER, NEWEST):
        folder = run / f"{name}{TEMPORARY}"
        if folder.is_dir() and all(OURS.fullmatch(other) for other in os.listdir(folder)):
            shutil.rmtree(folder, ignore_errors=True)


def remove(*paths: Path) -> None:
    """Remove files, and folders, which lose their names first: a part of one is never taken for the whole."""
    for path in paths:
        if in_parts(path):
            gone = path.with_name(f"{path.name}{TEMPORARY}")
            sweep(path.parent)
            os.replace(path, gone)
            shutil.rmtree(gone, ignore_errors=True)
        elif not path.is_dir():
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Sync a folder: a renamed file is only safe after that. Some systems cannot open folders and need not."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
