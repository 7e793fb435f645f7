"""Pictures without labels, for tasks that need none."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from data._facts import Facts
from data._folders import existing_folder, list_images, no_pictures, note_odd
from data._folds import Folds
from data._images import ImageDataset, pick, share_of, split_indices
from data._stores import Files
from utils.config.ranges import Fraction, Seed

__all__ = ["Photos"]


class Photos(ImageDataset):
    """All pictures in a folder and in the folders below it; a sample is a picture alone.

    A seeded `val_fraction` of them is the split val. The split test has every picture of its `root`. The ids are the
    paths below the root. `exclude` holds patterns of names that are left out.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        transform: Callable | None = None,
        val_fraction: Fraction = 0.1,
        seed: Seed = 0,
        exclude: Sequence[str] = (),
        whole: bool = False,
        folds: Folds | None = None,
    ) -> None:
        folder = existing_folder(root, split)
        self.facts = Facts(share_of(folder, split, val_fraction, seed, whole, folds))
        names = list_images(folder, nested=True, facts=self.facts, exclude=exclude)
        if not names:
            raise no_pictures(folder, split)
        note_odd(self.facts, folder, names)
        if split != "test":
            names = pick(names, split_indices(len(names), split, val_fraction, seed, whole, folds))
        super().__init__(Files(folder, names), names, None, [], transform)

    @property
    def meta(self) -> dict[str, Any]:
        """Channels and size [H, W] of the first picture."""
        found = super().meta
        return {key: found[key] for key in ("in_channels", "image_size")}
