"""Samples with their hashes, and the findings about them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["SMALL", "SMALL_TABLE", "Finding", "Look", "Sample", "Twin", "share"]

SMALL = 0.001  # of a split: fewer copies are a note, since large public sets hold a few of them
SMALL_TABLE = 0.01  # of the rows of a table, two of which may be equal by chance
KEPT = 200  # names that report.json lists


class Look(NamedTuple):
    """A picture file as it was found; `error` says why it cannot be read, and the rest is then empty."""

    error: str = ""
    size: tuple[int, int] = (0, 0)  # width, height
    mode: str = ""
    format: str = ""
    digest: str = ""  # of the file's bytes
    outline: int = 0  # 64 bits: whether each of 8 x 8 grey places is brighter than the one to its left
    thumb: str = ""  # 16 x 16 grey values in base64
    means: Sequence[float] = ()  # of red, green and blue, in [0, 1]
    squares: Sequence[float] = ()  # means of their squares


class Sample(NamedTuple):
    """A sample of a split; samples of the same `digest` are equal."""

    split: str
    name: str
    label: str | None
    digest: str
    path: str = ""
    look: Look | None = None


class Twin(NamedTuple):
    """Two samples that are equal, or pictures that look the same."""

    one: Sample
    other: Sample
    near: bool


@dataclass(frozen=True)
class Finding:
    """A thing that was found `count` times in a split; `remedy` is the key or the command that settles it."""

    kind: str
    where: str
    count: int
    told: str
    names: Sequence[str]
    spoils: bool = False
    remedy: str = ""
    twins: Sequence[Twin] = field(default=(), repr=False)

    def plain(self) -> dict[str, Any]:
        """Return the finding for report.json."""
        return {
            "kind": self.kind,
            "where": self.where,
            "count": self.count,
            "spoils": self.spoils,
            "told": self.told,
            "names": list(self.names[:KEPT]),
            "remedy": self.remedy,
        }


def share(count: int, whole: int) -> str:
    """Return a part of a whole in percent."""
    percent = 100 * count / max(whole, 1)
    return f"{percent:.2g} %" if percent < 10 else f"{percent:.0f} %"
