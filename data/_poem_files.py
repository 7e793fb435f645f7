"""Read poems and texts: chinese-poetry's JSON files, the book's tang.npz, and plain text."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data._csv import Faults, read_lines
from data._sources import advice
from utils.errors import DataError
from utils.files import content

if TYPE_CHECKING:
    from zipfile import ZipFile

__all__ = ["find_files", "read_plain", "read_poems"]

MOST = 1 << 29  # bytes of an array; the book's has 29 MB


def find_files(root: str, files: str) -> list[Path]:
    """Return the files of poems in a folder, sorted by name: those that match `files`, a tang.npz, or plain text.

    Raises DataError when there are none.
    """
    path = Path(os.path.expanduser(root))
    if not path.exists():
        raise DataError(
            f"{root} does not exist, but the poems are read from it; set --data.dataset.root=FOLDER{advice(root)}"
        )
    found = [path] if path.is_file() else []
    for pattern in (files, "tang.npz", "*.txt") if not found else ():
        found = found or sorted(file for file in path.glob(pattern) if file.name[0] != ".")
    if not found:
        told = f"looked for {files} and tang.npz, and for plain text in *.txt"
        raise DataError(f"no poems in {root} ({told}); set --data.dataset.root=FOLDER{advice(root)}")
    return found


def read_plain(found: Sequence[Path]) -> list[str]:
    """Return the content of text files, with line ends as \\n. Raises DataError for a file that is no UTF-8 text."""
    texts = []
    for file in found:
        faults = Faults(str(file))
        texts.append("".join(read_lines(str(file), faults)).replace("\r\n", "\n"))
    return texts


def read_poems(found: Sequence[Path]) -> list[str]:
    """Return the texts of all poems in these files, in their order. Raises DataError when one cannot be read."""
    return [text for file in found for text in (_read_npz if file.suffix == ".npz" else _read_json)(file)]


def _read_json(path: Path) -> list[str]:
    """Return each object's paragraphs, joined; objects without paragraphs are empty texts."""
    try:
        entries = json.loads(_content(path))
    except (ValueError, RecursionError) as error:  # bytes that are no UTF-8 are a ValueError too
        raise DataError(f"{path} is not JSON ({error}); remove it or replace it") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{path} is no list of objects, as chinese-poetry's files are; remove it or replace it")
    paragraphs = [entry.get("paragraphs") or [] for entry in entries]
    if not all(isinstance(p, list) and all(isinstance(line, str) for line in p) for p in paragraphs):
        raise DataError(f"{path}: 'paragraphs' must be a list of texts; remove the file or replace it")
    return ["".join(p) for p in paragraphs]


def _content(path: Path) -> bytes:
    try:
        data = content(path)
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}); mend it or choose another") from error
    if not data.strip():
        raise DataError(f"{path} is empty; remove it or replace it")
    return data


def _read_npz(path: Path) -> list[str]:
    """Read the book's file: `data`, rows of numbers, and `ix2word`, the texts of the numbers: a dict, or an array."""
    import io
    import zipfile

    import numpy as np

    try:
        with np.load(io.BytesIO(_content(path)), allow_pickle=False) as arrays:
            for name in ("data.npy", "ix2word.npy"):
                _check_size(arrays.zip, name)
            data, words = arrays["data"], _words(arrays.zip.read("ix2word.npy"))
    except (OSError, ValueError, KeyError, MemoryError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} does not hold the arrays 'data' and 'ix2word' ({reason}); replace it") from error
    if data.ndim != 2 or data.dtype.kind not in "iu" or (data.size and not 0 <= data.min() <= data.max() < len(words)):
        raise DataError(f"{path}: 'data' must be rows of numbers below {len(words)}, the length of ix2word; replace it")
    texts = [word if len(word) == 1 else "" for word in words]  # <START>, <EOP> and the padding </s> are longer
    return ["".join(texts[i] for i in row) for row in data.tolist()]


def _check_size(archive: "ZipFile", name: str) -> None:
    """Raise ValueError for an array that takes too much memory, by its size in the archive and by its own head."""
    import numpy as np

    size = archive.getinfo(name).file_size
    with archive.open(name) as stream:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read_header(stream)
    size = max(size, math.prod(shape) * kind.itemsize)
    if size > MOST:
        raise ValueError(f"{name} unpacks to {size / 1e6:,.0f} MB, and at most {MOST / 1e6:,.0f} MB are read")


def _words(file: bytes) -> list[str]:
    """Return the texts of an .npy file in the order of their numbers.

    Raises ValueError unless it holds a dict or an array. numpy stores a dict as a pickle. Unpickling can run any code
    that the file holds, so the pickle is only scanned: a code that begins a dict is followed by numbers and texts in
    turn.
    """
    import io
    import pickletools

    import numpy as np

    stream = io.BytesIO(file)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    if not read_header(stream)[2].hasobject:
        return [str(word) for word in np.load(io.BytesIO(file), allow_pickle=False).tolist()]
    found: dict[int, str] = {}
    number = None
    for code, value, _ in pickletools.genops(stream):
        if code.name == "EMPTY_DICT":
            found = {}
        elif code.name in ("INT", "BININT", "BININT1", "BININT2"):
            number = value
        elif code.name in ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE") and isinstance(number, int):
            found[number], number = str(value), None
    if sorted(found) != list(range(len(found))) or not found:
        raise ValueError("ix2word is no dict of the numbers from 0 on and their texts")
    return [found[number] for number in range(len(found))]
