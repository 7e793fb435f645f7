"""checkpoints/<run>/: named, created once, and owned by one process."""

import json
import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from utils.errors import CheckpointError, ConfigError, StorageError
from utils.files import write_atomic
from utils.runs import requests
from utils.runs.group import is_first, launch_id, launch_mark, launched
from utils.runs.owner import Owner, Taken, beats_elsewhere
from utils.runs.saves import STUDY, in_parts, newest_save, time_of_save
from utils.words import suggest

__all__ = [
    "RunFolder",
    "is_owned",
    "newest_unfinished",
    "refuse_absent",
    "refuse_name",
    "refuse_unless_run",
    "run_name",
    "run_path",
    "started",
]

ROOT = Path("checkpoints")
CHECKPOINT_NAME = re.compile(r"(last|previous|best|rescue|epoch-\d+)\.pth")
LOCK_TIMEOUT = 0.3  # s: listing the runs takes each lock for a moment
GROUP_TIMEOUT = 3.0  # s: the processes of a killed one, started again, wait until its data workers are gone
CHOICE = 10.0  # s that the others wait for the first process to choose a run
CHILD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=-]{0,119}")
LEGAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


class RunFolder:
    """A run's folder and the lock on it; the system frees the lock when its process ends. A mark tells other nodes."""

    def __init__(self, path: Path, config: str | None = None):
        """Open the folder. `config` is the config of a new run; that of an existing run is read from its status."""
        self.path = path
        self.config = config or self.status().get("config")
        self.lock, self.owner = FileLock(path / ".lock"), Owner(path)
        self.launch: dict[str, Any] = {}  # that owns it, and since when

    @classmethod
    def create(cls, name: str, config: str | None = None) -> "RunFolder":
        """Make the folder of a new run; `config` is its config's name or path.

        Raises ConfigError for a name that exists or is not portable, StorageError when it cannot be made.
        """
        refuse_name(name)
        path = ROOT / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir()
        except OSError as error:
            if path.is_dir():
                raise ConfigError(f"--run={name}: another process has just made {path}; take another name") from error
            reason = error.strerror or error
            raise StorageError(f"{path}: cannot be made: {reason}; make {ROOT} writable or run elsewhere") from error
        folder = cls(path, config)
        try:
            folder.own()
        except StorageError:
            folder.remove()  # a disk without room for the first file: the name is free when there is some
            raise
        return folder

    def own(self) -> None:
        """Take the lock.

        Raises ConfigError when another process has it, StorageError when the folder is not writable.
        """
        try:
            self.lock.acquire(timeout=GROUP_TIMEOUT if launched() else LOCK_TIMEOUT)
            self.owner.take()
        except Taken as other:
            self.lock.release()
            raise ConfigError(f"{self.path}: in use by {other}; wait or stop it") from other
        except Timeout as error:
            raise ConfigError(f"{self.path}: in use by process {self._owner()}; wait or stop it") from error
        except OSError as error:
            reason = error.strerror or error
            raise StorageError(
                f"{self.path}: cannot be written: {reason}; make room or check its permissions"
            ) from error
        requests.clear(self.path)
        before = self.status()
        if mark := launch_mark():
            again = before["launch"] if self.is_of_launch() else {}
            self.launch = {"mark": mark, "since": time.time()} | again
        # Write the new owner's number at once, so that other processes can report who has the lock.
        self.set_status(**{"state": "running", **before, "pid": os.getpid()})

    def goes_on(self) -> bool:
        """Return whether this launch has saved the run already: a process of it was killed, and all start again."""
        return self.is_of_launch() and time_of_save(self.path) > self.status()["launch"]["since"]

    def is_of_launch(self) -> bool:
        """Return whether this launch owns the run, or did before its processes were started again."""
        launch = self.status().get("launch")
        return isinstance(launch, dict) and "since" in launch and launch.get("mark") == launch_mark() != ""

    def refuse_if_taken(self) -> None:
        """Raise StorageError when another process has taken the folder: not every network disk has locks for all nodes.

        Called ahead of each save, so that of two that train one run the later one has it.
        """
        if other := self.owner.other():
            raise StorageError(f"{self.path}: is trained by {other}, too; this process saves nothing more and ends")

    def release(self) -> None:
        """Release the lock, so that this process or another may continue the run."""
        self.owner.release()
        self.lock.release()

    def remove(self) -> None:
        """Remove a run that has not begun, so that its name is free again and no --resume finds it."""
        self.owner.release()
        shutil.rmtree(self.path, ignore_errors=True)  # while the lock keeps others out
        self.lock.release()

    def _owner(self) -> object:
        """Return the process that holds the lock; just after it took it, the status may still name the one before."""
        for _ in range(20):
            pid = self.status().get("pid", "?")
            if isinstance(pid, int) and _lives(pid):
                break
            time.sleep(0.05)
        return pid

    def status(self) -> dict[str, Any]:
        """Return the status that the run wrote last; empty if there is none."""
        try:
            return dict(json.loads((self.path / "status.json").read_text()))
        except (OSError, ValueError):
            return {}

    def finish(self) -> None:
        """Write that the run is finished, and keep the rest of its last status."""
        self.set_status(**{**self.status(), "state": "finished", "pid": os.getpid()})

    def set_status(self, state: str, **facts: Any) -> None:
        """Write the status.

        The state is running, paused, finished, stopped or failed. A run that runs or is paused and holds no lock has
        crashed. Raises StorageError for a folder that was removed.
        """
        if not self.path.is_dir():  # a new folder would only block the run's name
            raise StorageError(f"{self.path}: was removed while its run went on; nothing more can be saved there")
        facts = {"state": state, "pid": os.getpid(), "time": round(time.time(), 3), "config": self.config, **facts}
        facts = {**facts, "launch": self.launch} if self.launch else {k: v for k, v in facts.items() if k != "launch"}
        write_atomic(self.path / "status.json", (json.dumps(facts) + "\n").encode())


