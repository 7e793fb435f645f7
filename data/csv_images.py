"""Pictures with labels in a CSV file."""

import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from data._csv import Faults, read_lines, read_rows, take_columns
from data._folders import SUFFIXES, existing_folder, list_images, no_pictures, root_option
from data._images import ImageDataset, pick, split_indices
from data._stores import Files
from utils.errors import DataError

__all__ = ["CSVImages"]

ENDINGS = ["", *SUFFIXES, *(suffix.upper() for suffix in SUFFIXES)]  # a CSV may leave the suffix out
SEED = 0  # of the split, if no lists define it


class CSVImages(ImageDataset):
    """Pictures labelled by a CSV file, such as Kaggle's `trainLabels.csv` of `id,label` rows.

    Reads `root/<labels>`: with or without a header, separated by comma, semicolon or tab, names with or without suffix.
    Pictures lie in `root/<images>`, `root` or `root/train`. `lists`, for example `lists/{split}.txt`, names the text
    files that choose the pictures of each split, one a line; without it a seeded `val_fraction` is for validation. The
    test split is its list, otherwise the pictures in `root/test` or in a `root` without a CSV. It has labels only if
    the CSV has them.
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
    """Pictures: names as in the text file, paths below root, and labels (None: the pictures have none)."""

    names: list[str]
    paths: list[str]
    labels: list[str] | None

    def classes(self) -> list[str]:
        """Return the distinct labels in order; numbers are ordered by value."""
        found = set(self.labels or ())
        numeric = all(re.fullmatch(r"[+-]?\d+", label) for label in found)
        return sorted(found, key=lambda label: (int(label), label) if numeric else (0, label))

    def subset(self, chosen: list[int]) -> "Table":
        """Return a table of the rows at these positions."""
        labels = None if self.labels is None else pick(self.labels, chosen)
        return Table(pick(self.names, chosen), pick(self.paths, chosen), labels)


@dataclass(frozen=True)
class Finder:
    """Finds a picture's file from its name, with or without its suffix."""

    root: str
    folders: list[str]  # below root, in the order of the search

    def find(self, name: str) -> str:
        """Return the path below root; empty if no file is found."""
        endings = [""] if name.lower().endswith(SUFFIXES) else ENDINGS
        for folder, ending in product(self.folders, endings if name else []):
            path = os.path.join(folder, name + ending)
            if os.path.isfile(os.path.join(self.root, path)):
                return path
        return ""

    def missing(self, name: str) -> str:
        """Return the fault of a name whose file is missing."""
        folders = ", ".join(os.path.join(self.root, folder) for folder in self.folders)
        return f"no picture '{name}' (looked in {folders}); add it or remove the row"


# The CSV


def _read_table(path: str, finder: Finder, classes: Sequence[str] | None) -> Table:
    """Return the CSV's pictures and labels. Raises DataError with file:line for a fault in it."""
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
    """Return whether the first row is a header: it has no picture, and no cell looks like a picture's name."""
    like_picture = any(cell.lower().endswith(SUFFIXES) for cell in cells) or cells[0].isdigit()
    return not like_picture and not finder.find(cells[0])


def _fault(name: str, label: str, classes: Collection[str] | None) -> str:
    """Return the fault in the cells of a row; empty if they are good."""
    if not name or not label:
        return f"has no {'label' if name else 'picture'}; fill it in or remove the row"
    if classes and label not in classes:
        return f"the label '{label}' is none of the {len(classes)} classes that are trained; mend or remove the row"
    return ""


# Splits


def _list_path(root: str, lists: str | None, split: str) -> str | None:
    """Return the path of the split's list; None without `lists`, and for a test split without a list."""
    if lists is None:
        return None
    if "{split}" not in lists:
        raise ValueError(f"lists={lists} must have {{split}} in it, as in lists/{{split}}.txt")
    path = os.path.join(root, lists.replace("{split}", split))
    return None if split == "test" and not os.path.exists(path) else path


def _listed(path: str, table: Table, finder: Finder, split: str) -> Table:
    """Return the pictures that a text file names, one a line; those of train and val must have a label."""
    # the last folder: of two pictures with one name, the labelled one is taken
    finder = Finder(finder.root, [*finder.folders, "test"])
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
    """Return the pictures in `test`, or in `root` itself if no CSV is beside them."""
    folder = "test" if os.path.isdir(os.path.join(root, "test")) else ""
    if table.names and not folder:
        raise DataError(f"{root} has no folder test, and no list for the test; set lists or {root_option('test')}")
    files = list_images(os.path.join(root, folder))
    if not files:
        raise no_pictures(os.path.join(root, folder), "test")
    bare = bool(table.names) and not table.names[0].lower().endswith(SUFFIXES)  # ids then look like those of the CSV
    names = [os.path.splitext(file)[0] for file in files] if bare else files
    return Table(names, [os.path.join(folder, file) for file in files], None)
