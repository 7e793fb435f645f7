"""Names in the folders of runs and studies; the newest checkpoint is one file, or a folder (train.shard)."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = [
    "CHECKSUMS",
    "LAST_FOLDER",
    "NEWEST",
    "PREVIOUS_FOLDER",
    "REST",
    "STUDY",
    "folder_of",
    "in_parts",
    "newest_save",
    "time_of_save",
]

LAST_FOLDER, PREVIOUS_FOLDER = "last", "previous"
NEWEST = "last.new"  # whole on the disk, and about to be named last
STUDY = "study.json"  # in the folder of a study, whose children are run folders in it
REST = "rest.pth"  # in a folder, all that is not divided among the processes
CHECKSUMS = "SHA256SUMS"  # of a folder's files, as sha256sum writes them; written when all of them are


def in_parts(path: Path) -> bool:
    """Return whether a path is a checkpoint that is a folder; a run's folder is none."""
    return os.path.isfile(path / CHECKSUMS) or os.path.isfile(path / REST)  # not Path.is_file, which may raise


def folder_of(path: Path) -> Path:
    """Return the run folder that a path means: itself, or where the checkpoint lies that it is."""
    return path if path.is_dir() and not in_parts(path) else path.parent


def newest_save(run: Path) -> Path | None:
    """Return the newest checkpoint in a run's folder that has its name; None if there is none."""
    return next(_saves(run), None)


def time_of_save(run: Path) -> float:
    """Return when the run was saved last, in s since 1970; 0 if it was not."""
    found = newest_save(run)
    with suppress(OSError):  # of a run that is saved just now the names change
        if found is not None:
            return (found / CHECKSUMS if found.is_dir() else found).stat().st_mtime
    return 0.0


def _saves(run: Path) -> Iterator[Path]:
    """Yield the checkpoints in the order in which they are read."""
    for path in (run / NEWEST, run / "last.pth", run / LAST_FOLDER):
        if os.path.isfile(path) or in_parts(path):
            yield path
