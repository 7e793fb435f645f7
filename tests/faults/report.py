"""The table of a campaign, in a text that keeps a place for it."""

import datetime
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch

from tests.faults.campaign import Result

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"


def circumstances() -> dict[str, str]:
    """What a result depends on."""
    commit, changes = _git("rev-parse", "--short", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return {
        "commit": (commit or "unknown") + (" with changes" if changes else ""),
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.system()}",
        "versions": f"torch {torch.__version__}, Python {platform.python_version()}",
    }


def write(path: Path, results: Sequence[Result]) -> None:
    """Put the table between the two marks of the text; families that did not run keep the rows that they have.

    Raises ValueError where the marks are not.
    """
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path} has no place for the table: {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{table(results, old)}\n\n{END}{after}", encoding="utf-8")


def table(results: Sequence[Result], old: str = "") -> str:
    """A row a family, with the commit that it was measured on, and the machine of the newest rows."""
    rows = {line.split("**")[1]: line for line in old.splitlines() if line.startswith("| **")}
    facts = circumstances()
    for result in results:
        seen = sum(map(bool, result.controls.values()))
        numbers = f"{result.trials:,} | {result.passed:,} | {seen} of {len(result.controls)}"
        on = f"{facts['commit']}, {facts['date']}, {result.seconds / 60:.0f} min"
        rows[result.name] = f"| **{result.name}**: {result.fault} | {result.required} | {numbers} | {on} |"
    head = ["| fault | required | trials | passed | controls seen to fail | commit |", "|---|---|---:|---:|---:|---|"]
    return "\n".join([*head, *rows.values(), "", f"On {facts['machine']}, {facts['versions']}."])


def _git(*arguments: str) -> str:
    try:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""
