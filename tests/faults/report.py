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
    """Put the table between the two marks of the text. Raises ValueError where these are not."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path} has no place for the table: {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{table(results)}\n\n{END}{after}", encoding="utf-8")


def table(results: Sequence[Result]) -> str:
    """A row a family, and what it was measured on."""
    rows = ["| fault | required | trials | passed | controls seen to fail |", "|---|---|---:|---:|---:|"]
    for result in results:
        seen = sum(map(bool, result.controls.values()))
        numbers = f"{result.trials:,} | {result.passed:,} | {seen} of {len(result.controls)}"
        rows.append(f"| **{result.name}**: {result.fault} | {result.required} | {numbers} |")
    facts = circumstances()
    minutes = sum(result.seconds for result in results) / 60
    commit = f"Measured on commit {facts['commit']}, {facts['date']}: {facts['machine']}, {facts['versions']}"
    return "\n".join([*rows, "", f"{commit}; {minutes:.0f} minutes."])


def _git(*arguments: str) -> str:
    try:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""
