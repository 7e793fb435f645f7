"""From words on the command line to samples: pictures, folders of them, lists of paths in a CSV, or rows of a table."""

import csv
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from multiprocessing.pool import ThreadPool
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from configs import COMPONENTS, Config
from data._csv import NAME_WORDS, Faults, read_lines, word_of
from data._folders import list_images
from data._images import ImageDataset
from data._mask_folders import Pair
from data._stores import Files, Store
from data.cifar import CIFAR10
from data.csv_pixels import CSVPixels
from data.digit_strings import DigitStrings
from data.digits import Digits
from data.loading.transforms import make_transform
from data.mnist import MNIST
from data.segmentation import MaskFolder
from data.tabular import Tabular
from trainer.build import build_dataset
from utils.errors import ConfigError, DataError, PictureError
from utils.images import read_image, to_tensor

__all__ = ["Inputs", "find_inputs"]

TABLES = (".csv", ".tsv", ".txt")
IN_MEMORY = (
    Digits,
    MNIST,
    CSVPixels,
    CIFAR10,
    DigitStrings,
)  # pictures of one size, which no transform needs to bring them to
SIZING = ("Resize", "Crop", "Pad")  # in the names of transforms after which pictures have another size
THREADS = 8


@dataclass(frozen=True)
class Inputs:
    """Samples to predict. `names`: each that was asked for, in order; `places`: where it is in the dataset.

    `broken`: the reasons by name of those that cannot be read; they are not in the dataset.
    """

    dataset: Dataset
    names: list[str]
    places: dict[str, int]
    broken: Mapping[str, str]
    column: str = "path"  # the name of the column of names
    notes: Sequence[str] = ()


def find_inputs(words: Sequence[str], cfg: Config, meta: Mapping[str, Any], made: Iterable[Path] = ()) -> Inputs:
    """Return the samples that the words name, read as the run's dataset reads them.

    `made` are files and folders of an earlier prediction, which are none of the samples of a folder.

    Raises DataError for words that name nothing, ConfigError for a run that learned from neither pictures nor tables.
    """
    if missing := [word for word in words if not os.path.exists(os.path.expanduser(word))]:
        raise DataError(f"{', '.join(missing[:5])}: does not exist; name pictures, folders or a CSV")
    words = [os.path.expanduser(word) for word in words]
    kind = COMPONENTS["data"].get(cfg.data.dataset.name)
    rows = words[0].lower().endswith(TABLES) and issubclass(kind, (Tabular, CSVPixels))
    if rows or issubclass(kind, Tabular):
        return _rows(words, cfg, meta)
    if not {"in_channels", "image_size"} & meta.keys() or cfg.task.name == "Captioning":
        known = f"{cfg.task.name} of {cfg.data.dataset.name}"
        raise ConfigError(f"predict: takes pictures and tables, and {known} takes neither; see test and generate")
    return _pictures(_paths(words, [path.resolve() for path in made]), cfg, meta, kind)


# Tables


def _rows(words: Sequence[str], cfg: Config, meta: Mapping[str, Any]) -> Inputs:
    """Return the rows of a table as the split test of the run's dataset."""
    if len(words) > 1 or not words[0].lower().endswith(TABLES):
        raise ConfigError(f"predict: {cfg.data.dataset.name} reads one table; name one CSV, got {', '.join(words)}")
    with TemporaryDirectory() as folder:  # a dataset knows its table by the name
        os.symlink(os.path.abspath(words[0]), os.path.join(folder, "test.csv"))
        args = {k: v for k, v in cfg.data.dataset.args.items() if k not in ("root", "test", "train")}
        spec = replace(cfg.data.dataset, args={**args, "root": folder})
        data = replace(cfg.data, dataset=spec, train_data_root=None, test_data_root=None, cache=None)
        try:
            dataset: Any = build_dataset(replace(cfg, data=data), "test", dict(meta))
        except DataError as error:
            raise DataError(str(error).replace(os.path.join(folder, "test.csv"), words[0])) from error
    names = [str(key) for key in dataset.ids]
    return Inputs(dataset, names, {name: place for place, name in enumerate(names)}, {}, "id")


# Pictures


def _paths(words: Sequence[str], made: Sequence[Path] = ()) -> list[str]:
    """Return the paths of the pictures: as typed, those of a folder sorted, those of a CSV in its order."""
    found: list[str] = []
    for word in words:
        if os.path.isdir(word):
            inside = [os.path.join(word, name) for name in list_images(word, nested=True)]
            inside = [path for path in inside if not any(Path(path).resolve().is_relative_to(one) for one in made)]
            if not inside:
                raise DataError(f"{word}: holds no pictures; name a folder with some")
            found += inside
        elif word.lower().endswith(TABLES):
            found += _listed(word)
        else:
            found.append(word)
    return found


