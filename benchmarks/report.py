"""Rows as JSON and as the table of docs/performance.md."""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from benchmarks.rows import Row

__all__ = ["BEGIN", "END", "kept_rows", "write_json", "write_table"]

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
ALONE = {"gpu": "on a GPU", "ranks": "of several processes"}  # groups that have a table of their own, measured alone
HEAD = "| What; beside what | ours | theirs | unit | ours / theirs (min to max) | on the wall | n |"
LINE = "|---|---:|---:|---|---|---:|---:|"


def kept_rows(path: Path, machine: Mapping[str, str], measured: Collection[str]) -> list[Row]:
    """Rows of an earlier run on the same machine, without those of the groups that were measured now."""
    if not path.exists():
        return []
    stored = json.loads(path.read_text(encoding="utf-8"))
    same = stored["machine"] == dict(machine) and not stored["quick"]
    return [Row(**row) for row in stored["rows"] if same and row["group"] not in measured]


def write_json(path: Path, machine: Mapping[str, str], quick: bool, rows: Sequence[Row]) -> None:
    """Everything that was measured."""
    content = {"machine": dict(machine), "quick": quick, "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_table(path: Path, machine: Mapping[str, str], quick: bool, rows: Sequence[Row]) -> None:
    """Put the table between its two marks, that of some groups alone between others; the text around it stays.

    A file that is not there is made. Raises ValueError when the marks are not there.
    """
    first, last = BEGIN, END
    if len(groups := {row.group for row in rows}) == 1 and (words := ALONE.get(*groups)):
        first, last = (mark.replace("benchmarks", f"benchmarks {words}") for mark in (BEGIN, END))
    text = path.read_text(encoding="utf-8") if path.exists() else f"{first}\n{last}\n"
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not (begin and end):
        raise ValueError(f"{path} has no {first} … {last} to write between")
    new = f"{before}{first}\n\n{_table(machine, quick, rows)}\n\n{last}{after}"
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(new, encoding="utf-8")
    os.replace(temporary, path)


def _table(machine: Mapping[str, str], quick: bool, rows: Sequence[Row]) -> str:
    facts = "; ".join(f"{name}: {value}" for name, value in machine.items())
    parts = [f"Measured on: {facts}." + (" **Few repetitions: these numbers say nothing.**" if quick else "")]
    for group, members in groupby(rows, key=lambda row: row.group):
        parts.append("\n".join([f"### {group}\n", HEAD, LINE, *map(_line, members)]))
    return "\n\n".join([*parts, _behind(rows)])


def _behind(rows: Sequence[Row]) -> str:
    """The rows in which the other side is ahead, in words."""
    compared = [(row, row.ratio_median) for row in rows if row.ratio_median is not None]
    ahead = [(row, ratio) for row, ratio in compared if (ratio > 1 if row.better == "less" else ratio < 1)]
    names = "".join(f"\n- {row.group}: {row.name} ({ratio:.2f})" for row, ratio in ahead)
    said = f"The other side is ahead in {len(ahead)} of {len(compared)} comparisons"
    return f"{said}:\n{names}" if ahead else f"{said}."


def _line(row: Row) -> str:
    name = row.name + (f" ({row.note})" if row.note else "")
    unit = row.unit + (", more is better" if row.better == "more" else "")
    ratio = wall = ""
    if row.ratio_median is not None:
        ratio = f"**{row.ratio_median:.2f}** ({row.ratio_min:.2f} to {row.ratio_max:.2f})"
    if row.wall_ratio is not None:
        wall = f"{row.wall_ratio:.2f}"
    cells = [name, _number(row.ours), _number(row.peer), unit, ratio, wall, str(row.n or "")]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _number(value: float | None) -> str:
    """Three digits that matter."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
