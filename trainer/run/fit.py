"""fit: the command train for Python and notebooks."""

import signal
import threading
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from configs import Config
from trainer.build import Given
from trainer.run.recorder import Origin
from trainer.run.result import Result
from trainer.run.resume import go_on
from trainer.run.session import begin
from trainer.setup import be_deterministic
from trainer.task import Task
from utils.config.cli import python_flag
from utils.errors import ConfigError
from utils.sinks.console import Output

__all__ = ["fit"]


def fit(
    cfg: Config | None = None,
    run: str | None = None,
    resume: str | Path | None = None,
    model: nn.Module | None = None,
    train: Dataset | None = None,
    val: Dataset | None = None,
    task: Task | None = None,
    changes: Mapping[str, Any] | None = None,
    output: Output = "text",
) -> Result:
    """Train a config in a run folder, as the command train does, or go on with the run in the folder `resume`.

    Objects may take the place of names in a config: a network `model`, the datasets `train` and `val`, a `task` with
    its networks. A run that was trained with them asks for them again. An interrupt saves and returns. `changes` are
    the keys that may change on resume, as {"train.max_epoch": 20}.

    Raises the errors of the command: ConfigError, DataError, CheckpointError and others, all of them UserError.
    """
    given = Given(model, train, val, task)
    _check(given)
    if resume is not None:
        if cfg is not None or run is not None:
            raise ConfigError("fit(resume=…): a run continues with its stored config and name; leave out cfg and run")
        flags = [python_flag(key, value, repr({key: value})) for key, value in (changes or {}).items()]
        with _restored():
            return go_on(str(resume), flags, output, given)
    if not isinstance(cfg, Config) or changes:
        raise ConfigError('fit: needs a config, as in fit(load("default")), or resume=… and perhaps changes={…}')
    if output not in typing.get_args(Output) or not isinstance(run, str | None):
        raise ConfigError(f"fit: run is a text, and output one of {', '.join(typing.get_args(Output))}")
    with _restored():
        return begin(cfg, Origin("python"), run, output, given)


def _check(given: Given) -> None:
    """Raises ConfigError for an object that cannot stand where it is given."""
    kinds: dict[str, type] = {"model": nn.Module, "task": Task}
    for part, kind in kinds.items():
        one: Any = getattr(given, part)
        if one is not None and not isinstance(one, kind):
            what = f"the class {one.__name__}" if isinstance(one, type) else f"a {type(one).__name__}"
            raise ConfigError(f"fit: {part} is a {kind.__name__} that has been made, got {what}")
    for part in ("train", "val"):
        one = getattr(given, part)
        if one is not None and (
            isinstance(one, type) or not hasattr(one, "__len__") or not hasattr(one, "__getitem__")
        ):
            raise ConfigError(f"fit: {part} is a dataset with a length and numbered samples, got {type(one).__name__}")


@contextmanager
def _restored() -> Iterator[None]:
    """Restore afterwards the settings of this process that a training changes, except the random numbers."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    threads = torch.get_num_threads()
    numbers = [getattr(signal, name) for name in ("SIGCHLD", "SIGALRM") if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        be_deterministic(deterministic)
        torch.set_num_threads(threads)
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
