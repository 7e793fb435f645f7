"""Pictures whose pixels are in the rows of a CSV file, as in Kaggle's Digit Recognizer."""

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch

from data._csv import Faults
from data._facts import Facts
from data._folders import existing_folder
from data._folds import Folds
from data._images import ImageDataset, pick
from data._stores import Pixels
from data._table import iter_rows, split_fold, table_path
from utils.config.ranges import Count, Seed
from utils.errors import DataError
from utils.words import suggest

__all__ = ["CSVPixels"]

ID_NAMES = ("id", "imageid", "image_id", "index")  # of a column with the names of the rows, in lower case
USAGE = {"train": "Training", "val": "PublicTest", "test": "PrivateTest"}  # of FER2013


class CSVPixels(ImageDataset):
    """Pictures as rows of train.csv and test.csv: a column for each grey pixel from 0 to 255, and one for the label.

    The columns are the pixels of the picture, row by row, or one column `pixels` holds them all with spaces between.
    Pictures are square unless `image_size` [H, W] is given. A column id, ImageId or index names the rows, which are
    numbered from 1 otherwise. `fold` [k, n] holds out fold k of n, drawn with `seed`. A column Usage of FER2013 takes
    its place: Training is for training, PublicTest for validation, PrivateTest for the test. `classes` are other names
    for the classes, in their order.

    Raises DataError, with file and line, for a row that is no picture or has no label.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        transform: Callable | None = None,
        label: str = "label",
        image_size: Sequence[Count] | None = None,
        fold: Sequence[int] = (0, 5),
        seed: Seed = 0,
        classes: Sequence[str] | None = None,
        whole: bool = False,
        folds: Folds | None = None,
        label_texts: Sequence[str] | None = None,
    ) -> None:
        root = existing_folder(root, split)
        alone = split == "test" and not os.path.exists(os.path.join(root, "test.csv"))
        path = table_path(root, "train" if alone else split)
        rows = _read(path, label, labelled=split != "test" or alone)
        size = _size(path, rows.pixels.shape[1], image_size)
        values = rows.pixels.view(len(rows.pixels), 1, *size)  # [N, 1, H, W]
        found = sorted(set(rows.labels), key=lambda text: (len(text), text))
        known = list(label_texts or (found if not set(found) <= set(classes or found) else classes or found))
        if new := [text for text in found if text not in known]:
            raise DataError(f"{path}: has a label '{new[0]}', the training rows have only {', '.join(known[:12])}")
        names = list(classes or known)
        if len(names) != len(known):
            raise DataError(f"{path}: has {len(known)} classes ({', '.join(known[:12])}), but {len(names)} are named")
        self.label_texts = known
        self.facts = Facts(path)
        chosen = self._choose(rows, split, folds or fold, seed, whole)
        numbers = {text: number for number, text in enumerate(known)}
        labels = [numbers[rows.labels[i]] for i in chosen] if rows.labels and split != "test" else None
        self.facts.lines.append(f"label: {label} (data.dataset.label); id: {rows.id or 'the number of the row'}")
        ids = [rows.ids[i] if rows.ids else str(i + 1) for i in chosen]
        super().__init__(Pixels(values[chosen]), ids, labels, names, transform)

    @property
    def meta(self) -> dict[str, Any]:
        """Facts for networks and other splits: `label_texts` are the labels in the order of their numbers."""
        return super().meta | {"label_texts": self.label_texts}

    def _choose(self, rows: "Rows", split: str, fold: Folds | Sequence[int], seed: int, whole: bool) -> list[int]:
        """Return the positions of a split's rows."""
        every = list(range(len(rows.pixels)))
        wanted = USAGE[split] if rows.usage else ""
        if split == "train" and wanted and USAGE["val"] not in rows.usage:
            every, wanted = [i for i in every if rows.usage[i] == wanted], ""
        if split == "val" and wanted and (wanted not in rows.usage or whole):
            every, wanted = [i for i in every if whole or rows.usage[i] == USAGE["train"]], ""
        if wanted:
            if isinstance(fold, Folds) and split != "test":
                fold.refuse(f"{self.facts.source}: the column Usage names the rows of each split; leave data.fold out")
            self.facts.source += f", the rows of Usage {wanted}"
            chosen = [i for i in every if rows.usage[i] == wanted]
            if not chosen:
                raise DataError(f"{self.facts.source}: there are none, only {', '.join(sorted(set(rows.usage)))}")
            return chosen
        if split == "test" or (whole and split == "val"):
            return every
        if isinstance(fold, Folds):
            self.facts.source = fold.told(self.facts.source, split, f"drawn by seed {seed}")
            return pick(every, fold.choose(len(every), split, seed, pick(rows.labels, every)))
        training, held_out = (pick(every, part) for part in split_fold(len(every), fold, seed))
        part = "all folds except" if split == "train" else "fold"
        self.facts.source += f", {part} {fold[0]} of {fold[1]} (data.dataset.fold)"
        return training if split == "train" else held_out


