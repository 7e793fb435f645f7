"""A loss or a gradient that is not finite: the decision, and the sentence about it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from configs.schema import Train
from data.protocol import ids_of, name_of
from trainer.progress import Progress
from utils.errors import NonFiniteError
from utils.torch_private import foreach_copy_

__all__ = ["BufferBackup", "Decision", "decide", "explain", "odd_samples"]

MOST = 10  # windows of one epoch whose batches may be left out: more are no accident


@dataclass(frozen=True)
class Decision:
    """The action that the loop carries out after a step that was not finite."""

    action: Literal["stop", "skip", "rollback"]  # end the run; leave the batches out now, or from the last save on
    skipped: list[list[int]]  # [epoch, batch] of all that are left out from now on
    batches: int  # how many this decision adds
    limit: str  # how many of those that are allowed, in words

    def tell(self, error: NonFiniteError, step: int, now: int) -> str:
        """Return a sentence: the step that failed, the action, and the step where the run stands now."""
        what = "batch" if self.batches == 1 else f"{self.batches} batches"
        left_out = f"its {what} {'is' if self.batches == 1 else 'are'} left out"
        how = f"back to step {now}, without its {what}" if self.action == "rollback" else left_out
        return f"step {step}: {error}; {how} ({self.limit})"


class BufferBackup:
    """The buffers of the networks as they were before a step: batch norm has learned from a bad batch already."""

    def __init__(self, buffers: Iterable[Tensor] = ()):
        self.own = list(buffers)
        self.copies = [buffer.clone() for buffer in self.own]

    def save(self) -> None:
        """Keep the buffers as they are before a step."""
        if self.own:
            foreach_copy_(self.copies, self.own)

    def restore(self) -> None:
        """Undo the changes of a step that is left out."""
        if self.own:
            foreach_copy_(self.own, self.copies)


def decide(error: NonFiniteError, progress: Progress, train: Train, saves: bool) -> Decision:
    """Return the action that `train.on_nonfinite` asks for, or to stop when too many batches of an epoch were left out.

    `saves`: whether the run has checkpoints; one without them cannot go back, and stops.
    """
    first = progress.step - progress.batch  # of the epoch
    bad = [step - first for step in error.steps if step >= first] or [progress.batch]
    skipped = [*progress.skipped, *([progress.epoch, batch] for batch in bad)]
    count, most = sum(epoch == progress.epoch for epoch, _ in skipped), MOST * train.accumulate
    stops = train.on_nonfinite == "stop" or count > most or (train.on_nonfinite == "rollback" and not saves)
    return Decision(
        "stop" if stops else train.on_nonfinite, skipped, len(bad), f"{count} of at most {most} in an epoch"
    )


def odd_samples(batch: Any) -> list[int]:
    """Return the positions of samples in a batch that hold numbers which are not finite."""
    if isinstance(batch, Tensor):
        if not batch.is_floating_point() or batch.ndim == 0:
            return []
        return (~batch.flatten(1).isfinite().all(1) if batch.ndim > 1 else ~batch.isfinite()).nonzero()[:, 0].tolist()
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (tuple, list)) else ()
    return sorted({position for part in parts for position in odd_samples(part)})


def explain(
    error: NonFiniteError,
    step: int,
    facts: Mapping[str, float],
    dataset: Any,
    indices: list[int],
    odd: Sequence[int] = (),
) -> NonFiniteError:
    """Return the same error with the step, and the samples of the batch that are `odd`: not finite themselves.

    Without such samples, with learning rates and gradients (`facts`), and the samples of the batch.
    """
    ids = ids_of(dataset)
    if odd := [position for position in odd if position < len(indices)]:
        named = ", ".join(name_of(dataset, indices[position]) for position in odd[:8]) + (", …" if len(odd) > 8 else "")
        told = f"{'the sample' if len(odd) == 1 else f'{len(odd)} samples'} {named} of {type(dataset).__name__}"
        return NonFiniteError(
            f"step {step}: {error}: {told} {'holds' if len(odd) == 1 else 'hold'} NaN or infinite numbers; mend the "
            "data, or leave the sample out; what was saved is from before"
        )
    numbers = ", ".join(f"{name} {value:.3g}" for name, value in facts.items())
    samples = ", ".join(str(ids[i]) for i in indices[:8]) + (", …" if len(indices) > 8 else "")
    samples = f"; samples {samples}" if indices else ""
    return NonFiniteError(
        f"step {step}: {error} ({numbers}{samples}); the saved checkpoints are from "
        "before; try a smaller --lr, --train.clip=1, --train.precision=fp32, or --train.on_nonfinite=skip"
    )
