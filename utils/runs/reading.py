"""Run folders as plain values: the config of a run, its progress and its metrics; imports nothing heavy."""

import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from utils.config.tree import plain_value
from utils.config.yaml_text import read_yaml
from utils.errors import CheckpointError, ConfigError
from utils.runs.saves import STUDY
from utils.words import shortened, suggest

__all__ = [
    "LIVING",
    "STATES",
    "Curves",
    "Run",
    "best_value",
    "component_names",
    "find_run",
    "read_config",
    "read_curves",
    "read_last_rows",
    "read_rows",
    "read_run",
    "run_folders",
    "run_labels",
    "without_copies",
]

LIVING = ("running", "paused")  # while its process lives
STATES = (*LIVING, "finished", "stopped", "crashed", "failed")
PHASES = ("train", "val", "test")
NO_METRICS = ("time", "phase", "epoch", "step")  # the other keys in a row of the journal

Curves = dict[str, dict[str, dict[int, float]]]  # metric: phase: step: value; nan for a value that was not finite
# from a task's name: its metrics, each with "min" or "max", whichever is better
Metrics = Callable[[str], Mapping[str, str]]


@dataclass(frozen=True)
class Run:
    """A run, read from its folder."""

    path: Path
    config: Mapping[str, Any]  # keys and values of its config.yaml
    state: str  # one of STATES
    epochs: int  # finished epochs
    steps: int
    seconds: float  # of training
    last_seen: float  # time of its last message, in s since 1970
    monitor: str | None = None  # the metric that picks its best checkpoint
    best: float | None = None  # the best value of that metric
    config_name: str | None = None  # the name or path of the config with which it began

    @property
    def name(self) -> str:
        return _printable(self.path.name)

    def setting(self, key: str) -> Any:
        """Return the value at a dotted key of its config; None if there is none."""
        value: Any = self.config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def names(self, key: str) -> list[str]:
        """Return the names of the components at a key: one, or one for each role."""
        return component_names(self.setting(key))


def component_names(value: Any) -> list[str]:
    """Return the names in a component as a config holds it: a name, a name with arguments, or several by role."""
    if not isinstance(value, Mapping):
        return [value] if isinstance(value, str) else []
    if "name" in value:
        return [str(value["name"])]
    return [name for role in value.values() for name in component_names(role)]


