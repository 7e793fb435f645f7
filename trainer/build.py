"""From a config to datasets, networks and the task; `meta` carries what one must know of the other."""

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset

from configs import COMPONENTS, Component, Config
from data.loading.cache import with_cache
from data.loading.transforms import make_transform
from models.basic_module import load_weights, read_weights
from trainer.checkpointing.store import BEST, LAST, PREVIOUS, read_newest
from trainer.features import with_features
from trainer.setup import choose_device
from trainer.task import Task
from utils.errors import CheckpointError, ConfigError
from utils.runs.folder import run_path

__all__ = [
    "Parts",
    "buffer_state",
    "build",
    "build_dataset",
    "build_task",
    "describe",
    "least_batch",
    "load_initial",
    "load_network_state",
    "make_averaged",
    "monitored",
    "network_state",
]

Meta = dict[str, Any]  # plain values: classes, channels, size, …; stored in the checkpoint


class Parts(NamedTuple):
    """What a training is made of; `val` is None for a task that measures nothing."""

    train: Dataset
    val: Dataset | None
    meta: Meta
    task: Task


def build(cfg: Config, device: torch.device, stored: dict[str, Any] | None, say: Callable[[str], None]) -> Parts:
    """The data and the task of a training, with the weights that it goes on from, or begins with."""
    train = build_dataset(cfg, "train", stored["meta"] if stored else {}, say)
    meta = stored["meta"] if stored else describe(train)
    task = build_task(cfg, meta, trained=stored is not None).to(device)
    if stored:
        load_network_state(task, stored["model"], stored.get("buffers", {}), "the checkpoint")
    elif cfg.train.load_model_path:
        load_initial(task, cfg.train.load_model_path, say)
    train = with_features(task, train, cfg, device, adapt=stored is None, say=say)
    val = None
    if task.metrics:
        val = with_features(task, build_dataset(cfg, "val", meta, say), cfg, device, adapt=False, say=say)
    return Parts(train, val, meta, task)


def build_dataset(cfg: Config, split: str, meta: Meta, say: Callable[[str], None] = print) -> Dataset:
    """The dataset of a split; it is offered the split's root and transform, and the training set's meta.

    Raises ConfigError when transforms are set and the dataset takes none, and for a val split where it has but one.
    """
    listed = cfg.data.transform.train if split == "train" else cfg.data.transform.eval
    registry, spec = COMPONENTS["data"], cfg.data.dataset
    if listed and "transform" not in registry.signature(spec.name).parameters:
        raise ConfigError(f"data.transform: {spec.name} takes no transforms")
    if split == "val" and "split" not in inspect.signature(registry.get(spec.name)).parameters:
        raise ConfigError(
            f"data.dataset: {spec.name} takes no split, so that validation would measure the samples it learns from; "
            "give it __init__(self, split, …), which is 'train', 'val' or 'test'"
        )
    offered: Meta = {**meta, "split": split}
    if listed:
        offered["transform"] = make_transform(listed, fast=cfg.data.pixels == "fast")
    root = cfg.data.test_data_root if split == "test" else cfg.data.train_data_root
    if root is not None:
        offered["root"] = root
    dataset = registry.build(spec, "data.dataset", **offered)
    device = choose_device(cfg.train.use_gpu if cfg.data.cache == "gpu" else False)
    return with_cache(dataset, cfg.data.cache, say, device)


def build_task(cfg: Config, meta: Meta, trained: bool = False, losses: bool = True) -> Task:
    """The task with its networks, each fitted to the data by what it takes of `meta`.

    `trained`: weights come from a checkpoint, so that none that the config names are read or downloaded again.
    `losses`: a loss may be computed, so that a task's own loss network is needed. A task may take both as arguments.
    """
    networks: dict[str, nn.Module] = {}
    for role, spec in cfg.model.items():
        key = "model" if role == "model" else f"model.{role}"
        args = {name: value for name, value in spec.args.items() if not (trained and name == "weights")}
        networks[role] = COMPONENTS["model"].build(Component(spec.name, args), key, **meta)
    offered = {**meta, **networks, "output": cfg.test.output, "trained": trained, "losses": losses}
    if cfg.test.positive is not None:
        offered["positive"] = cfg.test.positive
    return COMPONENTS["task"].build(cfg.task, "task", **offered)


