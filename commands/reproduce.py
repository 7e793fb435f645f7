"""reproduce: train a run again from its folder alone, and tell whether it is the same run.

python main.py reproduce RUN [--code=here|stored] [--tolerance=0.01]

RUN is a run folder or its name in checkpoints/. Exit code 0: the new run is
the same to the last bit, or its numbers are within the tolerance; 1: it is
not. What has changed since is told: code, data, versions, hardware.

  --code=here      train with the program and the files that are here (as far as
                   they are: a file that is missing makes it stored)
  --code=stored    train with the sources that the run kept in code.zip; this
                   runs programs from that folder
  --tolerance=0.01 share by which the last losses and metrics may differ
"""

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from commands._arguments import one_word, split
from configs import Config, load
from trainer.checkpointing.compare import difference, read_one, state_difference
from trainer.checkpointing.store import LAST
from trainer.run.recorder import data_paths
from utils.config.cli import Flag
from utils.config.places import OWN_FOLDER
from utils.errors import CheckpointError, ConfigError, UserError
from utils.runs import record
from utils.runs.folder import ROOT, RunFolder
from utils.runs.reading import NO_METRICS, find_run, read_config, read_rows
from utils.runs.saves import newest_save
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
    known = _known(path)
    changed = record.changes(known, {**known, "code": record.hashes(record.code_files())}).get("code", [])
    if code == "here" and (gone := [text for text in changed if text.endswith("is gone")]):
        show(f"{len(gone)} of the run's sources are not here (the first is {gone[0].removesuffix(' is gone')})")
        code = "stored"
    show(
        f"training again with {f'the sources in {path / record.CODE}' if code == 'stored' else 'the code that is here'}"
    )
    with _sources(path, code) as program:
        cfg = load(str(path / "config.yaml"))
        moved = [place for place in data_paths(cfg, known["folder"]) if place.path != place.text]
        for place in moved:
            show(f"{place.key}: {place.text} is not here; taken from {place.path}")
        steps = _steps(path, cfg)
        arguments = [f"--{place.key}={place.path}" for place in moved]
        arguments += [] if steps is None else [f"--train.max_steps={steps}", "--train.max_minutes=null"]
        new = _train(path, arguments, program)
    now, texts = record.read_record(new), {place.path: place.text for place in moved}
    now["data"] = {texts.get(name, name): value for name, value in now.get("data", {}).items()}
    _tell(path, new, steps, record.changes(known, now), tolerance)


def _tolerance(options: Mapping[str, str]) -> float:
    text = options.get("tolerance", "0.01")
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"--tolerance={text}: expected a number such as 0.01") from error


def _known(path: Path) -> dict[str, Any]:
    """Return the record of a run. Raises CheckpointError for a run that cannot be trained again."""
    known = record.read_record(path)
    if "code" not in known or newest_save(path) is None:
        raise CheckpointError(f"{path}: cannot be trained again: {record.RECORD} or {LAST} is missing or not whole")
    for key in ("model", "task"):
        if "given from Python" in str(read_config(path).get(key)):
            raise CheckpointError(f"{path}: its {key} was handed in from Python, which no command can make again")
    return known


def _steps(path: Path, cfg: Config) -> int | None:
    """Return the step at which the run was saved last; None for a run that ended where its config ends it."""
    ended = RunFolder(path).status().get("state") == "finished" and cfg.train.max_minutes is None
    return None if ended else int(read_one(path)["progress"]["step"])


@contextmanager
def _sources(path: Path, code: str) -> Iterator[Path]:
    """Give the folder of the program that trains; within it, a config may name the components of the stored sources."""
    if code == "here":
        yield Path(__file__).parent.parent
        return
    with tempfile.TemporaryDirectory() as folder:
        sources, own = Path(folder), Path(folder, "both")
        with zipfile.ZipFile(path / record.CODE) as stored:
            stored.extractall(sources)  # which lets no name lead out of the folder
        for room in (sources / part / room for part in ("", record.OWN) for room in record.USERS):
            if room.is_dir():
                shutil.copytree(room, own / room.name, dirs_exist_ok=True)
        before = os.environ.get(OWN_FOLDER)
        os.environ[OWN_FOLDER] = str(own)
        try:
            yield sources
        finally:
            os.environ.pop(OWN_FOLDER)
            os.environ.update({OWN_FOLDER: before} if before else {})


def _train(path: Path, arguments: Sequence[str], program: Path) -> Path:
    """Train the config of a run in a new folder, in a process of its own. Returns the folder.

    Raises UserError when that training fails; its own sentence was printed.
    """
    name = f"{path.absolute().name}-again"
    number = next(n for n in itertools.count(1) if not (ROOT / f"{name}{n}").exists())
    new = ROOT / f"{name}{number}"
    command = [sys.executable, str(program / "main.py"), "train", str(path / "config.yaml"), f"--run={new.name}"]
    environment = {**os.environ, OWN_FOLDER: str(program / record.OWN)} if OWN_FOLDER in os.environ else None
    result = subprocess.run([*command, *QUIET, *arguments], env=environment)
    if result.returncode:
        raise UserError(f"different: the training ended with exit code {result.returncode}; its reason is above")
    return new


def _tell(path: Path, new: Path, steps: int | None, changed: Mapping[str, Sequence[str]], tolerance: float) -> None:
    """Print the verdict and the changes since. Raises UserError if it is another run."""
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
    one, other = ({part: read_one(folder).get(part) for part in WEIGHTS} for folder in (path, new))
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
