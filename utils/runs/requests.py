"""Requests to a run that trains in another process, its answers, and those that belong to the run for ever."""

import json
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from utils.runs.record import write_into

__all__ = [
    "FILE",
    "VERBS",
    "answer",
    "answer_to",
    "ask",
    "clear",
    "is_request",
    "read_interventions",
    "take",
    "withdraw",
    "write_interventions",
]

FOLDER = "control"  # in the run folder, while requests or answers lie there
FILE = "interventions.jsonl"  # requests that were carried out, each with its step
VERBS = ("lr", "val", "save", "pause", "go", "stop")
REQUEST, ANSWER = ".request", ".answer"


def ask(path: Path, verb: str, value: float | None = None) -> str:
    """Put a request into a run's folder and return its name. Raises StorageError."""
    with suppress(OSError):  # the next line tells it
        (path / FOLDER).mkdir(exist_ok=True)
    name = f"{time.time_ns()}-{os.getpid()}"
    _put(path, name + REQUEST, {"request": verb} | ({} if value is None else {"value": value}))
    return name


def take(path: Path) -> tuple[str, dict[str, Any]] | None:
    """Return the oldest request and its name, and remove its file; None if there is none."""
    try:
        names = sorted(name for name in os.listdir(path / FOLDER) if name.endswith(REQUEST))
    except OSError:  # as a rule nobody has asked for anything
        return None
    for name in names:
        file = path / FOLDER / name
        with suppress(OSError, ValueError):
            found = json.loads(file.read_text(encoding="utf-8"))
            file.unlink()
            if is_request(found):
                return name.removesuffix(REQUEST), found
    return None


def is_request(found: Any) -> bool:
    """Return whether a value from a file is a request: a known verb, and with lr a number above 0."""
    if not isinstance(found, dict) or found.get("request") not in VERBS:
        return False
    value = found.get("value")
    return found["request"] != "lr" or (isinstance(value, int | float) and math.isfinite(value) and value > 0)


def answer(path: Path, name: str, text: str, refused: bool = False) -> None:
    """Answer a request; nobody may wait for it any more. Raises StorageError."""
    _put(path, name + ANSWER, {"text": text, "refused": refused})


def answer_to(path: Path, name: str) -> tuple[str, bool] | None:
    """Return the answer to a request, and whether it was refused, and remove its file; None if there is none yet."""
    file = path / FOLDER / (name + ANSWER)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    _remove(path, file)
    return str(found["text"]), bool(found["refused"])


def withdraw(path: Path, name: str) -> bool:
    """Take a request back. Returns False if the run has taken it already."""
    file = path / FOLDER / (name + REQUEST)
    there = file.exists()
    _remove(path, file)
    return there


def _remove(path: Path, file: Path) -> None:
    with suppress(OSError):
        file.unlink(missing_ok=True)
        (path / FOLDER).rmdir()  # if it is empty


def clear(path: Path) -> None:
    """Remove the requests to a process that is gone: a `stop` of yesterday must not stop the run of today."""
    shutil.rmtree(path / FOLDER, ignore_errors=True)


def read_interventions(path: Path) -> list[dict[str, Any]]:
    """Return the requests that a run has carried out, in order; damaged lines are left out."""
    rows = []
    with suppress(OSError), (path / FILE).open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with suppress(ValueError):
                if is_request(row := json.loads(line)) and type(row.get("step")) is int:
                    rows.append(row)
    return rows


def write_interventions(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the requests that a run has carried out. Raises StorageError."""
    write_into(path, FILE, "".join(json.dumps(row) + "\n" for row in rows).encode())


def _put(path: Path, name: str, facts: Mapping[str, Any]) -> None:
    write_into(path / FOLDER, name, (json.dumps(facts) + "\n").encode())
