"""Pictures with labels in a CSV file."""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from data._classes import alike, is_number
from data._csv import Faults, Row, read_lines, read_rows
from data._facts import Facts
from data._finder import Finder, picture_folders
from data._folders import SUFFIXES, existing_folder, list_images, no_pictures, note_odd, root_option
from data._folds import Folds
from data._images import ImageDataset, pick, share_of, split_indices
from data._labels import Columns, find_columns
from data._several import Labels, rarest, table_of
from data._stores import Files
from utils.errors import DataError
from utils.words import count_of

__all__ = ["CSVImages"]

NO_LABEL = {"nan", "n/a", "#n/a", "<na>", "null", "?"}
PICTURE = "picture"  # the reason of a row whose file is missing
Missing = dict[str, list[tuple[int, str]]]  # (line, name) of the rows without a picture or with an empty cell
SEED = 0  # of the split, if no lists define it


class CSVImages(ImageDataset):
    """Pictures labelled by a CSV file, such as Kaggle's `trainLabels.csv` of `id,label` rows.

    Reads `root/<labels>`: with or without a header, separated by comma, semicolon, tab or |, names with or without
    suffix. `path` and `label` name the columns of the picture and of its class, or number them from 1 in a file
    without a header; without them they are found by their cells and usual names, a run prints which, and a doubtful
    one is an error. A list of columns as `label` is one column for each class, with 1 in the picture's own and 0 in
    the others. With `task: MultiLabel` any number of them hold 1, or one column holds names with `separator` between
    them, which is found and told; an empty cell is then a picture without a label. A row without a file, or with an
    empty cell, is an error, unless `missing` is skip. Pictures lie in `root/<images>`, `root`, `root/train` or another
    folder in `root`. `lists`, for example `lists/{split}.txt`, names the text files that choose the pictures of each
    split, one a line; without it a seeded `val_fraction` is for validation. The test split is its list, otherwise the
    pictures in `root/test` or in a `root` without a CSV. It has labels only if the CSV has them.
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
        path: str | int | None = None,
        label: str | int | Sequence[str] | None = None,
        missing: Literal["raise", "skip"] = "raise",
        classes: Sequence[str] | None = None,
        separator: str | None = None,
        target_kind: Literal["class", "number", "labels"] | None = None,
        whole: bool = False,
        folds: Folds | None = None,
    ) -> None:
        several = target_kind == "labels" or (target_kind is None and separator is not None)
        if separator is not None and not several:
            raise ValueError(f"separator='{separator}': the task learns one label a picture; MultiLabel learns several")
        root = existing_folder(root, split)
        finder = Finder(root, picture_folders(root, images))
        csv_path, self.facts = os.path.join(root, labels), Facts()
        table = Table([], [], [])
        if split != "test" or os.path.exists(csv_path):
            keys = (path, label, folds.group if folds and split != "test" else None, several, separator)
            table = _read_table(csv_path, finder, keys, classes, missing == "skip", self.facts)
        classes, self.separator = list(classes or table.classes()), table.separator
        if folds and lists and split != "test":
            folds.refuse("data.dataset.lists names the pictures of each split; leave one out")
        if listing := _list_path(root, lists, split, whole):
            self.facts.source = f"{listing} (data.dataset.lists)"
            table = _listed(listing, table, finder, split)
        elif split == "test":
            table = _test_folder(root, table, self.facts)
        elif folds and not (whole and split == "val"):
            chosen = folds.choose(len(table.names), split, SEED, table.strata(), table.groups)
            table, self.facts.source = table.subset(chosen), folds.told(csv_path, split, f"drawn by seed {SEED}")
        else:
            table = table.subset(split_indices(len(table.names), split, val_fraction, SEED, whole))
            self.facts.source = share_of(csv_path, split, val_fraction, SEED, whole)
        note_odd(self.facts, root, table.paths)
        labelled: list[Any] | None = None
        if table.labels is not None:
            numbers = {name: number for number, name in enumerate(classes)}
            labelled = table_of(table.labels, classes) if several else [numbers[name] for (name,) in table.labels]
        super().__init__(Files(root, table.paths), table.names, labelled, classes, transform)

    @property
    def meta(self) -> dict[str, Any]:
        """The facts of pictures, and the sign between the names of several labels, if the CSV has one."""
        return super().meta | ({"separator": self.separator} if self.separator else {})


@dataclass(frozen=True)
class Table:
    """Pictures: names as in the text file, paths below root, and labels (None: the pictures have none)."""

    names: list[str]
    paths: list[str]
    labels: list[Labels] | None
    groups: list[str] | None = None  # the cells of the column data.group
    marked: Sequence[str] = ()  # the labels that have a column of 0 and 1
    separator: str | None = None  # between two names in a cell

    def classes(self) -> list[str]:
        """Return the distinct labels in order; numbers are ordered by value, labels with a column by the columns."""
        if self.marked:
            return list(self.marked)
        found = {name for names in self.labels or () for name in names}
        numeric = all(map(is_number, found))
        return sorted(found, key=lambda label: (float(label), label) if numeric else (0, label))

    def strata(self) -> list[str] | None:
        """Return a class for each picture, of which each fold gets its share: of several labels the rarest one."""
        return None if self.labels is None else rarest(self.labels)

    def subset(self, chosen: list[int]) -> "Table":
        """Return a table of the rows at these positions."""
        labels = None if self.labels is None else pick(self.labels, chosen)
        return replace(self, names=pick(self.names, chosen), paths=pick(self.paths, chosen), labels=labels, groups=None)


# The CSV


def _read_table(
    path: str, finder: Finder, keys: tuple[Any, ...], classes: Sequence[str] | None, skip: bool, facts: Facts
) -> Table:
    """Return the CSV's pictures and labels.

    `keys`: the two columns, if they are named, one of groups, whether a picture has several labels, and their sign.

    Raises DataError with file:line for a fault in it.
    """
    _check_file(path, finder.root)
    faults = Faults(path)
    rows = read_rows(path, faults)
    columns = find_columns(path, rows, finder.find, *keys[:2], *keys[3:])
    group = None if keys[2] is None else columns.position(keys[2])
    table, missing = _rows(rows[columns.header :], columns, group, finder, classes, faults)
    for reason, found in missing.items() if not skip else ():
        for line, name in found:
            count = f"{len(found):,} of {len(rows) - columns.header:,} rows have no {reason}"
            told = f"has no {reason}; fill it in or remove the row" if reason != PICTURE else finder.missing(name)
            faults.add(line, f"{told}; {count}: data.dataset.missing=skip leaves such rows out")
    faults.check()
    if splits := columns.splits([cells for _, cells in rows[columns.header :]]):
        facts.lines.append(
            f"note: the column {splits[0]} names splits and is not read; data.dataset.lists chooses them"
        )
    if not classes and len(table.classes()) < (1 if columns.several else 2):
        only = f"only the label '{table.classes()[0]}'" if table.classes() else "no row with a label below its header"
        raise DataError(f"{path} has {only}, but pictures of two classes are needed at least; add them")
    if not classes and (same := alike(table.classes())):
        raise DataError(
            f"{path}: the labels {same} look like one class written in several ways; make them one, or name "
            "all classes in data.dataset.classes"
        )
    _tell(facts, columns, table, missing, finder)
    return table


def _check_file(path: str, root: str) -> None:
    """Raise DataError where the CSV is missing."""
    if not os.path.exists(path):
        beside = sorted(name for name in os.listdir(root) if name.lower().endswith((".csv", ".tsv", ".txt")))
        there = f"; there is {', '.join(beside[:6])}" if beside else ""
        raise DataError(f"cannot read {path} (there is no such file); set data.dataset.labels=FILE{there}")


def _rows(
    rows: list[Row],
    columns: Columns,
    group: int | None,
    finder: Finder,
    classes: Sequence[str] | None,
    faults: Faults,
) -> tuple[Table, Missing]:
    """Return the rows that have a picture and a label, and those that lack one."""
    lines: dict[str, int] = {}  # by path of the picture
    names, labels, groups = list[str](), list[Labels](), list[str]()
    missing: Missing = {}
    for line, cells in rows:
        name, told = cells[columns.path], columns.labels_of(line, cells)
        found, labelled = finder.find(name), bool(told) or columns.several
        if not name or not labelled or not found:
            reason = PICTURE if name and labelled else "label" if name else "name of a picture"
            missing.setdefault(reason, []).append((line, name or f"line {line}"))
        elif fault := next((fault for label in told if (fault := _fault(label, classes))), ""):
            faults.add(line, fault)
        elif found in lines:
            faults.add(line, f"the picture '{name}' is also in line {lines[found]}; keep one of the two")
        else:
            lines[found] = line
            names.append(name)
            labels.append(told)
            groups += [] if group is None else [cells[group]]
    marked = [columns.names[i] for i in columns.labels] if columns.several and columns.separator is None else []
    of = None if group is None else groups
    return Table(names, list(lines), labels, of, marked, columns.separator), missing


def _fault(label: str, classes: Collection[str] | None) -> str:
    """Return the fault in the label of a row; empty if it is good."""
    if not classes and label.lower() in NO_LABEL:
        return f"its label '{label}' means none; fill it in, or name all classes in data.dataset.classes"
    if classes and label not in classes:
        return f"the label '{label}' is none of the {len(classes)} classes that are trained; mend or remove the row"
    return ""


def _tell(facts: Facts, columns: Columns, table: Table, missing: Missing, finder: Finder) -> None:
    """Note how the CSV was read, the rows without a picture, and the pictures without a row."""
    facts.lines += columns.told()
    if columns.several and (bare := sum(not names for names in table.labels or ())):
        facts.lines.append(f"{count_of(bare, 'picture')} without any label")
    for reason, found in missing.items():
        told = "whose picture is missing" if reason == PICTURE else f"with no {reason}"
        facts.leave_out(f"a row {told} (data.dataset.missing)", [name for _, name in found])
    folders = sorted({os.path.dirname(path) for path in table.paths})
    shown = ", ".join(os.path.normpath(os.path.join(finder.root, folder)) for folder in folders[:4])
    shown += ", …" * (len(folders) > 4)
    facts.lines.append(f"pictures lie in {shown} (data.dataset.images)")
    elsewhere = [name for name, path in zip(table.names, table.paths, strict=True) if not _as_named(name, path)]
    facts.note_odd("whose folder is not where the CSV has it; found by the end of its path", elsewhere)
    known, without = set(table.paths), list[str]()
    for folder in folders:
        beside = list_images(os.path.join(finder.root, folder))
        without += [path for name in beside if (path := os.path.join(folder, name)) not in known]
    facts.leave_out("a picture without a row in the CSV", without)


def _as_named(name: str, path: str) -> bool:
    """Return whether a path below root has all folders of a name, whatever its suffix."""
    return os.path.normpath(path).startswith(name) or f"/{os.path.normpath(name)}" in f"/{os.path.normpath(path)}"


# Splits


def _list_path(root: str, lists: str | None, split: str, whole: bool) -> str | None:
    """Return the path of the split's list; None without `lists`, and where a test or a whole folder has no list."""
    if lists is None:
        return None
    if "{split}" not in lists:
        raise ValueError(f"lists={lists} must have {{split}} in it, as in lists/{{split}}.txt")
    path = os.path.join(root, lists.replace("{split}", split))
    return None if (split == "test" or whole) and not os.path.exists(path) else path


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


def _test_folder(root: str, table: Table, facts: Facts) -> Table:
    """Return the pictures in `test`, or in `root` itself if no CSV is beside them."""
    folder = "test" if os.path.isdir(os.path.join(root, "test")) else ""
    if table.names and not folder:
        raise DataError(f"{root} has no folder test, and no list for the test; set lists or {root_option('test')}")
    facts.source = os.path.join(root, folder)
    files = list_images(facts.source, facts=facts)
    if not files:
        raise no_pictures(facts.source, "test")
    bare = bool(table.names) and not table.names[0].lower().endswith(SUFFIXES)  # ids then look like those of the CSV
    names = [os.path.splitext(file)[0] for file in files] if bare else files
    return Table(names, [os.path.join(folder, file) for file in files], None)
