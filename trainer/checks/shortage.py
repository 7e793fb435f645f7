"""train.oom=fit: a run whose memory ran out goes on with half the batch and twice the accumulation."""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from configs import Config
from data.loading.workers import release_frames
from trainer.build import Given, Parts, build, rebuilt
from trainer.checkpointing.store import read_newest
from trainer.evaluate import evaluate
from utils import dist
from utils.errors import CheckpointError, MemoryShortage, is_memory_shortage

__all__ = ["fitted", "with_size"]

Say = Callable[[str], None]
COUNTING = ("max_steps", "val_steps", "save_steps")  # keys that count batches
HERE = Path(__file__).parent.parent


def fitted(parts: Parts, error: Exception, folder: Path | None, given: Given, begun: bool, say: Say) -> Parts:
    """Return the parts of the same run with smaller batches and as much more accumulation, where memory ran out.

    A run that has `begun` goes on from the beginning of the step that failed, or from the last save where that step
    may have changed the state. An odd batch is divided by its smallest factor, so that windows hold the same samples.

    Raises the error again if it is another one, if `train.oom` says stop, for several processes, of which one alone
    ran out, and within an epoch whose samples come in another order with another batch.
    """
    cfg, size, place = parts.cfg, parts.train_loader.batch_size, _place_of(error)
    fits = is_memory_shortage(error) or isinstance(error, MemoryShortage)
    if not fits or cfg.train.oom != "fit" or dist.world_size() > 1:
        raise error
    times = next((factor for factor in range(2, size + 1) if size % factor == 0), 0)
    smaller = _smaller_validation(cfg, say) if place == "validation" else None
    if smaller is not None:
        times = 1
    elif times:
        smaller = with_size(cfg, size // times, times * cfg.train.accumulate)
        _tell(cfg, smaller, size, say)
    else:
        raise error
    stored = _state_to_go_on_from(parts, place, folder) if begun else None
    release_frames(error)
    if parts.device.type == "cuda":
        torch.cuda.empty_cache()
    if not begun:
        return rebuilt(parts, smaller, say)
    if stored is None:
        return build(smaller, say, given=given)
    again, epoch = rebuilt(parts, smaller, say), stored["progress"]["epoch"]
    orders = [loader.order_of(epoch) for loader in (parts.train_loader, again.train_loader)]
    kept = [order for order in orders if isinstance(order, torch.Tensor)]  # others know nothing of batches
    if stored["progress"]["samples"] and kept and not torch.equal(*kept):  # as with data.sampler=Grouped
        stored = _saved(folder)
        if stored is None or stored["progress"]["samples"]:
            raise error
    again.state.load_state_dict(in_smaller_batches(stored, times), "the state before the shortage")
    again.state.monitor.earlier_best = parts.state.monitor.earlier_best
    progress = again.state.progress
    progress.batch = again.train_loader.batches_in(progress.samples)
    say(f"the run goes on behind step {progress.step} (epoch {progress.epoch + 1}, sample {progress.samples:,})")
    return again


def _place_of(error: BaseException) -> str:
    """Return where the loop was when an error was raised: validation, a step, or elsewhere."""
    names, trace = [], error.__traceback__
    while trace is not None:
        code, trace = trace.tb_frame.f_code, trace.tb_next
        if code is evaluate.__code__:
            return "validation"
        if code.co_filename == str(HERE / "trainer.py"):
            names.append(code.co_name)
        elif code.co_filename == str(HERE / "optim" / "step.py") and code.co_name == "close":
            names.append("optimizer")
    return "step" if names[-1:] == ["train_epoch"] else "elsewhere"


def _smaller_validation(cfg: Config, say: Say) -> Config | None:
    """Return the config with half the batch of validation, which changes no number; None for a lone sample."""
    size = cfg.data.eval_batch_size or cfg.data.batch_size
    assert size != "auto", "a number takes its place before"
    if size < 2:
        return None
    say(f"out of memory in validation: data.eval_batch_size {size} -> {size // 2}")
    return replace(cfg, data=replace(cfg.data, eval_batch_size=size // 2))


def _tell(cfg: Config, smaller: Config, size: int, say: Say) -> None:
    """Say the sizes of before and now, and which keys count the smaller batches from now on."""
    counted = [f"train.{name}" for name in COUNTING if getattr(cfg.train, name) is not None]
    about = f"; {', '.join(counted)} count batches, which are smaller now" if counted else ""
    new, accumulate = smaller.data.batch_size, smaller.train.accumulate
    samples = f"{size * cfg.train.accumulate} samples an optimizer step, as before"
    say(f"out of memory: data.batch_size {size} -> {new}, train.accumulate -> {accumulate} ({samples}){about}")


def _state_to_go_on_from(parts: Parts, place: str, folder: Path | None) -> dict[str, Any] | None:
    """Return the state before the step that failed, or the last saved one; None for a run at its very beginning.

    A failed step of one network that opens a window has changed no weights, and BatchNorm's statistics of before were
    kept. Validation changes nothing.
    """
    state, steps = parts.state, list(parts.state.update.steps.values())
    untouched = place == "step" and len(steps) == 1 and not steps[0].closure and not steps[0].calls
    if folder is not None and state.progress.step and (untouched or place == "validation"):
        if untouched:
            state.update.undo()
        state.read_clock()
        state.progress.journal = (folder / "log.jsonl").stat().st_size
        return state.state_dict()
    return _saved(folder)


def _saved(folder: Path | None) -> dict[str, Any] | None:
    """Return the state of the last save; None where that is of the very beginning, or there is none."""
    try:
        stored = read_newest(folder)[0] if folder is not None else None
    except CheckpointError:
        return None
    return stored if stored is not None and stored["progress"]["step"] else None


def in_smaller_batches(stored: Mapping[str, Any], times: int) -> dict[str, Any]:
    """Return a state whose open windows and batches are counted in batches that are so many times smaller."""
    update = {role: {**step, "window": _in_smaller(step["window"], times)} for role, step in stored["update"].items()}
    progress = copy(stored["progress"])
    progress["skipped"] = [
        [epoch, times * batch + part] for epoch, batch in progress["skipped"] for part in range(times)
    ]
    return {**stored, "update": update, "progress": progress}


def _in_smaller(window: Mapping[str, Any], times: int) -> dict[str, Any]:
    """Return an open window; a mean over samples weighs as much as the smaller batches of the same samples."""
    scale = 1 if window.get("counted") or not window["weight"] else times
    gradients = [g if g is None else g * scale for g in window["gradients"]]
    weight = window["weight"] * scale
    ranks = {"ranks": [[weight, None]]} if "ranks" in window else {}
    return {**window, "calls": times * window["calls"], "weight": weight, "gradients": gradients, **ranks}


def with_size(cfg: Config, size: int, accumulate: int) -> Config:
    """Return the config with another batch."""
    return replace(cfg, data=replace(cfg.data, batch_size=size), train=replace(cfg.train, accumulate=accumulate))
