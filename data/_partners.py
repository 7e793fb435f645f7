"""Partners of labelled pictures: one of the same class and one of another, drawn once for each."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from data._folds import Folds
from data.image_folder import ImageFolder
from utils.config.ranges import Fraction, Seed
from utils.errors import DataError

__all__ = ["WithPartners", "partners"]


class WithPartners(ImageFolder):
    """Class folders of which a sample is several pictures; `partners` has the others' numbers, None for the test."""

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        transform: Callable | None = None,
        val_fraction: Fraction = 0.3,
        seed: Seed = 0,
        splits: Mapping[str, str] | None = None,
        exclude: Sequence[str] = (),
        classes: Sequence[str] | None = None,
        whole: bool = False,
        folds: Folds | None = None,
    ) -> None:
        super().__init__(root, split, transform, val_fraction, seed, splits, exclude, classes, whole, folds)
        self.partners = None
        if split != "test" and self.labels is not None:
            self.partners = partners(self.labels.tolist(), self.classes, root, seed, split)

    @property
    def meta(self) -> dict[str, Any]:
        """Facts for networks: without `num_classes`, which of a network that embeds is the length of its vectors."""
        return {name: value for name, value in super().meta.items() if name != "num_classes"}

    def picture(self, index: int) -> Tensor:
        """Return one picture, float32 [C, H, W]."""
        return self._transformed(index) if self.transform else self.store.tensor(index)


def partners(
    labels: Sequence[int], classes: Sequence[str], place: str, seed: int, split: str
) -> list[tuple[int, int, bool]]:
    """Return for each picture the numbers of one of its class and of one of another, and a coin's throw.

    They are a function of the labels, of `seed` and of `split`. Raises DataError for a class of one picture, and where
    there is but one class.
    """
    order = sorted(range(len(labels)), key=lambda number: labels[number])  # class by class
    first, count = dict[int, int](), dict[int, int]()  # of each class in that order
    for position, number in enumerate(order):
        first.setdefault(labels[number], position)
        count[labels[number]] = count.get(labels[number], 0) + 1
    if lone := [classes[label] for label in count if count[label] < 2]:
        raise DataError(f"{place}: the class {lone[0]} has one picture in the split '{split}', where two are needed")
    if len(count) < 2:
        raise DataError(f"{place}: all pictures of the split '{split}' are of one class, where two are needed")
    drawn, places = random.Random(f"{seed} {split}"), {number: position for position, number in enumerate(order)}
    found = []
    for number, label in enumerate(labels):
        begin, size = first[label], count[label]
        similar = begin + (places[number] - begin + drawn.randrange(1, size)) % size
        different = (begin + size + drawn.randrange(len(order) - size)) % len(order)
        found.append((order[similar], order[different], drawn.random() < 0.5))
    return found
