"""Checkpoints on disk: written whole or not at all, read only when their checksum fits."""

import errno
import hashlib
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from trainer.checkpointing.folders import ReplacedError, digest_of, load_folder, name_newest, retire, sweep, sync_folder
from trainer.checkpointing.older import brought_up
from trainer.checkpointing.sound import check_finite, check_plain
from utils.errors import CheckpointError, StorageError
from utils.files import TEMPORARY, fsync, open_regular, storage_error, write_durably
from utils.runs.saves import LAST_FOLDER, NEWEST, PREVIOUS_FOLDER, in_parts

__all__ = ["Store", "read", "read_newest"]

FORMAT = 1
LAST, PREVIOUS, BEST, RESCUE = "last.pth", "previous.pth", "best.pth", "rescue.pth"
FOLDERS = {LAST: (NEWEST, LAST, LAST_FOLDER), PREVIOUS: (PREVIOUS, PREVIOUS_FOLDER)}  # in the order of their age
HALF_WRITTEN = re.compile(
    r"((last|previous|best|rescue|epoch-\d+)\.pth(\.sha256)?|(config\.yaml|status\.json|[\w.-]+\.(png|csv))\.\d+)\.tmp"
)
PIECE = 1 << 20  # bytes of a write, at least; torch hands over many small ones
AGAIN = 20  # times that a checkpoint is read again
LONGEST = 4096  # bytes of a checksum file: whoever made a longer one, it was not us
NEEDED = {"format": int, "model": dict, "config": dict, "meta": dict, "progress": dict}


class Store:
    """A run folder's checkpoints: the newest two, the best, and epochs that were asked to stay."""

    def __init__(self, folder: Path):
        self.folder = folder

    def save(
        self, state: dict[str, Any], copies: Iterable[str] = (), last: bool = True, drop: Iterable[str] = ()
    ) -> None:
        """Write `state` under the names in `copies` and, if `last`, as last.pth; the old last.pth becomes previous.pth.

        The checkpoints in `drop` are removed afterwards. The dict `state` is emptied as soon as it is written: its
        memory is needed before the disk has everything. Raises StorageError when it cannot be written; the older
        checkpoints are intact then. Raises NonFiniteError when a weight is not a finite number.
        """
        check_plain(state, "state")
        check_finite(state["model"])
        new = self.folder / f"{LAST}{TEMPORARY}"
        stream = _Stream(new)
        try:
            state["format"] = FORMAT
            digest = stream.write_state(state)
            # The copies first: if the process dies in between, last.pth is older and the same work is done again.
            for name in copies:
                self._publish(self._link(new, name), name, digest)
            if last:
                self._replace_last(new, digest)
            else:
                new.unlink()
            self.drop(drop)
        except OSError as error:
            with suppress(OSError):
                self.remove_partial()
            name = LAST if last else next(iter(copies), LAST)
            raise self.failed(self.folder / name, error, stream.size) from error

    def write(self, state: dict[str, Any], name: str) -> None:
        """Write one more checkpoint, with its checksum, in any folder; `state` is emptied.

        Raises StorageError when it cannot be written; an older file of that name stays.
        """
        stream = _Stream(self.folder / f"{name}.{os.getpid()}{TEMPORARY}")
        try:
            self._publish(stream.path, name, stream.write_state(state))
        except OSError as error:
            with suppress(OSError):
                stream.path.unlink(missing_ok=True)
            raise storage_error(self.folder / name, error, stream.size) from error

    def drop(self, names: Iterable[str]) -> None:
        """Remove checkpoints, if they can be removed: the new ones are saved already."""
        for path in (self.folder / name for name in names):
            with suppress(OSError):
                path.unlink(missing_ok=True)
                _sidecar(path).unlink(missing_ok=True)

    def failed(self, path: Path, error: OSError, size: int) -> StorageError:
        """Return the error for a checkpoint of `size` bytes that could not be written."""
        if not self.folder.is_dir():
            return StorageError(f"{self.folder}: was removed while its run went on; nothing can be saved")
        after = "what was saved before is intact; make room or check the folder's permissions, then --resume"
        return storage_error(path, error, size, after)

    def _replace_last(self, new: Path, digest: str) -> None:
        name_newest(self.folder)  # of a run that was killed with train.shard
        last = self.folder / LAST
        old = self._link(last, PREVIOUS) if last.is_file() else None  # a pipe would be read for ever
        old_digests = _digests(last) or ([digest_of(last)] if old else [])  # of a copied run the checksums may be gone
        self._publish(new, LAST, digest)
        if old:  # only now: had the old one been damaged, the one before it would still be needed
            self._publish(old, PREVIOUS, *old_digests)
        retire(self.folder)

    def remove_partial(self) -> None:
        """Remove what a killed process left half written, and nothing that is not ours; only for the run's owner."""
        for path in self.folder.glob(f"*{TEMPORARY}"):
            if HALF_WRITTEN.fullmatch(path.name) and not path.is_dir():
                path.unlink(missing_ok=True)
        sweep(self.folder)

    def _link(self, source: Path, name: str) -> Path:
        """Give a file a second name, or copy it where the file system has no links."""
        target = self.folder / f"{name}{TEMPORARY}"
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.EXDEV):
                raise
            write_durably(target, source.read_bytes())
        return target

    def _publish(self, new: Path, name: str, *digests: str) -> None:
        """Give a written file its name. Its checksum file holds old and new before, so that both are valid.

        All old lines stay until then: where a process was killed in between, any of them may be that of the old file.
        The folder is synced after each of the two renames: a power cut may undo them in any order.
        """
        path = self.folder / name
        _put_digests(path, [*digests, *(_digests(path) or [])])
        sync_folder(self.folder)
        os.replace(new, path)
        sync_folder(self.folder)
        _put_digests(path, list(digests))


