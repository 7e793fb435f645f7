"""Three pictures a sample, from class folders: two of one class, and one of another."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from data._folds import Folds
from data._partners import partners
from data.image_folder import ImageFolder
from utils.config.ranges import Fraction, Seed

__all__ = ["Triplets"]


class Triplets(ImageFolder):
    """Triplets (anchor, positive, negative) of pictures in class folders, as TripletMarginLoss takes them.

    Each picture of a split is an anchor once, with a positive of its own class and a negative of another, drawn by
    `seed`: the same in each epoch. The folders are those of ImageFolder, and so are its other arguments. The test split
    holds single pictures, for which `test` writes the network's outputs.
    """

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

    def __getitem__(self, index: int) -> Any:
        """Return (anchor, positive, negative), each float32 [C, H, W]; in the test split one picture."""
        if self.partners is None:
            return self._picture(index)
        positive, negative, _ = self.partners[index]
        return self._picture(index), self._picture(positive), self._picture(negative)

    @property
    def meta(self) -> dict[str, Any]:
        """Facts for networks: without `num_classes`, which of a network that embeds is the length of its vectors."""
        return {name: value for name, value in super().meta.items() if name != "num_classes"}

    def _picture(self, index: int) -> Tensor:
        return self._transformed(index) if self.transform else self.store.tensor(index)
