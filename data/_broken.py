"""Name every picture that cannot be read, once one of them was met."""

import os
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from typing import Any

from data.protocol import files_of, takes_exclude
from utils.errors import DataError, PictureError
from utils.images import read_image

__all__ = ["all_broken", "broken_named", "by_reason", "quiet"]

SECONDS = 30.0  # after which no more pictures are looked at
THREADS = 8
REASONS = 5  # that are told


@contextmanager
def broken_named(dataset: Any, files: Sequence[str] | None = None) -> Iterator[None]:
    """Raise one error for all pictures that cannot be read in place of the first one's.

    They are looked for in the dataset's files, or in `files`.
    """
    try:
        yield
    except PictureError as error:
        found = files_of(dataset) if files is None else files
        raise all_broken(found, error, takes_exclude(dataset)) from None


def all_broken(files: Sequence[str], error: PictureError, exclude: bool = False) -> DataError:
    """Return the error for all pictures of `files` that cannot be read, of which `error` told one.

    `exclude`: the dataset takes patterns of names that are left out.
    """
    faults, looked = _look(files)
    told = {fault.path for fault in faults}
    faults += [] if error.path in told else [error]
    advice = "; remove or replace them"
    if exclude:
        advice += f", or leave them out: data.dataset.exclude=[{os.path.basename(faults[0].path)}, …]"
    if len(faults) == 1:
        one = f"; data.dataset.exclude=[{os.path.basename(error.path)}] leaves it out" if exclude else ""
        return DataError(f"{error}{one}")
    of = f"{len(files):,}" if looked == len(files) else f"the first {looked:,} of {len(files):,}"
    return DataError(f"{len(faults):,} of {of} pictures cannot be read: {by_reason(faults)}{advice}")


def _look(files: Sequence[str]) -> tuple[list[PictureError], int]:
    """Return the errors of the pictures that cannot be read, and how many were looked at before the time was over."""
    end, faults, looked = time.monotonic() + SECONDS, list[PictureError](), 0
    threads = min(THREADS, os.cpu_count() or 1)  # decoding releases Python's lock
    with quiet(), ThreadPool(threads) as pool:
        for fault in pool.imap(_fault, files):
            looked += 1
            faults += [fault] if fault else []
            if time.monotonic() > end:
                break
    return faults, looked


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back warnings, and the lines that libtiff writes past Python: a broken file may cause dozens."""
    with warnings.catch_warnings(), open(os.devnull, "wb") as nowhere:
        warnings.simplefilter("ignore")
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _fault(path: str) -> PictureError | None:
    try:
        read_image(path)
    except PictureError as error:
        return error
    return None


def by_reason(faults: Sequence[PictureError]) -> str:
    """Return the first picture of each reason, and how many more have the same."""
    groups: dict[str, list[PictureError]] = {}
    for fault in faults:  # reasons that differ in numbers only are the same
        groups.setdefault(re.sub(r"\d+", "0", fault.reason), []).append(fault)
    most = sorted(groups.values(), key=len, reverse=True)
    parts = []
    for group in most[:REASONS]:
        more = f" and {len(group) - 1:,} more" if len(group) > 1 else ""
        parts.append(f"{group[0].path}{more} ({group[0].reason})")
    rest = sum(map(len, most[REASONS:]))
    return ", ".join(parts) + (f", and {rest:,} for other reasons" if rest else "")
