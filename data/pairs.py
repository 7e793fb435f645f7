"""Two pictures a sample, from class folders, with 1 where they are of one class and -1 where they are not."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from data._folds import Folds
from data._partners import partners
from data.image_folder import ImageFolder
from utils.config.ranges import Fraction, Seed

__all__ = ["Pairs"]


class Pairs(ImageFolder):
    """Pairs (picture, picture, 1 or -1) from class folders, as CosineEmbeddingLoss takes them.

    Each picture of a split comes first once; a coin decides whether the second is of its class (1) or of another (-1).
    Both are drawn by `seed`: the same in each epoch. The folders are those of ImageFolder, and so are its other
    arguments. The test split holds single pictures, for which `test` writes the network's outputs.
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
        """Return (picture, picture, 1 or -1), pictures float32 [C, H, W]; in the test split one picture."""
        if self.partners is None:
            return self._picture(index)
        similar, different, same = self.partners[index]
        return self._picture(index), self._picture(similar if same else different), 1 if same else -1

    @property
    def meta(self) -> dict[str, Any]:
        """Facts for networks: without `num_classes`, which of a network that embeds is the length of its vectors."""
        return {name: value for name, value in super().meta.items() if name != "num_classes"}

    def _picture(self, index: int) -> Tensor:
        return self._transformed(index) if self.transform else self.store.tensor(index)
