"""Two pictures a sample, named in a CSV file, with their relation 1 or -1."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from data._broken import broken_named
from data._csv import Faults, Row, read_rows
from data._facts import Facts
from data._finder import Finder, picture_folders
from data._folders import existing_folder
from data._folds import Folds
from data._images import pick, share_of, split_indices
from data._stores import Files
from utils.config.ranges import Fraction, Seed
from utils.errors import DataError
from utils.randomness import same_random_state

__all__ = ["CSVPairs"]


class CSVPairs(Dataset):
    """Pairs (picture, picture, 1 or -1) from a CSV of `picture,picture,relation` rows, such as those of a ranking.

    The relation is 1 (alike, or: the first is above) or -1 (not, or: the second is above); 0 instead of -1 is taken,
    too, if there is no -1. The first row is a header if its last cell is no number. Pictures lie in `root/<images>`,
    `root` or another folder in it, with or without their suffix in the CSV. A seeded `val_fraction` is for validation;
    the test split is the CSV `test`, whose rows may lack the relation.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        transform: Callable | None = None,
        pairs: str = "pairs.csv",
        test: str = "test.csv",
        images: str = "",
        val_fraction: Fraction = 0.3,
        seed: Seed = 0,
        whole: bool = False,
        folds: Folds | None = None,
    ) -> None:
        root = existing_folder(root, split)
        path = os.path.join(root, test if split == "test" else pairs)
        faults = Faults(path)
        rows = read_rows(path, faults)
        finder = Finder(root, picture_folders(root, images))
        if (count := len(rows[0][1])) > 3:  # all rows have as many as the first one
            raise DataError(
                f"{path}:{rows[0][0]}: has {count} columns, but a pair is a picture, a picture and their relation; "
                "remove the others"
            )
        header = int(not _is_number(rows[0][1][-1]) and not finder.find(rows[0][1][1]))
        names, relations = _read(rows[header:], finder, split, faults)
        self.facts = Facts(share_of(path, split, val_fraction, seed, whole, folds))
        self.facts.lines.append(f"{len(names):,} pairs in {path}{', below its header' * header}")
        if split != "test":
            chosen = split_indices(len(names), split, val_fraction, seed, whole, folds, relations)
            names, relations = pick(names, chosen), pick(relations, chosen)
        self.store, self.transform = Files(root, [name for pair in names for name in pair]), transform
        self.ids = [f"{one} {other}" for one, other in names]
        self.relations = None if split == "test" else torch.tensor(relations, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Any:
        """Return (picture, picture, 1 or -1), pictures float32 [C, H, W]; the pictures alone in the test split."""
        pictures = self._picture(2 * index), self._picture(2 * index + 1)
        return pictures if self.relations is None else (*pictures, int(self.relations[index]))

    @property
    def files(self) -> list[str]:
        """The paths of the pictures."""
        return [os.path.join(self.store.folder, name) for name in self.store.names]

    @property
    def meta(self) -> dict[str, Any]:
        """Facts for networks; channels and size [H, W] are those of the first picture."""
        with same_random_state(), broken_named(self):
            image = self._picture(0)
        return {"in_channels": image.shape[0], "image_size": list(image.shape[1:])}

    def _picture(self, number: int) -> Tensor:
        return self.transform(self.store.picture(number)) if self.transform else self.store.tensor(number)


def _read(rows: Sequence[Row], finder: Finder, split: str, faults: Faults) -> tuple[list[tuple[str, str]], list[int]]:
    """Return the paths of both pictures and the relation of each row; in the test split the relation is 0.

    Raises DataError with file:line for a row that cannot be read.
    """
    names: list[tuple[str, str]] = []
    relations: list[int] = []
    known = {float(cells[2]) for _, cells in rows if len(cells) > 2 and _is_number(cells[2])}
    zero = -1 not in known and 0 in known
    for line, cells in rows:
        found = [finder.find(name) for name in cells[:2]]
        relation = 0 if split == "test" else _relation(cells, zero)
        if missing := [name for name, path in zip(cells, found, strict=False) if not path]:
            faults.add(line, finder.missing(missing[0]))
        elif relation is None:
            choices = "1 or 0" if zero else "1 or -1"
            faults.add(
                line, f"the third cell is '{cells[2] if len(cells) > 2 else ''}', where {choices} is due; mend it"
            )
        else:
            names.append((found[0], found[1]))
            relations.append(relation)
    faults.check()
    if not names:
        raise DataError(f"{faults.path} has no row below its header; add pairs")
    return names, relations


def _relation(cells: Sequence[str], zero: bool) -> int | None:
    """Return 1 or -1; None for any other cell. `zero`: 0 stands for -1."""
    value = float(cells[2]) if len(cells) > 2 and _is_number(cells[2]) else None
    return {1.0: 1, 0.0 if zero else -1.0: -1}.get(value) if value is not None else None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell
