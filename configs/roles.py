"""Check that the networks of `model:`, the optimizers of `optim:` and the schedulers of `schedule:` fit the task."""

from typing import Any

from configs.components import COMPONENTS
from configs.schema import Config
from utils.config.convert import Component
from utils.config.tree import Node, Problems
from utils.words import suggest

__all__ = ["check_roles"]


def check_roles(config: Config, tree: Node, problems: Problems) -> None:
    """Add a line for each role that is unknown to the task, and for each required role that is missing."""
    model, optim, schedule = (_roles(section) for section in (config.model, config.optim, config.schedule))
    if isinstance(config.task, Component):
        if model is not None:
            _check_networks(config.task.name, model, tree, problems)
        if optim is not None:
            _check_optimizers(config.task.name, optim, tree, problems)
    for role in schedule or ():
        if optim and role not in optim:
            _add(problems, tree, "schedule", role, _no_optimizer(role, optim))


def _check_networks(task: str, roles: list[str], tree: Node, problems: Problems) -> None:
    takes = COMPONENTS["task"].networks(task)
    if takes is None:
        return
    for role in roles:
        if role not in takes:
            hint = suggest(role, takes, "model.") or "; write model: {}"
            _add(problems, tree, "model", role, f"model.{role}: {task} has no network of that role{hint}")
    for role, needed in takes.items():
        if needed and role not in roles:
            _add(problems, tree, "model", "", f"model: {task} needs the network model.{role}")


def _check_optimizers(task: str, roles: list[str], tree: Node, problems: Problems) -> None:
    """Check the roles of the optimizers. A task may build networks itself, so any attribute of it may be one."""
    learns = COMPONENTS["task"].attributes(task)
    for role in roles:
        if learns is not None and role not in learns:
            hint = suggest(role, COMPONENTS["task"].networks(task) or learns, "optim.")
            _add(problems, tree, "optim", role, f"optim.{role}: {task} has no network of that role{hint}")


def _no_optimizer(role: str, roles: list[str]) -> str:
    if role == "model":
        meant = " or ".join(f"schedule.{r}" for r in roles)
        return f"schedule: there are several optimizers; say for which it is, {meant}, or write null for none"
    return f"schedule.{role}: there is no optimizer of that role{suggest(role, roles, 'schedule.')}"


def _roles(section: Any) -> list[str] | None:
    """Return the roles of a section; None if it could not be read."""
    return list(section) if isinstance(section, dict) else None


def _add(problems: Problems, tree: Node, section: str, role: str, message: str) -> None:
    node = tree.at(f"{section}.{role}" if role and role != "model" else section) or tree.at(section)
    problems.add(node.where if node else "", message)
