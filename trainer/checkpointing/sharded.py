"""Saving with train.shard: each process writes its part, beside the training, and the whole is named when all are done.

In: the state of each process, with its parts of the divided tensors. Out: the folder last, see folders.py; best.pth and
kept epochs are single files as ever.
"""

import io
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from trainer.checkpointing.folders import (
    DESCRIPTION,
    WRITTEN,
    digest_of,
    joined,
    name_newest,
    publish,
    separate,
    sweep,
    sync_folder,
)
from trainer.checkpointing.saver import WRITING, Saver, snapshot
from trainer.checkpointing.sound import check_finite, check_plain
from trainer.checkpointing.store import FORMAT, Store
from trainer.parallel.divided import part_of, whole
from utils import dist
from utils.errors import NonFiniteError, StorageError, UserError
from utils.files import write_durably
from utils.runs.saves import LAST_FOLDER, REST
from utils.torch_private import with_part

__all__ = ["ShardedSaver"]

LOOK = 0.05  # s between two looks at the threads that write
GRACE = 10.0  # s that a run which has failed waits for a save: another process may never answer


class ShardedSaver(Saver):
    """A run's checkpoints, of all its processes, each of which has one of these; `folder` is known to the first one."""

    def __init__(self, place: Path, first: bool, background: bool, before: Callable[[], object] = lambda: None):
        """`place` is the run's folder, on a disk that all processes see; every process must call this."""
        super().__init__(Store(place), background, before)
        self.place, self.first = place, first
        # Messages of a thread of its own must not meet those of the training. Disks may be slow, and unevenly so.
        self.group = dist.quiet_group()

    @property
    def folder(self) -> Path | None:
        """Where the checkpoints are; None in all processes except the first."""
        return self.place if self.first else None

    def save(
        self, state: dict[str, Any], copies: Iterable[str] = (), last: bool = True, drop: Sequence[str] = ()
    ) -> None:
        """Save as Store.save does, with the folder last in place of last.pth; every process must call it.

        Raises the error of the save before, if it failed in any process; without `background` also its own.
        """
        self.wait()
        copies = list(copies)
        rest, parts = separate({"format": FORMAT, **state})
        rest, writer = snapshot(rest), _Writer(self.place / WRITTEN)
        single = joined(rest["state"], "", whole(parts)) if copies else None
        # This is async_save of torch, whose thread is our own: a fork waits for it, and the exit of a process does not.
        # Its copies would be deep ones, which gradients of an open window refuse.
        copied = snapshot({name: part_of(tensor) for name, tensor in parts.items()}) if last else {}
        staged = (writer, rest, {name: with_part(parts[name], part) for name, part in copied.items()}) if last else None
        save = _Save(self, single if self.first else None, copies, drop, staged)
        if not self.background:
            save.run()
            return
        self.thread = threading.Thread(target=self._work, args=(save,), name="saver", daemon=True)
        self.thread.start()

    def wait(self) -> None:
        """Wait until all processes have written everything; every process must call it.

        They ask one another meanwhile, so that one which is frozen is found out within train.dist_timeout.
        Raises the error of the last save, if it failed.
        """
        while any(dist.largest(int(self.thread is not None and self.thread.is_alive()))):
            time.sleep(LOOK)
        super().wait()

    def close(self) -> None:
        """Wait, though not for ever, and raise nothing."""
        if self.thread is not None:
            self.thread.join(GRACE)
            self.thread = None

    def _work(self, save: "_Save") -> None:  # type: ignore[override]
        try:
            with WRITING:
                save.run()
        except Exception as error:
            self.error = error  # raised by the training thread, in its own time


