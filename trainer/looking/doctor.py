"""The doctor: a few batches of a config or a run, looked at from all sides; a table and a verdict in words."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from configs import Config
from trainer.build import Parts
from trainer.checks.findings import odd_validation, spread_part
from trainer.checks.found import Found, Heard
from trainer.checks.memory import apart, copied, set_aside
from trainer.checks.rates import learning_rates
from trainer.evaluate import evaluate
from trainer.looking.opened import few_batches
from trainer.looking.verdicts import odd_vitals
from trainer.looking.vitals import Vitals, learning
from trainer.parallel.ddp import Step
from trainer.state import RunState
from trainer.watchers.chance import first_loss
from trainer.watchers.first_steps import FirstSteps
from trainer.watchers.modes import Modes
from trainer.watchers.watcher import Outlets, Run, Watchers
from utils.device import autocast
from utils.files import write_atomic
from utils.sinks.logger import Logger

__all__ = ["FILE", "Diagnosis", "diagnose"]

FILE = "doctor.json"
BATCHES = 5  # that the network is looked at with
STEPS = 10  # of learning, on a copy
FEWEST, BUDGET = 3, 10.0  # of both, if they take longer than so many seconds
NEVER = 1 << 60  # batches: the optimizer takes no step, and the gradients stay to be looked at


@dataclass
class Diagnosis:
    """Numbers and findings: `faults` would end a training, `odd` may be meant."""

    about: dict[str, Any] = field(default_factory=dict)
    vitals: Vitals | None = None
    losses: dict[str, float] = field(default_factory=dict)  # of the first batch
    guess: dict[str, float] = field(default_factory=dict)
    found: Found = field(default_factory=Found)

    @property
    def odd(self) -> list[str]:
        return list(dict.fromkeys(map(str, self.found.odd)))

    def write(self, target: Path) -> None:
        """Write all of it as JSON. Raises StorageError."""
        layers = self.vitals.in_order() if self.vitals else []
        content = {
            **self.about,
            "faults": list(map(str, self.found.faults)),
            "odd": self.odd,
            "verdict": "nothing odd" if not self.found.faults and not self.odd else "odd",
            "losses": {name: _plain(value) for name, value in self.losses.items()},
            "guess": self.guess,
            "layers": [
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "mean": _plain(layer.outputs.mean),
                    "spread": _plain(layer.outputs.spread),
                    "dead": layer.dead,
                }
                for layer in layers
            ],
            "gradients": [
                {"name": name, "mean": _plain(one.mean), "spread": _plain(one.spread)}
                for name, one in (self.vitals.gradients if self.vitals else {}).items()
            ],
        }
        write_atomic(target, (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def diagnose(cfg: Config, make: Callable[[], Parts], trained: bool) -> Diagnosis:
    """Look at the networks that `make` builds, as they are and while they learn; `trained`: they have learned before.

    Everything happens on copies. Raises MemoryShortage, and errors that are bugs of ours.
    """
    diagnosis = Diagnosis()
    with diagnosis.found.caught(cfg):
        parts = make()
        with apart(parts):
            _look(parts, diagnosis, trained)
        parts.train_loader.close()
    return diagnosis


def _look(parts: Parts, diagnosis: Diagnosis, trained: bool) -> None:
    cfg, found = parts.cfg, diagnosis.found
    diagnosis.about = {"samples of a batch": parts.train_loader.batch_size}
    diagnosis.guess = dict(parts.state.task.at_chance())
    still, state = copied(parts), copied(parts)
    if parts.device.type == "cuda":
        set_aside(parts)
    taught: set[str] = set()
    with found.caught(cfg):
        _as_they_are(still, parts, diagnosis)
    with found.caught(cfg):
        _learn(state, parts, diagnosis, taught, trained)
    with found.caught(cfg):
        found.note(odd_validation(state, parts))
        found.note(learning_rates(parts.state, cfg, len(parts.train_loader))[1])
    for text in odd_vitals(diagnosis.vitals, taught, bool(diagnosis.guess)) if diagnosis.vitals else ():
        found.note(text)


def _as_they_are(state: RunState, parts: Parts, diagnosis: Diagnosis) -> None:
    """Look at outputs and gradients over some batches; nothing is learned meanwhile."""
    task, update = state.task, state.update
    for step in update.steps.values():
        step.accumulate = NEVER
    task.train()
    with Vitals(task) as diagnosis.vitals:
        for number, indices, batch in _in_time(parts, BATCHES):
            scalars = _step(task.train_step, state, parts, number, (indices, batch))
            diagnosis.losses = diagnosis.losses or {n: float(value.detach()) for n, value in scalars.items()}
            scalers = [one.scaler for one in update.steps.values() if one.scaler.is_enabled()]
            diagnosis.vitals.next_batch(float(scalers[0].get_scale()) if scalers else 1.0)
            update.drop()


def _in_time(parts: Parts, most: int) -> Iterator[tuple[int, list[int], Any]]:
    """Yield so many batches; fewer where they are slow, but enough that each network learns from one."""
    every = parts.state.task.update_every.values()
    end = time.monotonic() + BUDGET
    for number, indices, batch in few_batches(parts.train_loader, max([most, *every])):
        if number >= max([FEWEST, *every]) and time.monotonic() > end:
            return
        yield number, indices, batch


def _step(step: Step, state: RunState, parts: Parts, number: int, read: tuple[list[int], Any]) -> dict[str, Tensor]:
    state.update.begin(number, *parts.train_loader.weights(0, len(read[0])))
    with autocast(parts.device, parts.cfg.train.precision):
        return step(read[1], state.update)


def _learn(state: RunState, parts: Parts, diagnosis: Diagnosis, taught: set[str], trained: bool) -> None:
    """Take some steps on a copy, with a validation after them; those who watch a training watch."""
    heard, task, step = Heard(), state.task, state.make_step()
    val = parts.val_loader and spread_part(parts.val_loader)
    seen = Parts(parts.cfg, parts.device, state, parts.train_loader, val)
    run = Run.of(seen, Outlets(heard, Logger()))
    watchers = Watchers([FirstSteps(), Modes()], run)
    hooks = [p.register_post_accumulate_grad_hook(_note(taught, name)) for name, p in learning(task)]
    try:
        watchers.begin()
        task.train()
        for number, indices, batch in _in_time(parts, STEPS):
            scalars = _step(step, state, parts, number, (indices, batch))
            state.progress.step += 1
            state.after_step()
            watchers.after_step(batch, scalars)
            if not number:
                _compare(run, scalars, diagnosis, trained)
        state.update.close()
        watchers.after_validation(*evaluate(state.eval_task, val, parts.cfg, parts.device))
        watchers.end()
    finally:
        for hook in hooks:
            hook.remove()
        watchers.close()
        for line in heard.lines:
            diagnosis.found.note(line)


def _note(taught: set[str], name: str) -> Callable[[Tensor], None]:
    """Return a hook that notes a parameter whose gradient is not 0 everywhere."""

    def look(parameter: Tensor) -> None:
        if name not in taught and parameter.grad is not None:
            grad = parameter.grad.coalesce().values() if parameter.grad.is_sparse else parameter.grad
            if bool(grad.any()):
                taught.add(name)

    return look


def _compare(run: Run, scalars: Mapping[str, Tensor], diagnosis: Diagnosis, trained: bool) -> None:
    """Compare the first loss with that of a guess; networks that have learned may be far better."""
    better = {name for name, value in scalars.items() if float(value.detach()) < diagnosis.guess.get(name, -math.inf)}
    for line in first_loss(run, {name: v for name, v in scalars.items() if not (trained and name in better)}):
        diagnosis.found.note(line)
