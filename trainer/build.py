"""From a config to datasets, networks and the task; `meta` carries what one must know of the other."""

import inspect
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.data import Dataset

from configs import COMPONENTS, Component, Config
from data.loading.cache import with_cache
from data.loading.transforms import make_transform
from trainer.checkpointing.weights import load_initial, load_network_state
from trainer.features import with_features
from trainer.task import Task
from utils.device import choose_device
from utils.errors import ConfigError

__all__ = ["Parts", "build", "build_dataset", "build_task", "describe", "least_batch"]

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


def least_batch(task: Task) -> int:
    """The fewest samples that the task can learn from at once: BatchNorm compares two."""
    return 2 if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in task.modules()) else 1