def run_folders(root: Path) -> list[Path]:
    """Return the folders in `root` that are not hidden, by name, even if they hold no whole run."""
    try:
        with os.scandir(root) as entries:
            return sorted(root / entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except FileNotFoundError:
        return []


def run_labels(paths: Sequence[Path]) -> list[str]:
    """Return names for runs: their folders' names, or their paths if two folders have the same name."""
    names = [path.absolute().name for path in paths]
    return list(map(_printable, names if len(set(names)) == len(names) else map(str, paths)))


def _printable(text: str) -> str:
    """Replace signs that would break a line or colour a terminal; a folder can have any name."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def find_run(word: str, root: Path) -> Path:
    """Return the run folder of that name in `root`, or of that path.

    Raises CheckpointError, with the nearest name, when there is none.
    """
    for path in (root / word, Path(word)):
        if any(os.path.isfile(path / file) for file in ("config.yaml", "log.jsonl")):
            return path
    for path in (root / word, Path(word)):
        if os.path.isfile(path / STUDY):
            first = next((f", as {path.name}/{run.name}" for run in run_folders(path)), "")
            raise CheckpointError(f"{path}: holds the runs of a study; name one of them{first}")
        if os.path.isdir(path):
            raise CheckpointError(f"{shortened(str(path))}: holds no run: neither config.yaml nor log.jsonl is there")
    near = suggest(Path(word).name, [path.name for path in run_folders(root)])
    near = near or "; python main.py runs lists them"
    raise CheckpointError(f"{shortened(word)}: there is no such run folder{near}")


def read_config(path: Path) -> dict[str, Any]:
    """Return the keys and values of a run's config.yaml.

    Raises CheckpointError when it cannot be read.
    """
    file = path / "config.yaml"
    try:
        config = plain_value(read_yaml(file, str(file)))
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(config, dict) or not component_names(config.get("task")):
        raise CheckpointError(f"{file}: is damaged: it names no task")
    return config


def read_run(path: Path, metrics: Metrics) -> Run:
    """Read a run from its config.yaml and its status.json, and while it is running also from its log.jsonl.

    Raises CheckpointError when one of them is missing or damaged.
    """
    run = _read_status(path, read_config(path))
    if run.state not in LIVING:
        return run
    from utils.runs.folder import is_owned  # filelock is slow to import, and most runs are not running

    return _add_journal(run if is_owned(path) else replace(run, state="crashed"), metrics)


def _read_status(path: Path, config: dict[str, Any]) -> Run:
    file = path / "status.json"
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        done = int(facts["epoch"]), int(facts["step"]), float(facts["seconds"]), float(facts["time"])
        state = STATES[STATES.index(facts["state"])]
        monitor, best = facts["monitor"], facts["best"]
        best, config_name = None if best is None else float(best), facts.get("config")
        return Run(path, config, state, *done, monitor and str(monitor), best, config_name and str(config_name))
    except FileNotFoundError as error:
        raise CheckpointError(f"{file}: is missing") from error
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{file}: is damaged") from error


def _add_journal(run: Run, metrics: Metrics) -> Run:
    """Update the run from its journal: the status is written only when a run begins and when it ends."""
    rows = list(read_rows(run.path / "log.jsonl"))
    if not rows:
        return run
    values = _curves(rows).get(run.monitor or "", {}).get("val", {}).values()
    best = best_value(values, metrics(run.names("task")[0]).get(run.monitor or ""))
    last_seen = max(run.last_seen, float(rows[-1]["time"]))
    return replace(
        run,
        epochs=max(run.epochs, rows[-1]["epoch"]),
        steps=max(run.steps, rows[-1]["step"]),
        seconds=run.seconds + last_seen - run.last_seen,
        last_seen=last_seen,
        best=run.best if best is None else best,
    )


def best_value(values: Iterable[float], better: str | None) -> float | None:
    """Return the smallest or largest finite value, for `better` "min" or "max"; None if there is none."""
    finite = [value for value in values if math.isfinite(value)]
    choose = {"min": min, "max": max}.get(better or "")
    return choose(finite) if choose and finite else None


def read_curves(journal: Path) -> Curves:
    """Return the numbers of a run's log.jsonl. If a resumed run wrote a phase and step twice, the later row counts."""
    return _curves(read_rows(journal))


def without_copies(*runs: Curves) -> list[Curves]:
    """Return the curves of runs without log_loss, if it is the validation loss in each of them to the last digit."""
    copied = [run.get("log_loss", {}).get("val") for run in runs]
    losses = [run.get("loss", {}).get("val") for run in runs]
    if not all(copy is None or copy == loss for copy, loss in zip(copied, losses, strict=True)):
        return list(runs)
    return [{name: phases for name, phases in run.items() if name != "log_loss"} for run in runs]


def _curves(rows: Iterable[Mapping[str, Any]]) -> Curves:
    curves: Curves = {}
    for row in rows:
        for name, value in row.items():
            if name not in NO_METRICS and (value is None or _is_number(value)):
                points = curves.setdefault(name, {}).setdefault(row["phase"], {})
                points[row["step"]] = math.nan if value is None else float(value)
    return {name: phases for name, phases in curves.items() if _has_points(phases)}


def _has_points(phases: Mapping[str, Mapping[int, float]]) -> bool:
    return any(math.isfinite(value) for points in phases.values() for value in points.values())


def read_rows(journal: Path, phases: Collection[str] = PHASES) -> Iterator[dict[str, Any]]:
    """Yield a journal's rows of these phases, if there is a journal; damaged lines are skipped."""
    if not os.path.isfile(journal):
        return
    with journal.open(encoding="utf-8", errors="replace") as lines:
        yield from _parsed(lines, phases)


def read_last_rows(journal: Path, step: int, phases: Collection[str] = PHASES) -> list[dict[str, Any]]:
    """Return a journal's rows from that step on, which are its last ones; earlier ones are not read."""
    with suppress(FileNotFoundError), journal.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        size = min(1 << 16, end)
        while True:
            file.seek(end - size)
            lines = file.read(size).decode("utf-8", "replace").splitlines()
            rows = list(_parsed(lines if size == end else lines[1:], phases))  # the first line may be half a row
            if size == end or (rows and rows[0]["step"] < step):
                return [row for row in rows if row["step"] >= step]
            size = min(4 * size, end)
    return []


def _parsed(lines: Iterable[str], phases: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of these phases; damaged lines are skipped."""
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and row.get("phase") in phases and _is_placed(row):
            yield row


def _is_placed(row: Mapping[str, Any]) -> bool:
    return all(type(row.get(key)) is int for key in ("epoch", "step")) and _is_number(row.get("time"))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
