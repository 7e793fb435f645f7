"""The error rate of texts: how many characters must be changed, left out or put in."""

from collections.abc import Hashable, Sequence

from utils.meters.base import Average

__all__ = ["ErrorRate", "edit_distance"]

Text = Sequence[Hashable]  # characters, or words


class ErrorRate(Average):
    """The edits from texts that were read to the true ones, over the length of the true ones together.

    Over characters it is the character error rate (CER), over words the word error rate. It is above 1 where more is
    read than there is.
    """

    def add(self, read: Sequence[Text], truth: Sequence[Text]) -> None:
        """Add a batch of texts and the true ones. Raises ValueError for batches of unequal size."""
        edits = sum(edit_distance(*pair) for pair in zip(read, truth, strict=True))
        self._add_sum(edits, sum(map(len, truth)))


def edit_distance(one: Text, other: Text) -> int:
    """Return the least number of characters to change, leave out or put in (Levenshtein, 1966)."""
    row = list(range(len(other) + 1))  # from the beginning of `one` so far to each beginning of `other`
    for i, left in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]
