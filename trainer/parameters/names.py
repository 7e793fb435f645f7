"""Patterns of a config over the names that last.pth has."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from utils.errors import ConfigError
from utils.words import nearest

__all__ = ["matching", "unknown"]


def matching(pattern: str, names: Iterable[str], key: str) -> list[str]:
    """Return the names that a pattern of `key` matches, in their order. Raises ConfigError when there is none."""
    names = list(names)
    if found := [name for name in names if fnmatchcase(name, pattern)]:
        return found
    raise ConfigError(f"{key}: '{pattern}' matches no name of the networks{unknown(pattern, names)}")


def unknown(pattern: str, names: Iterable[str], others: Iterable[str] = ()) -> str:
    """Return the end of the message about a pattern without a name: the nearest one, or how to see them.

    A layer may be meant, whose names begin with it. `others` are words that are understood besides.
    """
    parts = [name.split(".") for name in names]
    layers = {".".join(path[:depth]) for path in parts for depth in range(1, len(path))}
    known = {*map(".".join, parts), *(f"{layer}.*" for layer in layers), *others}
    if pattern.rstrip(".") in layers:
        return f"; did you mean '{pattern.rstrip('.')}.*'?"
    near = nearest(pattern, known)
    first = ", ".join(sorted({path[0] for path in parts})[:8])
    return f"; did you mean '{near}'?" if near else f"; they begin with {first}"
