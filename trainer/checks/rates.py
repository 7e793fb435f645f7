"""The learning rates of a run before it begins: in words, and as lr.png."""

import time
from pathlib import Path
from typing import NamedTuple

from configs import Config
from configs.training import first_averaged
from trainer.build import Parts
from trainer.optim.average import EpochMean
from trainer.optim.schedule import Schedule
from trainer.optim.step import OptimizerStep
from trainer.state import RunState
from trainer.watchers._thumbnails import guarded
from utils.sinks.console import Console

__all__ = ["Course", "course", "learning_rates", "tell_rates"]

PICTURE = "lr.png"
PATIENCE = 2.0  # s for the look at one schedule
DEAD = 1e-4  # of the highest rate: nothing is learned with it
FOLLOWING = "later ones follow the validation"
UNSEEN = "later ones are too many to be looked at"


class Course(NamedTuple):
    """The rates of a run, each from its place on until the next one."""

    places: list[float]  # epochs from the beginning
    rates: list[list[float]]  # of each group of parameters
    follows: bool  # whether later rates follow the validation
    whole: bool  # whether these are all that can be known

    @property
    def first(self) -> list[float]:
        """The rates of the first group, which the journal has as lr."""
        return [rates[0] for rates in self.rates]

    def dead(self) -> float:
        """Return the share of the run in which the rate is next to 0."""
        top, long = max(self.first), self.places[-1] - self.places[0]
        pairs = zip(self.places, self.places[1:], self.first, strict=False)
        idle = sum(there - here for here, there, rate in pairs if rate <= DEAD * top)
        return idle / long if long else float(not top)

    def told(self) -> str:
        """Return first, highest and last rate in words."""
        known = f"{self.first[-1]:.2g} last" if self.whole else UNSEEN
        last = FOLLOWING if self.follows else known
        return f"{self.first[0]:.2g} first, {max(self.first):.2g} highest, {last}"


def course(step: OptimizerStep, cfg: Config, batches: int) -> Course:
    """Return the learning rates of a run that nothing ends early, from schedulers of their own."""
    epochs = cfg.train.max_epoch
    if cfg.train.max_steps is not None:
        epochs = min(epochs, -(-cfg.train.max_steps // batches))
    until = epochs if cfg.train.swa is None else min(first_averaged(cfg.train), epochs)
    if step.schedule is None:
        now = [group["lr"] for group in step.optimizer.param_groups]
        found = Course([0.0, float(until)], [now, now], follows=False, whole=True)
    else:
        found = _scheduled(step.schedule.imagined(), until)
    if until == epochs or not found.whole:
        return found
    kept = EpochMean(cfg.train).rates(step)
    return found._replace(
        places=[*(found.places if until else []), float(until), float(epochs)],
        rates=[*(found.rates if until else []), kept, kept],
    )


def _scheduled(schedule: Schedule, epochs: int) -> Course:
    """Return the rates of so many epochs of a schedule, which is stepped for it."""
    places, rates, follows = [], [], False  # type: ignore[var-annotated]
    end = time.monotonic() + PATIENCE
    for epoch in range(epochs):
        follows = follows or schedule.unit == "validation"
        count = schedule.steps_of(epoch + 1) - schedule.steps_of(epoch)
        for number in range(count):
            places.append(epoch + number / count)
            rates.append(schedule.rates())
            if not schedule.counts_steps:
                schedule.pass_over(count - number)
                break
            schedule.after_step()
            if time.monotonic() > end:
                return Course(places, rates, follows, whole=False)
        places.append(epoch + 1.0)
        rates.append(rates[-1] if schedule.counts_steps and count else schedule.rates())
        schedule.after_epoch()
    return Course(places, rates, follows, whole=True)


def learning_rates(state: RunState, cfg: Config, batches: int) -> tuple[str, str]:
    """Return the first, highest and last learning rate of a run in words, and their oddities.

    Rates that follow the validation are not known before.
    """
    told, odd = [], []
    for role, step in state.update.steps.items():
        found, name = course(step, cfg, batches), f" of {role}" if state.update.several else ""
        told.append(f"learning rate{name} {found.told()}")
        if not max(found.first):
            odd.append(f"the learning rate{name} is 0 in the whole run: nothing is learned; see optim.lr")
        elif (dead := found.dead()) > 0.5:
            odd.append(
                f"the learning rate{name} is next to 0 in {dead:.0%} of the run; see schedule and train.max_epoch"
            )
    return "; ".join(told), "; ".join(odd)


def tell_rates(parts: Parts, path: Path, console: Console) -> None:
    """Print what the groups of the optimizers took, and the rates of a new run; draw these as lr.png."""
    if (path / PICTURE).exists() or parts.state.progress.step:
        return
    update, batches = parts.state.update, len(parts.train_loader)
    courses = {role: course(step, parts.cfg, batches) for role, step in update.steps.items()}
    for line in update.told():
        console.say(line)
    for role, found in courses.items():
        console.say(f"learning rate{f' of {role}' if update.several else ''}: {found.told()}")
    if parts.cfg.log.pictures:
        from utils.figures.rates import draw_rates

        drawn = {role: (found.places, found.rates, found.follows) for role, found in courses.items()}
        with guarded(path / PICTURE, console.say) as target:
            draw_rates(drawn, target)
