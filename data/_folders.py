"""Folders of pictures: list them, and tell which files were left out and which look odd."""

import fnmatch
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from PIL import Image

from data._facts import Facts
from data._sources import advice
from utils.errors import DataError
from utils.images import FORMATS, read_size

__all__ = [
    "SUFFIXES",
    "existing_folder",
    "labelled_images",
    "list_folders",
    "list_images",
    "no_pictures",
    "note_odd",
    "root_option",
]

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
# Folders and files that systems and programs leave behind, in lower case; no data.
JUNK_FOLDERS = {"__macosx", "@eadir", "$recycle.bin", "lost+found", "system volume information", "__pycache__"}
JUNK_FILES = {"thumbs.db", "desktop.ini", "ehthumbs.db"}
SELDOM = 0.05  # the share of a suffix or a size that counts as odd
LOOKED_AT = 200  # pictures whose sizes are read
MORE_THAN_ONE = (".gif", ".webp", ".tif", ".tiff", ".png", ".pgm")  # they may hold several pictures, or 16 bits
DARK = 8192  # the highest value of 16 bits that a picture reaches if its numbers have 13 bits or fewer


def root_option(split: str) -> str:
    """Return the flags that set the folder of a split's files."""
    return f"--data.dataset.root=FOLDER or --{'test' if split == 'test' else 'train'}-data-root=FOLDER"


def existing_folder(path: str, split: str) -> str:
    """Return the path, with ~ expanded. Raises DataError when there is no folder at it."""
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        return path
    what = "is not a folder" if os.path.exists(path) else "does not exist"
    raise DataError(f"{path} {what}, but the split '{split}' is read from it; set {root_option(split)}{advice(path)}")


def no_pictures(folder: str, split: str) -> DataError:
    """Return the error for a folder without pictures."""
    with _listing(folder):
        deeper = next(_walk(folder, "", Facts(), ()), "")
    hint = f"; {deeper} lies deeper: --data.dataset=ImageFolder takes folders for classes" if deeper else ""
    hint = hint or advice(folder)
    return DataError(f"no pictures in {folder} (looked for {', '.join(SUFFIXES)}); set {root_option(split)}{hint}")


def list_images(
    folder: str, nested: bool = False, facts: Facts | None = None, exclude: Sequence[str] = ()
) -> list[str]:
    """Return the sorted names of the pictures in a folder; with `nested` also those in its subfolders, as `sub/name`.

    A picture is recognised by its suffix, because opening a million files takes too long. Files that are left out are
    noted in `facts`, with the reason; so are those whose name, or path below the folder, fits a pattern of `exclude`.
    Raises DataError when the folder cannot be read.
    """
    facts = Facts() if facts is None else facts
    if nested:
        return sorted(_walk(folder, "", facts, exclude))
    with _listing(folder):
        names = os.listdir(folder)
    found = [name for name in names if (name.endswith(".jpg") or _is_picture(name)) and name[0] != "."]
    _note_left_out("", set(names).difference(found), folder, facts)
    return sorted(_without_excluded(found, exclude, facts))


def list_folders(folder: str) -> list[str]:
    """Return the sorted names of the folders in a folder, without hidden ones and those that systems leave behind."""
    return sorted(entry.name for entry in _entries(folder) if entry.is_dir() and entry.name.lower() not in JUNK_FOLDERS)


def labelled_images(
    folder: str, classes: Sequence[str], found: Sequence[str], facts: Facts | None = None, exclude: Sequence[str] = ()
) -> tuple[list[str], list[int]]:
    """Return the pictures in the class folders `found`, as `class/name`, and their labels: positions in `classes`.

    Raises DataError for a folder that is none of the classes.
    """
    names: list[str] = []
    labels: list[int] = []
    facts = Facts() if facts is None else facts
    for name in found:
        if name not in classes:
            known = ", ".join(classes[:5]) + (", …" if len(classes) > 5 else "")
            told = f"{os.path.join(folder, name)} is none of the classes ({known}); rename or remove it"
            raise DataError(f"{told}, or name the folders of splits in data.dataset.splits")
        inner = Facts()
        files = [f"{name}/{file}" for file in list_images(os.path.join(folder, name), nested=True, facts=inner)]
        for reason, left_out in inner.left_out.items():
            facts.leave_out(reason, [f"{name}/{file}" for file in left_out])
        files = _without_excluded(files, exclude, facts)
        names += files
        labels += [classes.index(name)] * len(files)
    return names, labels


