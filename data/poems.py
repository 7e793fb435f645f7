"""Poems or plain text, as one long row of characters that is cut into windows."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from data._facts import Facts
from data._folds import Folds
from data._images import pick, share_of, split_indices
from data._poem_files import find_files, read_plain, read_poems
from utils.errors import DataError

__all__ = ["Poems"]

# The first entries of every vocabulary; the book's names for the marks.
BEGIN, END, UNKNOWN = "<START>", "<EOP>", "□"
MARKS = (BEGIN, END, UNKNOWN)
Share = tuple[float, int, bool, Folds | None]  # val_fraction, seed, whole, folds: which part of the poems is val

ABOUT = ("readme", "license", "licence", "source", "copying", "notice")  # texts beside those that are read
COMMENT = re.compile(r"（[^）]*）|\([^)]*\)")
COMPOSED = re.compile(r"\{[^}]*\}")  # {𥫗/戢}: a character that no font has, described by its parts
BRACKETS = re.compile(r"[\[\]〔〕「」『』《》〈〉“”‘’\s]")
PUNCTUATION = re.compile(r"[，。？！：；、,.?!:;]")


class Poems(Dataset):
    """Poems from chinese-poetry's JSON files or from the tang.npz of the book (chapter 9), or plain text.

    `root` is a file, or a folder: then the files in it that match `files` are read, otherwise its tang.npz, otherwise
    its `*.txt`. Plain text is read as it is, with its line ends, and its last `val_fraction` is val. Poems are cleaned:
    an editor's brackets and quotation marks are removed and their content stays (`[胡]` becomes 胡), comments in round
    brackets are removed, and a lacuna `□` stays as the unknown character. Of poems with the same characters only the
    first is kept, before the split is made, so that no poem is in both splits. val is `val_fraction` of the poems; test
    is all of them, for poems in another folder.

    Each poem stands between two marks. A sample is a window of that row: inputs [length] and targets [length], the next
    characters, int64. The last window is filled up with end marks. A character that is found fewer than `min_count`
    times in the training poems becomes the unknown character, and so does a new one elsewhere. With `windows` random a
    window of the training poems begins up to `length` - 1 characters later, another number in each epoch.

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
        folds: Folds | None = None,
        windows: Literal["grid", "random"] = "grid",
    ) -> None:
        if length < 1:
            raise ValueError(f"a window of length={length} holds no character")
        found = find_files(root, files)
        plain = all(file.suffix == ".txt" for file in found)
        self.facts = Facts()
        poems = (_passages if plain else _poems)(found, split, (val_fraction, seed, whole, folds), self.facts)
        if not "".join(poems):
            raise DataError(f"no poems in {root}; chinese-poetry's JSON files hold objects with 'paragraphs'")
        if vocabulary is None:
            own = split == "val"  # the vocabulary comes from the training poems, which a lone val split must read
            train = Poems(root, "train", files, length, val_fraction, min_count, seed, folds=folds) if own else None
            vocabulary = train.vocabulary if train else None
        self.vocabulary: list[str] = list(vocabulary or count_vocabulary(poems, min_count))
        self.poems, self.length = poems, length
        self.draws = windows == "random" and split == "train"
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
        if self.draws and len(seeds):
            later = torch.tensor([seed % self.length for seed in seeds])
            starts = (starts + later).clamp(max=len(self.row) - self.length - 1)
        windows = self.row[starts.unsqueeze(1) + torch.arange(self.length + 1)]  # [B, length + 1]
        return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()

    def finish(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return a batch as it was read."""
        return batch

    @property
    def meta(self) -> dict[str, Any]:
        """The characters in the order of their numbers, marks first, and their count; the length of a window."""
        size = len(self.vocabulary)
        return {"vocabulary": list(self.vocabulary), "vocabulary_size": size, "length": self.length}

    def _number(self, poems: list[str]) -> Tensor:
        numbers = {character: i for i, character in enumerate(self.vocabulary)}
        begin, end, unknown = (numbers[mark] for mark in MARKS)
        row: list[int] = []
        for poem in poems:
            row += [begin, *(numbers.get(character, unknown) for character in poem), end]
        row += [end] * (-(len(row) - 1) % self.length)
        return torch.tensor(row)


def _poems(found: Sequence[Path], split: str, share: Share, facts: Facts) -> list[str]:
    """Return a split's poems, each cleaned and once."""
    poems = remove_duplicates([clean(text) for text in read_poems(found)])
    facts.source = share_of(_shown(found), split, *share)
    if split == "test" or not poems:
        return poems
    return pick(poems, split_indices(len(poems), split, *share))


def _passages(found: Sequence[Path], split: str, share: Share, facts: Facts) -> list[str]:
    """Return a split's share of plain texts as they are: the end of each for val, the beginning for train.

    With folds val is an unbroken part of each text, and train what lies before and behind it.
    """
    val_fraction, _, whole, folds = share
    if not 0 <= val_fraction <= 1:
        raise ValueError(f"val_fraction={val_fraction} is not between 0 and 1")
    about = [file for file in found if file.stem.lower() in ABOUT]
    if len(about) < len(found):
        facts.leave_out("a text about the data, by its name", [file.name for file in about])
        found = [file for file in found if file not in about]
    texts = read_plain(found)
    facts.lines.append(f"plain text, character by character as it is, {sum(map(len, texts)):,} characters in all")
    every = split == "test" or (whole and split == "val")
    part = f"the last {100 * val_fraction:g} %" if split == "val" else f"the first {100 * (1 - val_fraction):g} %"
    facts.source = _shown(found) if every else f"{part} of {_shown(found)} (data.dataset.val_fraction)"
    if every:
        return texts
    if folds is not None:
        facts.source = folds.told(_shown(found), split, "an unbroken part of each text")
        return [passage for text in texts for passage in _around(text, folds.block(len(text), "val"), split)]
    cuts = [len(text) - round(len(text) * val_fraction) for text in texts]
    passages = [text[cut:] if split == "val" else text[:cut] for text, cut in zip(texts, cuts, strict=True)]
    if not "".join(passages):
        raise DataError(f"val_fraction={val_fraction} leaves no character of {_shown(found)} to '{split}'; change it")
    return passages


def _around(text: str, held_out: Sequence[int], split: str) -> list[str]:
    start, end = held_out[0], held_out[-1] + 1
    return [text[start:end]] if split == "val" else [text[:start], text[end:]]


def _shown(found: Sequence[Path]) -> str:
    return str(found[0]) if len(found) == 1 else f"{len(found)} files in {found[0].parent}"


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
