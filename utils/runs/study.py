"""A study: runs made of runs, checkpoints/NAME/CHILD, and its study.json, which says what each child is."""

import json
import os
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from utils.errors import CheckpointError
from utils.files import write_atomic
from utils.runs.folder import ROOT, RunFolder, is_owned
from utils.runs.reading import LIVING
from utils.runs.saves import STUDY

__all__ = ["Child", "Group", "Study", "find_study", "is_study", "read_study"]


@dataclass
class Child:
    """A run of the study: its name, its changed keys, and how it ended."""

    name: str
    keys: dict[str, str]  # the changed keys, as they are typed, and their values
    code: int | None = None  # the exit code of its process; None before its end
    trial: int | None = None  # the number of the trial in Optuna's study
    pruned: bool = False


@dataclass
class Study:
    """The children of a study, and the command that began it."""

    path: Path
    command: str  # kfold or sweep
    words: list[str]  # the config and the flags, as they were typed
    task: str
    options: dict[str, Any] = field(default_factory=dict)  # of the command: folds, seeds, trials, …
    children: list[Child] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.name

    def folder(self, child: Child) -> Path:
        """Return the run folder of a child, which may not be there yet."""
        return self.path / child.name

    def save(self) -> None:
        """Write study.json, completely or not at all."""
        told = {key: value for key, value in asdict(self).items() if key != "path"}
        told["children"] = [{**asdict(child), "state": self.state(child)} for child in self.children]
        write_atomic(self.path / STUDY, (json.dumps(told, indent=1) + "\n").encode())

    def state(self, child: Child) -> str:
        """Return waiting, running, paused, finished, stopped, pruned, failed or crashed."""
        folder = self.folder(child)
        state = str(RunFolder(folder).status().get("state", "waiting"))
        if child.pruned and state != "finished":
            return "pruned"
        if state in LIVING and not is_owned(folder):
            return "crashed"
        return "failed" if state == "waiting" and child.code else state

    def best(self, child: Child) -> float | None:
        """Return the best value of the child's monitored metric."""
        value = RunFolder(self.folder(child)).status().get("best")
        return float(value) if isinstance(value, int | float) else None

    def monitor(self) -> str:
        """Return the metric that the children are compared by; empty before one of them has measured."""
        found = (RunFolder(self.folder(child)).status().get("monitor") for child in self.children)
        return next((str(name) for name in found if name), "")

    def is_done(self, child: Child) -> bool:
        """Return whether nothing is left to do for a child."""
        return self.state(child) in ("finished", "pruned")

    def groups(self, apart: Sequence[str]) -> "list[Group]":
        """Return the children that differ in nothing but the keys `apart`, as seeds and folds, together."""
        found: dict[str, Group] = {}
        for child in self.children:
            keys = {key: value for key, value in child.keys.items() if key not in apart}
            found.setdefault(json.dumps(keys), Group(keys, [])).children.append(child)
        return list(found.values())

    def spread(self, group: "Group") -> tuple[float, float, int] | None:
        """Return mean, standard deviation and number of the best values in a group; None if there are none."""
        values = [value for child in group.children if (value := self.best(child)) is not None]
        if not values:
            return None
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0, len(values)


@dataclass
class Group:
    """Children with the same changed keys, seed and fold left aside."""

    keys: Mapping[str, str]
    children: list[Child]


def is_study(path: Path) -> bool:
    """Return whether a folder holds a study."""
    return os.path.isfile(path / STUDY)


def find_study(word: str) -> Path | None:
    """Return the folder of the study of that name or path; None if there is none."""
    plain = re.sub(r"/+$", "", word)
    return next((path for path in (ROOT / plain, Path(plain)) if plain and is_study(path)), None)


def read_study(path: Path) -> Study:
    """Return the study in a folder. Raises CheckpointError when its study.json is missing or damaged."""
    file = path / STUDY
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        children = [Child(**{k: v for k, v in child.items() if k != "state"}) for child in told.pop("children")]
        return Study(path, children=children, **told)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: holds no study.json; a study is made by kfold or sweep") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file}: is damaged") from error
