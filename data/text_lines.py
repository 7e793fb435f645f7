"""Pictures of text, such as captchas or lines of a page, with their texts in a CSV file."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from data._broken import broken_named
from data._csv import Faults, Row, read_rows
from data._facts import Facts
from data._finder import Finder, picture_folders
from data._folders import existing_folder, list_images, no_pictures, note_odd
from data._folds import Folds
from data._images import ImageDataset, pick, share_of, split_indices
from data._stores import Files
from data._strings import BLANK, Strings, characters, check_steps
from utils.config.ranges import Count, Fraction, Seed
from utils.errors import DataError
from utils.randomness import same_random_state

__all__ = ["TextLines"]


class TextLines(ImageDataset):
    """Pictures with a text each, from a CSV such as `path,text`, for a network that learns to read them by CTC.

    `root/<labels>` names a picture and its text in each row; `path` and `text` name its columns, without them they are
    the first two. The first row is a header if it names no picture. Pictures lie in `root/<images>`, `root` or another
    folder in it, and come out in one size by a Resize in data.transform. A seeded `val_fraction` is for validation; the
    test split is every picture in `root/test`, or in a `root` without the CSV. The characters to learn are those of all
    texts in the CSV of the training pictures, or those of `alphabet`.

    A batch is pictures [B, C, H, W], targets int64 [B, S], and lists of the network's steps and of the texts' lengths;
    in the test split pictures alone. A step is `stride` pixels.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        transform: Callable | None = None,
        labels: str = "labels.csv",
        images: str = "",
        path: str | None = None,
        text: str | None = None,
        val_fraction: Fraction = 0.1,
        alphabet: Sequence[str] | None = None,
        stride: Count = 4,
        seed: Seed = 0,
        whole: bool = False,
        folds: Folds | None = None,
    ) -> None:
        root, self.facts = existing_folder(root, split), Facts()
        csv_path = os.path.join(root, labels)
        if split == "test":
            names, texts = _test_pictures(root, labels, self.facts), None
        else:
            lines = _read(csv_path, Finder(root, picture_folders(root, images)), (path, text), alphabet, self.facts)
            alphabet = list(alphabet or characters(lines.texts))
            chosen = split_indices(len(lines.paths), split, val_fraction, seed, whole, folds)
            names, texts = pick(lines.paths, chosen), pick(lines.texts, chosen)
            self.facts.source = share_of(csv_path, split, val_fraction, seed, whole, folds)
            self.facts.lines.append(
                f"{len(alphabet)} characters, of all rows: {''.join(alphabet)} (data.dataset.alphabet)"
            )
        note_odd(self.facts, root, names)
        self.strings = Strings(texts, list(alphabet or "0123456789"), stride)
        super().__init__(Files(root, names), names, None, [], transform)

    def __getitem__(self, index: int) -> Any:
        """Return (picture [C, H, W], target [length], steps, length), in the test split the picture alone.

        Raises DataError for a picture that cannot be read.
        """
        picture = super().__getitem__(index)
        return picture if self.strings.texts is None else self.strings.sample(picture, index)

    @property
    def texts(self) -> Sequence[str]:
        """The text of each sample; empty in the test split."""
        return self.strings.texts or ()

    def collate(self, samples: list[Any]) -> Any:
        """Return the batch of these samples; its pictures must be of one size."""
        if isinstance(samples[0], Tensor):
            return torch.stack(samples)
        pictures, targets, steps, lengths = zip(*samples, strict=True)
        return torch.stack(pictures), pad_sequence(targets, True, BLANK), [*steps], [*lengths]

    @property
    def meta(self) -> dict[str, Any]:
        """The characters, the channels and the size of a picture, and the pixels of a step.

        Raises DataError for a text that is too long for its picture.
        """
        with same_random_state(), broken_named(self):
            picture = super().__getitem__(0)
        if self.texts:
            check_steps(self.texts, self.ids, picture.shape[2], self.strings.stride)
        return self.strings.meta(picture)


class Lines(NamedTuple):
    """The rows of a CSV: paths below root, and texts."""

    paths: list[str]
    texts: list[str]


def _read(
    path: str, finder: Finder, columns: tuple[str | None, str | None], alphabet: Sequence[str] | None, facts: Facts
) -> Lines:
    """Return the rows of a CSV. Raises DataError with file:line for a row that cannot be read."""
    if not os.path.exists(path):
        beside = sorted(name for name in os.listdir(finder.root) if name.lower().endswith((".csv", ".tsv", ".txt")))
        there = f"; there is {', '.join(beside[:6])}" if beside else ""
        raise DataError(f"cannot read {path} (there is no such file); set data.dataset.labels=FILE{there}")
    faults = Faults(path)
    rows = read_rows(path, faults)
    places, header = _places(path, rows, columns, finder)
    known, lines = set[str](), Lines([], [])
    for line, cells in rows[header:]:
        name, text = (cells[place] for place in places)
        found = finder.find(name)
        if not name or not text:
            faults.add(line, f"has no {'text' if name else 'picture'}; fill it in or remove the row")
        elif not found:
            faults.add(line, finder.missing(name))
        elif found in known:
            faults.add(line, f"the picture '{name}' stands in another row, too; keep one of the two")
        elif alphabet and (others := sorted({*text} - {*alphabet})):
            told = f"the text '{text[:40]}' has {' '.join(others)}, which is not learned"
            faults.add(line, f"{told}; see data.dataset.alphabet")
        known.add(found)
        lines.paths.append(found)
        lines.texts.append(text)
    faults.check()
    if not lines.paths:
        raise DataError(f"{path} has no row below its header; add pictures and their texts")
    told = [f"'{rows[0][1][place]}'" if header else f"column {place + 1}" for place in places]
    facts.lines.append(f"pictures from {told[0]}, texts from {told[1]} (data.dataset.path, data.dataset.text)")
    return lines


def _places(
    path: str, rows: Sequence[Row], columns: tuple[str | None, str | None], finder: Finder
) -> tuple[list[int], int]:
    """Return the positions of the columns of pictures and texts, and how many rows are a header: 0 or 1."""
    first = rows[0][1]
    for key, name in zip(("path", "text"), columns, strict=True):
        if name is not None and name not in first:
            raise DataError(f"{path}: no column '{name}' (data.dataset.{key}); there is {', '.join(first[:8])}")
    known = [None if name is None else first.index(name) for name in columns]
    free = (i for i in range(len(first)) if i not in known)
    places = [next(free, 0) if place is None else place for place in known]
    if places[0] == places[1]:
        raise DataError(f"{path}: pictures and texts in one column; name two: data.dataset.path, data.dataset.text")
    return places, int(any(columns) or not finder.find(first[places[0]]))


def _test_pictures(root: str, labels: str, facts: Facts) -> list[str]:
    """Return the paths below root of the pictures in `test`, or in a root without a CSV."""
    folder = "test" if os.path.isdir(os.path.join(root, "test")) else ""
    facts.source = os.path.join(root, folder)
    if not folder and os.path.exists(os.path.join(root, labels)):
        raise DataError(f"{root} has no folder test; set --test-data-root=DIR")
    names = list_images(facts.source, facts=facts)
    if not names:
        raise no_pictures(facts.source, "test")
    return [os.path.join(folder, name) for name in names]