class _Save:
    """One save, in one of the processes: after each part all of them know whether it went well everywhere."""

    def __init__(
        self,
        saver: ShardedSaver,
        single: dict[str, Any] | None,
        copies: Sequence[str],
        drop: Sequence[str],
        staged: tuple["_Writer", dict[str, Any], dict[str, Any]] | None,
    ):
        self.saver, self.single, self.copies, self.drop, self.staged = saver, single, copies, drop, staged
        self.written = saver.place / WRITTEN

    def run(self) -> None:
        """Write the single files, then the parts, and name the folder. Raises what went wrong in any process."""
        self._together(self._begin)
        if self.staged is not None:
            self._together(self._see_folder)
            self._together(self._write_parts)
            sums: dict[str, str] = {}
            for found in self._together(self._sums):
                sums |= found
            self._together(lambda: publish(self.saver.place, sums) if self.saver.first else None)
        if self.saver.first:
            self.saver.store.drop(self.drop)

    def _begin(self) -> None:
        """Look at the weights; in the first process, make the journal durable, write single files, make the folder."""
        if self.staged is not None:
            _, rest, parts = self.staged
            check_plain(rest, "state")
            weights = {name: part_of(t) for name, t in parts.items() if name.startswith("/model/")}
            check_finite(weights | {n: t for n, t in rest["state"]["model"].items() if t is not None})
        if not self.saver.first:
            return
        self.saver.before()
        if self.single is not None:
            self.saver.store.save(self.single, self.copies, last=False)
        if self.staged is not None:
            name_newest(self.saver.place)
            sweep(self.saver.place)
            self.written.mkdir()
            stream = io.BytesIO()
            torch.save(self.staged[1], stream)
            write_durably(self.written / REST, stream.getbuffer())

    def _see_folder(self) -> None:
        """Raise StorageError where this process does not see the folder that the first one has just made."""
        for _ in range(50):  # a network disk may be a moment late
            if self.written.is_dir():
                return
            time.sleep(0.1)
        raise StorageError(
            f"{self.saver.place}: another process wrote there, and this one does not see it; train.shard: full needs a "
            "run folder on a disk that all machines share"
        )

    def _write_parts(self) -> None:
        assert self.staged is not None
        writer, _, parts = self.staged
        try:
            dcp.save(parts, storage_writer=writer, process_group=self.saver.group)
        except CheckpointException as error:  # is no Exception
            raise next(iter(error.failures.values()))[0] from None

    def _sums(self) -> dict[str, str]:
        """Return the checksums of this process's files, read back; those of all the rest come from the first one."""
        own = list(self.written.glob(f"__{dist.rank()}_*"))
        if self.saver.first:
            own += [self.written / REST, self.written / DESCRIPTION]
        sync_folder(self.written)
        return {path.name: digest_of(path) for path in own}

    def _together(self, act: Callable[[], Any]) -> list[Any]:
        """Return the results of all processes. Where one of them failed, each raises its error, or that one's."""
        result: Any = None
        error: Exception | None = None
        try:
            result = act()
        except OSError as failed:
            with suppress(OSError):
                self._remove_partial()
            error = self.saver.store.failed(self.saver.place / LAST_FOLDER, failed, self._size())
        except Exception as failed:  # all processes have to hear of it
            error = failed
        told = None if error is None else (isinstance(error, NonFiniteError), str(error))
        found = dist.gather((result, told), self.saver.group)
        if error is not None:
            raise error
        for rank, (_, other) in enumerate(found):
            if other is not None:
                kind: type[UserError] = NonFiniteError if other[0] else StorageError
                raise kind(f"process {rank}: {other[1]}")
        return [value for value, _ in found]

    def _remove_partial(self) -> None:
        if self.saver.first:
            self.saver.store.remove_partial()

    def _size(self) -> int:
        """Return the bytes that this process has to write."""
        parts = self.staged[2].values() if self.staged is not None else ()
        return sum(part_of(part).nbytes for part in parts)


class _Writer(dcp.FileSystemWriter):
    """Torch's own, which notes neither where it wrote, nor makes folders that were removed."""

    def __init__(self, path: Path):
        super().__init__(path, sync_files=True, per_thread_copy_ahead=0)
        self.fs.mkdir = lambda path: os.stat(path)  # type: ignore[method-assign, assignment]

    def storage_meta(self) -> None:
        return None
