"""The rehearsal: the whole run once, on one batch and on a copy of all that learns, before the first step."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from configs import Config
from data.protocol import own_generators
from trainer.build import Given, Parts
from trainer.checkpointing.saver import Saver
from trainer.checkpointing.store import LAST, Store, read
from trainer.checkpointing.weights import network_state
from trainer.checks import findings
from trainer.checks.drawing import drawn_for_nobody, sinks_of, watchers_of
from trainer.checks.found import Found, Heard, slowest
from trainer.checks.memory import apart, copied, set_aside, timed_steps
from trainer.checks.rates import learning_rates
from trainer.signals import Stopped
from trainer.state import RunState
from trainer.trainer import Trainer
from trainer.watchers.chance import first_loss
from trainer.watchers.first_steps import FEWEST, STEPS, FirstSteps
from trainer.watchers.modes import Modes
from trainer.watchers.watcher import Outlets, Run, Watcher
from utils import dist
from utils.errors import CodeError, ConfigError, DataError, is_memory_shortage
from utils.sinks.journal import Journal
from utils.sinks.logger import Logger
from utils.words import count_of

__all__ = ["rehearse"]

MINUTE = 60.0  # s of an epoch from which on `auto` rehearses
FOLDER = "rehearsal"  # in the run folder, on the disk that the run will write to
BUDGET = 10.0  # s for the steps of a rehearsal, if they are that fast
Say = Callable[[str], None]


def rehearse(parts: Parts, folder: Path, given: Given, say: Say) -> bool:
    """Rehearse, if the config asks for it, and leave everything as it was. Returns whether it did.

    Raises one error with all faults that were found.
    """
    mode, cfg = parts.cfg.train.rehearse, parts.cfg
    if mode is False:
        return False
    if parts.state.sharded:
        return _not_divided(mode, say)
    found, began = Found(), time.monotonic()
    with apart(parts), _generators_kept(parts):
        seconds = _seconds_of_a_step(parts)
        steps = (
            len(parts.train_loader)
            if cfg.train.max_steps is None
            else min(len(parts.train_loader), cfg.train.max_steps)
        )
        if mode == "auto" and seconds * steps <= MINUTE:
            return False
        place = folder / FOLDER
        try:
            dist.on_main(place.mkdir)
            _play(parts, place, given, found, seconds)
        finally:
            dist.on_main(shutil.rmtree, place, ignore_errors=True)
    found.end(mode == "only", say)
    say(f"rehearsed in {time.monotonic() - began:.1f} s: {', '.join(found.done[:-1])}; {found.done[-1]}")
    return True


def _not_divided(mode: Any, say: Say) -> bool:
    """Say that networks which are divided among processes are not rehearsed, where that was asked for."""
    told = "train.rehearse: a network that is divided among processes (train.shard: full) cannot be copied"
    if mode == "only":
        raise ConfigError(f"{told}; rehearse in one process")
    if mode is True:
        say(f"note: {told}, and the run begins without a rehearsal; one process can rehearse it")
    return False


def _seconds_of_a_step(parts: Parts) -> float:
    """Return about how long a step takes, with its reading; 0 if it fails, of which the run itself will tell.

    A first step may be many times as slow as the others: if it is slow, a second one counts. Of several processes
    the slowest counts.
    """
    reading, last = _timed(parts, 1)
    if parts.cfg.train.rehearse != "auto" or (reading + last) * len(parts.train_loader) > MINUTE:
        reading, last = _timed(parts, 2)
    workers = parts.cfg.data.num_workers
    return max(reading / workers, last) if workers else reading + last


def _timed(parts: Parts, steps: int) -> list[float]:
    """Return the seconds of reading a batch and of the last of so many steps; zeros if one fails."""
    seconds, failed = [0.0, 0.0], None
    try:
        reading, *_, last = timed_steps(parts, steps)
        seconds = [reading, last]
    except Exception as error:
        if is_memory_shortage(error) and parts.cfg.train.oom == "fit":
            raise
        failed = error
    return slowest(f"steps{steps}", seconds, failed)


def _play(parts: Parts, place: Path, given: Given, found: Found, seconds: float) -> None:
    """Train, save, load back, validate, predict and write on a copy, and look at all that can be looked at."""
    cfg, device = parts.cfg, parts.device
    state = copied(parts)
    if device.type == "cuda":
        set_aside(parts)
        torch.cuda.reset_peak_memory_stats(device)
    steps = max(FEWEST, min(STEPS, int(BUDGET / max(seconds, 1e-3))), *state.task.update_every.values())
    with found.caught(cfg):
        rates, odd = learning_rates(parts.state, cfg, len(parts.train_loader))
        found.note(odd)
    size = 0

    def train() -> None:
        found.done += [count_of(steps, "step"), *_train(state, parts, place, steps, found)]

    def load() -> None:
        nonlocal size
        size = dist.on_main(_read_back, state, place) or 0

    def validate() -> None:
        found.note(findings.odd_validation(state, parts))
        found.done.append("a checkpoint read back")

    def submit() -> None:
        found.done.append(findings.check_submission(state, parts, given, dist.of_main(place)) or "no predictions")
        told = dist.on_main(findings.check_disk, cfg, size, place) or ""
        found.done.append("; ".join([_length(parts, seconds), rates, told, findings.memory_peak(device)]))

    for part in (train, load, validate, submit):
        before = len(found.faults)
        with found.caught(cfg):
            part()
        if not found.agree(part.__name__, before):
            break
    for look in (findings.files_in_both, findings.check_test_data):
        found.note(dist.on_main(look, parts) or "", DataError)


def _length(parts: Parts, seconds: float) -> str:
    """Return how long an epoch and the run will take, without validation, in words."""
    batches, train = len(parts.train_loader), parts.cfg.train
    steps = min(batches * train.max_epoch, train.max_steps or batches * train.max_epoch)
    epoch, run = seconds * batches, seconds * steps
    return f"an epoch of {count_of(batches, 'step')} takes about {_time(epoch)}, the run {_time(run)}"


def _time(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def _train(state: RunState, parts: Parts, place: Path, steps: int, found: Found) -> list[str]:
    """Train the copy with the run's own loop, on its first batch again and again; return what was seen to work."""
    heard = Heard()
    train = parts.train_loader.part(parts.train_loader.first(1), steps)
    val = parts.val_loader and findings.spread_part(parts.val_loader)
    cfg = _short(parts.cfg, place)
    outlets = dist.on_main(_outlets, cfg, place, heard, found) or Outlets(heard, Logger())
    trainer = Trainer(cfg, Parts(cfg, parts.device, state, train, val), outlets)
    with drawn_for_nobody(found) as panes:
        try:
            trainer.fit()
        except Stopped as asked:
            raise KeyboardInterrupt from asked
        finally:
            trainer.watchers.close()
            outlets.logger.close()
            trainer.train_step = state.task.train_step  # a wrapper must not outlive its group
            for line in heard.lines:
                found.note(line)
    drawn = [f"{count_of(len(panes), 'pane')} drawn and not sent"] if panes else []
    if val is None:
        return drawn
    score = state.monitor.best(state.progress)[0]
    return [f"a validation{'' if score is None else f' ({state.monitor.name} {score:.3g})'}", *drawn]


