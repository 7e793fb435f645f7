"""The networks that a command looks at, with their data: those of a config, or of a run with its weights."""

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from torch import nn

from configs import Config, load_stored, resolve
from configs.layers import config_files
from data.loading.loader import Loader
from trainer.build import Parts, build
from trainer.checkpointing.store import BEST, LAST, PREVIOUS, read_newest
from trainer.messages import explain_torch_errors
from trainer.task import Task
from utils.config.cli import Flag
from utils.runs.folder import refuse_absent, run_path

__all__ = ["config_of", "few_batches", "is_config", "names_of", "networks_of", "open_run"]

Say = Callable[[str], None]


def is_config(word: str) -> bool:
    """Return whether a word names a config, and no run; "" is the default config."""
    named = word in config_files() or (word.endswith((".yaml", ".yml")) and os.path.isfile(word))
    return not word or named or not run_path(word).exists()


def config_of(word: str, flags: Sequence[Flag], options: Sequence[str]) -> Config:
    """Return a config, or raise ConfigError with a line for each mistake."""
    return resolve(word or "default", flags, options).config


def open_run(checkpoint: str, flags: Sequence[Flag], say: Say) -> tuple[Config, Parts, Path]:
    """Return the config, the parts and the file of a run, with the weights that learn.

    Raises CheckpointError when there is none that can be read.
    """
    path = run_path(checkpoint)
    refuse_absent(path, checkpoint)
    stored, source, rejected = read_newest(path, (BEST, LAST, PREVIOUS))
    for reason in rejected:
        say(f"passed over {reason}")
    cfg = load_stored(stored["config"], source, flags)
    with explain_torch_errors(cfg):
        return cfg, build(cfg, say, stored), source


def few_batches(loader: Loader, count: int) -> Iterator[tuple[int, list[int], Any]]:
    """Yield number, indices and batch of so many training batches; a short epoch is gone through again."""
    part = loader.part(loader.first(count))
    times = -(-count // max(1, len(part)))
    whole = loader.part(loader.first(count), times)
    yield from ((number, *read) for number, read in enumerate(islice(whole.epoch(0), count)))


def networks_of(task: Task) -> dict[str, nn.Module]:
    """Return the networks by role; those that never learn and are not saved are left out."""
    return {role: net for role, net in task.named_children() if role not in task.unsaved}


def names_of(task: Task) -> dict[str, nn.Module]:
    """Return every layer by the name that last.pth gives it: below its network, or below its role if they are several.

    A network itself goes by its role.
    """
    networks = networks_of(task)
    found: dict[str, nn.Module] = {}
    for role, network in networks.items():
        prefix = "" if len(networks) == 1 else f"{role}."
        for name, layer in network.named_modules():
            found[f"{prefix}{name}" if name else role] = layer
    return found
