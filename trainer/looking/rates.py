"""lr_find: the learning rate grows from step to step; it is best where the loss falls (Smith 2017)."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from configs import Config
from trainer.build import Parts
from trainer.looking.opened import few_batches
from trainer.optim.step import OptimizerStep
from utils.device import autocast
from utils.errors import ConfigError, NonFiniteError, UserError
from utils.files import write_atomic

__all__ = ["Found", "for_range_test", "range_test", "valley"]

SMOOTH = 0.9  # share of the past in the smoothed loss
DIVERGED = 4.0  # times the lowest smoothed loss: the test ends
FEWEST = 10  # points that say something
SKIPPED = 0.1  # of the points, at the beginning: the first losses are those of a guess
FALLS = 0.02  # share by which the loss must fall
BEGUN = 0.05  # of the whole fall: the loss falls in earnest


@dataclass(frozen=True)
class Found:
    """The points of a range test, (rate, loss, smoothed loss), and the rate that it suggests."""

    points: Sequence[tuple[float, float, float]]
    suggestion: float
    lowest: float  # the rate at the lowest smoothed loss
    end: str  # why it ended, in words

    def write(self, folder: Path, about: str) -> tuple[Path, Path]:
        """Write lr_find.json and lr_find.png. Raises StorageError."""
        points = [{"lr": rate, "loss": loss, "smoothed": smooth} for rate, loss, smooth in self.points]
        content = {"config": about, "suggestion": self.suggestion, "lowest": self.lowest, "points": points}
        target, picture = folder / "lr_find.json", folder / "lr_find.png"
        write_atomic(target, (json.dumps(content, indent=1) + "\n").encode())
        from utils.figures.range_test import draw_rates

        draw_rates(self.points, self.suggestion, about, picture)
        return picture, target


def for_range_test(cfg: Config) -> Config:
    """Return the config without all that would change the rate or keep something.

    Raises ConfigError where a range test says nothing.
    """
    if len(cfg.optim) > 1:
        roles = " and ".join(cfg.optim)
        raise ConfigError(
            f"lr_find: {roles} learn against each other, so that no loss falls with the right rates; try rates with "
            "python main.py sweep"
        )
    if any(spec.name == "LBFGS" for spec in cfg.optim.values()):
        raise ConfigError("lr_find: LBFGS finds the length of a step itself; its lr is 1")
    train = replace(cfg.train, ema=None, on_nonfinite="stop", max_steps=None, overfit=0, compile=False)
    return replace(cfg, schedule={}, train=train)


def range_test(parts: Parts, steps: int, first: float, last: float, say: Callable[[str], None]) -> Found:
    """Train for so many optimizer steps while the rate grows from `first` to `last`; it ends early if it diverges.

    Raises UserError where the loss does not fall at any rate.
    """
    state, cfg = parts.state, parts.cfg
    (step,) = state.update.steps.values()
    points: list[tuple[float, float, float]] = []
    losses: list[float] = []
    mean, end = 0.0, "the last rate was reached"
    state.task.train()
    for number, indices, batch in few_batches(parts.train_loader, steps * cfg.train.accumulate):
        rate = first * (last / first) ** (step.taken / max(1, steps - 1))
        _set_rate(step, rate)
        state.update.begin(number, *parts.train_loader.weights(0, len(indices)))
        before = step.taken
        try:
            with autocast(parts.device, cfg.train.precision):
                scalars = state.task.train_step(batch, state.update)
        except NonFiniteError as error:
            end = f"at {rate:.2g} {error}"
            break
        loss = scalars.get("loss")
        if loss is None:
            raise ConfigError(
                f"lr_find: {type(state.task).__name__} logs no 'loss', but {', '.join(scalars) or 'nothing'}; let its "
                "train_step return the loss by that name, too"
            )
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            end = f"at {rate:.2g} the loss is not finite"
            break
        if step.taken == before:  # the window is still open
            continue
        value = sum(losses) / len(losses)
        losses = []
        mean = SMOOTH * mean + (1 - SMOOTH) * value
        points.append((rate, value, mean / (1 - SMOOTH ** (len(points) + 1))))
        lowest = min(smooth for _, _, smooth in points)
        if len(points) > FEWEST and points[-1][2] > DIVERGED * abs(lowest):
            end = f"at {rate:.2g} the loss was {points[-1][2]:.3g}, {DIVERGED:.0f} times the lowest one"
            break
        if len(points) % 25 == 0:
            say(f"step {len(points)} of {steps}: rate {rate:.2g}, loss {points[-1][2]:.4g}")
    return _judged(points, end)


def _set_rate(step: OptimizerStep, rate: float) -> None:
    """Set the rate of every group of parameters, in the proportions that they have."""
    base = float(step.optimizer.defaults["lr"])
    for group in step.optimizer.param_groups:
        group.setdefault("share", float(group["lr"]) / base if base else 1.0)
        group["lr"] = rate * group["share"]


def _judged(points: Sequence[tuple[float, float, float]], end: str) -> Found:
    if len(points) < FEWEST:
        raise UserError(f"lr_find: only {len(points)} steps before the end ({end}); begin lower, --from=1e-9")
    skipped = int(len(points) * SKIPPED)
    smooth = [point[2] for point in points]
    lowest = min(range(skipped, len(points)), key=smooth.__getitem__)
    level = sum(smooth[skipped : skipped + FEWEST]) / len(smooth[skipped : skipped + FEWEST])
    fall = level - smooth[lowest]
    if fall < FALLS * abs(level):
        raise UserError(
            f"lr_find: the loss falls at no rate from {points[0][0]:.2g} to {points[-1][0]:.2g} ({end}); "
            "python main.py doctor says whether the network can learn"
        )
    begun = max([i for i in range(lowest) if smooth[i] > level - BEGUN * fall], default=0)
    place = max(begun, skipped + valley(smooth[skipped:]))  # before it has begun to fall, a valley is noise
    return Found(points, points[place][0], points[lowest][0], end)


def valley(losses: Sequence[float]) -> int:
    """Return the place in the middle of the longest valley: the longest falling subsequence of the losses (fastai)."""
    lengths, before = [1] * len(losses), [-1] * len(losses)
    for i, loss in enumerate(losses):
        for j in range(i):
            if losses[j] > loss and lengths[j] + 1 > lengths[i]:
                lengths[i], before[i] = lengths[j] + 1, j
    end = max(range(len(losses)), key=lambda i: (lengths[i], -i))
    path = [end]
    while before[path[-1]] >= 0:
        path.append(before[path[-1]])
    return path[len(path) // 2]
