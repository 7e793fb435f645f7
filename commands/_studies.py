"""The common part of kfold and sweep: make a study, run its children, go on with one that was broken off."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from commands._arguments import one_word, split
from commands._cells import format_number
from commands._leaderboard import leaderboard
from configs import Config, load
from configs.folders import config_of_folder
from utils.config.cli import Flag, as_count
from utils.config.convert import to_plain
from utils.config.yaml_text import dump_yaml
from utils.errors import CheckpointError, ConfigError
from utils.files import write_atomic
from utils.runs.children import Pool
from utils.runs.folder import CHECKPOINT_NAME, LOCK_TIMEOUT, ROOT, RunFolder, is_owned, refuse_name, run_name
from utils.runs.study import Child, Study, find_study, read_study
from utils.terminal import show

__all__ = ["Given", "Listed", "Source", "add_child", "given", "go_on", "new_study", "pool_of", "stored"]

SHARED = ("config", "run", "resume", "jobs", "on")  # options of both commands


class Given:
    """A command's words and flags: its options, the config's name, and the flags that are keys."""

    def __init__(self, command: str, words: Sequence[str], flags: Sequence[Flag], own: Sequence[str]):
        """Divide the flags. Raises ConfigError for an option without a value."""
        self.known = (*SHARED, *own)
        self.options, self.flags = split(flags, self.known)
        for flag in flags:
            if flag.key in self.known and flag.typed == f"--{flag.key}":
                raise ConfigError(f"{flag.typed}: needs a value: --{flag.key}=…")
        if (place := self.options.get("on", "ray")) not in ("ray", "slurm"):
            raise ConfigError(f"--on={place}: there are ray and slurm; leave it out to train on this machine")
        self.command, self.config = command, one_word(command, words, self.options.get("config"))
        if not self.config and "resume" not in self.options:
            found, why = config_of_folder(flags)
            if why:
                self.config = found
                show(why)
        typed = [flag.typed for flag in flags if flag.key not in ("run", "resume", "jobs", "on", "config")]
        self.words = [*([self.config] if self.config else []), *typed]

    def load(self, flags: Sequence[Flag]) -> Config:
        """Return the config with these flags. Raises ConfigError with one line for each mistake."""
        return load(self.config or "default", flags, self.known)


class Source(Protocol):
    """The children of a study in their order; `next` may make one."""

    def next(self, busy: Sequence[str]) -> Child | None:
        """Return a child that is not done and not busy; None if there is none at present."""

    def end(self, child: Child, value: float | None) -> None:
        """Take the best value of a child that has ended."""

    def look(self, pool: Pool) -> None:
        """Look at the running children, of which some may not be worth their time."""


class Listed:
    """A study's children in their order."""

    def __init__(self, study: Study):
        self.study, self.tried = study, set[str]()

    def next(self, busy: Sequence[str]) -> Child | None:
        """Return the first that is not done and was not tried; a failed one is tried again by --resume only."""
        for child in self.study.children:
            if child.name not in busy and child.name not in self.tried and not self.study.is_done(child):
                return child
        return None

    def end(self, child: Child, value: float | None) -> None:
        """Remember that it was tried."""
        self.tried.add(child.name)

    def look(self, pool: Pool) -> None:
        """Let all children run."""


def given(command: str, words: Sequence[str], flags: Sequence[Flag], own: Sequence[str]) -> Given:
    """Return the command's words and flags."""
    return Given(command, words, flags, own)


def pool_of(options: Mapping[str, str]) -> Pool:
    """Return the pool that the options ask for. Raises ConfigError for no children at a time, or no Ray cluster."""
    jobs = as_count("jobs", options.get("jobs", "1"))
    if not jobs:
        raise ConfigError("--jobs=0: at least one child runs at a time")
    if options.get("on") == "ray":
        from commands._ray import ray_pool

        return ray_pool(jobs if "jobs" in options else None)
    return Pool(jobs)


def new_study(asked: Given, task: str, options: Mapping[str, object]) -> Study:
    """Make the folder of a new study. Raises ConfigError for a name that exists."""
    name = asked.options.get("run") or run_name(asked.config or "default", asked.command)
    if "/" in name:
        raise ConfigError(f"--run={name}: a name of a study has no /")
    refuse_name(name)
    return Study(ROOT / name, asked.command, asked.words, task, dict(options))


