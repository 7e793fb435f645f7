"""Two pictures a sample, from class folders, with 1 where they are of one class and -1 where they are not."""

from typing import Any

from data._partners import WithPartners

__all__ = ["Pairs"]


class Pairs(WithPartners):
    """Pairs (picture, picture, 1 or -1) from class folders, as CosineEmbeddingLoss takes them.

    Each picture of a split comes first once; a coin decides whether the second is of its class (1) or of another (-1).
    Both are drawn by `seed`: the same in each epoch. The folders are those of ImageFolder, and so are its other
    arguments. The test split holds single pictures, for which `test` writes the network's outputs.
    """

    def __getitem__(self, index: int) -> Any:
        """Return (picture, picture, 1 or -1), pictures float32 [C, H, W]; in the test split one picture."""
        if self.partners is None:
            return self.picture(index)
        similar, different, same = self.partners[index]
        return self.picture(index), self.picture(similar if same else different), 1 if same else -1