@dataclass
class Rows:
    """The rows of a file: pixels uint8 [N, columns], and a text for each row where the file has the column."""

    pixels: torch.Tensor
    labels: list[str]
    ids: list[str]
    usage: list[str]
    id: str  # the name of the column of ids


def _read(path: str, label: str, labelled: bool) -> Rows:
    """Return the rows of a file; labels only where they are asked for."""
    rows = iter_rows(path)
    _, header = next(rows)
    words = [name.lower() for name in header]
    if label == "label" and "label" not in header and "emotion" in header:
        label = "emotion"
    if labelled and label not in header:
        raise DataError(f"{path}:1: has no column '{label}'{suggest(label, header) or '; set data.dataset.label'}")
    places = {
        "label": header.index(label) if label in header else -1,
        "id": next((words.index(name) for name in ID_NAMES if name in words), -1),
        "usage": words.index("usage") if "usage" in words else -1,
    }
    others = [i for i in range(len(header)) if i not in places.values()]
    _refuse_mixed(path, [header[i] for i in others])
    faults, pixels, count, width = Faults(path), bytearray(), 0, 0
    texts: dict[str, list[str]] = {name: [] for name in places}
    for line, cells in rows:
        try:
            values = cells[others[0]].split() if words[others[0]] == "pixels" else [cells[i] for i in others]
            pixels += bytes(map(int, values))  # refuses numbers outside 0 to 255
            width = width or len(values)
            if len(values) != width:  # all rows behind it would be shifted
                faults.add(line, f"holds {len(values)} pixels, the first row {width}; mend or remove the row")
        except ValueError:
            faults.add(line, "holds other values than whole numbers from 0 to 255; mend or remove the row")
        if labelled and not cells[places["label"]]:
            faults.add(line, f"has no {label}; fill it in or remove the row")
        for name, place in places.items():
            texts[name] += [cells[place]] if place >= 0 else []
        count += 1
    faults.check()
    table = torch.frombuffer(pixels, dtype=torch.uint8).view(count, -1)
    named = header[places["id"]] if places["id"] >= 0 else ""
    return Rows(table, texts["label"] if labelled else [], texts["id"], texts["usage"], named)


def _refuse_mixed(path: str, names: Sequence[str]) -> None:
    """Raise DataError where columns that are numbered, by one number or by row and column, are in another order."""
    places = [tuple(map(int, re.findall(r"\d+", name))) for name in names]
    ways = (places, [place[::-1] for place in places])
    if all(places) and len(set(places)) == len(places) and not any(way == sorted(way) for way in ways):
        first = next(i for i, (one, after) in enumerate(pairwise(places)) if one > after)
        raise DataError(
            f"{path}:1: the columns of pixels are not in their order: {names[first]} stands before {names[first + 1]}; "
            "sort them by their numbers, row by row"
        )


def _size(path: str, count: int, image_size: Sequence[int] | None) -> Sequence[int]:
    """Return height and width. Raises DataError when they do not hold `count` pixels."""
    size = image_size or [math.isqrt(count)] * 2
    if len(size) != 2 or math.prod(size) != count:
        how = " x ".join(map(str, image_size)) if image_size else "a square"
        raise DataError(f"{path}:1: has {count} columns of pixels, which are not {how}; set data.dataset.image_size")
    return size
