"""Read each picture file once, on all cores: its size, hashes and colours, or why it cannot be read."""

import base64
import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data._broken import quiet
from data.looking.findings import Look
from data.looking.progress import Progress
from utils.errors import PictureError
from utils.files import storage_error, write_atomic
from utils.images import read_image, upright_size

__all__ = ["CACHE", "kind_of", "look_at"]

CACHE = "looked.jsonl"  # a line for each picture that was looked at: a look that was stopped goes on from there
VERSION = 3  # of a line
SIDE = 16  # of the thumbnail
LEAST = 128  # pixels of the short side that are read
SAMPLED = 64  # of them, whose colours count
LEVELS = np.stack([np.arange(256) / 255, (np.arange(256) / 255) ** 2], 1)
PERIOD = 1.0  # s between two times that the lines are handed to the system

Key = tuple[str, int, int]  # path, size, time of the last change in ns


def look_at(paths: Sequence[str], folder: Path, progress: Progress) -> tuple[dict[str, Look], int]:
    """Return what was found in each file, and how many were read now; the others are known from the cache in `folder`.

    Raises StorageError when the cache cannot be written.
    """
    cache = folder / CACHE
    known, keys = _known(cache), {path: _key(path) for path in paths}
    found = {path: known[key] for path, key in keys.items() if key in known}
    todo = [path for path in keys if path not in found]
    if todo:
        found |= _read(todo, keys, cache, progress)
    if len(known) > 2 * len(keys):  # most lines are about files that changed or are gone
        write_atomic(cache, "".join(_line(keys[path], look) for path, look in found.items()).encode())
    return found, len(todo)


def _read(todo: Sequence[str], keys: dict[str, Key], cache: Path, progress: Progress) -> dict[str, Look]:
    found: dict[str, Look] = {}
    last = time.monotonic()
    try:
        with quiet(), ThreadPool(os.cpu_count() or 1) as pool, open(cache, "a", encoding="utf-8") as lines:
            lines.write("\n" if lines.tell() else "")  # the last line may be cut off
            for path, look in progress.of(pool.imap_unordered(_look, todo), len(todo), "pictures"):
                found[path] = look
                lines.write(_line(keys[path], look))
                if time.monotonic() - last > PERIOD:
                    lines.flush()
                    last = time.monotonic()
    except OSError as error:
        raise storage_error(cache, error, 0) from error
    return found


def _key(path: str) -> Key:
    try:
        status = os.stat(path)
    except OSError:
        return path, -1, -1
    return path, status.st_size, status.st_mtime_ns


def _line(key: Key, look: Look) -> str:
    return json.dumps([VERSION, *key, *look]) + "\n"


def _known(cache: Path) -> dict[Key, Look]:
    """Return the looks in the cache; a line that is cut off or of another version counts as absent."""
    known: dict[Key, Look] = {}
    with suppress(OSError), open(cache, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with suppress(ValueError, TypeError):
                version, path, size, changed, *values = json.loads(line)
                if version == VERSION:
                    look = Look(*values)
                    known[path, size, changed] = look._replace(size=(look.size[0], look.size[1]))
    return known


def _look(path: str) -> tuple[str, Look]:
    heads: list[Look] = []

    def note(image: Image.Image) -> None:
        heads.append(Look(size=upright_size(image), mode=image.mode, format=image.format or ""))
        image.draft(None, (LEAST, LEAST))  # the pixels of a large JPEG are read at half its size, or less

    try:
        image = read_image(path, opened=note)
    except PictureError as error:
        return path, Look(error=error.reason)
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return path, Look(error="it changed while it was read")
    return path, heads[0]._replace(digest=digest, **_described(image))


def _described(image: Image.Image) -> dict[str, Any]:
    """Return the facts of a picture in RGB; the colours of a large one are those of some rows and columns."""
    step = min(max(min(image.size) // SAMPLED, 1), 4)
    size = image.width // step, image.height // step
    few = image.resize(size, Image.Resampling.NEAREST) if step > 1 else image  # all would take four times as long
    sums = np.asarray(few.histogram(), np.float64).reshape(3, 256) @ LEVELS / (few.width * few.height)
    grey = image.convert("L")  # smoothly made small: edges of boxes would fall elsewhere in a copy of another size
    thumb = grey.resize((SIDE, SIDE), Image.Resampling.HAMMING)
    places = np.asarray(grey.resize((9, 8), Image.Resampling.HAMMING))
    bits = np.packbits(places[:, 1:] > places[:, :-1])
    return {
        "outline": int.from_bytes(bits.tobytes(), "big"),
        "thumb": base64.b64encode(thumb.tobytes()).decode(),
        "means": sums[:, 0].round(6).tolist(),
        "squares": sums[:, 1].round(6).tolist(),
    }


def kind_of(look: Look) -> str:
    """Return in a word why a picture cannot be read."""
    reason = look.error.lower()
    if "empty" in reason:
        return "empty"
    if "none of" in reason:
        return "no picture by its content"
    cut = ("truncated", "incomplete", "premature", "broken data stream", "unexpected end", "not enough", "eof")
    return "cut off" if any(word in reason for word in cut) else "unreadable"
