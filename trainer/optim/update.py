"""The `update` that a training step is handed: one optimizer a network."""

import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from configs import Config, more_metrics
from configs.schema import Train
from trainer.optim.joint import make_optimizer
from trainer.optim.nonfinite import BufferBackup
from trainer.optim.schedule import Schedule
from trainer.optim.step import OptimizerStep
from trainer.parallel.divided import is_divided
from trainer.parallel.fsdp import standing
from trainer.parameters.freezing import Freezing
from trainer.parameters.groups import learnable, sparse_names
from trainer.parameters.hidden import find_hidden
from trainer.progress import Monitor
from trainer.task import Task, Weight
from utils import dist
from utils.errors import ConfigError, NonFiniteError

__all__ = ["Updates", "make_updates"]


class Updates:
    """The `update` of `train_step(batch, update)`: routes a loss to the optimizer of a role."""

    def __init__(
        self,
        steps: dict[str, OptimizerStep],
        mixed: bool = False,
        careful: bool = False,
        backup: BufferBackup | None = None,
    ):
        """`mixed`: forward passes run under autocast, which backward must not; `careful`: look at each loss.

        `backup` keeps the buffers that a step may spoil.
        """
        self.steps, self.mixed, self.careful, self.backup = steps, mixed, careful, backup or BufferBackup()
        self.step = 0  # training steps before this one
        self.rank_weight: float = 1.0  # of the batch: see OptimizerStep
        self.global_weight: float | None = 1.0
        self.several = len(steps) > 1

    def begin(self, step: int, rank_weight: float, global_weight: float | None) -> None:
        """Get ready for a new batch."""
        self.step, self.rank_weight, self.global_weight = step, rank_weight, global_weight
        self.backup.save()

    def __call__(self, loss: Tensor, role: str = "model", weight: Weight = None) -> None:
        """Learn from a loss.

        Raises KeyError for a role without an optimizer, TypeError for anything that is no loss, and NonFiniteError.
        """
        chosen = self.steps.get(role) or self._refuse(role)
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            raise TypeError(_loss_fault(loss))
        # On a GPU reading the loss would make the host wait; unless asked to, it looks when a row is written.
        if (self.careful or loss.device.type == "cpu") and not math.isfinite(loss.detach()):
            raise NonFiniteError(f"the loss is {loss.item()}")
        # Of two networks the other one's gradients must stay untouched.
        divided = self.several and is_divided(chosen.params[0])
        inputs = [p for p in chosen.params if p.requires_grad] if self.several and not divided else None
        others = [step.net for step in self.steps.values() if step is not chosen] if divided else []
        chosen.window.append(self.step)
        with torch.autocast(loss.device.type, enabled=False) if self.mixed else nullcontext(), standing(others):
            chosen(loss, self.rank_weight, self.global_weight, inputs, weight)

    def _refuse(self, role: str) -> OptimizerStep:
        roles = ", ".join(f"update(loss, {known!r})" for known in self.steps)
        raise KeyError(f"update(loss, {role!r}): no network of that role has an optimizer; there is {roles}")

    @property
    def taken(self) -> int:
        """Optimizer steps so far, of all roles."""
        return sum(step.taken for step in self.steps.values())

    def close(self) -> None:
        """Step with the gradients of the open windows: an epoch is over."""
        for step in self.steps.values():
            step.close()

    def drop(self) -> None:
        """Empty the open windows."""
        for step in self.steps.values():
            step.drop()

    def undo(self) -> None:
        """Forget the open windows and restore the buffers: a loss or a gradient was not finite."""
        self.drop()
        self.backup.restore()

    def window_is_finite(self) -> bool:
        """Return whether all gradients of the open windows are finite."""
        gradients = [p.grad for step in self.steps.values() if step.calls for p in step.params if p.grad is not None]
        return all(bool(g.isfinite().all()) for g in gradients)

    def norms(self) -> dict[str, float]:
        """Return the norms of the last gradients, where they were computed."""
        return {
            f"gradient norm of {role}" if self.several else "gradient norm": float(step.norm)
            for role, step in self.steps.items()
            if step.norm is not None
        }

    def unused(self) -> list[str]:
        """Return the roles whose optimizer has never been called."""
        return [role for role, step in self.steps.items() if not step.taken and not step.calls]

    def rates(self) -> dict[str, float]:
        """Return the learning rates to log: `lr`, or `lr_<role>` where there are several."""
        if not self.several:
            return {"lr": next(iter(self.steps.values())).lr}
        return {f"lr_{role}": step.lr for role, step in self.steps.items()}

    def told(self) -> list[str]:
        """Return in words which parameters the groups of the optimizers took."""
        return [line for step in self.steps.values() for line in step.told]

    def schedules(self) -> list[Schedule]:
        return [step.schedule for step in self.steps.values() if step.schedule is not None]

    def odd_schedules(self, train: Train, batches: int) -> Iterator[str]:
        """Yield notes on an `eta_min` above a rate, and on rules of max_epoch epochs that max_steps cuts short."""
        for schedule in self.schedules():
            yield from schedule.rising_floors()
            if train.max_steps and schedule.unit == "epoch" and schedule.end < math.inf:
                last = (train.max_steps - 1) // batches + 1
                if last < schedule.end:
                    told = f"{schedule.spec.name} is made for {schedule.end:g} epochs and does not come to its end"
                    yield f"note: train.max_steps ends the run in epoch {last}: {told}; see train.max_epoch"

    def state_dict(self) -> dict[str, Any]:
        return {role: step.state_dict() for role, step in self.steps.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for role, step in self.steps.items():
            step.load_state_dict(state[role])


def _loss_fault(loss: Any) -> str:
    """Return why nothing can be learned from a loss, in words."""
    if not isinstance(loss, Tensor):
        return f"update(loss) was given a {type(loss).__name__}; give the tensor, without .item() or float()"
    if loss.numel() != 1:
        return f"update(loss) was given {list(loss.shape)} numbers; give one, such as loss.mean()"
    return "update(loss) was given a loss that depends on no weights; is it detached, or made under torch.no_grad?"


def make_updates(task: Task, cfg: Config, batches: int) -> Updates:
    """Return the optimizers of all networks that learn; `batches` is the length of an epoch.

    Raises ConfigError when an `optim:` entry has no network, a network that learns has no entry, or several processes
    are to leave out a batch, which one of them cannot do alone.
    """
    policy = cfg.train.on_nonfinite
    if policy != "stop" and dist.world_size() > 1:
        raise ConfigError(f"train.on_nonfinite: {policy} is for one process; several can only stop")
    if hasattr(task, "learns_every"):
        raise ConfigError(f"task: {type(task).__name__}.learns_every is called update_every now; rename it")
    Freezing(task, cfg).loosen()
    networks = {role: net for role, net in task.named_children() if role not in getattr(task, "unsaved", ())}
    for role in cfg.optim:
        if role not in networks:
            raise ConfigError(f"optim.{role}: the task has no network of that role; it has {', '.join(networks)}")
    for role, net in networks.items():
        if role not in cfg.optim and any(p.requires_grad for p in net.parameters()):
            raise ConfigError(f"optim: the network '{role}' learns but has no optimizer; add optim.{role}")
    every = getattr(task, "update_every", {})
    mode = Monitor(cfg.train, {**getattr(task, "metrics", {}), **more_metrics(cfg.task)}).mode
    steps = {role: _make_step(role, networks[role], cfg, batches, every.get(role, 1), mode) for role in cfg.optim}
    backup = BufferBackup(task.buffers() if policy == "skip" or cfg.train.oom == "fit" else ())
    return Updates(steps, cfg.train.precision != "fp32", careful=policy != "stop", backup=backup)


def _make_step(role: str, net: nn.Module, cfg: Config, batches: int, every: int, mode: str) -> OptimizerStep:
    key = "optim" if role == "model" else f"optim.{role}"
    parameters = learnable(net)
    if not parameters:
        hidden = "".join(f"; {found}" for found in find_hidden(net, role))
        raise ConfigError(f"{key}: the network '{role}' has nothing to learn{hidden}")
    optimizer, told = make_optimizer(cfg.optim[role], key, net, parameters, role)
    schedule, spec = None, cfg.schedule.get(role)
    if spec:
        length = max(1, optimizer_steps(cfg.train, batches, every)), cfg.train.max_epoch

        def steps_of(epochs: int) -> int:
            return optimizer_steps(replace(cfg.train, max_epoch=epochs, max_steps=None), batches, every)

        schedule = Schedule(spec, key.replace("optim", "schedule"), optimizer, *length, mode, steps_of)
    step = OptimizerStep(net, optimizer, cfg, schedule, told)
    if step.closure:
        _refuse_closure(key, cfg)
    if sparse_names(net) & set(parameters):
        _refuse_sparse(key, cfg)
    return step


def _refuse_closure(key: str, cfg: Config) -> None:
    """Raise ConfigError for what an optimizer that evaluates a batch several times cannot do."""
    train, name = cfg.train, key.removeprefix("optim.")
    wrong = {
        "train.accumulate": train.accumulate > 1,
        "train.clip": bool(train.clip),
        "train.precision: fp16": train.precision == "fp16",
        "train.on_nonfinite: skip": train.on_nonfinite == "skip",
        "several processes": dist.world_size() > 1,
        "several networks": len(cfg.optim) > 1,
    }
    if found := [word for word, is_so in wrong.items() if is_so]:
        optimizer = cfg.optim["model" if key == "optim" else name].name
        raise ConfigError(
            f"{key}: {optimizer} evaluates each batch several times and looks at how its loss falls, which does not go "
            f"together with {', '.join(found)}; leave that out, or take another optimizer"
        )


def _refuse_sparse(key: str, cfg: Config) -> None:
    """Raise ConfigError for what sparse gradients cannot do."""
    train = cfg.train
    wrong = {
        "train.accumulate": train.accumulate > 1,
        "train.clip": bool(train.clip),
        "train.check_gradients": bool(train.check_gradients),
        "train.on_nonfinite: rollback": train.on_nonfinite == "rollback",
        "train.precision: fp16": train.precision == "fp16",
        "several processes": dist.world_size() > 1,
    }
    if found := [word for word, is_so in wrong.items() if is_so]:
        raise ConfigError(
            f"{key}: sparse gradients do not go together with {', '.join(found)}; leave that out, or set "
            "model.sparse: false"
        )


def optimizer_steps(train: Train, batches: int, every: int = 1) -> int:
    """Return how many steps an optimizer takes in a run that nothing ends early.

    It learns from each `every`-th of the run's batches. A window closes after `accumulate` of them and at the end of an
    epoch.
    """

    def calls(first: int, last: int) -> int:
        return math.ceil(last / every) - math.ceil(first / every)

    cut = train.max_steps is not None and train.max_steps <= train.max_epoch * batches
    epochs = train.max_steps // batches if cut else train.max_epoch  # type: ignore[operator]
    # so many epochs on, everything comes again
    taken = [math.ceil(calls(n * batches, (n + 1) * batches) / train.accumulate) for n in range(min(epochs, every))]
    again, more = divmod(epochs, every)
    whole = again * sum(taken) + sum(taken[:more])
    # within an epoch max_steps leaves the last window open
    return whole + (calls(epochs * batches, train.max_steps) // train.accumulate if cut else 0)  # type: ignore[arg-type]
