"""A route: where each argument of a loss comes from, as `model(0)` or `1`; read strictly, and never evaluated."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Entry", "route_fault", "read_entry"]

PART = r"[0-9]{1,3}|[A-Za-z_][A-Za-z0-9_]*"
ENTRY = re.compile(rf"(?:({PART})|model\(\s*((?:{PART})(?:\s*,\s*(?:{PART}))*)\s*\))")
HOW = "write a part of the batch, as 1 or a name, or the network on parts of it, as model(0) or model(0, 2)"


@dataclass(frozen=True)
class Entry:
    """One argument of a loss: parts of a batch, by number or by name, and whether the network is called with them."""

    parts: tuple[int | str, ...]
    network: bool

    def __str__(self) -> str:
        inside = ", ".join(map(str, self.parts))
        return f"model({inside})" if self.network else inside


def read_entry(text: object) -> Entry:
    """Return an entry of a route. Raises ValueError that says how one is written."""
    found = ENTRY.fullmatch(str(text).strip()) if isinstance(text, (str, int)) and not isinstance(text, bool) else None
    if found is None or found[1] == "model":
        raise ValueError(f"'{text}' is no entry of a route: {_hint(str(text))}{HOW}")
    names = [found[1]] if found[1] else [name.strip() for name in found[2].split(",")]
    return Entry(tuple(int(name) if name.isdecimal() else name for name in names), found[1] is None)


def _hint(text: str) -> str:
    """Return the likely slip in an entry; empty if none is known."""
    if text.strip() in ("model", "model()"):
        return "model takes the parts in brackets; "
    return 'in a list it needs quotes, as "model(0, 2)"; ' if text.count("(") > text.count(")") else ""


def route_fault(route: Sequence[object], takes: Sequence[str], loss: str) -> str:
    """Return the fault of a route for a loss that takes these arguments; empty if there is none."""
    entries = []
    for i, text in enumerate(route):
        try:
            entries.append(read_entry(text))
        except ValueError as error:
            return f"task.route[{i}]: {error}"
    if takes and len(entries) != len(takes):
        return (
            f"task.route: {loss} takes {', '.join(takes)}: one entry for each of these {len(takes)}, not {len(entries)}"
        )
    if not any(entry.network for entry in entries):
        return "task.route: no entry calls the network, which would learn nothing: write model(0) for one of them"
    return ""
