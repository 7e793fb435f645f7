"""Draws by weights, as torch's WeightedRandomSampler makes them."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from data._csv import Faults, read_rows
from data.loading.samplers import Sampler
from data.protocol import cells_of, ids_of, labels_of, meta_of
from utils.config.ranges import Count
from utils.errors import ConfigError, DataError, LinesError
from utils.randomness import same_random_state

__all__ = ["Weighted"]

LARGEST = 2**24  # samples of which torch.multinomial draws


class Weighted(Sampler):
    """Draw each sample as often as its weight says, with torch's WeightedRandomSampler.

    `weights` are a list of a number for each class or each sample, or a dict of them by class. In their place `file`
    names a CSV of the rows id,weight, or `column` a column of the table. They need not sum to 1. An epoch draws
    `num_samples`, by default as many as the dataset has; without `replacement` none is drawn twice.
    """

    def __init__(
        self,
        dataset: Any,
        weights: Sequence[float] | Mapping[str, float] | None = None,
        file: str | None = None,
        column: str | None = None,
        num_samples: Count | None = None,
        replacement: bool = True,
    ):
        if sum(given is not None for given in (weights, file, column)) != 1:
            raise ConfigError("data.sampler=Weighted: takes one of weights, file and column")
        found = _weights(dataset, weights) if weights is not None else []
        found = _from_file(dataset, file) if file is not None else found
        found = _from_column(dataset, column) if column is not None else found
        self.weights = torch.as_tensor(found, dtype=torch.float64)
        self.size, self.replacement = num_samples or len(self.weights), replacement
        if not bool(self.weights.isfinite().all()) or bool((self.weights < 0).any()) or not float(self.weights.sum()):
            raise DataError("data.sampler.weights: they must be finite, 0 or above, and some of them above 0")
        if len(self.weights) > LARGEST:
            raise DataError(f"data.sampler: torch draws by weights among {LARGEST:,} samples at most")
        if not replacement and self.size > (drawable := int((self.weights > 0).sum())):
            raise ConfigError(
                f"data.sampler.num_samples: {self.size:,} samples cannot be drawn without replacement from the "
                f"{drawable:,} of a weight above 0; draw fewer, or set data.sampler.replacement=true"
            )

    def __len__(self) -> int:
        return self.size

    def order(self, generator: torch.Generator) -> Tensor:
        return torch.multinomial(self.weights, self.size, self.replacement, generator=generator)

    def population(self) -> Tensor:
        return (self.weights > 0).nonzero()[:, 0]


def _weights(dataset: Any, given: Sequence[float] | Mapping[str, float]) -> Any:
    """Return a weight for each sample."""
    count = len(dataset)
    labels = labels_of(dataset)
    classes = [] if labels is None else _classes(dataset, labels)
    if isinstance(given, Mapping):
        wrong = [name for name in given if name not in classes] or [name for name in classes if name not in given]
        if wrong:
            raise ConfigError(
                f"data.sampler.weights: the class '{wrong[0]}' is "
                f"{'not among those of the data' if wrong[0] in given else 'without a weight'}; they are "
                f"{', '.join(classes[:12]) or 'none'}"
            )
        given = [given[name] for name in classes]
    if labels is not None and len(given) == len(classes):
        return torch.tensor(given, dtype=torch.float64)[labels.cpu()]
    if len(given) != count:
        of = f"{len(classes)} classes and " if classes else ""
        raise ConfigError(f"data.sampler.weights: {len(given)} numbers, but there are {of}{count:,} samples")
    return given


def _classes(dataset: Any, labels: Tensor) -> list[str]:
    """Return the names of the classes in the order of their numbers; their numbers, where the data do not name them."""
    with same_random_state():
        named = meta_of(dataset).get("classes")
    return list(map(str, named or range(int(labels.max()) + 1)))


def _from_column(dataset: Any, column: str) -> list[float]:
    """Return the cells of a table's column as numbers."""
    cells = cells_of(dataset)
    if cells is None:
        raise DataError(f"data.sampler.column: {type(dataset).__name__} is no table; take weights, or file")
    found = cells.table.cells(column)
    if len(found) != len(dataset):
        raise DataError(f"data.sampler.column: {len(found):,} rows have the column {column}, not {len(dataset):,}")
    faults = Faults(cells.table.path)
    values = [_number(text, line, faults) for line, text in found]
    faults.check()
    return values


def _from_file(dataset: Any, path: str) -> list[float]:
    """Return the weights of a file of id,weight rows, in the order of the samples."""
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise ConfigError(f"data.sampler.file: there is no file {path}; give a CSV of the rows id,weight")
    faults = Faults(path)
    rows = read_rows(path, faults)
    try:
        float(rows[0][1][1])
    except ValueError:  # a header
        rows = rows[1:]
    found = dict[str, float]()
    for line, (name, weight, *_) in rows:
        if name in found:
            faults.add(line, f"'{name}' has a weight already; remove one of the two rows")
        found[name] = _number(weight, line, faults)
    faults.check()
    ids = [str(name) for name in ids_of(dataset)]
    if missing := [name for name in ids if name not in found]:
        raise LinesError(
            f"{path}: {len(missing):,} of {len(ids):,} samples have no weight, the first {missing[0]}; add their rows",
            path,
            [],
        )
    return [found[name] for name in ids]


def _number(text: str, line: int, faults: Faults) -> float:
    try:
        return float(text)
    except ValueError:
        faults.add(line, f"the weight '{text}' is no number; mend it")
        return 0.0