def network_state(task: Task) -> dict[str, torch.Tensor]:
    """The state_dict as files hold it: one network under its own names, several as `<role>.<name>`."""
    state = task.state_dict()
    return {short: state[name] for name, short in _saved_names(task).items()}


def buffer_state(task: Task) -> dict[str, torch.Tensor]:
    """What the task itself must not forget, such as a GAN's fixed noise: the buffers that are no network's."""
    return {name: value for name, value in task.state_dict().items() if "." not in name}


def load_network_state(
    task: Task, state: dict[str, torch.Tensor], buffers: dict[str, torch.Tensor], source: str
) -> None:
    """Put back what `network_state` and `buffer_state` gave.

    Raises CheckpointError when the networks are not those of the state.
    """
    names = _saved_names(task)
    prefix = "" if list(names) == list(names.values()) else "model."
    own = buffer_state(task)
    unsaved = {name: value for name, value in task.state_dict().items() if name not in names and name not in own}
    networks = {prefix + name: value for name, value in state.items()}
    load_weights(task, {**unsaved, **buffers, **networks}, source, strict=True)


def _saved_names(task: Task) -> dict[str, str]:
    """The task's name and the file's name of every tensor of a network that is stored."""
    names = [name for name in task.state_dict() if "." in name and name.split(".")[0] not in task.unsaved]
    single = all(name.startswith("model.") for name in names)
    return {name: name.removeprefix("model.") if single else name for name in names}


def load_initial(task: Task, path: str, say: Callable[[str], None]) -> None:
    """Begin with the weights of a file, a run's checkpoint or a bare state_dict, and say what did not fit.

    Raises CheckpointError when the file cannot be read or nothing in it fits.
    """
    networks = [net for role, net in task.named_children() if role not in task.unsaved]
    target = networks[0] if len(networks) == 1 else task
    weights, source = _weights(path, say)
    left = load_weights(target, weights, str(source), strict=False)
    say(f"weights from {source}" + (f"; left as they were: {', '.join(left[:5])}" if left else ", every one"))


def describe(dataset: Any) -> Meta:
    """What a dataset tells models and other splits, as plain values.

    Raises ConfigError when it is not plain: a checkpoint could not hold it.
    """
    meta = dict(getattr(dataset, "meta", {}))
    try:
        return dict(json.loads(json.dumps(meta)))
    except TypeError as error:
        raise ConfigError(
            f"{type(dataset).__name__}.meta: {error}; it may hold numbers, text, lists and dicts"
        ) from error


def make_averaged(task: Task, decay: float | None) -> AveragedModel | None:
    """A copy of the task that follows it as an exponential moving average; it follows closely at first."""
    if decay is None:
        return None

    def average(own: Any, current: Any, count: Any) -> None:
        n = int(averaged.n_averaged)  # type: ignore[arg-type]  # `count` is the same, but on a GPU one would wait for it
        weight = 1 - min(decay, (1 + n) / (10 + n))
        if own[0].is_floating_point():
            torch._foreach_lerp_(own, current, weight)
        else:
            torch._foreach_copy_(own, current)  # counters

    averaged = AveragedModel(task, multi_avg_fn=average, use_buffers=True)
    return averaged


def least_batch(task: Task) -> int:
    """The fewest samples that the task can learn from at once: BatchNorm compares two."""
    return 2 if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in task.modules()) else 1


def monitored(cfg: Config) -> tuple[str | None, bool]:
    """The metric that picks the best checkpoint, None where nothing is measured; and whether smaller is better."""
    metrics = COMPONENTS["task"].get(cfg.task.name).metrics
    name = cfg.train.monitor or next(iter(metrics), None)
    return name, metrics.get(name) == "min"


def _weights(path: str, say: Callable[[str], None]) -> tuple[Mapping[str, torch.Tensor], Path]:
    """Those of a run, whose checksum must fit, or of any other file; and the file."""
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
