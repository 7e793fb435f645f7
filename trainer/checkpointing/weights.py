"""The weights of a task as files hold them, and weights to begin with."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from models.basic_module import load_weights, read_weights
from trainer.checkpointing.store import BEST, LAST, PREVIOUS, read_newest
from trainer.task import Task
from utils.errors import CheckpointError
from utils.runs.folder import run_path

__all__ = ["network_state", "buffer_state", "load_network_state", "load_initial", "saved_names"]


def network_state(task: Task) -> dict[str, torch.Tensor]:
    """Return the state_dict as files hold it: one network under its own names, several as `<role>.<name>`."""
    state = task.state_dict()
    return {short: state[name] for name, short in saved_names(task).items()}


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
    networks = {prefix + name: value for name, value in state.items()}
    load_weights(task, {**unsaved, **buffers, **networks}, source, strict=True)


def saved_names(task: Task) -> dict[str, str]:
    """Return the name in the file, by the name in the task, of every tensor that is stored."""
    names = [name for name in task.state_dict() if "." in name and name.split(".")[0] not in task.unsaved]
    single = all(name.startswith("model.") for name in names)
    return {name: name.removeprefix("model.") if single else name for name in names}


def load_initial(task: Task, path: str, say: Callable[[str], None]) -> None:
    """Begin with the weights of a run's checkpoint or a bare state_dict, and say which did not fit.

    Raises CheckpointError when the file cannot be read or nothing in it fits.
    """
    networks = [net for role, net in task.named_children() if role not in task.unsaved]
    target = networks[0] if len(networks) == 1 else task
    weights, source = _weights(path, say)
    left = load_weights(target, weights, str(source), strict=False)
    say(f"weights from {source}" + (f"; left as they were: {', '.join(left[:5])}" if left else ", every one"))


def _weights(path: str, say: Callable[[str], None]) -> tuple[Mapping[str, torch.Tensor], Path]:
    """Return the weights in a run, whose checksum must fit, or in any other file; and the path of the file."""
    place = run_path(path)
    try:
        state, source, rejected = read_newest(place, (BEST, LAST, PREVIOUS))
    except CheckpointError as error:
        if place.is_dir() or ("is damaged" in str(error) and Path(f"{place}.sha256").exists()):
            raise
        return read_weights(place), place
    for reason in rejected:
        say(f"passed over {reason}")
    return state["model"], source
