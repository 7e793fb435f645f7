"""A loss or a gradient that is not finite: the run ends, or the batch is left out, now or after going back."""

from typing import TYPE_CHECKING

import torch

from trainer.checkpointing.store import read_newest
from trainer.checkpointing.weights import load_network_state
from trainer.state import unpack
from utils import dist
from utils.errors import ConfigError, NonFiniteError

if TYPE_CHECKING:
    from trainer.trainer import Trainer

__all__ = ["Keeper", "answer", "explain"]

MOST = 10  # windows of one epoch whose batches may be left out: more are no accident


class Keeper:
    """The buffers of the networks as they were before a step: batch norm has learned from a bad batch already."""

    def __init__(self, trainer: "Trainer"):
        """Raises ConfigError for several processes: one of them cannot leave out a batch alone."""
        policy = trainer.cfg.train.on_nonfinite
        if policy != "stop" and dist.world_size() > 1:
            raise ConfigError(f"train.on_nonfinite: {policy} is for one process; several can only stop")
        self.own = list(trainer.task.buffers()) if policy == "skip" else []
        self.copies = [buffer.clone() for buffer in self.own]

    def note(self) -> None:
        """Before a step."""
        if self.own:
            torch._foreach_copy_(self.copies, self.own)

    def put_back(self) -> None:
        """After a step that is left out."""
        if self.own:
            torch._foreach_copy_(self.own, self.copies)


def answer(trainer: "Trainer", error: NonFiniteError, indices: list[int]) -> bool:
    """Do what `train.on_nonfinite` says; whether the run has gone back to its last save.

    Raises the error, with the place where it happened, if the run is to stop, or too many batches were left out.
    """
    p, policy = trainer.progress, trainer.cfg.train.on_nonfinite
    told = explain(trainer, error, indices)
    first = p.step - p.batch  # of the epoch
    bad = [step - first for step in error.steps if step >= first] or [p.batch]
    left_out = [*p.left_out, *([p.epoch, batch] for batch in bad)]
    count, most = sum(epoch == p.epoch for epoch, _ in left_out), MOST * trainer.cfg.train.accumulate
    if policy == "stop" or count > most or trainer.saver is None:
        raise told from error
    trainer.update.drop()
    trainer.keeper.put_back()
    step, how = p.step + 1, "its batch is left out" if len(bad) == 1 else f"its {len(bad)} batches are left out"
    if policy == "rollback":
        _go_back(trainer)
        how = f"back to step {trainer.progress.step}, without its {'batch' if len(bad) == 1 else f'{len(bad)} batches'}"
    trainer.progress.left_out = left_out
    trainer.console.say(f"step {step}: {error}; {how} ({count} of at most {most} in an epoch)")
    return policy == "rollback"


def _go_back(trainer: "Trainer") -> None:
    """Make everything as it was at the last save; what the journal holds after it never was."""
    assert trainer.saver is not None
    trainer.saver.wait()
    state, source, _ = read_newest(trainer.saver.store.folder)
    load_network_state(trainer.task, state["model"], state["buffers"], str(source))
    unpack(trainer, state)
    if not trainer.update.window_is_finite():  # saved between the batch that is to blame and the step
        trainer.update.drop()
    if trainer.journal is not None:
        trainer.journal.cut(trainer.progress.journal)


def explain(trainer: "Trainer", error: NonFiniteError, indices: list[int], ahead: int = 1) -> NonFiniteError:
    """The same error with the step, `ahead` of those that are counted, learning rates, last gradient and samples."""
    batches = trainer.train_batches
    ids = getattr(batches.dataset, "ids", range(batches.size))
    facts = {**trainer.update.rates(), **trainer.update.norms()}
    numbers = ", ".join(f"{name} {value:.3g}" for name, value in facts.items())
    samples = ", ".join(str(ids[i]) for i in indices[:8]) + (", …" if len(indices) > 8 else "")
    samples = f"; samples {samples}" if indices else ""
    return NonFiniteError(
        f"step {trainer.progress.step + ahead}: {error} ({numbers}{samples}); the saved checkpoints are from "
        "before; try a smaller --lr, --train.clip=1, --train.precision=fp32, or --train.on_nonfinite=skip"
    )