def stored(asked: Given) -> Study | None:
    """Return the study that --resume names; None without --resume.

    Raises ConfigError for another command than the one that began it, CheckpointError where there is no study.
    """
    if "resume" not in asked.options:
        return None
    where = asked.options["resume"]
    path = find_study(where)
    if path is None:
        raise CheckpointError(f"--resume={where}: there is no study; the first command makes it, without --resume")
    study = read_study(path)
    known = f"it began as: python main.py {study.command} {' '.join(study.words)}"
    if study.command != asked.command or (asked.words and asked.words != study.words):
        raise ConfigError(f"--resume={where}: a study goes on as it began; {known}")
    if asked.options.get("run", study.name) != study.name:
        raise ConfigError(f"--run={asked.options['run']}: a study keeps its name {study.name}; leave it out")
    return study


def add_child(study: Study, child: Child, config: Config) -> None:
    """Add a child, and keep its whole config beside the place of its folder: a config that is edited changes none."""
    write_atomic(study.path / f"{child.name}.yaml", dump_yaml(to_plain(config)).encode())
    study.children.append(child)


def go_on(study: Study, pool: Pool, source: Source) -> None:
    """Run the children that are not done, print the leaderboard, and end with the code of one that failed.

    Raises ConfigError when another process is at it, SystemExit with 128 + the signal's number when one stopped it.
    """
    with _owned(study.path):
        code = _run(study, pool, source)
        study.save()
    show()
    show("\n".join(leaderboard(study)))
    if code:
        command = f"python main.py {study.command} --resume={study.path}"
        show(f"not all are finished; go on with: {command}", flush=True)
        raise SystemExit(code)


@contextmanager
def _owned(path: Path) -> Iterator[None]:
    """Hold the study's lock, which the system frees when this process ends."""
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / ".lock")
    try:
        lock.acquire(timeout=LOCK_TIMEOUT)
    except Timeout as error:
        raise ConfigError(f"{path}: another process runs this study; wait or stop it") from error
    try:
        yield
    finally:
        lock.release()


def _run(study: Study, pool: Pool, source: Source) -> int:
    """Run children until none is left; return the exit code."""
    study.save()
    busy: dict[str, Child] = {}
    failed, waited = 0, set[str]()
    with pool.passing_signals_on(lambda text: show(text, flush=True)):
        while True:
            while pool.free() and (child := source.next([*busy])):
                if is_owned(study.folder(child)):  # of a parent that was killed: it stops after its next save
                    if child.name not in waited:
                        show(f"{child.name}: still runs, started by another process; waiting for it", flush=True)
                    waited.add(child.name)
                    break
                busy[child.name] = child
                _start(study, child, pool)
            if not pool.running and (pool.stopped or source.next([]) is None):
                break
            for name, code in pool.ended():
                child = busy.pop(name)
                child.code = code
                source.end(child, study.best(child))
                study.save()
                failed = failed or (code if not pool.stopped and not child.pruned else 0)
                show(_told(study, child), flush=True)
            source.look(pool)
    return 128 + pool.stopped if pool.stopped else failed


def _start(study: Study, child: Child, pool: Pool) -> None:
    """Start or resume a child. One that was killed before it saved anything begins anew."""
    folder, config = study.folder(child), study.path / f"{child.name}.yaml"
    saved = folder.is_dir() and any(CHECKPOINT_NAME.fullmatch(file.name) for file in folder.iterdir())
    if folder.is_dir() and not saved:
        shutil.rmtree(folder)
    arguments = ["train", f"--resume={folder}"] if saved else ["train", str(config), f"--run={study.name}/{child.name}"]
    show(f"{child.name}: {'resumed' if saved else 'started'}", flush=True)
    pool.start(child.name, arguments, study.path / f"{child.name}.txt")


def _told(study: Study, child: Child) -> str:
    """Return the line about a child that has ended."""
    value, state = study.best(child), study.state(child)
    best = f", {study.monitor()} {format_number(value)}" if value is not None else ""
    if not child.code or state in ("finished", "pruned"):
        seconds = RunFolder(study.folder(child)).status().get("seconds", 0)
        return f"{child.name}: {state}{best} in {seconds} s"
    output = study.path / f"{child.name}.txt"
    lines = output.read_text(errors="replace").strip().splitlines()[-1:]
    return f"{child.name}: {state}, exit code {child.code}{best}: {lines[0] if lines else 'it said nothing'} ({output})"
