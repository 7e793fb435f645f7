"""selftest: kill short trainings of a config, resume them, and compare every bit.

python main.py selftest [CONFIG] [--only=resume] [--key=value …]

Short trainings of CONFIG are killed at random points (SIGKILL), resumed, and
compared with one that was never killed: journal and every tensor.

  --trials=3   number of trainings to kill
  --steps=12   length of each of them
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from commands._arguments import one_word, split
from configs import load
from trainer.checkpointing.store import LAST, PREVIOUS, read, read_newest
from utils.config.cli import Flag, as_count
from utils.errors import ConfigError, UserError
from utils.runs.folder import ROOT
from utils.sinks.journal import Journal
from utils.terminal import show
from utils.words import suggest

__all__ = ["difference", "run", "state_difference"]

OPTIONS = ("config", "only", "trials", "steps", "debug")  # of the command itself, not of the config
ONLY = ("resume",)
OWN = ("max_steps", "save_steps", "print_freq", "visdom", "pictures", "tensorboard")  # keys that the test itself sets
POLL = 0.001  # s between two looks at the journal
KILLS = 2  # at most, in a trial

# The parts of a checkpoint in words; of several differences, the first in this order is reported first.
PARTS = {
    "model": "the weights",
    "buffers": "what the task remembers",
    "ema": "the averaged weights",
    "ema_count": "how many weights were averaged",
    "update": "the optimizer, its schedule or an open window of gradients",
    "progress": "the position, the best score or the patience",
    "ranks": "the random numbers or the means of a row not yet written",
}
TIMES = ("seconds", "validation_seconds", "journal")  # of the progress: they differ from run to run


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Train a config for some steps, kill the same training at random points, resume it, compare to the last bit.

    The points are drawn from the config's seed. Raises ConfigError for an unknown test; UserError, with the first
    difference, when a resumed run differs.
    """
    options, keys = split(flags, OPTIONS)
    config, only = one_word("selftest", words, options.get("config")) or "default", options.get("only", "resume")
    counts = {name: as_count(name, options[name]) for name in ("trials", "steps") if name in options}
    trials, steps = counts.get("trials", 3), counts.get("steps", 12)
    if only not in ONLY:
        near = suggest(only, ONLY) or f"; there is {', '.join(ONLY)}"
        raise ConfigError(f"--only={only}: selftest has no such test{near}")
    for name, number, least in (("trials", trials, 1), ("steps", steps, 2)):
        if number < least:
            raise ConfigError(f"--{name}={number}: must be at least {least}")
    seed = load(config, keys, OPTIONS).train.seed
    kept = [flag.typed for flag in keys if flag.key.rpartition(".")[2].removeprefix("no_") not in OWN]
    prefix = f"selftest-{os.getpid()}"
    runs = _Runs(prefix, config, kept, steps)
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # its folders must not stay
    try:
        _compare_runs(runs, trials, random.Random(f"selftest-{seed}"))
    finally:
        signal.signal(signal.SIGTERM, before)
        for process in runs.processes:
            process.kill()
            process.wait()
        for folder in ROOT.glob(f"{prefix}-*"):
            shutil.rmtree(folder, ignore_errors=True)
        if ROOT.is_dir() and not any(ROOT.iterdir()):
            ROOT.rmdir()


class _Runs:
    """Short trainings of one config, each in its own process."""

    def __init__(self, prefix: str, config: str, flags: Sequence[str], steps: int):
        self.prefix, self.steps = prefix, steps
        self.processes: list[subprocess.Popen] = []
        self.command = ["train", config, *flags, f"--train.max_steps={steps}", "--train.save_steps=2"]
        self.command += ["--log.print_freq=1", "--log.visdom=false", "--log.pictures=false", "--log.tensorboard=false"]

    def folder(self, name: str) -> Path:
        return ROOT / f"{self.prefix}-{name}"

    def begin(self, arguments: Sequence[str]) -> subprocess.Popen:
        self.processes.append(_start(arguments))
        return self.processes[-1]

    def start(self, name: str) -> subprocess.Popen:
        return self.begin([*self.command, f"--run={self.folder(name).name}"])

    def whole(self, name: str) -> Path:
        """Train from beginning to end, and return the folder."""
        _finish(self.start(name), "the training itself")
        return self.folder(name)

    def killed(self, name: str, rng: random.Random) -> list[int]:
        """Train, kill and resume until the training is done. Returns the steps from which it was resumed."""
        process, steps = self.start(name), []
        for _ in range(rng.randint(1, KILLS)):
            first = steps[-1] + 1 if steps else 1
            if first >= self.steps or not _kill(process, self.folder(name), rng.randint(first, self.steps - 1), rng):
                break
            steps.append(_saved_step(self.folder(name)))
            process = self.begin(["train", f"--resume={self.folder(name)}"])
        _finish(process, f"killed, resumed from step {', '.join(map(str, steps))}: it")
        return steps


