"""Run folders as plain values: what a run was told, how far it came and what it measured; loads nothing heavy."""

import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from utils.config.tree import plain_value
from utils.config.yaml_text import read_yaml
from utils.errors import CheckpointError, ConfigError
from utils.words import shortened, suggest

__all__ = [
    "STATES",
    "Curves",
    "Run",
    "best_value",
    "component_names",
    "find_run",
    "read_config",
    "read_curves",
    "read_rows",
    "read_run",
    "run_folders",
    "run_labels",
]

STATES = ("running", "finished", "stopped", "crashed", "failed")
PHASES = ("train", "val", "test")
NO_METRICS = ("time", "phase", "epoch", "step")  # what else a row of the journal holds

Curves = dict[str, dict[str, dict[int, float]]]  # metric: phase: step: value; what was not finite is nan
Metrics = Callable[[str], Mapping[str, str]]  # of a task's name: its metrics, and whether min or max is better


@dataclass(frozen=True)
class Run:
    """A run as its folder tells it."""

    path: Path
    config: Mapping[str, Any]  # keys and values of its config.yaml
    state: str  # one of STATES
    epochs: int  # that are done
    steps: int
    seconds: float  # of training
    heard: float  # when it last wrote something, in s since 1970
    monitor: str | None = None  # the metric that picks its best checkpoint
    best: float | None = None  # the best value of it
    told: str | None = None  # the name or path of the config that it was begun with

    @property
    def name(self) -> str:
        return _printable(self.path.name)

    def setting(self, key: str) -> Any:
        """The value under a dotted key of its config, None where there is none."""
        value: Any = self.config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def names(self, key: str) -> list[str]:
        """The names of the components under a key: one, or one a role."""
        return component_names(self.setting(key))


def component_names(value: Any) -> list[str]:
    """The names in a component as a config holds it: a name, a name with arguments, or several by role."""
    if not isinstance(value, Mapping):
        return [value] if isinstance(value, str) else []
    if "name" in value:
        return [str(value["name"])]
    return [name for role in value.values() for name in component_names(role)]


def run_folders(root: Path) -> list[Path]:
    """The folders in `root` that are not hidden, be there a whole run in them or not, by name; none without `root`."""
    try:
        with os.scandir(root) as entries:
            return sorted(root / entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except FileNotFoundError:
        return []


def run_labels(paths: Sequence[Path]) -> list[str]:
    """What to call runs: their folders' names, or their paths where two folders have the same name."""
    names = [path.absolute().name for path in paths]
    return list(map(_printable, names if len(set(names)) == len(names) else map(str, paths)))


def _printable(text: str) -> str:
    """Without what would break a line or colour a terminal; a folder can have any name."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def find_run(word: str, root: Path) -> Path:
    """The run folder of that name in `root`, or of that path.

    Raises CheckpointError, with the nearest name, when there is none.
    """
    for path in (root / word, Path(word)):
        if any(os.path.isfile(path / file) for file in ("config.yaml", "log.jsonl")):
            return path
    if os.path.isdir(word):
        raise CheckpointError(f"{shortened(word)}: holds no run: neither config.yaml nor log.jsonl is there")
    near = suggest(Path(word).name, [path.name for path in run_folders(root)])
    near = near or "; python main.py runs lists them"
    raise CheckpointError(f"{shortened(word)}: there is no such run folder{near}")


def read_config(path: Path) -> dict[str, Any]:
    """The keys and values of a run's config.yaml.

    Raises CheckpointError where it cannot be read.
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
    """A run from its config.yaml, its status.json, and as long as the status is not its last word, its log.jsonl.

    Raises CheckpointError where one of them is missing or damaged.
    """
    run = _read_status(path, read_config(path))
    if run.state != "running":
        return run
    return _caught_up(replace(run, state="running" if _is_owned(path) else "crashed"), metrics)


def _read_status(path: Path, config: dict[str, Any]) -> Run:
    file = path / "status.json"
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        done = int(facts["epoch"]), int(facts["step"]), float(facts["seconds"]), float(facts["time"])
        state = STATES[STATES.index(facts["state"])]
        monitor, best = facts["monitor"], facts["best"]
        best, told = None if best is None else float(best), facts.get("config")
        return Run(path, config, state, *done, monitor and str(monitor), best, told and str(told))
    except FileNotFoundError as error:
        raise CheckpointError(f"{file}: is missing") from error
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{file}: is damaged") from error


def _is_owned(path: Path) -> bool:
    """Whether a process holds the run's lock; the lock of a dead process is free."""
    lock = path / ".lock"
    if not lock.exists():  # a copied folder: whoever trains has the original
        return False
    from filelock import FileLock, Timeout

    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return True  # cannot be tried here, so its word is taken for it


def _caught_up(run: Run, metrics: Metrics) -> Run:
    """The run with what its journal adds: the status is written when a run begins and when it ends."""
    rows = list(read_rows(run.path / "log.jsonl"))
    if not rows:
        return run
    values = _curves(rows).get(run.monitor or "", {}).get("val", {}).values()
    best = best_value(values, metrics(run.names("task")[0]).get(run.monitor or ""))
    heard = max(run.heard, float(rows[-1]["time"]))
    return replace(
        run,
        epochs=max(run.epochs, rows[-1]["epoch"]),
        steps=max(run.steps, rows[-1]["step"]),
        seconds=run.seconds + heard - run.heard,
        heard=heard,
        best=run.best if best is None else best,
    )


def best_value(values: Iterable[float], better: str | None) -> float | None:
    """The smallest or largest finite value, as `better` is min or max; None where there is none, or no better."""
    finite = [value for value in values if math.isfinite(value)]
    choose = {"min": min, "max": max}.get(better or "")
    return choose(finite) if choose and finite else None


def read_curves(journal: Path) -> Curves:
    """The numbers of a run's log.jsonl; of two rows of one phase and step, as a resumed run leaves them, the later."""
    return _curves(read_rows(journal))


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
    """The rows of these phases in a journal, if there is one; lines that are damaged are left out."""
    if not os.path.isfile(journal):
        return
    with journal.open(encoding="utf-8", errors="replace") as lines:
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