def note_odd(facts: Facts, folder: str, names: Sequence[str]) -> None:
    """Note pictures with a suffix, or a size, that hardly any other has; sizes are looked at in an even choice."""
    suffixes = [os.path.splitext(name)[1].lower() for name in names]
    for suffix, count in Counter(suffixes).items():
        if count < SELDOM * len(names) and len(names) >= 10:
            odd = [name for name, own in zip(names, suffixes, strict=True) if own == suffix]
            facts.note_odd(f"with the suffix {suffix}, unlike the others (data.dataset.exclude)", odd)
    chosen = names[:: max(1, len(names) // LOOKED_AT)]
    for reason, found in _peculiar(folder, chosen).items():
        facts.note_odd(reason, found)
    sizes = _sizes(folder, chosen)
    counts = Counter(sizes.values())
    if not counts:
        return
    common, most = counts.most_common(1)[0]
    if most > (1 - SELDOM) * len(sizes) and len(sizes) > most:
        odd = [name for name, size in sizes.items() if size != common]
        facts.note_odd(f"of another size than {common[0]} x {common[1]} (data.dataset.exclude)", odd)


def _peculiar(folder: str, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the pictures of which a part is not seen, by reason: further frames or pages, 16 bits nearly all black."""
    found: dict[str, list[str]] = {}
    for name in names:
        path = os.path.join(folder, name)
        if not name.lower().endswith(MORE_THAN_ONE) or not os.path.isfile(path):  # Pillow would wait on a pipe
            continue
        with suppress(Exception), Image.open(path, formats=FORMATS) as image:
            if _has_second(image):
                found.setdefault("of several frames or pages, of which the first alone is read", []).append(name)
            if image.mode.startswith("I;16") and 0 < image.getextrema()[1] < DARK:
                reason = "of 16 bits that use less than an eighth of their range and look black; save them with 8 bits"
                found.setdefault(reason, []).append(name)
    return found


def _has_second(image: Image.Image) -> bool:
    """Return whether a file holds a second picture, and stay at the first."""
    try:
        image.seek(1)
    except EOFError:
        return False
    image.seek(0)
    return True


def _sizes(folder: str, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return width and height of pictures, from their headers; those that cannot be read are left out."""
    found = {}
    for name in names:
        with suppress(DataError):
            found[name] = read_size(os.path.join(folder, name))
    return found


def _is_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


@contextmanager
def _listing(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot list the folder {folder} ({error.strerror}); mend it or choose another") from error


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with _listing(folder), os.scandir(folder) as entries:  # plain names: a million Path objects would take 1 GB
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _walk(folder: str, prefix: str, facts: Facts, exclude: Sequence[str], above: tuple = ()) -> Iterator[str]:
    """Yield the pictures in a folder and below it; links are followed, except to a folder above, which never ends."""
    others = []
    with _listing(folder):
        above = (*(above or map(_identity, _parents(folder))), _identity(folder))
    for entry in _entries(folder):
        name = prefix + entry.name
        if _is_picture(entry.name):
            if _excluded(name, exclude):
                facts.leave_out("data.dataset.exclude names them", [name])
            else:
                yield name
        elif entry.is_dir() and entry.name.lower() not in JUNK_FOLDERS:
            if entry.is_symlink() and _identity(entry.path) in above:
                facts.leave_out("a link to a folder above", [name])
            else:
                yield from _walk(entry.path, f"{name}/", facts, exclude, above)
        else:
            others.append(entry.name)
    _note_left_out(prefix, others, folder, facts)


def _parents(folder: str) -> list[str]:
    """Return the folders above a folder."""
    path, found = os.path.realpath(folder), []
    while (above := os.path.dirname(path)) != path:
        path = above
        found.append(path)
    return found


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _note_left_out(prefix: str, names: Sequence[str] | set[str], folder: str, facts: Facts) -> None:
    """Note the files that are no pictures by their suffix; the junk of systems is not worth a word."""
    kept = [name for name in sorted(names) if name[0] != "." and name.lower() not in JUNK_FILES | JUNK_FOLDERS]
    paths = {prefix + name: os.path.join(folder, name) for name in kept}
    facts.leave_out("a link to nothing", [name for name, path in paths.items() if not os.path.exists(path)])
    facts.leave_out("no picture by its suffix", [name for name, path in paths.items() if os.path.isfile(path)])


def _without_excluded(names: list[str], exclude: Sequence[str], facts: Facts) -> list[str]:
    """Return the names that fit no pattern of `exclude`, and note the others."""
    if not exclude:
        return names
    out = [name for name in names if _excluded(name, exclude)]
    facts.leave_out("data.dataset.exclude names them", out)
    return [name for name in names if not _excluded(name, exclude)]


def _excluded(name: str, exclude: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(part, pattern) for pattern in exclude for part in (name, os.path.basename(name)))
