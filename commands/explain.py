"""explain: tell where the value of a key came from.

python main.py explain KEY [RUN | CONFIG] [--key=value …]

KEY is a key such as optim.lr, its last name if that is unique (lr), or a
section (optim). CONFIG and flags are those of train; of a run, the places are
those of the files and flags that it was started with.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs import Resolved, resolve
from configs.layers import config_files
from utils.config.cli import Flag
from utils.config.convert import flatten, to_plain
from utils.config.yaml_text import dump_line
from utils.errors import ConfigError
from utils.runs.folder import ROOT
from utils.runs.reading import find_run
from utils.runs.record import read_record
from utils.terminal import show
from utils.words import suggest

__all__ = ["run"]


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Print the keys that are meant, each with its value and the place of it.

    Raises ConfigError for a key that does not exist or is not unique, CheckpointError for a run that does not.
    """
    if not 1 <= len(words) <= 2:
        raise ConfigError("explain: which key? e.g. python main.py explain optim.lr checkpoints/NAME")
    key, name = words[0], words[1] if len(words) == 2 else "default"
    resolved, places = _of_config(name, flags) if _is_config(name) else _of_run(find_run(name, ROOT), flags)
    values = flatten(to_plain(resolved.config))
    for one in _meant(key, values):
        show(f"{one}: {dump_line(values[one])}  # {places.get(one, 'default')}")


def _is_config(name: str) -> bool:
    return name in config_files() or (name.endswith((".yaml", ".yml")) and os.path.isfile(name))


def _of_config(name: str, flags: Sequence[Flag]) -> tuple[Resolved, Mapping[str, str]]:
    resolved = resolve(name, flags)
    return resolved, resolved.places()


def _of_run(path: Path, flags: Sequence[Flag]) -> tuple[Resolved, Mapping[str, str]]:
    """Return the config of a run, and the places that it was started with; without a record, lines of config.yaml."""
    if flags:
        raise ConfigError(f"{flags[0].typed}: the keys of a run are as it was started; leave flags out")
    resolved = resolve(str(path / "config.yaml"))
    record = read_record(path)
    return resolved, record.get("places") or resolved.places()


def _meant(key: str, values: Mapping[str, Any]) -> list[str]:
    """Return the keys of that name, in that section, or with that last name. Raises ConfigError if there is none."""
    found = [one for one in values if one == key or one.startswith(f"{key}.")]
    found = found or [one for one in values if one.endswith(f".{key}")]
    if not found:
        raise ConfigError(f"explain: no key '{key}'{suggest(key, [*values, *(k.rpartition('.')[2] for k in values)])}")
    return found
