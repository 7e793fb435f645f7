"""Weights to begin with, from other files, and an optimizer's state: each is told in numbers and names."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs import Config
from configs.schema import Train
from models._matching import Match, bare, match
from models.basic_module import adopted, read_weights
from trainer.checkpointing.store import BEST, LAST, PREVIOUS, read_newest
from trainer.checkpointing.weights import saved_names
from trainer.optim.step import OptimizerStep
from trainer.optim.update import Updates
from trainer.task import Task
from utils.errors import CheckpointError
from utils.runs.folder import run_path

__all__ = ["load_initial", "load_optimizers"]

Say = Callable[[str], None]


def load_initial(task: Task, train: Train, say: Say) -> None:
    """Begin with the weights of the files that the config names, and say how many fitted, and which did not.

    Raises CheckpointError when a file cannot be read, or fits less than half of a network and `load_partly` is off.
    """
    roles = list(dict.fromkeys(name.partition(".")[0] for name in saved_names(task)))
    if train.load_model_path:
        _load(task, train.load_model_path, roles, train, say)
    for role, path in train.load.items():
        if role not in roles:
            raise CheckpointError(f"train.load.{role}: no network has that role; there is {', '.join(roles)}")
        _load(task, path, [role], train, say)


def _load(task: Task, path: str, roles: list[str], train: Train, say: Say) -> None:
    """Load a file into the networks of these roles: of one under its own names, of several with their roles before.

    Of averaged weights those are taken that val and test use, unless the optimizer goes on with its own.
    """
    state, source = _read(path, say)
    prefix = f"{roles[0]}." if len(roles) == 1 else ""
    names = {bare(name.removeprefix(prefix)): name for name in saved_names(task) if name.startswith(prefix)}
    target = task.get_submodule(roles[0]) if prefix else task
    own = task.state_dict()
    averaged = state.get("ema") and not train.load_optimizer
    there = adopted(target, _of_network(state["ema"] if averaged else state["model"], prefix, names))
    found = match({short: own[name] for short, name in names.items()}, there)
    kind = type(target).__name__ if prefix else f"the networks {', '.join(roles)}"
    _refuse_little(found, str(source), kind, train.load_partly, "" if prefix else roles[0])
    task.load_state_dict({names[short]: tensor for short, tensor in found.taken.items()}, strict=False)
    told = "averaged weights (train.ema)" if averaged else "weights"
    say(f"{told} of {kind} from {source}: {len(found.taken)} of {found.total} tensors taken")
    for line in found.lines():
        say(f"  {line}")


def _of_network(state: Mapping[str, Tensor], prefix: str, names: Mapping[str, str]) -> Mapping[str, Tensor]:
    """Return the tensors of one network, of a file that may hold several."""
    own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if prefix and name.startswith(prefix)}
    return own if names.keys() & own.keys() and not names.keys() & state.keys() else state


def _refuse_little(found: Match, source: str, kind: str, partly: bool, role: str) -> None:
    """Raise CheckpointError when nothing fits, or too little unless that is meant; `role` is one of several."""
    hint = f"; a file for each network is named so: --train.load={{{role}: FILE}}" if role else ""
    if not found.taken:
        raise CheckpointError(f"nothing in {source} fits {kind}; name the weights of such a network{hint}")
    if 2 * len(found.taken) < found.total and not partly:
        raise CheckpointError(
            f"{source} fits only {len(found.taken)} of {found.total} tensors of {kind}: {'; '.join(found.lines())}; "
            f"it is another network's file{hint}, or give --train.load_partly, which takes what fits"
        )


def load_optimizers(update: Updates, cfg: Config, say: Say = lambda text: None) -> None:
    """Begin with the optimizers' state of the run at `load_model_path`, if the config asks for it.

    Moments and counts are those of that run; rates and all other numbers are those of this config. Raises
    CheckpointError when the file has no such state, or it is that of other weights or another optimizer.
    """
    if not cfg.train.load_optimizer or not cfg.train.load_model_path:
        return
    state, source = _read(cfg.train.load_model_path, lambda text: None)
    if not isinstance(state.get("update"), Mapping):
        raise CheckpointError(f"train.load_optimizer: {source} holds weights alone; name a run's folder or last.pth")
    for role, step in update.steps.items():
        there = state["update"].get(role, {})
        stored = there.get("optimizer") or {}
        parts, states = getattr(step.optimizer, "parts", [step.optimizer]), stored.get("parts", [stored or None])
        names = _optimizer_name(state, role), cfg.optim[role].name
        known = "names" in there  # older checkpoints lack them
        faults = [_optimizer_fault(part, own, *names, known) for part, own in zip(parts, states, strict=False)]
        if len(parts) != len(states):
            faults.append(f"it is of {len(states)} optimizers, and there are {len(parts)} here (optim.rest)")
        if known:
            faults.append(_weights_fault(step, role, there["names"], state["model"]))
        if fault := next(filter(None, faults), ""):
            raise CheckpointError(
                f"train.load_optimizer: the state of '{role}' in {source} does not fit: {fault}; leave load_optimizer "
                "out to begin with the weights alone"
            )
        for part, own in zip(parts, states, strict=True):
            part.load_state_dict({**part.state_dict(), "state": own["state"]})
            say(f"state of {type(part).__name__} from {source}: {len(own['state'])} tensors' moments")
        if len(parts) > 1:
            step.optimizer.load_state_dict(step.optimizer.state_dict())  # joins the groups of its parts again


def _optimizer_name(state: Mapping[str, Any], role: str) -> str:
    optim = state["config"]["optim"]
    chosen = optim if isinstance(optim, str) or "name" in optim else optim.get(role, {})
    return chosen if isinstance(chosen, str) else chosen.get("name", "")


def _weights_fault(step: OptimizerStep, role: str, names: Sequence[str], weights: Mapping[str, Tensor]) -> str:
    """Return why a state is of other weights than those that learn here, in words; empty if it is of these.

    `names` are those of the state, in its order, `weights` those of the same file.
    """
    for number, (before, now) in enumerate(zip(names, step.names(), strict=False)):
        if before != now:
            return f"tensor {number} is {before} there and {now} here; see optim.groups and train.freeze"
    own = {bare(name): parameter for name, parameter in step.net.named_parameters()}
    for name in names:
        there = weights.get(f"{role}.{name}", weights.get(name))
        if there is not None and there.shape != own[name].shape:
            return f"{name} is {tuple(there.shape)} there and {tuple(own[name].shape)} here"
    return ""


def _optimizer_fault(optimizer: torch.optim.Optimizer, stored: Any, before: str, now: str, named: bool) -> str:
    """Return why a stored state is not one of this optimizer, in words; empty if it may be.

    Unless the weights are known by their names, they are told apart by the shapes of their moments.
    """
    if stored is None:
        return "there is none"
    if before != now:
        return f"it is that of {before}, and optim is {now}"
    counts, own = ([len(group["params"]) for group in s["param_groups"]] for s in (stored, optimizer.state_dict()))
    if counts != own:
        return f"it is of {sum(counts)} tensors in {len(counts)} groups, and {sum(own)} in {len(own)} learn here"
    tensors = [p for group in optimizer.param_groups for p in group["params"]]
    for number, values in () if named else stored["state"].items():
        wrong = [v for v in values.values() if isinstance(v, Tensor) and v.numel() > 1]
        if any(v.shape != tensors[number].shape for v in wrong):
            return f"tensor {number} is {tuple(wrong[0].shape)} there and {tuple(tensors[number].shape)} here"
    return ""


def _read(path: str, say: Say) -> tuple[Mapping[str, Any], Path]:
    """Return the state in a run, whose checksum must fit, or the weights in another file; and the file's path."""
    place = run_path(path)
    try:
        state, source, rejected = read_newest(place, (BEST, LAST, PREVIOUS))
    except CheckpointError as error:
        if place.is_dir() or ("is damaged" in str(error) and Path(f"{place}.sha256").exists()):
            raise
        return {"model": read_weights(place)}, place
    for reason in rejected:
        say(f"passed over {reason}")
    return state, source
