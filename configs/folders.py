"""The config that fits a folder of pictures, for a command that is given the folder and no config."""

import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice

from utils.config.cli import Flag
from utils.errors import ConfigError, DataError

__all__ = ["config_of_folder"]

ROOTS = ("train_data_root", "data.train_data_root")
DATASETS = ("dataset", "data.dataset", "data.dataset.name")
LOOKED_AT = 1000  # entries of a folder, which may have millions
PICTURE = re.compile(r".+\.(jpe?g|png|bmp|gif|webp|tiff?)", re.I)
DOG_OR_CAT = re.compile(r"(cat|dog)\.\d+\.jpe?g", re.I)
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def config_of_folder(flags: Sequence[Flag]) -> tuple[str, str]:
    """Return the config for the folder that --train-data-root names, and why in words; ("default", "") without it.

    Raises DataError where there is no such folder, ConfigError where it does not tell the config.
    """
    given = {flag.key: flag for flag in flags}
    root = next((given[key] for key in ROOTS if key in given), None)
    if root is None or any(key in given for key in DATASETS):
        return "default", ""
    folder = os.path.expanduser(root.text)
    if not os.path.isdir(folder):
        raise DataError(f"{root.typed}: {root.text} does not exist, or is no folder")
    names = [entry.name for entry in _first(folder)]
    if any(map(DOG_OR_CAT.fullmatch, names)):
        return "dogcat", f"config: dogcat, as {root.text} holds photos named cat.N.jpg and dog.N.jpg"
    if classes := _class_folders(folder):
        told = ", ".join(classes[:5]) + ", …" * (len(classes) > 5)
        return "image_folder", f"config: image_folder, as {root.text} holds folders of pictures: {told}"
    raise ConfigError(
        f"{root.typed}: no config is named, and {root.text} holds neither photos named cat.N.jpg and dog.N.jpg nor a "
        f"folder of pictures for each class; name one, as in train csv_images {root.typed} (help configs lists them)"
    )


def _first(folder: str) -> Iterator[os.DirEntry]:
    """Yield the first entries of a folder; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            yield from islice(entries, LOOKED_AT)
    except OSError:
        return


def _class_folders(folder: str) -> list[str]:
    """Return the names of two or more folders that hold pictures, or folders of pictures in a folder train."""
    inside = sorted(entry.name for entry in _first(folder) if entry.name[0] not in "._" and entry.is_dir())
    if SPLITS & {name.lower() for name in inside}:
        return next((found for name in inside if (found := _class_folders(os.path.join(folder, name)))), [])
    holding = [name for name in inside if _has_picture(os.path.join(folder, name))]
    return holding if len(holding) > 1 else []


def _has_picture(folder: str) -> bool:
    """Return whether a folder holds a picture; also one folder deeper, as ImageFolder reads them."""
    entries = list(_first(folder))
    below = [os.path.join(folder, entry.name) for entry in entries if entry.is_dir()]
    return any(PICTURE.fullmatch(entry.name) for entry in entries) or any(
        PICTURE.fullmatch(entry.name) for path in below[:10] for entry in _first(path)
    )
