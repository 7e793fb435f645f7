"""Chance: tells a first loss that is far from that of a guess, and a run that learns nothing."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from trainer.watchers.pictures import SAMPLES
from trainer.watchers.watcher import Run, Watcher

__all__ = ["Chance"]

HIGH, LOW = 2.0, 0.2  # a first loss over that of a uniform guess
MARGIN = 0.5  # nats that a first loss may be off in any case
LITTLE, MUCH = 0.05, 0.6  # accuracies of a guess between which a small gain is a bad sign
HARDLY = 0.15  # of the way from a guess to all right
NEAR = 0.97  # of the loss of a guess: nothing is learned


class Chance(Watcher):
    """Compares the first loss, and the validation after the first and the last epoch, with a guess."""

    def __init__(self, first: bool = True) -> None:
        self.first = first  # whether the first loss is looked at
        self.last = ""  # the line about the last validation; empty for one that is better than a guess
        self.best, self.guess = 0.0, 1.0  # the best accuracy so far, and that of a guess

    def after_step(self, run: Run, batch: Any, scalars: Mapping[str, Tensor]) -> bool:
        """Look at the very first loss."""
        if self.first and run.progress.step == 1:
            for line in first_loss(run, scalars):
                run.say(f"note: {line}")
        return False

    def after_validation(self, run: Run, numbers: Mapping[str, float], extras: Mapping[str, Any]) -> None:
        """Say after the first epoch that the run is no better than a guess."""
        self.last = _at_chance(run, numbers, extras)
        if (counts := extras.get("confusion")) is not None and float(np.asarray(counts).sum()):
            counts = np.asarray(counts, dtype=float)
            self.best = max(self.best, float(np.trace(counts) / counts.sum()))
            self.guess = float(counts.sum(1).max() / counts.sum())  # of the most frequent class
        p, epochs = run.progress, run.cfg.train.max_epoch
        if self.last and p.epoch + (p.batch == len(run.train_loader)) == 1 and epochs > 1:
            run.say(f"note: {self.last}")

    def end(self, run: Run) -> None:
        """Say at the end that the run is no better than a guess, or hardly better."""
        if run.progress.step < len(run.train_loader):
            return
        if self.last:
            run.say(f"note: {self.last}")
        elif run.task.at_chance() and LITTLE < self.guess < MUCH and self.best < self.guess + HARDLY * (1 - self.guess):
            told = f"accuracy {self.best:.2f} is little more than the {self.guess:.2f} of a guess"
            run.say(f"note: {told}; more epochs may help, otherwise {_remedy(run)}")


def first_loss(run: Run, scalars: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield a line for each loss that is far from that of a uniform guess."""
    train = run.cfg.train
    pretrained = train.load_model_path or train.load or any("weights" in spec.args for spec in run.cfg.model.values())
    for name, guess in run.task.at_chance().items():
        value = float(scalars[name].detach()) if name in scalars else math.nan
        told = f"the first loss is {value:.3g}, where a guess has {guess:.3g}"
        if value > HIGH * guess + MARGIN:
            yield f"{told}; are the inputs scaled, as data.transform's Normalize does, and the outputs plain logits?"
        elif value < LOW * guess and not pretrained:
            yield f"{told}; is the label part of the input, or all of one class?"


def _at_chance(run: Run, numbers: Mapping[str, float], extras: Mapping[str, Any]) -> str:
    """Return the line about a validation that is no better than a guess; empty for another."""
    counts, known = extras.get("confusion"), run.task.at_chance()
    if counts is None:
        guess = known.get("loss", math.inf)
        value = numbers.get("loss", math.nan)
        return f"loss {value:.4g}, where a guess has {guess:.4g}: {_remedy(run)}" if value >= NEAR * guess else ""
    counts = np.asarray(counts, dtype=float)
    total, found = counts.sum(), np.trace(counts)
    if not total:
        return ""
    if not known:
        return _by_recalls(run, counts)
    shares = counts.sum(1) / total  # of the classes, in truth
    most = float(shares.max())
    if most == 1:  # of one class only: every guess of it is perfect, and nothing can be said
        return ""
    spread = 1.5 * math.sqrt(most * (1 - most) / total)  # an accuracy of a guess may be so much higher
    entropy = -sum(share * math.log(share) for share in shares if share > 0)
    single = np.count_nonzero(counts.sum(0)) == 1
    poor = numbers.get("loss", 0.0) >= NEAR * entropy if "loss" in known else single
    if found / total > most + spread or not poor or len(counts) < 2:
        return ""
    accuracy = f"accuracy {found / total:.4g}, where the most frequent class alone gives {most:.4g}"
    return f"no better than a guess: {accuracy}{'; it predicts one class only' if single else ''}: {_remedy(run)}"


def _by_recalls(run: Run, counts: np.ndarray) -> str:
    """Return the line about predictions that know nothing of the truth, whatever the loss and its weights are.

    They have the mean recall 1/C: each class is right as often as it is predicted.
    """
    sizes, said = counts.sum(1), counts.sum(0) / counts.sum()
    there = sizes > 0
    if there.sum() < 2:
        return ""
    recall = float((np.diag(counts)[there] / sizes[there]).mean())
    guess = float(said[there].sum() / there.sum())
    spread = 1.5 * math.sqrt(float((said * (1 - said))[there] @ (1 / sizes[there]))) / there.sum()
    if recall > guess + spread:
        return ""
    return f"no better than a guess: mean recall {recall:.4g}, where any guess gives {guess:.4g}: {_remedy(run)}"


def _remedy(run: Run) -> str:
    """Return what to try, in words."""
    rate = float(next(iter(run.cfg.optim.values())).args.get("lr") or next(iter(run.updates.rates().values())))
    look = f", and look at {SAMPLES}" if run.folder is not None and (run.folder / SAMPLES).is_file() else ""
    return f"try --lr={10 * rate:.2g} and --lr={rate / 10:.2g} (now {rate:.2g}){look}"
