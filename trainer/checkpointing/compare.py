"""Compare two runs to the last bit: their journals and the parts of their checkpoints."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.checkpointing.store import LAST, read_newest
from utils.sinks.journal import Journal

__all__ = ["difference", "read_one", "state_difference"]

# The parts of a checkpoint in words; of several differences, the first in this order is reported first.
PARTS = {
    "model": "the weights",
    "buffers": "what the task remembers",
    "ema": "the averaged weights",
    "ema_count": "how many weights were averaged",
    "update": "the optimizer, its schedule or an open window of gradients",
    "progress": "the position, the best score or the patience",
    "ranks": "the random numbers or the means of a row not yet written",
}
TIMES = ("seconds", "validation_seconds", "journal")  # of the progress: they differ from run to run


def difference(whole: Path, other: Path, file: str = LAST) -> str:
    """Return the difference of the run in `other` from the run in `whole`; empty if there is none.

    All rows of the journal and all parts of a checkpoint that decide the future are compared, to the last bit. Times
    are not compared.
    """
    rows = _first_row(_rows(whole), _rows(other))
    return "; ".join(filter(None, [rows, state_difference(read_one(whole, file), read_one(other, file))]))


def read_one(run: Path, name: str = LAST) -> dict[str, Any]:
    """Return the state of a run's checkpoint of this name. Raises CheckpointError when it cannot be read."""
    return read_newest(run, (name,))[0]


def state_difference(one: dict[str, Any], two: dict[str, Any], without: Sequence[str] = TIMES) -> str:
    """Return the parts of two checkpoints that differ, in words; empty if none does.

    The entries `without` of the progress are not compared.
    """
    places = {name: _first(_plain(one, name, without), _plain(two, name, without), name) for name in PARTS}
    return "; ".join(f"{PARTS[name]} differ ({place})" for name, place in places.items() if place)


def _plain(state: dict[str, Any], part: str, without: Sequence[str]) -> Any:
    value = state.get(part)
    return {k: v for k, v in (value or {}).items() if k not in without} if part == "progress" else value


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "time"} for row in Journal.read(folder / "log.jsonl")]


def _first_row(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> str:
    """Return the first difference of two journals, in words."""
    for left, right in zip_longest(one, two):
        if left == right:
            continue
        if left is None or right is None:
            which, row = ("has a row too many", right) if left is None else ("lacks a row", left)
            return f"the journal {which}: {_place(row)}"
        if (left["phase"], left["step"]) != (right["phase"], right["step"]):
            return f"the journal has {_place(right)} in place of {_place(left)}"
        key = next(key for key in {**left, **right} if left.get(key) != right.get(key))
        return (
            f"from step {left['step']} on, the order of samples, the random numbers or the weights are others "
            f"({left['phase']} {key} {right.get(key)}, not {left.get(key)})"
        )
    return ""


def _place(row: dict[str, Any]) -> str:
    return f"{row['phase']}, step {row['step']}"


def _first(one: Any, two: Any, place: str) -> str:
    """Return the first place at which two nested states differ; empty if they are equal to the last bit."""
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        return "" if _equal(one, two) else place
    pairs = _pairs(one, two)
    if pairs is None:
        return "" if type(one) is type(two) and (one == two or (one != one and two != two)) else place
    return next((found for key, left, right in pairs if (found := _first(left, right, f"{place}.{key}"))), "")


def _pairs(one: Any, two: Any) -> Iterator[tuple[object, Any, Any]] | None:
    """Return (key, one's, two's) of two mappings or sequences of the same form; None for any other values."""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return ((key, one[key], two[key]) for key in one)
    if isinstance(one, list | tuple) and type(one) is type(two) and len(one) == len(two):
        return ((i, left, right) for i, (left, right) in enumerate(zip(one, two, strict=True)))
    return None


def _equal(one: Tensor, two: Tensor) -> bool:
    """Return whether two tensors have the same bits, also those of NaN."""
    same = one.dtype == two.dtype and one.shape == two.shape
    return same and torch.equal(one.reshape(-1).view(torch.uint8), two.reshape(-1).view(torch.uint8))
