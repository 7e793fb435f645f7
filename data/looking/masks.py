"""Masks: their size and values, and how many pixels each class has."""

import os
import re
from collections.abc import Iterator, Sequence
from multiprocessing.pool import ThreadPool
from typing import Any, NamedTuple

import numpy as np

from data._broken import quiet
from data.looking.findings import Finding
from data.looking.progress import Progress
from utils.errors import DataError, PictureError
from utils.images import read_size
from utils.words import count_of

__all__ = ["Counted", "count_pixels", "mask_findings"]

LONE = 4  # masks from which a value that one of them alone holds is odd
FEW = 0.01  # the part of all pixels that such a value has at most


class Counted(NamedTuple):
    """The pixels of each class number in a mask; or the fault of the mask, with its kind."""

    path: str
    pixels: np.ndarray  # int64 [256]
    kind: str = ""
    fault: str = ""


def count_pixels(pictures: Sequence[str], masks: Sequence[str | None], table: Any, progress: Progress) -> list[Counted]:
    """Return the pixels of each class in the masks, read on all cores."""
    pairs = [(picture, mask, table) for picture, mask in zip(pictures, masks, strict=True) if mask]
    with quiet(), ThreadPool(os.cpu_count() or 1) as pool:
        return list(progress.of(pool.imap(_count, pairs), len(pairs), "masks"))


def _count(pair: tuple[str, str, Any]) -> Counted:
    picture, mask, table = pair
    none = np.zeros(256, np.int64)
    try:
        width, height = read_size(picture)
    except DataError:
        return Counted(mask, none)  # the picture's own fault
    try:
        return Counted(mask, np.bincount(table.read(mask, height, width).numpy().ravel(), minlength=256))
    except PictureError as error:
        return Counted(mask, none, "unreadable mask", error.reason)
    except DataError as error:
        return Counted(mask, none, "odd mask", str(error).partition(";")[0])


def mask_findings(split: str, counted: Sequence[Counted], names: Sequence[str], named: bool) -> Iterator[Finding]:
    """Yield the findings about the masks of a split; `named`: the config names the values that are classes."""
    kinds: dict[str, list[Counted]] = {}
    for one in counted:
        kinds.setdefault(re.sub(r"\d+", "", one.kind and one.kind + one.fault.replace(one.path, "")), []).append(one)
    for kind, found in kinds.items():
        if kind:
            told = f"{len(found):,} of {count_of(len(counted), 'mask')}; the first: {found[0].fault}"
            remedy = "mend or remove them, or data.dataset.classes names the values"
            yield Finding(found[0].kind, split, len(found), told, [one.path for one in found], True, remedy)
    holders = {number: [one.path for one in counted if one.pixels[number]] for number in range(len(names))}
    total = sum(int(one.pixels.sum()) for one in counted)
    lone = {n: paths for n, paths in holders.items() if len(paths) == 1 and len(counted) >= LONE and not named}
    for number, paths in lone.items():
        pixels = sum(int(one.pixels[number]) for one in counted)
        if pixels <= FEW * total:
            value = f"{names[number]} ({pixels:,} pixels)"
            told = f"one mask of {len(counted):,} alone holds the value {value}, which becomes a class of its own"
            remedy = "mend it, or data.dataset.classes names all values that are classes"
            yield Finding("odd mask", split, 1, told, paths, True, remedy)
    if absent := [names[number] for number, paths in holders.items() if not paths and split == "train"]:
        yield Finding("empty class", split, len(absent), f"no pixel of {', '.join(absent[:6])}", absent)