def _compare_runs(runs: _Runs, trials: int, rng: random.Random) -> None:
    """Compare the runs. Raises UserError when a killed run differs from the whole one, or when none could be killed."""
    show(f"a whole training of {runs.steps} steps …", flush=True)
    whole, kills = runs.whole("whole"), 0
    for number in range(1, trials + 1):
        show(f"trial {number} of {trials}: the same, killed and resumed …", flush=True)
        steps = runs.killed(str(number), rng)
        # A training that begins anew, or is over, has nothing to remember.
        kills += sum(0 < step < runs.steps for step in steps)
        if found := difference(whole, runs.folder(str(number))):
            again = difference(whole, runs.whole("again"))
            hint = "; two trainings that nobody kills differ as well: it is not repeatable at all" if again else ""
            raise UserError(
                f"killed and resumed from step {' and '.join(map(str, steps))}, it is another run: {found}{hint}"
            )
        show(
            f"  resumed from step {' and '.join(map(str, steps)) or '(it was faster)'}: the same to the last bit",
            flush=True,
        )
    if not kills:
        raise UserError("no training was resumed between its first and last step: nothing is tested; give more --steps")
    show(f"{trials} trials, resumed {kills} times in the middle: journal and every tensor are the same")


def _start(arguments: Sequence[str]) -> subprocess.Popen:
    main = Path(__file__).parent.parent / "main.py"
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, str(main), *arguments], text=True, **streams)


def _finish(process: subprocess.Popen, what: str) -> None:
    """Wait for the process to end. Raises UserError with its last words for a bad exit code."""
    words = process.communicate()[1].strip().splitlines()
    if process.returncode:
        raise UserError(f"{what} ended with exit code {process.returncode}: {words[-1] if words else 'without a word'}")


def _kill(process: subprocess.Popen, folder: Path, step: int, rng: random.Random) -> bool:
    """Kill at a random moment soon after a step, with SIGKILL. Returns False if the process was faster."""
    while _last_step(folder) < step or not _was_saved(folder):
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=POLL)  # this also reads its output: a full pipe would stop it
            return False
    time.sleep(rng.random() * 10 * POLL)
    process.kill()
    process.communicate()
    return process.returncode < 0


def _was_saved(folder: Path) -> bool:
    """Return whether a checkpoint behind the first one, of step 0, is there."""
    return (folder / PREVIOUS).exists() and (folder / LAST).exists()


def _saved_step(folder: Path) -> int:
    """Return the step of the newest checkpoint, from which a resumed training goes on."""
    return int(read_newest(folder)[0]["progress"]["step"])


def _last_step(folder: Path) -> int:
    """Return the last training step in the journal, 0 if there is none."""
    return max((row["step"] for row in Journal.read(folder / "log.jsonl") if row["phase"] == "train"), default=0)


# Comparing


def difference(whole: Path, other: Path, file: str = LAST) -> str:
    """Return the difference of the run in `other` from the run in `whole`; empty if there is none.

    All rows of the journal and all parts of a checkpoint that decide the future are compared, to the last bit. Times
    are not compared.
    """
    rows = _first_row(_rows(whole), _rows(other))
    return "; ".join(filter(None, [rows, state_difference(read(whole / file), read(other / file))]))


def state_difference(one: dict[str, Any], two: dict[str, Any], without: Sequence[str] = TIMES) -> str:
    """Return the parts of two checkpoints that differ, in words; empty if none does.

    The entries `without` of the progress are not compared.
    """
    places = {name: _first(_plain(one, name, without), _plain(two, name, without), name) for name in PARTS}
    return "; ".join(f"{PARTS[name]} differ ({place})" for name, place in places.items() if place)


def _plain(state: dict[str, Any], part: str, without: Sequence[str]) -> Any:
    value = state.get(part)
    return {k: v for k, v in value.items() if k not in without} if part == "progress" else value


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "time"} for row in Journal.read(folder / "log.jsonl")]


def _first_row(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> str:
    """Return the first difference of two journals, in words."""
    for left, right in zip_longest(one, two):
        if left == right:
            continue
        if left is None or right is None:
            which, row = ("has a row too many", right) if left is None else ("lacks a row", left)
            return f"the journal {which}: {_place(row)}"
        if (left["phase"], left["step"]) != (right["phase"], right["step"]):
            return f"the journal has {_place(right)} in place of {_place(left)}"
        key = next(key for key in {**left, **right} if left.get(key) != right.get(key))
        return (
            f"from step {left['step']} on, the order of samples, the random numbers or the weights are others "
            f"({left['phase']} {key} {right.get(key)}, not {left.get(key)})"
        )
    return ""


def _place(row: dict[str, Any]) -> str:
    return f"{row['phase']}, step {row['step']}"


def _first(one: Any, two: Any, place: str) -> str:
    """Return the first place at which two nested states differ; empty if they are equal to the last bit."""
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        return "" if _equal(one, two) else place
    pairs = _pairs(one, two)
    if pairs is None:
        return "" if type(one) is type(two) and (one == two or (one != one and two != two)) else place
    return next((found for key, left, right in pairs if (found := _first(left, right, f"{place}.{key}"))), "")


def _pairs(one: Any, two: Any) -> Iterator[tuple[object, Any, Any]] | None:
    """Return (key, one's, two's) of two mappings or sequences of the same form; None for any other values."""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return ((key, one[key], two[key]) for key in one)
    if isinstance(one, list | tuple) and type(one) is type(two) and len(one) == len(two):
        return ((i, left, right) for i, (left, right) in enumerate(zip(one, two, strict=True)))
    return None


def _equal(one: Tensor, two: Tensor) -> bool:
    """Return whether two tensors have the same bits, also those of NaN."""
    same = one.dtype == two.dtype and one.shape == two.shape
    return same and torch.equal(one.reshape(-1).view(torch.uint8), two.reshape(-1).view(torch.uint8))