def refuse_name(name: str) -> None:
    """Raise ConfigError for a run's name that exists or is not portable."""
    study, _, child = name.rpartition("/")
    in_study = LEGAL.fullmatch(study) and (ROOT / study / STUDY).is_file()
    if not (CHILD.fullmatch(child) if in_study else LEGAL.fullmatch(name)):
        raise ConfigError(f"--run={name}: a run's name has letters, digits and ._- only, at most 100 of them")
    where = ROOT / name
    if os.path.exists(where):  # not Path.exists, which raises where it may not look
        raise ConfigError(f"--run={name}: {where} exists; take another name, or continue it with --resume={where}")


def run_path(word: str) -> Path:
    """Return the path, or the folder of the run of that name."""
    return ROOT / word if os.path.exists(ROOT / word) and not os.path.exists(word) else Path(word)


def refuse_absent(path: Path, asked: str) -> None:
    """Raise CheckpointError if the path does not exist, with the name of a similar run."""
    if not os.path.exists(path):
        names = [run.name for run in ROOT.glob("[!.]*") if run.is_dir()] if path.parent in (Path(), ROOT) else []
        raise CheckpointError(f"{asked}: there is no such run folder or checkpoint{suggest(path.name, names)}")


def refuse_unless_run(path: Path, asked: str) -> None:
    """Raise CheckpointError unless it is a run folder, or a checkpoint with one of a run's file names."""
    refuse_absent(path, asked)
    try:
        names = os.listdir(path) if path.is_dir() else [path.name]
    except OSError as error:
        raise CheckpointError(f"{asked}: {path} cannot be read ({error.strerror})") from error
    folders = (path, *(path / name for name in names)) if path.is_dir() else ()
    if not any(map(CHECKPOINT_NAME.fullmatch, names)) and not any(map(in_parts, folders)):
        what = "holds no checkpoint of a run" if path.is_dir() else "is no checkpoint of a run"
        raise CheckpointError(f"{asked}: {path} {what}")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # it belongs to another user
    return True


def run_name(config: str, model: str) -> str:
    """Return a name for a run without one: config, model and time, portable everywhere."""
    parts = [Path(config).stem, model, time.strftime("%m%d-%H%M%S")]
    base = re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts)).lstrip(".-")
    taken = [base, *(f"{base}-{i}" for i in range(2, 1000))]
    return next(name for name in taken if not (ROOT / name).exists())


def newest_unfinished() -> Path:
    """Return the unfinished run that was trained last; all processes of a launch have the same.

    A run that another launch trains does not count. Raises CheckpointError when there is none.
    """
    end = time.monotonic() + CHOICE
    while launch_id():
        if found := next((run for run in _unfinished() if RunFolder(run).is_of_launch()), None):
            return found
        if is_first() or time.monotonic() > end:
            break
        time.sleep(0.1)  # the first process chooses, and owns the run from then on
    runs = _unfinished()
    chosen = next((run for run in runs if not is_owned(run)), None)
    if chosen is None:
        busy = f" that is not being trained ({runs[0].name} is)" if runs else ""
        raise CheckpointError(f"--resume: no unfinished run in {ROOT}{busy}; name one as in --resume={ROOT}/NAME")
    return chosen


def _unfinished() -> list[Path]:
    """Return the runs that have a checkpoint and are not finished, the one that was saved last first."""
    runs = [path for path in ROOT.glob("*") if newest_save(path)]
    unfinished = [run for run in runs if RunFolder(run).status().get("state") != "finished"]
    return sorted(unfinished, key=time_of_save, reverse=True)


def started(run: str | None, command: Sequence[str]) -> Path | None:
    """Return the folder of a run that this launch began and saved, by the same command; None if there is none.

    One without a checkpoint is removed by the first process: it begins again. Call it before the group is joined: the
    folder of a new run is made afterwards.
    """
    if not (launch := launch_id()):
        return None
    from utils.runs.record import read_record  # not for every command that names a folder

    for path in [ROOT / run] if run else sorted(ROOT.glob("*")):
        record = read_record(path)
        if record.get("launch") == launch and record.get("command") == list(command):
            if newest_save(path) or list(path.glob("*.pth")):
                return path
            if is_first():
                shutil.rmtree(path, ignore_errors=True)
    return None


def is_owned(path: Path) -> bool:
    """Return whether a process holds the run's lock, which is free once it is dead, or owns it on another machine."""
    if beats_elsewhere(path):
        return True
    lock = path / ".lock"
    if not lock.exists():  # a copied folder: a process that trains has the original
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return True  # the lock cannot be tried here, so the status is believed
