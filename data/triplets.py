"""Three pictures a sample, from class folders: two of one class, and one of another."""

from typing import Any

from data._partners import WithPartners

__all__ = ["Triplets"]


class Triplets(WithPartners):
    """Triplets (anchor, positive, negative) of pictures in class folders, as TripletMarginLoss takes them.

    Each picture of a split is an anchor once, with a positive of its own class and a negative of another, drawn by
    `seed`: the same in each epoch. The folders are those of ImageFolder, and so are its other arguments. The test split
    holds single pictures, for which `test` writes the network's outputs.
    """

    def __getitem__(self, index: int) -> Any:
        """Return (anchor, positive, negative), each float32 [C, H, W]; in the test split one picture."""
        if self.partners is None:
            return self.picture(index)
        positive, negative, _ = self.partners[index]
        return self.picture(index), self.picture(positive), self.picture(negative)
