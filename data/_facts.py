"""The facts that a dataset read from its files, in words: printed before a run's first step and kept in its folder."""

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Facts"]


@dataclass
class Facts:
    """How a dataset understood its files. A line about a guess ends with the key that settles it, in brackets."""

    source: str = ""  # the place of this split's samples: "data/pets/Training", "30 % of train.csv, by seed 0"
    lines: list[str] = field(default_factory=list)  # columns, mask values, …: one fact a line
    left_out: dict[str, list[str]] = field(default_factory=dict)  # names of files or rows that are not read, by reason
    odd: dict[str, list[str]] = field(default_factory=dict)  # names of samples that are read and look odd, by reason

    def leave_out(self, reason: str, names: Sequence[str]) -> None:
        """Note files or rows that are not read."""
        if names:
            self.left_out.setdefault(reason, []).extend(names)

    def note_odd(self, reason: str, names: Sequence[str]) -> None:
        """Note samples that are read and look odd."""
        if names:
            self.odd.setdefault(reason, []).extend(names)
