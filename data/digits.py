"""Scikit-learn's handwritten digits, which come with the package."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from data._facts import Facts
from data._folds import Folds
from data._images import ImageDataset
from data._stores import Pixels
from utils.config.ranges import Seed

__all__ = ["Digits"]

SHARES = {"train": "70 %", "val": "15 %", "test": "15 %"}
SPLITS = {"train": (0.0, 0.70), "val": (0.70, 0.85), "test": (0.85, 1.0)}  # of a seeded permutation


class Digits(ImageDataset):
    """1,797 handwritten digits of 8x8 grey pixels; they come with scikit-learn, so no file is needed.

    70 % are for training, 15 % for validation, 15 % for the test; a sample's id is its number in the whole set.
    """

    def __init__(
        self,
        split: Literal["train", "val", "test"],
        transform: Callable | None = None,
        seed: Seed = 0,
        folds: Folds | None = None,
    ) -> None:
        table = _table()
        order = torch.randperm(len(table), generator=torch.Generator().manual_seed(seed))
        start, end = (round(fraction * len(order)) for fraction in SPLITS[split])
        chosen = order[start:end]
        self.facts = Facts(f"{SHARES[split]} of scikit-learn's digits, drawn by seed {seed} (data.dataset.seed)")
        if folds and split != "test":
            known = order[: round(SPLITS["val"][1] * len(order))]
            chosen = known[folds.choose(len(known), split, seed, table[known, -1])]
            self.facts = Facts(folds.told("the 85 % of scikit-learn's digits that are not for the test", split))
        values, labels = table[:, :-1].byte().view(-1, 1, 8, 8), table[:, -1]
        ids = [str(i) for i in chosen.tolist()]
        super().__init__(Pixels(values[chosen], white=16), ids, labels[chosen], list("0123456789"), transform)


def _table() -> Tensor:
    """Return the digits in scikit-learn's file, int64 [N, 65]: 64 pixels from 0 to 16, and the class.

    The file is read directly, because importing scikit-learn takes longer than importing torch.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
    file = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    return torch.from_numpy(np.loadtxt(file, dtype=np.int64, delimiter=","))
