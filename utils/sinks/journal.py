"""log.jsonl: the truth about a run; all other sinks are views of it."""

import errno
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import StorageError
from utils.figures.grid import picture_grid
from utils.runs.reading import PHASES, read_rows
from utils.terminal import show

if TYPE_CHECKING:
    from torch import Tensor

from utils.sinks.logger import MemoryJournal

__all__ = ["Journal"]

encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode  # json.dumps would make an encoder for each row


class Journal(MemoryJournal):
    """log.jsonl, one JSON object a line; it writes each row before any other sink sees it, and keeps none in memory."""

    def __init__(self, path: Path, keep: int = 0, say: Callable[[str], None] = show):
        """Open the journal. `keep`: the bytes that belong to the resumed state; later rows are cut off.

        Where they are not all there, that is told, and new rows begin a line of their own.
        """
        super().__init__()
        self.path, self.say = path, say
        try:
            self.stream = open(path, "ab", buffering=0)  # noqa: SIM115 - open as long as the run
        except OSError as error:
            raise self._failure(error) from error
        there = self.size()
        if there < keep:
            say(
                f"note: {path} holds {there:,} of the {keep:,} bytes that it had: its curves lack rows before this step"
            )
            self._begin_line()
        self.cut(keep)

    def _begin_line(self) -> None:
        """Remove the end of the journal behind its last whole row."""
        try:
            whole = self.path.read_bytes().rpartition(b"\n")[:2]
        except OSError as error:
            raise self._failure(error) from error
        self.cut(sum(map(len, whole)))

    def cut(self, keep: int) -> None:
        """Remove everything after the first `keep` bytes."""
        try:
            if self.stream.seek(0, os.SEEK_END) > keep:
                self.stream.truncate(keep)
                self.stream.seek(keep)
        except OSError as error:
            raise self._failure(error) from error

    def _add(self, row: dict[str, Any]) -> None:
        row = {"time": round(time.time(), 3), **row}
        try:
            line = encode(row)
        except ValueError:  # JSON has no value that is not finite; null keeps the line readable for all programs
            line = encode({k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()})
        whole = (line + "\n").encode()
        try:
            if (written := self.stream.write(whole)) < len(whole):  # otherwise the next row would follow half a row
                self.cut(self.size() - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise self._failure(error) from error

    @staticmethod
    def read(path: Path) -> list[dict[str, Any]]:
        """Return the rows of a journal except damaged ones; none if there is no journal."""
        return list(read_rows(path, (*PHASES, "show")))

    def size(self) -> int:
        """Return the bytes written so far."""
        return os.fstat(self.stream.fileno()).st_size

    def sync(self) -> None:
        """Wait until the rows are on the disk; a file that was removed meanwhile is written anew."""
        try:
            if not os.fstat(self.stream.fileno()).st_nlink:
                self._restore()
            os.fsync(self.stream.fileno())
        except OSError as error:
            raise self._failure(error) from error

    def _restore(self) -> None:
        """Write the file anew from the open one, which the system keeps; Linux shows it below /proc.

        Raises OSError where it cannot be read.
        """
        own = self.stream.fileno()
        with open(f"/proc/self/fd/{own}", "rb") as old:
            new = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o666)
            try:
                os.write(new, old.read())
                os.dup2(new, own, inheritable=False)  # at once: the training may be writing a row in another thread
                os.write(own, old.read())  # a row that came in between
            finally:
                os.close(new)
        self.say(f"{self.path} was removed while its run goes on; it is written anew, with all its rows")

    def images(self, name: str, step: int, images: "Tensor") -> None:
        """Write a file beside the journal, and its name into the journal."""
        from utils.images import write_image

        stem = "samples" if name == "samples" else f"samples_{name}"
        file = f"{stem}_{step:06d}.png"
        write_image(self.path.with_name(file), picture_grid(images.detach().float().cpu().numpy()))
        self._add({"phase": "show", "epoch": self.epoch, "step": step, "name": name, "picture": file})

    def close(self) -> None:
        self.stream.close()

    def _failure(self, error: OSError) -> StorageError:
        if hasattr(self, "stream") and not self.path.parent.is_dir():
            return StorageError(f"{self.path.parent}: was removed while its run went on; nothing can be saved")
        reason = error.strerror or str(error)
        return StorageError(
            f"{self.path}: cannot be written: {reason}; make room or check its permissions, then --resume"
        )
