"""Partners of labelled pictures: one of the same class and one of another, drawn once for each."""

import random
from collections.abc import Sequence

from utils.errors import DataError

__all__ = ["partners"]


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
