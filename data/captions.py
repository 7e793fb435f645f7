"""Photos with captions, from the text file of Flickr8k and Flickr30k or from AI-Challenger's JSON."""

import copy
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from data._caption_files import annotations_path, read_pairs
from data._facts import Facts
from data._folders import existing_folder, list_images, no_pictures
from data._folds import Folds
from data._images import ImageDataset, pick, share_of, split_indices
from data._stores import Files
from utils.errors import ConfigError, DataError
from utils.randomness import same_random_state

__all__ = ["Captions"]

# The first entries of every vocabulary.
MARKS = ("<pad>", "<start>", "<end>", "<unk>")
PAD, START, END, UNKNOWN = range(4)

SEED = 0  # of the split
# how often a word that was found once is read as unknown, so that the unknown word has examples in training
UNKNOWN_RATE = 0.5
CHINESE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# A Chinese character, or letters and digits with hyphens and apostrophes inside; punctuation is left out.
WORD = re.compile(rf"[{CHINESE}]|[^\W_{CHINESE}]+(?:['’-][^\W_{CHINESE}]+)*")

Captioned = dict[str, list[list[str]]]  # photo: the words of its captions


class Captions(Dataset):
    """Photos with several captions each; a sample is a photo with all of its captions.

    `root` holds the photos, in `root/images` or in any folder below, and the file `annotations`: Flickr's text (a CSV
    with the header `image,caption`, lines `photo.jpg#0<tab>caption`, or lines `photo.jpg| 0| caption`), or
    AI-Challenger's JSON, a list of `{"image_id": "photo.jpg", "caption": ["…", …]}`. Without `annotations` the file is
    found by its usual name, or is the one JSON in `root`. Captions are split into lower-case words, Chinese into
    characters. Punctuation and captions without a word are left out. The photos are all photos, or the first `photos`
    of a fixed shuffled order. The split val has the fraction `val_fraction` of them; 0 validates on the training
    photos, to see whether they can be learned by heart. The split test has every photo of its `root`, without captions.

    A caption is int64 [words + 2], between start and end marks. A word that is found fewer than `min_count` times in
    the training captions becomes the unknown word, and so does a new word elsewhere. To give the unknown word examples,
    half of the samples of the split train read a word that was found once as unknown, unless `val_fraction` is 0.
    `pictures` are the photos alone, float32 [3, H, W] in [0, 1]; a task that works on their features gets a dataset
    `with_features`.

    Raises:
        ConfigError: from `meta`, for a transform whose pictures are not in [0, 1].
        DataError: no photos, no captions, a file in another format, or captions of a missing photo.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        transform: Callable | None = None,
        annotations: str | None = None,
        val_fraction: float = 0.3333,
        min_count: int = 1,
        photos: int | None = None,
        vocabulary: Sequence[str] | None = None,
        whole: bool = False,
        folds: Folds | None = None,
    ) -> None:
        root = existing_folder(root, split)
        folder = os.path.join(root, "images") if os.path.isdir(os.path.join(root, "images")) else root
        self.facts = Facts(_source(folder, split, val_fraction, whole, folds))
        found = list_images(folder, nested=True, facts=self.facts)
        if not found:
            raise no_pictures(folder, split)
        captioned: Captioned = {name: [] for name in found} if split == "test" else {}
        if split != "test":
            path = annotations_path(root, annotations)
            captioned = read_captions(path)
            self.facts.lines.append(f"captions: {path} (data.dataset.annotations)")
        paths = locate(captioned, found, folder)
        self.facts.leave_out("a photo without captions", sorted(set(found).difference(paths.values())))
        names = sorted(captioned)
        self.ids: list[str] = found
        if split != "test":
            self.ids = names if whole and split == "val" else split_photos(names, split, val_fraction, photos, folds)
        needed = vocabulary is None or split == "train"  # of the photos of the split train
        train = split_photos(names, "train", val_fraction, photos, folds) if needed and split != "test" else []
        self.pictures = ImageDataset(Files(folder, [paths[name] for name in self.ids]), self.ids, None, [], transform)
        self.inputs: Any = self.pictures
        counts = Counter(word for name in train for caption in captioned[name] for word in caption)
        self.vocabulary: list[str] = list(vocabulary or count_vocabulary(counts, min_count))
        self.facts.lines.append(f"{len(self.vocabulary):,} words (data.dataset.min_count)")
        numbers = {word: number for number, word in enumerate(self.vocabulary)}
        self.captions = [[_number(words, numbers) for words in captioned[name]] for name in self.ids]
        once = [numbers[word] for word, count in counts.items() if count == 1 and word in numbers]
        self.rare = torch.tensor(once if split == "train" and (val_fraction or folds) else [], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Any:
        """Return (picture or features, its captions), or the first alone for test.

        Raises DataError for a photo that cannot be read.
        """
        captions = [self._hide_rare_words(caption) for caption in self.captions[index]]
        return (self.inputs[index], captions) if captions else self.inputs[index]

    def collate(self, samples: list[Any]) -> Any:
        """Return (inputs [B, …], words int64 [N, T], lengths, photos int64 [N]) of all N captions.

        For test it returns the inputs alone.

        Caption i belongs to the photo `photos[i]` of the batch. After its start mark it has `lengths[i]` words, with
        its end mark, then padding. The longest is the first. Lengths are a list, because they are needed on the CPU.
        """
        if isinstance(samples[0], Tensor):
            return torch.stack(samples)
        pairs = [(caption, i) for i, (_, captions) in enumerate(samples) for caption in captions]
        captions, photos = zip(*sorted(pairs, key=lambda pair: -len(pair[0])), strict=True)
        words = pad_sequence(captions, batch_first=True, padding_value=PAD)
        return torch.stack([x for x, _ in samples]), words, [len(c) - 1 for c in captions], torch.tensor(photos)

    def with_features(self, features: Tensor) -> "Captions":
        """Return the same samples with a row of `features` [photos, D] in place of each photo."""
        copied = copy.copy(self)
        copied.inputs = features
        return copied

    @property
    def files(self) -> list[str]:
        """The paths of the photos."""
        return [os.path.join(self.pictures.store.folder, name) for name in self.pictures.store.names]

    @property
    def meta(self) -> dict[str, Any]:
        """The words in the order of their numbers, marks first, and how many; channels and size [H, W] of a picture."""
        with same_random_state():
            picture = self.pictures[0]
        if picture.min() < 0 or picture.max() > 1:
            raise ConfigError("data.transform: Captions needs pictures in [0, 1]; leave out Normalize, encoders do it")
        size = {"in_channels": picture.shape[0], "image_size": list(picture.shape[1:])}
        return {"vocabulary": list(self.vocabulary), "vocabulary_size": len(self.vocabulary), **size}

    def _hide_rare_words(self, caption: Tensor) -> Tensor:
        if not len(self.rare):
            return caption
        gone = torch.isin(caption, self.rare) & (torch.rand(len(caption)) < UNKNOWN_RATE)
        return caption.masked_fill(gone, UNKNOWN)


def _source(folder: str, split: str, val_fraction: float, whole: bool, folds: Folds | None) -> str:
    """Return in words which photos a split is."""
    if val_fraction == 0 and split != "test" and not whole and folds is None:
        return f"{folder}, the same photos to train and to validate (data.dataset.val_fraction)"
    return share_of(folder, split, val_fraction, SEED, whole, folds)


# Words


def read_captions(path: str) -> Captioned:
    """Return the words of the captions by photo, without captions that hold no word.

    Raises DataError when there are no captions, or when the file is missing or in another format.
    """
    captioned: Captioned = {}
    for name, caption in read_pairs(path):
        if words := split_words(caption):
            captioned.setdefault(name, []).append(words)
    if not captioned:
        raise DataError(f"{path} holds no captions; put them there or set --data.dataset.annotations=FILE")
    return captioned


def split_words(caption: str) -> list[str]:
    """Return the words of a caption in lower case, without punctuation."""
    return WORD.findall(caption.lower())


def count_vocabulary(counts: Counter[str], min_count: int) -> list[str]:
    """Return the marks, then every word that is found at least `min_count` times, the most frequent first."""
    return [*MARKS, *sorted((w for w in counts if counts[w] >= min_count), key=lambda w: (-counts[w], w))]


def _number(words: Sequence[str], numbers: dict[str, int]) -> Tensor:
    return torch.tensor([START, *(numbers.get(word, UNKNOWN) for word in words), END])


# Photos


def split_photos(
    names: Sequence[str], split: str, val_fraction: float, photos: int | None, folds: Folds | None = None
) -> list[str]:
    """Return the photos of the split train or val; with a fraction of 0 both get all of them.

    Raises ValueError for `photos` below 1 or a fraction outside [0, 1], and DataError when the split gets no photo.
    """
    if photos is not None and photos < 1:
        raise ValueError(f"photos={photos} leaves no photo; it must be at least 1")
    names = pick(names, split_indices(len(names), "train", 0.0, SEED)[:photos])
    if val_fraction == 0 and folds is None:
        return names
    return pick(names, split_indices(len(names), split, val_fraction, SEED, folds=folds))


def locate(captioned: Captioned, found: Sequence[str], folder: str) -> dict[str, str]:
    """Return the path of each captioned photo below the folder.

    Raises DataError for a photo that is missing or found twice.
    """
    exact, paths = set(found), dict[str, list[str]]()
    for path in found:
        paths.setdefault(path.rpartition("/")[2], []).append(path)
    missing = [name for name in captioned if name not in exact and name not in paths]
    if missing:
        more = f" (and of {len(missing) - 1} more that are missing)" if len(missing) > 1 else ""
        raise DataError(f"there are captions of {missing[0]}{more}, but {folder} holds no such photo; put it there")
    for name in captioned:
        if name not in exact and len(paths[name]) > 1:
            raise DataError(f"{folder} holds {name} twice, as {' and '.join(paths[name][:2])}; remove one of them")
    return {name: name if name in exact else paths[name][0] for name in captioned}
