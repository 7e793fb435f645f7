"""The size of a batch by the memory: halved when it runs out (train.oom=fit), or found before the run (auto)."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs import Config
from data.loading.workers import release_frames
from trainer.build import Given, Parts, build, rebuilt
from trainer.checkpointing.store import read_newest
from trainer.optim.closure import with_closure
from trainer.optim.update import make_updates
from trainer.setup import FIRST_BATCH
from trainer.state import RunState
from utils import dist
from utils.device import autocast
from utils.errors import CheckpointError, ConfigError, MemoryShortage, is_memory_shortage
from utils.randomness import same_random_state

__all__ = ["apart", "copied", "find_batch_size", "fitted", "set_aside", "timed_steps"]

Say = Callable[[str], None]
LARGEST = {"cpu": 1024, "cuda": 2**16}  # samples of a batch that are tried at most
GROWTH = 1.1  # samples a second, from one size to the next, that count as more
COUNTING = ("max_steps", "val_steps", "save_steps")  # keys that count batches


def copied(parts: Parts) -> RunState:
    """Return a state of a copy of the networks, with optimizers of its own; it has not begun either."""
    state, cfg = parts.state, replace(parts.cfg, train=replace(parts.cfg.train, compile=False))
    task = deepcopy(state.task)
    copy = RunState(parts.cfg, task, make_updates(task, cfg, len(parts.train_loader)), state.meta, dict(state.about))
    copy.monitor.name = state.monitor.name
    return copy


@contextmanager
def apart(parts: Parts) -> Iterator[None]:
    """Restore random numbers afterwards; meanwhile the networks make room on a GPU for a copy of them."""
    task = parts.state.task
    own: list[Tensor] = [*task.parameters(), *task.buffers()] if parts.device.type == "cuda" else []
    with same_random_state():
        try:
            yield
        except Exception as error:
            release_frames(error)
            raise
        finally:
            for tensor in own:
                tensor.data = tensor.data.to(parts.device)
            if own:
                torch.cuda.empty_cache()


def set_aside(parts: Parts) -> None:
    """Move the weights from a GPU to main memory; `apart` brings them back."""
    for tensor in [*parts.state.task.parameters(), *parts.state.task.buffers()]:
        tensor.data = tensor.data.cpu()


def timed_steps(parts: Parts, steps: int) -> list[float]:
    """Return the seconds of reading a batch, and of each of so many steps of a copy on it. Raises their errors."""
    began = time.perf_counter()
    part = parts.train_loader.part(parts.train_loader.first(1))
    indices, batch = next(part.epoch(0))
    seconds, state = [time.perf_counter() - began], copied(parts)
    if parts.device.type == "cuda":
        set_aside(parts)
    state.task.train()
    train_step = with_closure(state.task.train_step, state.task, state.update)
    for step in range(steps):
        began = time.perf_counter()
        state.update.begin(step, *part.weights(0, len(indices)))
        with autocast(parts.device, parts.cfg.train.precision):
            train_step(batch, state.update)
        state.update.close()
        if parts.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return seconds


def find_batch_size(parts: Parts, say: Say) -> Parts:
    """Return the parts with the largest batch that fits, in place of `data.batch_size: auto`.

    Sizes are doubled while they fit, up to the training set. On a CPU memory is rarely the limit: there it ends where
    larger ones are no faster. Raises MemoryShortage where a single sample does not fit.
    """
    if dist.world_size() > 1:
        raise ConfigError("data.batch_size: auto is found by one process alone; give several a number")
    cuda, rates = parts.device.type == "cuda", dict[int, float]()
    most = min(LARGEST.get(parts.device.type, 1024), len(parts.train_loader.samples))
    size, reason = min(FIRST_BATCH, most), "more than that is not tried"
    while size:
        rate = _samples_a_second(_resized(parts, size, 1))
        if rate is None and rates:
            reason = f"{size:,} do not fit into memory"
            break
        if rate is not None:
            rates[size] = rate
        slower = [one for one in list(rates)[-2:] if rates[one] < GROWTH * max(list(rates.values())[:-2] or [0])]
        if not cuda and len(rates) > 2 and len(slower) == 2:
            best = max(rates.values())
            size, reason = next(one for one in rates if rates[one] * GROWTH > best), "larger ones are no faster"
            rates = {size: rates[size]}
            break
        if size == most and rates:
            break
        size = min(2 * size, most) if rates else size // 2
    if not rates:
        raise MemoryShortage("out of memory with a batch of one sample; smaller pictures or a smaller network are left")
    found = max(rates)
    say(f"data.batch_size: auto -> {found:,} ({reason}; {rates[found]:,.0f} samples a second)")
    return _resized(parts, found, parts.cfg.train.accumulate, say)


def _samples_a_second(parts: Parts) -> float | None:
    """Return how many samples a second a copy learns from; None where a batch does not fit into memory."""
    try:
        with apart(parts):
            return parts.train_loader.batch_size / min(timed_steps(parts, 3)[2:])
    except (MemoryError, RuntimeError) as error:
        if not is_memory_shortage(error):
            raise
    return None


def fitted(parts: Parts, error: Exception, folder: Path | None, given: Given, begun: bool, say: Say) -> Parts:
    """Return the parts of the same run with half the batch and twice the accumulation, where memory ran out.

    `begun`: the run has touched its weights, so that all is built anew. Raises the error again if it is another one,
    if `train.oom` says stop, if more is saved than the beginning, or for several processes, of which one alone ran out.
    """
    cfg = parts.cfg
    size, accumulate = parts.train_loader.batch_size // 2, 2 * cfg.train.accumulate
    fits = is_memory_shortage(error) or isinstance(error, MemoryShortage)
    if not fits or cfg.train.oom != "fit" or not size or dist.world_size() > 1 or (folder and _saved_steps(folder)):
        raise error
    release_frames(error)
    if parts.device.type == "cuda":
        torch.cuda.empty_cache()
    counted = [f"train.{name}" for name in COUNTING if getattr(cfg.train, name) is not None]
    about = f"; {', '.join(counted)} count batches, which are smaller now" if counted else ""
    samples = f"{size * accumulate} samples an optimizer step" + (
        ", as before" if size * 2 == cfg.data.batch_size else ""
    )
    say(f"out of memory: data.batch_size {2 * size} -> {size}, train.accumulate -> {accumulate} ({samples}){about}")
    smaller = _with_size(cfg, size, accumulate)
    return build(smaller, say, given=given) if begun else rebuilt(parts, smaller, say)


def _saved_steps(folder: Path) -> int:
    """Return the step of the newest checkpoint: 0 for the first save, and where there is none."""
    try:
        return int(read_newest(folder)[0]["progress"]["step"])
    except CheckpointError:
        return 0


def _resized(parts: Parts, size: int, accumulate: int, say: Any = lambda text: None) -> Parts:
    return rebuilt(parts, _with_size(parts.cfg, size, accumulate), say)


def _with_size(cfg: Config, size: int, accumulate: int) -> Config:
    return replace(cfg, data=replace(cfg.data, batch_size=size), train=replace(cfg.train, accumulate=accumulate))
