"""The mean of the weights at the ends of the last epochs, of the run's own checkpoints epoch-NNN.pth."""

import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from configs.schema import Train
from trainer.build import Parts
from trainer.checkpointing.saver import Saver
from trainer.checkpointing.store import read_newest
from trainer.checkpointing.weights import buffer_state, load_network_state, network_state
from trainer.evaluate import evaluate, unchanged
from trainer.parallel.ddp import average_
from trainer.parallel.fsdp import reshard
from trainer.state import RunState
from trainer.task import Task, Weight
from utils import dist
from utils.device import autocast
from utils.errors import CheckpointError
from utils.torch_private import is_batch_norm

__all__ = ["AVERAGED", "asks_for_mean", "keep_mean", "mean_weights"]

AVERAGED = "averaged.pth"


class Ignore:
    """An update that learns nothing."""

    step = 0

    def __call__(self, loss: Tensor, role: str = "model", weight: Weight = None) -> None:
        """Leave the networks as they are."""


def asks_for_mean(train: Train) -> bool:
    """Return whether a mean of epochs is made at the end of the run."""
    return train.swa is not None or train.average_last is not None


def keep_mean(parts: Parts, saver: Saver, say: Callable[[str], None], ask: Callable[[], object]) -> None:
    """Average the last epochs' weights at the end of a run, if it asks for that; validate the mean and write it.

    `ask` is called now and then, and raises Stopped when the run is to stop; a resumed run makes the mean.
    """
    state, weights = parts.state, typing.cast(dict[str, Tensor], {})
    if state.swa is not None:
        weights, epochs = state.swa.weights, state.swa.count
        missing = f"train.swa: the run ended before epoch {state.swa.first + 1} was done, from which on it averages"
    elif parts.cfg.train.average_last is not None:
        weights, epochs = _mean_of_last(state, saver.folder, parts.cfg.train.average_last, say)
        missing = "there is no mean of the last epochs, because fewer than two were kept"
    else:
        return
    if not weights:
        say(f"note: {missing}")
        return
    with _stand_in(state) as task:
        load_network_state(task, weights, buffer_state(state.task), "the mean of the last epochs")
        _renew_statistics(task, parts, ask)
        numbers, _ = evaluate(task, parts.val_loader, parts.cfg, parts.device, ask)
        saver.save(_averaged_state(state, task), [AVERAGED], last=False)
        saver.wait()
    told = "".join(f", {name} {value:.4g}" for name, value in [*numbers.items()][:2])
    if epochs > 1:
        say(f"mean of the last {epochs} epochs{told}: {saver.folder}/{AVERAGED}")
    else:
        say(f"weights of the last epoch{told}: {saver.folder}/{AVERAGED}")


@contextmanager
def _stand_in(state: RunState) -> Iterator[Task]:
    """Give a copy of the task, to take other weights; a divided one, which cannot be copied, takes them for a while."""
    if not state.sharded:
        yield deepcopy(state.task)
        return
    reshard(state.task)
    before = {name: value.detach().clone() for name, value in state.task.state_dict().items()}
    try:
        yield state.task
    finally:
        reshard(state.task)
        state.task.load_state_dict(before)


def _mean_of_last(
    state: RunState, folder: Path | None, most: int, say: Callable[[str], None]
) -> tuple[dict[str, Tensor], int]:
    """Return the mean of the kept weights, and of how many epochs it is; no weights for fewer than two."""
    last, states = state.progress.epoch, []
    for epoch in range(max(1, last - most + 1), last + 1):
        file = folder / f"epoch-{epoch:03d}.pth" if folder is not None else None
        if file is not None and file.is_file():
            try:
                stored, _, _ = read_newest(file)
                states.append(stored["ema"] or stored["model"])
            except CheckpointError as error:
                say(f"note: the mean of the last epochs goes without one of them: {error}")
    return dist.broadcast((mean_weights(states) if len(states) > 1 else {}, len(states)))


def mean_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of each tensor, in double precision until the end; counters are those of the last state."""
    found = {}
    for name, latest in states[-1].items():
        if latest.is_floating_point():
            found[name] = torch.stack([state[name].double() for state in states]).mean(0).to(latest.dtype)
        else:
            found[name] = latest
    return found


def _averaged_state(state: RunState, task: Task) -> dict[str, Any]:
    """Return a checkpoint with the task's weights, for val and test."""
    return state.state_dict() | {"model": network_state(task), "buffers": buffer_state(task), "ema": None}


def _renew_statistics(task: Task, parts: Parts, ask: Callable[[], object]) -> None:
    """Take the means and variances of BatchNorm over the training batches with the weights as they are.

    Those of frozen layers, which are in evaluation, stand still.
    """
    norms: list[nn.Module] = [module for module in task.train().modules() if is_batch_norm(module) and module.training]
    if not norms:
        return
    momenta = [module.momentum for module in norms]
    for module in norms:
        module.reset_running_stats()  # type: ignore[operator]
        module.momentum = None  # type: ignore[assignment]  # a plain mean over the batches
    with unchanged(task), torch.no_grad():
        task.train()
        for _, batch in parts.train_loader.epoch(parts.state.progress.epoch):
            with autocast(parts.device, parts.cfg.train.precision):
                task.train_step(batch, Ignore())
            ask()
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum
    if dist.world_size() > 1:
        average_(task.buffers())
