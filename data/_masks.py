"""Masks in files: read with their exact values, and turned into class numbers by a table of values or colours."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.errors import DataError
from utils.images import read_palette, read_values

__all__ = ["IGNORED", "MAX_VALUES", "Table", "find_values", "table_of"]

Value = int | Sequence[int]  # of a class in a mask: a number, or red, green and blue
IGNORED = 255  # the class number of a pixel that has no class
SPECIAL = 200  # a value from here on, beside small ones only, may mean no class
MAX_VALUES = 64  # different values in all masks; a lossy JPEG has more, because it blurs every edge


class Table:
    """The classes of masks: a value or a colour for each, and values of pixels that have no class."""

    def __init__(self, values: Sequence[Value], ignored: Value | None = None):
        """Raises ValueError for values that are no classes: fewer than two, doubled, or of mixed kinds."""
        colours = {not isinstance(value, int) for value in [*values, *([] if ignored is None else [ignored])]}
        if len(colours) > 1 and not (ignored is not None and isinstance(ignored, int)):
            raise ValueError("classes: give each a value, or each a colour [red, green, blue]")
        self.colours = bool(values) and not isinstance(values[0], int)
        self.codes = [_code(value) for value in values]
        self.ignored = None if ignored is None else _code(ignored, grey=self.colours)
        if len(set(self.codes)) != len(self.codes):
            raise ValueError(f"classes: two have the same value ({values})")
        if self.ignored in self.codes:
            raise ValueError(f"task.ignore_index={ignored} is the value of a class; leave that class out of classes")
        if len(values) > MAX_VALUES:
            raise ValueError(f"{len(values)} classes of masks are more than {MAX_VALUES}")
        known = [*self.codes, *([] if self.ignored is None else [self.ignored])]
        order = np.argsort(known)
        self.sorted = np.asarray(known, np.int64)[order]
        numbers = [*range(len(self.codes)), *([] if self.ignored is None else [IGNORED])]
        self.numbers = np.asarray(numbers, np.uint8)[order]
        self.lut: np.ndarray | None = None
        if not self.colours and max(known, default=256) < 256 and min(known, default=0) >= 0:
            self.lut = np.zeros(256, np.uint8)
            self.lut[self.sorted] = self.numbers

    def read(self, path: str, height: int, width: int) -> Tensor:
        """Return the mask in a file as class numbers, uint8 [H, W]; IGNORED for pixels without a class.

        Raises DataError for a mask of another size, or with a value that is no class.
        """
        values = self.values(path)
        if values.shape != (height, width):
            there = "x".join(map(str, reversed(values.shape)))
            raise DataError(f"{path} is {there}, but its picture is {width}x{height}; mend or remove both")
        if unknown := set(distinct(values)).difference(self.sorted.tolist()):
            known = ", ".join(_shown(code, self.colours) for code in self.codes)
            value = _shown(min(unknown), self.colours)
            told = f"{path} holds the value {value}, but the classes are {known}"
            raise DataError(f"{told}; mend or remove it, or name it in data.dataset.classes")
        if self.lut is not None:
            return torch.from_numpy(self.lut[values])
        return torch.from_numpy(self.numbers[np.searchsorted(self.sorted, values)])

    def values(self, path: str) -> np.ndarray:
        """Return the values of a mask, whole numbers [H, W]; of colours their code. Raises DataError."""
        return _values(path, self.colours)


def find_values(paths: Iterable[str], ignored: Value | None) -> list[int]:
    """Return the distinct values in all masks, in order, without the ignored one.

    Raises DataError for masks that hold colours, too many values, or a value that may be a class or none.
    """
    found: set[int] = set()
    seen: dict[int, tuple[list[int], str]] = {}  # by value: its colour, and the first mask that shows it
    lossy = ""
    for path in paths:
        lossy = path if path.lower().endswith((".jpg", ".jpeg")) else lossy
        held = distinct(_values(path, False))
        _refuse_other_colours(path, held, seen)
        found.update(held)
        if len(found) > MAX_VALUES:
            few = ", ".join(map(str, sorted(found)[:12]))
            raise DataError(
                f"{path}: the masks hold more than {MAX_VALUES} different values ({few}, …), as masks do that were "
                "saved as JPEG or resized smoothly, or that number objects; save masks as PNG with one value for each "
                "class, or name the classes with data.dataset.classes"
            )
    found -= {ignored} if isinstance(ignored, int) else set()
    values = sorted(found)
    if len(values) < 2:
        raise DataError(f"the training masks hold only the value {min(found, default=0)}, but two classes are needed")
    last, others = values[-1], ", ".join(map(str, values[:-1][:12]))
    if lossy and len(values) > 2:
        raise DataError(
            f"{lossy}: the masks hold the values {others} and {last}, and a JPEG blurs the edges between classes; save "
            "masks as PNG with one value for each class, or name the classes with data.dataset.classes"
        )
    if ignored is None and last >= SPECIAL and len(values) > 2 and values[-2] < MAX_VALUES:
        raise DataError(
            f"the training masks hold the values {others} and {last}: if {last} means pixels without a class, set "
            f"--task.ignore_index={last}; if it is a class, name all with "
            f"--data.dataset.classes='{{background: 0, …, border: {last}}}'"
        )
    return values


def _refuse_other_colours(path: str, held: Sequence[int], seen: dict[int, tuple[list[int], str]]) -> None:
    """Raise DataError where a value has another colour in a mask's palette than in an earlier one's; note its own."""
    palette = read_palette(path)
    for value in [value for value in held if value < len(palette)]:
        colour, first = seen.setdefault(value, (palette[value], path))
        if colour != palette[value]:
            raise DataError(
                f"{path}: the value {value} has the colour {palette[value]}, and {colour} in {first}: are they one "
                "class? Name the classes with data.dataset.classes, by colours as {name: [red, green, blue], …}, or by "
                "values as {name: value, …}"
            )


def distinct(values: np.ndarray) -> list[int]:
    """Return the distinct values of a mask, in order."""
    if values.dtype == np.uint8:
        return np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist()
    return np.unique(values).tolist()


def _values(path: str, colours: bool) -> np.ndarray:
    """Return whole numbers [H, W]: grey values, numbers of a palette, or with `colours` the codes of the colours."""
    values = read_values(path, colours)
    if values.ndim == 2:
        return values
    codes = values.astype(np.int64) @ np.asarray([1 << 16, 1 << 8, 1])
    if colours:
        return codes
    counts = Counter(dict(zip(*(part.tolist() for part in np.unique(codes, return_counts=True)), strict=True)))
    few = ", ".join(f"{_shown(code, True)} {100 * count / codes.size:.0f} %" for code, count in counts.most_common(12))
    raise DataError(
        f"{path} is coloured, but a mask holds a value for each class; name the colours of the classes with "
        f"data.dataset.classes={{name: [red, green, blue], …}} (it holds {few}{', …' if len(counts) > 12 else ''})"
    )


def _code(value: Value, grey: bool = False) -> int:
    """Return a value as one number; of a colour, or of a `grey` value among colours, red, green and blue in one."""
    if isinstance(value, int):
        if not 0 <= value < 1 << 31:
            raise ValueError(f"classes: {value} is no value of a mask")
        return value * 0x10101 if grey else value
    if len(value) != 3 or not all(isinstance(part, int) and 0 <= part <= 255 for part in value):
        raise ValueError(f"classes: {list(value)} is no colour [red, green, blue] of whole numbers from 0 to 255")
    return value[0] << 16 | value[1] << 8 | value[2]


def _shown(code: int, colour: bool) -> str:
    return f"[{code >> 16}, {code >> 8 & 255}, {code & 255}]" if colour else str(code)


def table_of(
    classes: Mapping[str, Any] | Sequence[str] | None, values: Sequence[Value] | None
) -> tuple[list[Value] | None, list[str] | None]:
    """Return the values and the names that a config gives, each None where it gives none.

    Raises ValueError where the two do not go together.
    """
    if isinstance(classes, Mapping):
        for name in [name for name, value in classes.items() if value is None]:
            told = "write {road: 0, sky: 1}, with a space behind each colon"
            raise ValueError(f"classes: '{name}' has no value; {told}")
        given = [tuple(value) if isinstance(value, list) else value for value in classes.values()]
        return list(given), [str(name) for name in classes]
    names = None if classes is None else [str(name) for name in classes]
    if names is not None and values is not None and len(names) != len(values):
        told = f"classes names {len(names)} classes, but the masks have {len(values)} values"
        raise ValueError(f"{told} ({list(values)})")
    return (None if values is None else list(values)), names
