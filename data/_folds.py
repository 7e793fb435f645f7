"""Folds: which samples are for training and which are held out, for all datasets that split themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from utils.errors import ConfigError, DataError

__all__ = ["Folds", "deal", "evenly"]

Labels = Sequence[Any] | torch.Tensor | None  # the class of each sample, if it has one


@dataclass(frozen=True)
class Folds:
    """Fold `number` of `count`, from 0, is for validation (data.fold); rows of one `group` stay together (data.group).

    A dataset that splits itself takes it as the argument `folds`, and None without data.fold.
    """

    number: int
    count: int
    group: str | None = None

    def choose(
        self,
        samples: int,
        split: str,
        seed: int,
        labels: Labels = None,
        groups: Labels = None,
    ) -> list[int]:
        """Return the positions of the split train or val out of so many samples.

        `labels` are their classes, if they have some. Raises ConfigError where a group is asked for and the dataset has
        no columns, DataError for fewer samples, or groups, than folds.
        """
        if self.group is not None and groups is None:
            raise ConfigError(f"data.group={self.group}: only the rows of a table or a CSV have columns; leave it out")
        folds = deal(samples, self.count, seed, labels, groups)
        return [i for i, fold in enumerate(folds) if (fold == self.number) == (split == "val")]

    def block(self, samples: int, split: str) -> list[int]:
        """Return the positions of a split whose neighbours look alike: the fold is an unbroken part of them."""
        if self.group is not None:
            raise ConfigError(f"data.group={self.group}: only the rows of a table or a CSV have columns; leave it out")
        _check(samples, self.count)
        start, end = (samples * k // self.count for k in (self.number, self.number + 1))
        return [i for i in range(samples) if (start <= i < end) == (split == "val")]

    def told(self, place: str, split: str, how: str = "") -> str:
        """Return in words which part of a place's samples a split is."""
        part = "fold" if split == "val" else "all folds except"
        grouped = f", grouped by {self.group} (data.group)" if self.group is not None else ""
        return f"{part} {self.number} of {self.count} of {place}{how and f', {how}'}{grouped} (data.fold)"

    def refuse(self, reason: str) -> None:
        """Raise DataError for data that have a validation split of their own."""
        raise DataError(f"data.fold=[{self.number}, {self.count}]: {reason}")


def deal(samples: int, count: int, seed: int, labels: Labels = None, groups: Labels = None) -> list[int]:
    """Return the fold of each sample, a function of the seed: all folds are of one size, within 1.

    With `labels` each class is dealt out evenly, within 1, too. With `groups` no group is divided; then folds are as
    even as the groups allow. Raises DataError for fewer samples, or groups, than folds.
    """
    _check(samples, count)
    if groups is not None:
        return _deal_groups(list(map(str, groups)), count, seed, labels)
    folds = [0] * samples
    for place, i in enumerate(_by_class(samples, seed, labels)):
        folds[i] = place % count
    return folds


def evenly(samples: int, share: float, seed: int, labels: Labels = None) -> list[int]:
    """Return the positions of a share of the samples, at least one, in order; each class has that share, within 1."""
    order = _by_class(samples, seed, labels)
    wanted = max(1, round(samples * share))
    return sorted(order[(2 * i + 1) * samples // (2 * wanted)] for i in range(wanted))


def _check(samples: int, count: int, what: str = "samples") -> None:
    if samples < count:
        raise DataError(f"data.fold: {samples} {what} cannot be dealt out to {count} folds; take fewer folds")


def _by_class(samples: int, seed: int, labels: Labels) -> list[int]:
    """Return the positions class by class, those of a class in a drawn order."""
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(seed)).tolist()
    if labels is None:
        return order
    known = _plain(labels)
    numbers = {label: number for number, label in enumerate(sorted(set(known)))}
    return sorted(order, key=lambda i: numbers[known[i]])


def _plain(labels: Sequence[Any] | torch.Tensor) -> Sequence[Any]:
    return labels.tolist() if isinstance(labels, torch.Tensor) else labels


def _deal_groups(groups: list[str], count: int, seed: int, labels: Labels) -> list[int]:
    """Return the fold of each sample: the largest groups first, each to the fold that it leaves most even.

    After scikit-learn's StratifiedGroupKFold.
    """
    known = [0] * len(groups) if labels is None else _plain(labels)
    names = sorted(set(groups))
    _check(len(names), count, "groups")
    classes = {label: number for number, label in enumerate(sorted(set(known)))}
    place = {name: number for number, name in enumerate(names)}
    counts = torch.zeros(len(names), len(classes), dtype=torch.float64)  # samples of a class in a group
    for name, label in zip(groups, known, strict=True):
        counts[place[name], classes[label]] += 1
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    order.sort(key=lambda group: -counts[group].sum().item())
    shares, fold_of = torch.zeros(count, len(classes), dtype=torch.float64), [0] * len(names)
    for number, group in enumerate(order):
        empty = [fold for fold in range(count) if not shares[fold].any()]
        left = len(order) - number
        folds = empty if len(empty) >= left else range(count)  # each fold gets a group
        fold_of[group] = min(folds, key=lambda fold: _unevenness(shares, fold, counts[group], counts.sum(0)))
        shares[fold_of[group]] += counts[group]
    return [fold_of[place[name]] for name in groups]


def _unevenness(shares: torch.Tensor, fold: int, group: torch.Tensor, whole: torch.Tensor) -> tuple[float, float]:
    """Return how uneven the folds are with the group in that one: over classes, then in size."""
    tried = shares.clone()
    tried[fold] += group
    return round((tried / whole).std(0, unbiased=False).mean().item(), 12), tried[fold].sum().item()
