"""Tell the findings in words, as report.json and as contact sheets."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.looking.findings import Finding
from data.looking.look import Looked
from data.looking.sheets import draw_sheets
from utils.files import write_atomic
from utils.words import count_of

__all__ = ["REPORT", "lines_of", "verdict", "write_report"]

REPORT = "report.json"
NAMED = 3  # names on a line
MOST = 12  # weights on a line


def lines_of(found: Looked) -> Iterator[str]:
    """Yield the findings in words, those that spoil a run first, then what can be pasted into a config."""
    spoiling, notes = _by_weight(found.findings)
    for title, findings in (("would spoil a run:", spoiling), ("notes:", notes)):
        if findings:
            yield title
        for one in findings:
            yield f"  {one.where}, {one.kind}: {one.told}"
            if one.names:
                more = f", … and {len(one.names) - NAMED:,} more" if len(one.names) > NAMED else ""
                yield f"    {', '.join(one.names[:NAMED])}{more}"
            if one.remedy:
                yield f"    ({one.remedy})"
    if not found.findings:
        yield "nothing was found"
    yield from _pasted(found)


def _pasted(found: Looked) -> Iterator[str]:
    """Yield lines of YAML."""
    if found.mean or found.weights:
        yield "of train, to paste into a config:"
    if found.mean:
        yield f"  Normalize: {{mean: {_numbers(found.mean)}, std: {_numbers(found.std)}}}"
    if found.weights:
        few = ", ".join(found.classes[:MOST]) + ", …" * (len(found.classes) > MOST)
        yield f"  weight: {_numbers(found.weights)}  # of the classes {few}"


def _numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.4g}' for value in values)}]"


def verdict(found: Looked) -> str:
    """Return the last line, with the number of findings that would spoil a run; empty if there are none."""
    spoiling, _ = _by_weight(found.findings)
    return f"{count_of(len(spoiling), 'finding')} would spoil a run" if spoiling else ""


def write_report(found: Looked, folder: Path) -> list[str]:
    """Write the contact sheets and report.json, each completely or not at all, and return their names.

    Raises StorageError.
    """
    sheets = draw_sheets(folder, found.findings, found.looks, found.memory)
    spoiling, _ = _by_weight(found.findings)
    content = {
        "samples": {split: len(samples) for split, samples in found.samples.items()},
        "pictures": len(found.looks),
        "would_spoil": len(spoiling),
        "findings": [finding.plain() for finding in found.findings],
        "mean": found.mean,
        "std": found.std,
        "class_weights": dict(zip(found.classes, found.weights, strict=False)),
        "sheets": sheets,
    }
    write_atomic(folder / REPORT, json.dumps(content, indent=1).encode())
    return [REPORT, *sheets]


def _by_weight(findings: Sequence[Finding]) -> tuple[list[Finding], list[Finding]]:
    return [one for one in findings if one.spoils], [one for one in findings if not one.spoils]
