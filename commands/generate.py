"""generate: let a generative task produce its output, from a checkpoint.

python main.py generate CHECKPOINT [--key=value …]

CHECKPOINT is a run folder (its best, otherwise its last) or a .pth file.
The flags are those of the task's own generate: help TASK names them.
"""

import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any

import torch

from commands._arguments import checkpoint_and_keys
from configs import COMPONENTS
from trainer.inference.trained import LoadedRun
from trainer.messages import explain_torch_errors
from trainer.setup import seed_everything
from utils.config.cli import Flag, flag_node
from utils.config.convert import convert
from utils.config.tree import Problems
from utils.device import autocast
from utils.errors import ConfigError
from utils.terminal import show
from utils.words import is_slip

__all__ = ["run"]


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Call the task's `generate` with the flags that it takes; the others are keys of the config.

    Raises ConfigError when the task generates nothing, or when a flag is neither one of its arguments nor a key.
    """
    checkpoint, keys = checkpoint_and_keys("generate", words, flags)
    trained = LoadedRun(checkpoint)
    make = getattr(COMPONENTS["task"].get(trained.stored.task.name), "generate", None)
    if make is None:
        raise ConfigError(f"{trained.stored.task.name} generates nothing; python main.py test {checkpoint} predicts")
    takes = list(inspect.signature(make).parameters)[1:]
    own, keys = ([flag for flag in keys if (flag.key in takes) == ours] for ours in (True, False))
    for flag in keys:
        if slips := [name for name in takes if is_slip(flag.key, name)]:
            raise ConfigError(f"{flag.typed}: did you mean --{slips[0].replace('_', '-')}=…?")
    cfg, task, device = trained.load_task(keys)
    arguments = _convert(make, own)
    seed_everything(cfg.train)
    with torch.no_grad(), autocast(device, cfg.train.precision), explain_torch_errors(cfg, training=False):
        show(make(task, **arguments))


def _convert(make: Callable[..., str], flags: Sequence[Flag]) -> dict[str, Any]:
    """Return the arguments of a task's `generate`, converted to the types of its signature.

    Raises ConfigError with a line for each mistake.
    """
    problems, hints = Problems(), typing.get_type_hints(make)
    given = {f.key: convert(flag_node(f.text, f.typed), hints[f.key], f.key, problems, {}) for f in flags}
    for name, parameter in list(inspect.signature(make).parameters.items())[1:]:
        if parameter.default is parameter.empty and name not in given:
            problems.add("generate", f"needs --{name.replace('_', '-')}=…")
    problems.raise_any()
    return given
