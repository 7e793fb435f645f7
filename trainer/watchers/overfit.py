"""Overfit: says whether the loss of a few batches, trained again and again, came near zero, and if not what is odd."""

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from trainer.watchers.modes import DROPOUT
from trainer.watchers.watcher import Run, Watcher

__all__ = ["Overfit"]

NEAR = 0.1  # of the first loss: near zero
FALLS, RISES = 0.9, 1.1  # the last quarter's loss over that before it
NEVER_ZERO = ("GaussianNLLLoss", "PoissonNLLLoss", "SoftTargetCrossEntropy")
STRAIGHT = ("Normalize", "Resize", "CenterCrop", "ToImage", "ToDtype", "ToTensor", "Grayscale", "Pad")


class Overfit(Watcher):
    """Follows the loss of a run with `train.overfit`."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.doubt: dict[int, str] = {}  # contradictions in the batches, by the number of the first step

    def begin(self, run: Run) -> None:
        count, total = run.cfg.train.overfit, len(run.train_loader)
        batches = "the first batch" if count == 1 else f"the first {count} batches"
        told = f"overfit: {batches} again and again, {total:,} steps an epoch; validation is on the same samples"
        run.say(f"{told}; augmented each time in the same way" if _augmentation(run) else told)

    def after_step(self, run: Run, batch: Any, scalars: Mapping[str, Tensor]) -> bool:
        if "loss" in scalars:
            self.losses.append(scalars["loss"].detach())
        if len(self.losses) <= run.cfg.train.overfit and (doubt := _contradiction(batch)):
            self.doubt[len(self.losses)] = doubt
        return True

    def end(self, run: Run) -> None:
        losses = [float(loss) for loss in self.losses]
        if len(losses) < 2:
            run.say("overfit: the steps give no 'loss' to judge by")
            return
        batches = min(run.cfg.train.overfit, len(losses) // 2) or 1
        first, last = statistics.mean(losses[:batches]), statistics.mean(losses[-batches:])
        told = f"overfit: the loss went from {first:.3g} to {last:.3g} in {len(losses):,} steps"
        if last <= NEAR * first:
            run.say(f"{told}: near zero, so the network can learn these samples")
            return
        run.say(f"{told}, not near zero: {'; '.join([*self.doubt.values(), _trend(losses, run), *_regularised(run)])}")


def _trend(losses: list[float], run: Run) -> str:
    """Return the likely fault of the learning rate by the course of the loss."""
    quarter = max(1, len(losses) // 4)
    before, after = statistics.mean(losses[-2 * quarter : -quarter] or losses), statistics.mean(losses[-quarter:])
    rate = next(iter(run.updates.rates().values()))
    if after > RISES * before or statistics.pstdev(losses[-quarter:]) > 0.5 * abs(after):
        return f"it rises or jumps: the learning rate may be too large, try --lr={rate / 10:.2g} (now {rate:.2g})"
    if after < FALLS * before:
        return f"it still falls: more steps (--train.max_steps={2 * len(losses)}), or --lr={3 * rate:.2g}"
    if after > 0.97 * losses[0]:
        return f"it hardly moves: try --lr={10 * rate:.2g} (now {rate:.2g}); do gradients reach all layers?"
    return f"it stands still: try another --lr (now {rate:.2g}), or a larger network"


def _regularised(run: Run) -> Iterator[str]:
    """Yield what keeps a loss from zero on purpose, as far as it is on."""
    dropout = [m for m in run.task.modules() if isinstance(m, DROPOUT) and m.p]
    if dropout:
        yield f"dropout is on ({dropout[0].p:g})"
    decay = max(g.get("weight_decay", 0) for step in run.updates.steps.values() for g in step.optimizer.param_groups)
    if decay:
        yield f"optim.weight_decay is {decay:g}"
    loss = getattr(run.task, "loss", None)
    if smoothing := getattr(loss, "label_smoothing", 0.0):
        yield f"label_smoothing is {smoothing:g}"
    if type(loss).__name__ in NEVER_ZERO:
        yield f"{type(loss).__name__} is not 0 even where all is right"
    if names := _augmentation(run):
        yield f"the training is augmented ({', '.join(names)})"


def _augmentation(run: Run) -> list[str]:
    return [spec.name for spec in run.cfg.data.transform.train if spec.name not in STRAIGHT]


def _contradiction(batch: Any) -> str:
    """Return in words that equal inputs of a batch (inputs, labels) have different labels; empty if none do."""
    if not (isinstance(batch, (tuple, list)) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)):
        return ""
    inputs, labels = batch[0].detach().flatten(1).cpu(), batch[1].detach().cpu()
    if not inputs.is_floating_point() or labels.ndim != 1 or len(inputs) != len(labels):
        return ""
    kinds, which = torch.unique(inputs, dim=0, return_inverse=True)
    odd = sum(len(labels[which == kind].unique()) > 1 for kind in range(len(kinds))) if len(kinds) < len(inputs) else 0
    return f"{odd} inputs of the batch are there twice with different labels" if odd else ""
