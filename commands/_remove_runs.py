"""runs --remove: list the run folders of a state, ask, and remove them."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.errors import ConfigError, StorageError
from utils.runs.folder import RunFolder
from utils.runs.reading import LIVING, STATES, Run
from utils.terminal import show
from utils.words import shortened, suggest

__all__ = ["refuse_state", "remove_runs"]

REMOVABLE = tuple(state for state in STATES if state not in LIVING)


def refuse_state(state: str) -> None:
    """Raise ConfigError for a state whose runs cannot be removed."""
    if state not in REMOVABLE:
        near = suggest(state, REMOVABLE) or f"; there is {', '.join(REMOVABLE)}"
        raise ConfigError(f"--remove={shortened(state)}: names the state of the runs to remove{near}")


def remove_runs(runs: Sequence[Run], sure: bool) -> None:
    """Remove the folders of these runs, if they are wanted to be; `sure`: nobody is asked.

    Raises ConfigError where nobody can be asked, StorageError when a folder cannot be removed.
    """
    if not runs:
        show("no such run: nothing is removed")
        return
    for run in runs:
        show(f"{run.path}: {run.state}, {run.steps:,} steps, {_size(run.path) / 1e6:,.1f} MB")
    which = "this run" if len(runs) == 1 else f"these {len(runs)} runs"
    if not sure and not sys.stdin.isatty():
        raise ConfigError(f"--remove: nobody is here to be asked; add --yes to remove {which} for good")
    if not sure and input(f"Remove {which} for good? [y/N] ").strip().lower() not in ("y", "yes"):
        show("nothing is removed")
        return
    for run in runs:
        _remove(run.path)
    show(f"removed: {len(runs)}")


def _remove(path: Path) -> None:
    folder = RunFolder(path)
    folder.own()  # or raise: it may have been resumed in the meantime
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be removed: {error.strerror or error}; check its permissions") from error
    finally:
        folder.release()


def _size(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
