"""Chinese poems, as one long row of characters that is cut into windows."""

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from data._facts import Facts
from data._images import pick, share_of, split_indices
from utils.errors import DataError
from utils.files import content

__all__ = ["Poems"]

# The first entries of every vocabulary; the book's names for the marks.
BEGIN, END, UNKNOWN = "<START>", "<EOP>", "□"
MARKS = (BEGIN, END, UNKNOWN)

COMMENT = re.compile(r"（[^）]*）|\([^)]*\)")
COMPOSED = re.compile(r"\{[^}]*\}")  # {𥫗/戢}: a character that no font has, described by its parts
BRACKETS = re.compile(r"[\[\]〔〕「」『』《》〈〉“”‘’\s]")
PUNCTUATION = re.compile(r"[，。？！：；、,.?!:;]")


class Poems(Dataset):
    """Poems from chinese-poetry's JSON files, or from the tang.npz of the book (chapter 9).

    `root` is a file, or a folder: then the files in it that match `files` are read, otherwise its tang.npz. Texts
    are cleaned: an editor's brackets and quotation marks are removed and their content stays (`[胡]` becomes 胡),
    comments in round brackets are removed, and a lacuna `□` stays as the unknown character. Of poems with the same
    characters only the first is kept, before the split is made, so that no poem is in both splits. val is
    `val_fraction` of the poems; test is all of them, for poems in another folder.

    Each poem stands between two marks. A sample is a window of that row: inputs [length] and targets [length], the next
    characters, int64. The last window is filled up with end marks. A character that is found fewer than `min_count`
    times in the training poems becomes the unknown character, and so does a new one elsewhere.

    Raises:
        ValueError: a length below 1.
        DataError: no such root, a file that is empty or unreadable, or no poems in it.
    """

    reads_batches = True

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        files: str = "poet.*.json",
        length: int = 32,
        val_fraction: float = 0.05,
        min_count: int = 2,
        seed: int = 0,
        vocabulary: Sequence[str] | None = None,
        whole: bool = False,
    ) -> None:
        if length < 1:
            raise ValueError(f"a window of length={length} holds no character")
        poems = remove_duplicates([clean(text) for text in read_poems(root, files)])
        if not poems:
            raise DataError(f"no poems in {root}; chinese-poetry's JSON files hold objects with 'paragraphs'")
        if split != "test":
            poems = pick(poems, split_indices(len(poems), split, val_fraction, seed, whole))
        if vocabulary is None:
            own = split == "val"  # the vocabulary comes from the training poems, which a lone val split must read
            vocabulary = Poems(root, "train", files, length, val_fraction, min_count, seed).vocabulary if own else None
        self.vocabulary: list[str] = list(vocabulary or count_vocabulary(poems, min_count))
        self.poems, self.length = poems, length
        self.facts = Facts(share_of(f"{root}/{files}", split, val_fraction, seed, whole))
        self.facts.lines.append(f"{len(self.vocabulary):,} characters, windows of {length} (data.dataset.length)")
        self.row = self._number(poems)  # [windows * length + 1]

    def __len__(self) -> int:
        return len(self.row) // self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return (inputs [length], targets [length]), int64."""
        inputs, targets = self.read([index])
        return inputs[0], targets[0]

    def read(self, indices: Sequence[int] | Tensor, seeds: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Return the batch of these samples: inputs and targets, int64 [B, length]."""
        starts = self.length * torch.as_tensor(indices)
        windows = self.row[starts.unsqueeze(1) + torch.arange(self.length + 1)]  # [B, length + 1]
        return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()

    @property
    def meta(self) -> dict[str, Any]:
        """The characters in the order of their numbers, marks first, and their count."""
        return {"vocabulary": list(self.vocabulary), "vocabulary_size": len(self.vocabulary)}

    def _number(self, poems: list[str]) -> Tensor:
        numbers = {character: i for i, character in enumerate(self.vocabulary)}
        begin, end, unknown = (numbers[mark] for mark in MARKS)
        row: list[int] = []
        for poem in poems:
            row += [begin, *(numbers.get(character, unknown) for character in poem), end]
        row += [end] * (-(len(row) - 1) % self.length)
        return torch.tensor(row)


def clean(text: str) -> str:
    """Return a poem's text without brackets, quotation marks, comments and spaces."""
    return BRACKETS.sub("", COMPOSED.sub(UNKNOWN, COMMENT.sub("", text)))


def remove_duplicates(poems: Sequence[str]) -> list[str]:
    """Return the poems in order, without empty ones and without copies; copies may differ in punctuation."""
    first: dict[str, str] = {}
    for poem in poems:
        if key := PUNCTUATION.sub("", poem):
            first.setdefault(key, poem)
    return list(first.values())


def count_vocabulary(poems: Sequence[str], min_count: int) -> list[str]:
    """Return the marks, then every character that is found at least `min_count` times, the most frequent first."""
    counts = Counter("".join(poems))
    del counts[UNKNOWN]
    return [*MARKS, *sorted((c for c in counts if counts[c] >= min_count), key=lambda c: (-counts[c], c))]


# Files


def read_poems(root: str, files: str) -> list[str]:
    """Return the texts of all poems in a folder's files, in the order of the files' names.

    Raises DataError when there are no files, or one cannot be read.
    """
    path = Path(os.path.expanduser(root))
    if not path.exists():
        raise DataError(f"{root} does not exist, but the poems are read from it; set --data.dataset.root=FOLDER")
    found = [path] if path.is_file() else sorted(path.glob(files)) or sorted(path.glob("tang.npz"))
    if not found:
        raise DataError(f"no poems in {root} (looked for {files} and tang.npz); set --data.dataset.root=FOLDER")
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
            data, words = arrays["data"], _words(arrays.zip.read("ix2word.npy"))
    except (OSError, ValueError, KeyError, MemoryError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} does not hold the arrays 'data' and 'ix2word' ({reason}); replace it") from error
    if data.ndim != 2 or data.dtype.kind not in "iu" or (data.size and not 0 <= data.min() <= data.max() < len(words)):
        raise DataError(f"{path}: 'data' must be rows of numbers below {len(words)}, the length of ix2word; replace it")
    texts = [word if len(word) == 1 else "" for word in words]  # <START>, <EOP> and the padding </s> are longer
    return ["".join(texts[i] for i in row) for row in data.tolist()]


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