def _outlets(cfg: Config, place: Path, heard: Heard, found: Found) -> Outlets:
    """Return everything that a run writes to, in a folder of its own or for nobody."""
    own: list[Watcher] = [FirstSteps(), _FirstLoss(), Modes(), *watchers_of(cfg, found)]
    logger = Logger([*sinks_of(cfg, place, found)], Journal(place / "log.jsonl", say=heard.say))
    return Outlets(heard, logger, Saver(Store(place), False), own)


def _short(cfg: Config, place: Path) -> Config:
    """Return the config of the rehearsal's run: one epoch, nothing in the background, all rows."""
    off: dict[str, Any] = dict.fromkeys(("max_steps", "max_minutes", "early_stop", "val_steps", "save_steps"))
    off |= {"save_minutes": None, "keep_top": 0, "keep_every": None, "compile": False, "save_in_background": False}
    log = replace(cfg.log, print_freq=1, debug_file=str(place / "debug"))
    return replace(cfg, train=replace(cfg.train, max_epoch=1, **off), log=log)


def _read_back(state: RunState, place: Path) -> int:
    """Load the saved checkpoint, and return its bytes. Raises CodeError if other weights come back."""
    before = {name: value.detach().clone() for name, value in network_state(state.task).items()}
    stored = read(place / LAST)
    with torch.no_grad():
        for parameter in state.task.parameters():
            parameter.zero_()  # so that a weight that is not loaded shows
    size = (place / LAST).stat().st_size
    state.load_state_dict(stored, "the rehearsal's checkpoint")
    for name, value in network_state(state.task).items():
        if not torch.equal(value, before[name]):
            raise CodeError(f"'{name}' is not loaded as it was saved: does the network change its state_dict?")
    return size


@contextmanager
def _generators_kept(parts: Parts) -> Iterator[None]:
    """Restore afterwards the random generators that datasets keep for themselves."""
    loaders = [loader for loader in (parts.train_loader, parts.val_loader) if loader is not None]
    kept = [
        (loader.dataset, n, deepcopy(vars(loader.dataset)[n]))
        for loader in loaders
        for n in own_generators(loader.dataset)
    ]
    try:
        yield
    finally:
        for dataset, name, generator in kept:
            setattr(dataset, name, generator)


class _FirstLoss(Watcher):
    """Compares the first loss with that of a guess."""

    def after_step(self, run: Run, batch: Any, scalars: Any) -> bool:
        for line in first_loss(run, scalars):
            run.say(f"note: {line}")
        return False
