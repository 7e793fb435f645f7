"""selftest: compare trainings of a config that must be equal, and print the difference.

python main.py selftest [CONFIG] [--only=resume] [--key=value …]

Short trainings of CONFIG, each pair of which must give the same:

  resume        killed at random points (SIGKILL) and resumed, or never killed:
                journal and every tensor
  accumulation  one batch, or two halves of it with accumulate doubled
  workers       data read in this process, or in two others
  validation    batches of one size, or of a third of it
  save_load     a state, or one that was saved and read back
  watchers      nobody looks on, or all that may
  frozen        what train.freeze names, before and after; if it names nothing,
                half of each network
  compile       train.compile off, or on; only when it is named: it takes long

  --only=a,b   only these
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
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from commands._arguments import one_word, split
from configs import Config, load
from trainer.checkpointing.compare import difference
from trainer.checkpointing.store import LAST, PREVIOUS, read_newest
from utils.config.cli import Flag, as_count
from utils.errors import ConfigError, UserError
from utils.runs.folder import ROOT
from utils.sinks.journal import Journal
from utils.terminal import show
from utils.words import suggest

__all__ = ["run"]

OPTIONS = ("config", "only", "trials", "steps", "debug")  # of the command itself, not of the config
ONLY = ("resume", "accumulation", "workers", "validation", "save_load", "watchers", "frozen", "compile")
UNASKED = ONLY[:-1]
OWN = ("max_steps", "save_steps", "print_freq", "visdom", "pictures", "tensorboard")  # keys that the test itself sets
SHORT = 4  # steps at most of the trainings that nobody kills
POLL = 0.001  # s between two looks at the journal
KILLS = 2  # at most, in a trial


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Run the tests that are asked for, and print what each measured.

    Raises ConfigError for an unknown test; UserError, with the first difference, when two trainings differ.
    """
    options, keys = split(flags, OPTIONS)
    config = one_word("selftest", words, options.get("config")) or "default"
    only = [name.strip().replace("-", "_") for name in options.get("only", ",".join(UNASKED)).strip("[]").split(",")]
    counts = {name: as_count(name, options[name]) for name in ("trials", "steps") if name in options}
    trials, steps = counts.get("trials", 3), counts.get("steps", 12)
    for name in only:
        if name not in ONLY:
            near = suggest(name, ONLY) or f"; there is {', '.join(ONLY)}"
            raise ConfigError(f"--only={name}: selftest has no such test{near}")
    for name, number, least in (("trials", trials, 1), ("steps", steps, 2)):
        if number < least:
            raise ConfigError(f"--{name}={number}: must be at least {least}")
    cfg = load(config, keys, OPTIONS)
    wrong = _equivalences([name for name in only if name != "resume"], cfg, steps)
    if "resume" in only:
        _resume(config, keys, cfg.train.seed, trials, steps)
    if wrong:
        raise UserError(f"{' and '.join(wrong)}: trainings that must be equal differ; see above")


def _equivalences(names: Sequence[str], cfg: Config, steps: int) -> list[str]:
    """Print the measured difference of each test; returns those that do not hold."""
    from trainer.checks.equivalences import measure
    from trainer.signals import Stopped

    wrong = []
    for name in names:
        try:
            outcome = measure(name, cfg, min(steps, SHORT))
        except Stopped as asked:
            raise SystemExit(asked.exit_code) from None
        show(f"{name}: {outcome.text}{'' if outcome.holds else '  WRONG'}", flush=True)
        wrong += [] if outcome.holds else [name]
    return wrong


def _resume(config: str, keys: Sequence[Flag], seed: int, trials: int, steps: int) -> None:
    """Train a config for some steps, kill the same training at random points, resume it, compare to the last bit.

    The points are drawn from the config's seed. Raises UserError, with the first difference, for another run.
    """
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
