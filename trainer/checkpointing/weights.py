"""The weights of a task as files hold them."""

from collections.abc import Collection, Iterable

import torch

from models.basic_module import load_weights
from trainer.parallel.divided import divided_like
from trainer.task import Task

__all__ = ["network_state", "buffer_state", "load_network_state", "saved_names"]


def network_state(task: Task) -> dict[str, torch.Tensor]:
    """Return the state_dict as files hold it: one network under its own names, several as `<role>.<name>`."""
    state = task.state_dict()  # once: of divided networks it takes milliseconds
    return {short: state[name] for name, short in _short_names(state, task.unsaved).items()}


def buffer_state(task: Task) -> dict[str, torch.Tensor]:
    """Return the task's own buffers, which belong to no network, such as a GAN's fixed noise."""
    return {name: value for name, value in task.state_dict().items() if "." not in name}


def load_network_state(
    task: Task, state: dict[str, torch.Tensor], buffers: dict[str, torch.Tensor], source: str
) -> None:
    """Load the results of `network_state` and `buffer_state`.

    Raises CheckpointError when the networks are not those of the state.
    """
    names = saved_names(task)
    prefix = "" if list(names) == list(names.values()) else "model."
    own = buffer_state(task)
    unsaved = {name: value for name, value in task.state_dict().items() if name not in names and name not in own}
    current = task.state_dict()
    networks = {prefix + name: divided_like(value, current.get(prefix + name)) for name, value in state.items()}
    load_weights(task, {**unsaved, **buffers, **networks}, source, strict=True)


def saved_names(task: Task) -> dict[str, str]:
    """Return the name in the file, by the name in the task, of every tensor that is stored."""
    return _short_names(task.state_dict(), task.unsaved)


def _short_names(state: Iterable[str], unsaved: Collection[str]) -> dict[str, str]:
    names = [name for name in state if "." in name and name.split(".")[0] not in unsaved]
    single = all(name.startswith("model.") for name in names)
    return {name: name.removeprefix("model.") if single else name for name in names}
