"""Pictures in tar shards, in the layout of the webdataset package."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch

from data._facts import Facts
from data._folders import existing_folder, root_option
from data._folds import Folds
from data._images import ImageDataset, share_of, split_indices
from data._shard_files import shards_of
from data._shard_index import indices
from data._shard_labels import label_ending, numbered, picture_endings
from data._shards import Keys, ShardedPictures, Shards
from utils.config.ranges import Fraction, Seed
from utils.errors import DataError
from utils.words import count_of

__all__ = ["WebDataset"]


class WebDataset(ImageDataset):
    """Pictures and labels in tar shards such as train-000000.tar, as the webdataset package writes them.

    Files of one key, the name up to its first dot, are a sample: 000017.jpg and 000017.cls. Shards are read by position
    and never unpacked; an index of each, in the folder `.index` beside it, is made once. The split stands in a shard's
    name or folder; `splits` gives patterns, as {train: "train-{000000..000146}.tar", val: "val-*.tar"}. Without shards
    for val, a seeded `val_fraction` of the training samples is for validation. `image` are the endings of the pictures
    (jpg, seg.png); `label` is the ending of the labels: cls for numbers, txt for names, or json:key for a value of a
    JSON file; none: no labels. `classes` name the numbers in their order.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        transform: Callable | None = None,
        splits: Mapping[str, str] | None = None,
        image: Sequence[str] | None = None,
        label: str | None = None,
        val_fraction: Fraction = 0.3,
        seed: Seed = 0,
        classes: Sequence[str] | None = None,
        whole: bool = False,
        folds: Folds | None = None,
    ) -> None:
        root = existing_folder(root, split)
        found = shards_of(root, split, splits)
        if folds and "val" in found:
            folds.refuse(f"{found['val'][0]} is for validation; data.dataset.splits={{train: …}} leaves it out")
        if not (paths := found.get(split) or (found.get("train", []) if split != "test" else [])):
            raise DataError(
                f"no shards of the split '{split}' in {root}; set data.dataset.splits or {root_option(split)}"
            )
        of_shards = indices(paths)
        self.facts = Facts(f"{count_of(len(paths), 'shard')}, {paths[0]}{' …' * (len(paths) > 1)}")
        pictures = picture_endings(of_shards, image)
        label = label_ending(of_shards, label)
        told, names = numbered(of_shards, label, classes, split)
        shards = Shards(of_shards)
        if split != "test" and "val" not in found:
            labels = None if told is None else shards.taken(told)
            chosen = split_indices(len(shards), split, val_fraction, seed, whole, folds, labels)
            shards = Shards(of_shards, np.sort(np.array(chosen, np.int64)))
            self.facts.source = share_of(self.facts.source, split, val_fraction, seed, whole, folds)
        self.facts.lines += [
            f"pictures: {', '.join(pictures)} (data.dataset.image)",
            f"labels: {label or 'none'} (data.dataset.label)",
        ]
        labelled = None if told is None else torch.from_numpy(shards.taken(told))
        super().__init__(ShardedPictures(shards, pictures), Keys(shards), labelled, names, transform)