def _listed(path: str) -> list[str]:
    """Return the paths in the column of a CSV that names files. Raises DataError where none does."""
    lines = read_lines(path, Faults(path))
    delimiter = max(",;\t|", key=next((line for line in lines if line.strip()), "").count)
    rows = [row for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if row]
    places = ("", os.path.dirname(path))

    def file(cell: str) -> str | None:
        return next((p for place in places if os.path.isfile(p := os.path.join(place, cell))), None)

    columns = zip_longest(*rows[:200], fillvalue="")
    counts = [sum(bool(cell) and file(cell) is not None for cell in column) for column in columns] or [0]
    column = max(range(len(counts)), key=counts.__getitem__)
    if not counts[column]:
        raise DataError(f"{path}: no column holds paths of files, from here or from its folder; name such a list")
    first = rows[0][column]
    headed = file(first) is None and (word_of(first) in NAME_WORDS or not os.path.splitext(first)[1])
    if short := [row for row in rows if len(row) <= column]:
        raise DataError(
            f"{path}: the row '{delimiter.join(short[0])[:60]}' has no column {column + 1}, {first}; mend it"
        )
    return [file(row[column]) or row[column] for row in rows[headed:]]


def _pictures(paths: list[str], cfg: Config, meta: Mapping[str, Any], kind: type) -> Inputs:
    """Return the pictures that can be read, each once."""
    different = list(dict.fromkeys(paths))
    with ThreadPool(min(THREADS, os.cpu_count() or 1)) as pool:
        faults = pool.map(_fault, different)
    broken = {path: fault for path, fault in zip(different, faults, strict=True) if fault}
    good = [path for path in different if path not in broken]
    if not good:
        first = next(iter(broken.items()))
        raise DataError(f"none of {len(different):,} pictures can be read: {first[0]} ({first[1]}), …")
    listed = cfg.data.transform.eval
    transform = make_transform(listed, fast=cfg.data.pixels == "fast") if listed else None
    places = {path: place for place, path in enumerate(good)}
    if issubclass(kind, MaskFolder):
        return Inputs(_Unmasked(good, int(meta["in_channels"]), transform), paths, places, broken)
    notes = []
    if not issubclass(kind, (ImageDataset, DigitStrings)):
        notes.append(f"note: pictures are read as RGB; {kind.__name__} may have read them in another way")
    grey = meta.get("in_channels") == 1 and not any(spec.name == "Grayscale" for spec in listed)
    sized = any(part in spec.name for spec in listed for part in SIZING)
    size = meta["image_size"] if issubclass(kind, IN_MEMORY) and not sized else None
    store: Store = Files("", good)
    if grey or size:
        store = _Brought(good, "L" if grey else "RGB", size)
        shape = f"{'grey' if grey else 'colour'}{f', {size[1]} x {size[0]} pixels' if size else ''}"
        notes.append(f"note: pictures are brought to the form that the network learned from: {shape}")
    dataset = ImageDataset(store, good, None, meta.get("classes") or [], transform)
    return Inputs(dataset, paths, places, broken, notes=notes)


def _fault(path: str) -> str:
    """Return why a picture cannot be read; empty if it can."""
    try:
        read_image(path)
    except PictureError as error:
        return error.reason
    return ""


@dataclass(frozen=True, eq=False)
class _Brought:
    """Pictures in files, brought to grey (`mode` L) or colour, and to a size [H, W]."""

    names: Sequence[str]
    mode: str
    size: Sequence[int] | None

    def picture(self, index: int) -> Image.Image:
        """Return the picture, for transforms."""
        image = read_image(self.names[index], self.mode)
        wanted = (self.size[1], self.size[0]) if self.size else image.size
        return image if image.size == wanted else image.resize(wanted, Image.Resampling.BILINEAR)

    def tensor(self, index: int) -> Tensor:
        """Return the picture as float32 [C, H, W] in [0, 1]."""
        return to_tensor(self.picture(index))


class _Unmasked(MaskFolder):
    """Pictures without masks, read as a folder with masks reads them."""

    def __init__(self, paths: Sequence[str], in_channels: int, transform: Callable | None):
        self.pairs = [Pair(path, path) for path in paths]
        self.ids, self.table = list(paths), None
        self.in_channels, self.transform = in_channels, transform