class _Stream:
    """The file that torch.save writes to: a full disk is reported at the end.

    An error within torch.save would be told as a broken position of the file.
    """

    def __init__(self, path: Path):
        self.path, self.size = path, 0
        self.error: OSError | None = None

    def write_state(self, state: dict[str, Any]) -> str:
        """Write the file to the disk and return its checksum. Raises OSError when it could not be written whole."""
        with open(self.path, "wb", buffering=PIECE) as self.file:
            torch.save(state, self)  # type: ignore[arg-type]
            state.clear()  # and only then the rest, which takes as long again
            self._try(lambda: fsync(self.file))
        if self.error is not None:
            raise self.error
        with open(self.path, "rb") as file:  # its own checksums were computed from memory: damage on the way shows
            if problem := _damage(self.path, file):
                raise OSError(errno.EIO, f"read back, it {problem}")
        return digest_of(self.path)

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self._try(lambda: self.file.write(data))
        return len(data)

    def flush(self) -> None:
        self._try(self.file.flush)

    def _try(self, act: Callable[[], object]) -> None:
        try:
            if self.error is None:
                act()
        except OSError as error:
            self.error = error


def read(path: Path) -> dict[str, Any]:
    """Return the state in one file, or in a folder of parts.

    Raises CheckpointError for one that is missing, damaged, foreign or not safe to load.
    """
    for _ in range(AGAIN):  # a small network's run that goes on may save more often than its checkpoint can be read
        with suppress(ReplacedError):
            return _checked(load_folder(path) if path.is_dir() else _read_file(path), path)
    return _checked(load_folder(path) if path.is_dir() else _read_file(path), path)


def _read_file(path: Path) -> Any:
    try:
        with open_regular(path) as file:
            problem = _damage(path, file)
            if not problem:
                state = _load(path)
            if not os.path.samestat(os.fstat(file.fileno()), path.stat()):  # files are replaced, never changed
                raise ReplacedError(f"{path}: was replaced while it was read; try again")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: is not there") from error
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error
    if problem:
        raise CheckpointError(f"{path}: {problem}")
    return state


