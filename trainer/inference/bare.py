"""Bare weights in place of a run's checkpoint: a config and the flags tell what they are the weights of."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from configs import Config, load
from data.protocol import meta_of
from models.basic_module import load_weights, read_weights
from trainer.build import NOTHING, build_dataset
from trainer.checkpointing.weights import saved_names
from trainer.inference.trained import LoadedRun
from trainer.task import Task
from utils import dist
from utils.config.cli import Flag
from utils.config.convert import to_plain
from utils.errors import CheckpointError, ConfigError, DataError
from utils.runs.folder import run_path
from utils.terminal import show

__all__ = ["open_weights"]

NO_RUN = "is no checkpoint of a run"  # of the error about a file that holds other things
ADVICE = "name the network that they are of, as --model=ResNet34, with its arguments, as --model.num_classes=2"
OWN = ("config", "classes")  # flags that a run's checkpoint needs not
BOOK = ("dogcat", ["cat", "dog"])  # the config that is meant by these classes


def open_weights(checkpoint: str, flags: Sequence[Flag]) -> LoadedRun:
    """Return a run's checkpoint, or bare weights with the config and classes that the flags name.

    Raises CheckpointError for a file that is neither, ConfigError where nothing tells the data.
    """
    config = next((flag for flag in flags if flag.key == "config"), None)
    try:
        run = LoadedRun(checkpoint)
    except CheckpointError as error:
        if NO_RUN not in str(error) or not run_path(checkpoint).is_file():
            raise
        weights = read_weights(run_path(checkpoint))  # its own sentence for a file without any
        return BareWeights(run_path(checkpoint), weights, flags)
    if config is not None:
        raise ConfigError(f"{config.typed}: {run.source} is a run's checkpoint, which holds its config; leave it out")
    return run


class BareWeights(LoadedRun):
    """A state_dict in a file, with the config that it was not saved with."""

    def __init__(self, path: Path, weights: Any, flags: Sequence[Flag]):
        """Raises ConfigError where neither config nor classes tell the data, and for classes that are no names."""
        given = {flag.key: flag for flag in flags if flag.key in OWN}
        classes = _names(given["classes"]) if "classes" in given else []
        name = given["config"].text if "config" in given else BOOK[0] if sorted(classes) == BOOK[1] else ""
        if not name:
            raise ConfigError(
                f"{path} holds bare weights: which data are they for? Name a config, as --config=dogcat, and the "
                "model, as --model=ResNet34, if it is another than the config's"
            )
        rest = [flag for flag in flags if flag.key not in OWN]
        self.source, self.given, self.stored = path, NOTHING, load(name, rest)
        self.meta = {"classes": classes, "num_classes": len(classes)} if classes else _meta(self.stored, path)
        self.state = {"config": to_plain(self.stored), "meta": self.meta, "model": weights, "ema": None}
        models = ", ".join(spec.name for spec in self.stored.model.values())
        known = f", classes {', '.join(map(str, self.meta['classes']))}" if self.meta.get("classes") else ""
        dist.on_main(show, f"{path}: bare weights, taken for {models} of the config {name}{known}")

    def load_task(self, flags: Sequence[Flag], losses: bool = False) -> tuple[Config, Task, torch.device]:
        """Return config and task; the flags are in the config already."""
        return super().load_task([], losses)

    def load_weights(self, task: Task) -> None:
        """Load the weights, which may have the names of the book's files."""
        roles = {name.partition(".")[0] for name in saved_names(task)}
        network = task.get_submodule(roles.pop()) if len(roles) == 1 else task
        load_weights(network, self.state["model"], str(self.source), strict=True, advice=ADVICE)


def _names(flag: Flag) -> list[str]:
    names = [name.strip().strip("'\"") for name in flag.text.strip("[] ").split(",")]
    if len(names) < 2 or not all(names):
        raise ConfigError(f"{flag.typed}: names the classes in the order of the outputs, as --classes=cat,dog")
    return names


def _meta(cfg: Config, path: Path) -> dict[str, Any]:
    """Return the facts of the training data. Raises DataError where they are not there."""
    try:
        return meta_of(build_dataset(cfg, "train", {}))
    except DataError as error:
        raise DataError(
            f"{path} holds bare weights, so that the training data tell the classes, and: {error}; or name them, as "
            "--classes=cat,dog in the order of the network's outputs"
        ) from error
