"""Pictures whose labels stand in a CSV file."""

import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from data._csv import Faults, read_lines, read_rows, take_columns
from data._images import (
    SUFFIXES,
    ImageDataset,
    existing_folder,
    list_images,
    no_pictures,
    pick,
    root_option,
    split_indices,
)
from data._stores import Files
from utils.errors import DataError

__all__ = ["CSVImages"]

ENDINGS = ["", *SUFFIXES, *(suffix.upper() for suffix in SUFFIXES)]  # a CSV may leave the suffix out
SEED = 0  # of the split, where no lists say it


class CSVImages(ImageDataset):
    """Pictures labelled by a CSV file, such as Kaggle's `trainLabels.csv` of `id,label` rows.

    Reads `root/<labels>`: with or without a header, separated by comma, semicolon or tab, names with or without suffix.
    Pictures lie in `root/<images>`, `root` or `root/train`. `lists`, such as `lists/{split}.txt`, names text files with
    one picture a line, which choose each split's; without it a seeded `val_fraction` is for validation. The test split
    is its list, else the pictures in `root/test` or in a `root` without CSV; labels it has only where the CSV has them.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        transform: Callable | None = None,
        labels: str = "trainLabels.csv",
        images: str = "",
        lists: str | None = None,
        val_fraction: float = 0.3,
        classes: Sequence[str] | None = None,
    ) -> None:
        root = existing_folder(root, split)
        finder = Finder(root, list(dict.fromkeys([images, "", "train"])))
        csv_path = os.path.join(root, labels)
        missing = split == "test" and not os.path.exists(csv_path)
        table = Table([], [], []) if missing else _read_table(csv_path, finder, classes)
        classes = list(classes or table.classes())
        if listing := _list_path(root, lists, split):
            table = _listed(listing, table, finder, split)
        elif split == "test":
            table = _test_folder(root, table)
        else:
            table = table.subset(split_indices(len(table.names), split, val_fraction, SEED))
        numbers = {name: number for number, name in enumerate(classes)}
        labelled = None if table.labels is None else [numbers[label] for label in table.labels]
        super().__init__(Files(root, table.paths), table.names, labelled, classes, transform)


@dataclass(frozen=True)
class Table:
    """Pictures: their names as the text file has them, their paths below root, their labels (None: they have none)."""

    names: list[str]
    paths: list[str]
    labels: list[str] | None

    def classes(self) -> list[str]:
        """The different labels in order; numbers by their value."""
        found = set(self.labels or ())
        numeric = all(re.fullmatch(r"[+-]?\d+", label) for label in found)
        return sorted(found, key=lambda label: (int(label), label) if numeric else (0, label))

    def subset(self, chosen: list[int]) -> "Table":
        """The rows at these positions."""
        labels = None if self.labels is None else pick(self.labels, chosen)
        return Table(pick(self.names, chosen), pick(self.paths, chosen), labels)


@dataclass(frozen=True)
class Finder:
    """Finds the file of a picture that is named with or without its suffix."""

    root: str
    folders: list[str]  # below root, in the order of looking

    def find(self, name: str) -> str:
        """The path below root; empty when there is none."""
        endings = [""] if name.lower().endswith(SUFFIXES) else ENDINGS
        for folder, ending in product(self.folders, endings if name else []):
            path = os.path.join(folder, name + ending)
            if os.path.isfile(os.path.join(self.root, path)):
                return path
        return ""

    def missing(self, name: str) -> str:
        """The fault of a name that was not found."""
        folders = ", ".join(os.path.join(self.root, folder) for folder in self.folders)
        return f"no picture '{name}' (looked in {folders}); add it or remove the row"


# The CSV


def _read_table(path: str, finder: Finder, classes: Sequence[str] | None) -> Table:
    """The CSV's pictures and labels. Raises DataError with file:line for what is wrong in it."""
    faults = Faults(path)
    rows = read_rows(path, faults)
    lines: dict[str, int] = {}  # by path of the picture
    names, labels = [], []
    for line, name, label in take_columns(rows, header=_is_header(rows[0][1], finder)):
        found = finder.find(name)
        if fault := _fault(name, label, classes) or (finder.missing(name) if not found else ""):
            faults.add(line, fault)
        elif found in lines:
            faults.add(line, f"the picture '{name}' is also in line {lines[found]}; keep one of the two")
        else:
            lines[found] = line
            names.append(name)
            labels.append(label)
    faults.check()
    table = Table(names, list(lines), labels)
    if not classes and len(table.classes()) < 2:
        only = f"only the label '{labels[0]}'" if labels else "no row below its header"
        raise DataError(f"{path} has {only}, but pictures of two classes are needed at least; add them")
    return table


def _is_header(cells: list[str], finder: Finder) -> bool:
    """Whether a first row names columns: it has no picture, and nothing in it looks like a picture's name."""
    like_picture = any(cell.lower().endswith(SUFFIXES) for cell in cells) or cells[0].isdigit()
    return not like_picture and not finder.find(cells[0])


def _fault(name: str, label: str, classes: Collection[str] | None) -> str:
    """What is wrong with the cells of a row."""
    if not name or not label:
        return f"has no {'label' if name else 'picture'}; fill it in or remove the row"
    if classes and label not in classes:
        return f"the label '{label}' is none of the {len(classes)} classes that are trained; mend or remove the row"
    return ""


# Splits


def _list_path(root: str, lists: str | None, split: str) -> str | None:
    """The split's list; None where there is none, which only the test split may lack."""
    if lists is None:
        return None
    if "{split}" not in lists:
        raise ValueError(f"lists={lists} must have {{split}} in it, as in lists/{{split}}.txt")
    path = os.path.join(root, lists.replace("{split}", split))
    return None if split == "test" and not os.path.exists(path) else path


def _listed(path: str, table: Table, finder: Finder, split: str) -> Table:
    """The pictures that a text file names, one a line; those of train and val must have a label."""
    finder = Finder(finder.root, [*finder.folders, "test"])  # last: of two pictures alike in name, the labelled one
    faults = Faults(path)
    rows = {picture: row for row, picture in enumerate(table.paths)}
    chosen: dict[str, str] = {}  # name by path
    for line, text in enumerate(read_lines(path, faults), 1):
        if not (name := text.strip()):
            continue
        found = finder.find(name)
        if not found:
            faults.add(line, finder.missing(name))
        elif found in chosen:
            faults.add(line, f"the picture '{name}' stands twice in this list; remove one")
        elif split != "test" and found not in rows:
            faults.add(line, f"the picture '{name}' has no label in the CSV; add it there or remove the line")
        chosen[found] = name
    faults.check()
    if not chosen:
        raise DataError(f"{path} is empty; it needs the name of a picture in each line")
    labels = [table.labels[rows[p]] for p in chosen] if table.labels and chosen.keys() <= rows.keys() else None
    return Table(list(chosen.values()), list(chosen), labels)


def _test_folder(root: str, table: Table) -> Table:
    """The pictures in `test`; in `root` itself where no CSV stands beside them."""
    folder = "test" if os.path.isdir(os.path.join(root, "test")) else ""
    if table.names and not folder:
        raise DataError(f"{root} has no folder test, and no list for the test; set lists or {root_option('test')}")
    files = list_images(os.path.join(root, folder))
    if not files:
        raise no_pictures(os.path.join(root, folder), "test")
    bare = bool(table.names) and not table.names[0].lower().endswith(SUFFIXES)  # ids look as those of the CSV do
    names = [os.path.splitext(file)[0] for file in files] if bare else files
    return Table(names, [os.path.join(folder, file) for file in files], None)