def _checked(state: Any, path: Path) -> dict[str, Any]:
    """Return a checkpoint's state as this version writes it. Raises CheckpointError for one that no run wrote."""
    if not isinstance(state, dict) or not all(isinstance(state.get(key), kind) for key, kind in NEEDED.items()):
        raise CheckpointError(
            f"{path}: is no checkpoint of a run; bare weights begin a new one, with train --load-model-path=…; val and "
            "test take them, too, with --config=…"
        )
    plain = all(isinstance(weight, Tensor) for weight in state["model"].values())
    if not plain or not isinstance(state.get("fingerprint", {}), dict):
        raise CheckpointError(f"{path}: its weights or its fingerprint are of another type; no run wrote that")
    if state["format"] != FORMAT:
        raise CheckpointError(f"{path}: has format {state['format']}, this version reads {FORMAT}")
    return brought_up(state)


def _load(path: Path) -> Any:
    """Load a file with torch. The tensors are mapped from the file: a caller that keeps them copies them."""
    try:
        with warnings.catch_warnings():  # torch guesses at what a foreign file is; that it is refused is enough
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises what it likes on foreign content; all of it means the same here
        reason = next((line for line in str(error).splitlines() if "Unsupported" in line), type(error).__name__)
        raise CheckpointError(f"{path}: is no checkpoint that can be loaded safely ({reason[:160]})") from error


def read_newest(place: Path, names: Iterable[str] = (LAST, PREVIOUS)) -> tuple[dict[str, Any], Path, list[str]]:
    """Return the state of a checkpoint, or of the first of `names` in a run that can be read; its path; rejected ones.

    last.pth and previous.pth also mean the folders that are written in their place with train.shard.

    Each rejected one is a sentence with the reason. Raises CheckpointError with all of them when none can be read.
    """
    if not place.is_dir() or in_parts(place):
        return read(place), place, []
    rejected: list[str] = []
    for path in _there(place, names):
        try:
            return read(path), path, rejected
        except CheckpointError as error:
            rejected.append(str(error))
    raise CheckpointError(f"{place}: no usable checkpoint ({'; '.join(rejected)})")


def _there(place: Path, names: Iterable[str]) -> Iterator[Path]:
    """Yield the checkpoints of these names that are there; not every run has a second one, or a best one."""
    for name in names:
        paths = [place / other for other in FOLDERS.get(name, (name,))]
        found = [path for path in paths if (path.exists() if path.suffix == ".pth" else in_parts(path))]
        yield from found or ([place / name] if name == LAST else [])


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _digests(path: Path) -> list[str] | None:
    """Return the checksums that a file may have, as sha256sum writes them; None if it has no checksum file."""
    if not _sidecar(path).is_file():
        return None
    try:
        with open(_sidecar(path), "rb") as stream:
            text = stream.read(LONGEST).decode(errors="replace")  # of a damaged one, too, no line will fit
        return [line.split()[0] for line in text.splitlines() if line.strip()]
    except OSError:
        return None


def _put_digests(path: Path, digests: list[str]) -> None:
    sidecar = _sidecar(path)
    temporary = sidecar.with_name(sidecar.name + TEMPORARY)
    write_durably(temporary, "".join(f"{digest}  {path.name}\n" for digest in digests).encode())
    os.replace(temporary, sidecar)


def _damage(path: Path, file: BinaryIO) -> str:
    """Return the fault in a file's bytes, "" if there is none. torch.load itself would not notice a flipped bit."""
    digests = _digests(path)
    if digests is not None and hashlib.file_digest(file, "sha256").hexdigest() not in digests:  # type: ignore[arg-type]
        return f"is damaged ({file.tell():,} bytes whose checksum is not that in {_sidecar(path).name})"
    try:
        with zipfile.ZipFile(file) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                return "holds compressed entries, which no checkpoint does"
            bad = archive.testzip() if digests is None else None  # the checksums that a copy without its file has
            return f"is damaged (entry {bad})" if bad else ""
    except Exception as error:  # zipfile raises what it likes on damaged bytes: EOFError, zlib.error, struct.error, …
        return f"is damaged or no checkpoint ({error})"
