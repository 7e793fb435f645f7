"""Picture files that cannot be read, and those that are odd: their size, their format, their light."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from data.looking.files import kind_of
from data.looking.findings import Finding, Look
from utils.words import count_of

__all__ = ["extremes", "odd_files", "statistics", "unreadable"]

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".gif": "GIF", ".webp": "WEBP"}
SMALL, LONG = 4, 4  # times smaller than the middle one; times longer than wide
FLAT = 1e-4  # the variance of a picture of one colour
DARK, BRIGHT = 0.03, 0.97


def unreadable(split: str, looks: Mapping[str, Look], names: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a finding for each reason for which files cannot be read; `names` are the dataset's own."""
    by_kind: dict[str, list[str]] = {}
    for path, look in looks.items():
        if look.error:
            by_kind.setdefault(kind_of(look), []).append(path)
    for kind, paths in by_kind.items():
        why = "" if kind == "empty" else f": {looks[paths[0]].error}"
        told = f"{count_of(len(paths), 'file')} of {len(looks):,}{why}"
        first = names.get(paths[0], os.path.basename(paths[0]))
        remedy = f"remove them, or data.dataset.exclude=[{first}{', …' * (len(paths) > 1)}]"
        yield Finding(f"unreadable: {kind}", split, len(paths), told, paths, True, remedy)


def odd_files(split: str, looks: Mapping[str, Look]) -> Iterator[Finding]:
    """Yield notes about pictures that can be read and are unlike the others."""
    good = {path: look for path, look in looks.items() if not look.error}
    if not good:
        return
    middle = float(np.median([min(look.size) for look in good.values()]))
    modes = Counter(look.mode for look in good.values())
    rare = {mode for mode, count in modes.items() if count <= 0.05 * len(good)}
    reasons = {
        "in another format than the suffix says": lambda p, x: _format(p) not in ("", x.format),
        f"in a mode that few have ({', '.join(sorted(rare))})": lambda _, x: x.mode in rare,
        f"with a side of less than a quarter of the usual {middle:g} pixels": lambda _, x: SMALL * min(x.size) < middle,
        "more than four times as long as wide": lambda _, x: max(x.size) > LONG * min(x.size),
        "of a single colour": lambda _, x: _is_flat(x),
        "nearly black": lambda _, x: _light(x) < DARK and not _is_flat(x),
        "nearly white": lambda _, x: _light(x) > BRIGHT and not _is_flat(x),
    }
    for told, test in reasons.items():
        if paths := [path for path, look in good.items() if test(path, look)]:
            told = f"{count_of(len(paths), 'picture')} of {len(looks):,}, {told}"
            yield Finding("odd", split, len(paths), told, paths, remedy="data.dataset.exclude leaves them out")


def extremes(looks: Mapping[str, Look], count: int) -> dict[str, list[str]]:
    """Return the darkest, the brightest and the smallest pictures, for people to look at."""
    good = [path for path, look in looks.items() if not look.error]
    light = sorted(good, key=lambda path: _light(looks[path]))
    size = sorted(good, key=lambda path: min(looks[path].size))
    return {"darkest": light[:count], "brightest": light[::-1][:count], "smallest": size[:count]}


def statistics(looks: Sequence[Look]) -> tuple[list[float], list[float]]:
    """Return mean and deviation of each colour in [0, 1]; every picture counts the same, whatever its size."""
    good = [look for look in looks if look.means]
    if not good:
        return [], []
    mean = np.mean([look.means for look in good], 0)
    deviation = np.sqrt(np.maximum(np.mean([look.squares for look in good], 0) - mean**2, 0))
    return mean.tolist(), deviation.tolist()


def _format(path: str) -> str:
    return FORMATS.get(os.path.splitext(path)[1].lower(), "")


def _is_flat(look: Look) -> bool:
    return max(square - mean**2 for mean, square in zip(look.means, look.squares, strict=True)) < FLAT


def _light(look: Look) -> float:
    return sum(look.means) / 3
