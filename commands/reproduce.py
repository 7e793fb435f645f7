"""reproduce: train a run again from its folder alone, and tell whether it is the same run.

python main.py reproduce RUN [--code=here|stored] [--tolerance=0.01]

RUN is a run folder or its name in checkpoints/. Exit code 0: the new run is the
same to the last bit, or its numbers are within the tolerance; 1: it is not. What
has changed since is told: code, data, versions, hardware.

  --code=here      train with the program and the files that are here (as far as
                   they are: a file that is missing makes it stored)
  --code=stored    train with the sources that the run kept in code.zip; this runs
                   programs from that folder
  --tolerance=0.01 share by which the last losses and metrics may differ
"""

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from commands._arguments import one_word, split
from commands.selftest import difference, state_difference
from configs import Config, load
from trainer.checkpointing.store import LAST, read
from trainer.run.recorder import Place, data_paths
from utils.config.cli import Flag
from utils.errors import CheckpointError, ConfigError, UserError
from utils.runs import record
from utils.runs.folder import ROOT, RunFolder
from utils.runs.reading import NO_METRICS, find_run, read_config, read_rows
from utils.terminal import show

__all__ = ["run"]

OPTIONS = ("code", "tolerance", "debug")
CODES = ("here", "stored")
NAMED = 5  # changes of a kind that are listed
WEIGHTS = ("model", "buffers", "ema")
QUIET = ("--log.visdom=false", "--log.tensorboard=false", "--log.pictures=false")


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Train the run again and print the verdict.

    Raises UserError (exit code 1) when it is another run, CheckpointError for a folder without a record.
    """
    options, keys = split(flags, OPTIONS)
    if keys or not (word := one_word("reproduce", words)):
        raise ConfigError(
            f"reproduce takes a run{f', not {keys[0].typed}' if keys else ': reproduce checkpoints/NAME'}"
        )
    path, tolerance, code = find_run(word, ROOT), _tolerance(options), options.get("code", "here")
    if code not in CODES:
        raise ConfigError(f"--code={code}: expected {' or '.join(CODES)}")
    known, cfg = _known(path), load(str(path / "config.yaml"))
    changed = record.changes(known, {**known, "code": record.hashes(record.code_files())}).get("code", [])
    if code == "here" and (gone := [text for text in changed if text.endswith("is gone")]):
        show(f"{len(gone)} of the run's sources are not here (the first is {gone[0].removesuffix(' is gone')})")
        code = "stored"
    show(
        f"training again with {f'the sources in {path / record.CODE}' if code == 'stored' else 'the code that is here'}"
    )
    moved = {place.text: place for place in data_paths(cfg, known["folder"]) if place.path != place.text}
    for place in moved.values():
        show(f"{place.key}: {place.text} is not here; taken from {place.path}")
    steps = _steps(path, cfg)
    arguments = [f"--{place.key}={place.path}" for place in moved.values()]
    arguments += [] if steps is None else [f"--train.max_steps={steps}", "--train.max_minutes=null"]
    new = _train(path, arguments, code)
    now = record.read_record(new)
    now["data"] = {_text_of(name, moved): value for name, value in now.get("data", {}).items()}
    _tell(path, new, steps, record.changes(known, now), tolerance)


def _text_of(name: str, moved: Mapping[str, Place]) -> str:
    """Return the name that the run had for data which are read from another place now."""
    return next((place.text for place in moved.values() if place.path == name), name)


def _tolerance(options: Mapping[str, str]) -> float:
    text = options.get("tolerance", "0.01")
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"--tolerance={text}: expected a number such as 0.01") from error


def _known(path: Path) -> dict[str, Any]:
    """Return the record of a run. Raises CheckpointError for a run that cannot be trained again."""
    known = record.read_record(path)
    if "code" not in known or not (path / LAST).exists():
        raise CheckpointError(f"{path}: cannot be trained again: {record.RECORD} or {LAST} is missing or not whole")
    for key in ("model", "task"):
        if "given from Python" in str(read_config(path).get(key)):
            raise CheckpointError(f"{path}: its {key} was handed in from Python, which no command can make again")
    return known


def _steps(path: Path, cfg: Config) -> int | None:
    """Return the step at which the run was saved last; None for a run that ended where its config ends it."""
    ended = RunFolder(path).status().get("state") == "finished" and cfg.train.max_minutes is None
    return None if ended else int(read(path / LAST)["progress"]["step"])


def _train(path: Path, arguments: Sequence[str], code: str) -> Path:
    """Train the config of a run in a new folder, in a process of its own. Returns the folder.

    Raises UserError when that training fails; its own sentence was printed.
    """
    name = f"{path.absolute().name}-again"
    number = next(n for n in itertools.count(1) if not (ROOT / f"{name}{n}").exists())
    new, program, own = ROOT / f"{name}{number}", Path(__file__).parent.parent, dict(os.environ)
    with tempfile.TemporaryDirectory() as sources:
        if code == "stored":
            zipfile.ZipFile(path / record.CODE).extractall(sources)  # which lets no name lead out of the folder
            program, own["DEEPTRAIN_OWN"] = Path(sources), str(Path(sources, record.OWN))
        command = [sys.executable, str(program / "main.py"), "train", str(path / "config.yaml"), f"--run={new.name}"]
        result = subprocess.run([*command, *QUIET, *arguments], env=own)
    if result.returncode:
        raise UserError(f"different: the training ended with exit code {result.returncode}; its reason is above")
    return new


def _tell(path: Path, new: Path, steps: int | None, changed: Mapping[str, Sequence[str]], tolerance: float) -> None:
    """Print the verdict and what has changed. Raises UserError if it is another run."""
    told = [f"{kind} ({_listed(found)})" for kind, found in changed.items()]
    since = f"changed since: {'; '.join(told)}" if told else "code, data, versions and hardware are those of the run"
    if not (found := _difference(path, new, steps)):
        shutil.rmtree(new)
        return show(f"bit-identical: every weight and every row of the journal; {since}")
    name, share, one, other = _largest(path, new, steps)
    measured = f"{name} is {other:.6g}, was {one:.6g}" if name else "no loss or metric can be compared"
    if name and share <= tolerance:
        return show(f"within tolerance: the largest difference is {share:.2g} ({measured}); {since}; kept as {new}")
    if not told:
        since += ": the training itself is not repeatable; see train.deterministic"
    raise UserError(f"different: {found}; {measured}; {since}; compare with python main.py diff {path} {new}")


def _listed(found: Sequence[str]) -> str:
    return ", ".join(found[:NAMED]) + f", … {len(found) - NAMED} more" * (len(found) > NAMED)


def _difference(path: Path, new: Path, steps: int | None) -> str:
    """Return the first difference in bits; of a run that was stopped, up to the step that it was saved at."""
    if steps is None:
        return difference(path, new)
    one, other = ({part: read(folder / LAST).get(part) for part in WEIGHTS} for folder in (path, new))
    return state_difference(one, other) or ("" if _rows(path, steps) == _rows(new, steps) else "the journal differs")


def _rows(folder: Path, steps: int) -> list[dict[str, Any]]:
    """Return the training rows up to a step, without their times."""
    rows = (row for row in read_rows(folder / "log.jsonl") if row["phase"] == "train" and row["step"] <= steps)
    return [{key: value for key, value in row.items() if key != "time"} for row in rows]


def _largest(path: Path, new: Path, steps: int | None) -> tuple[str, float, float, float]:
    """Return the metric of the last common rows that differs most: its name, the share, the old and the new value."""
    found = [("", 0.0, 0.0, 0.0)]
    for phase in ("train", "val"):
        one, other = (
            {row["step"]: row for row in read_rows(folder / "log.jsonl") if row["phase"] == phase}
            for folder in (path, new)
        )
        for step in sorted(one.keys() & other.keys())[-1:]:
            for name in (one[step].keys() & other[step].keys()) - set(NO_METRICS):
                old, now = float(one[step][name]), float(other[step][name])
                found.append((f"{phase} {name}", abs(now - old) / max(abs(old), abs(now), 1e-12), old, now))
    return max(found[1:], key=lambda one: one[1], default=found[0])
