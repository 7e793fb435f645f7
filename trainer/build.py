"""From a config to the parts of a training; `meta` tells models and tasks about the data."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.data import Dataset

from configs import COMPONENTS, Component, Config
from configs.schema import Train
from data._folds import Folds
from data.loading.cache import with_cache
from data.loading.loader import Loader
from data.loading.part import with_fraction
from data.loading.transforms import make_transform
from data.protocol import be_lenient, identity_of, meta_of, names_of
from trainer.checkpointing.initial import load_initial, load_optimizers
from trainer.checkpointing.weights import load_network_state
from trainer.evaluate import meters_of
from trainer.features import with_features
from trainer.losses._balanced import tensors_in, with_balance
from trainer.losses._measure import check_mixed
from trainer.messages import refuse_incomplete, refuse_unmade
from trainer.optim.update import make_updates
from trainer.parallel.agreement import agree_on_checkpoint, agree_on_config, agree_on_data
from trainer.parallel.batch_norm import synchronise
from trainer.parallel.fsdp import divide
from trainer.parallel.recompute import recompute
from trainer.parameters.init import initialise
from trainer.setup import prepare_networks, resolve_auto, seed_everything
from trainer.state import RunState, fingerprint
from trainer.task import Task
from utils import dist
from utils.blame import place_of, refuse_other
from utils.config.convert import to_plain
from utils.device import choose_device
from utils.errors import CheckpointError, ConfigError, DataError
from utils.terminal import show
from utils.torch_private import is_batch_norm
from utils.words import reason_of

__all__ = ["NOTHING", "Given", "Parts", "build", "build_dataset", "build_task", "rebuilt"]

OVERFIT_STEPS = 200
NO_EMBEDDING = "take MLP, or set data.dataset.columns.one_hot_at_most above the number of categories"
# arguments of tasks that must be as the data have them
FROM_DATA = {"vocabulary", "alphabet", "mask_values", "ignored_class", "outputs"}
Meta = dict[str, Any]  # plain values: classes, channels, size, …; stored in the checkpoint
Say = Callable[[str], None]


class Given(NamedTuple):
    """Objects that Python hands in, where a config would name a component."""

    model: nn.Module | None = None
    train: Dataset | None = None
    val: Dataset | None = None
    task: Task | None = None

    def names(self) -> dict[str, str]:
        """Return the class of each object, by its place in a config."""
        return {part: type(given).__name__ for part, given in self._asdict().items() if given is not None}

    def refuse_others(self, stored: Mapping[str, Any], source: Path) -> None:
        """Raises CheckpointError for a run that was trained with objects and is not given them again.

        Raises ConfigError for other objects than those that it was trained with.
        """
        known = stored.get("given", {})
        if other := {part: name for part, name in self.names().items() if known.get(part) != name}:
            told = ", ".join(f"{part}: {name}" for part, name in other.items())
            raise ConfigError(f"{source}: was not trained with {told}; another object makes another run")
        if missing := {part: name for part, name in known.items() if part not in self.names()}:
            told = " and ".join(f"{part} {name}" for part, name in missing.items())
            again = ", ".join(f"{part}=…" for part in missing)
            raise CheckpointError(
                f"{source}: was trained with {told} handed in from Python, which no command can make; "
                f"from Python, fit(resume=…, {again}) takes them again"
            )


NOTHING = Given()


class Parts(NamedTuple):
    """The parts of a training; `val_loader` is None for a task that measures nothing."""

    cfg: Config  # with `auto` resolved for this device
    device: torch.device
    state: RunState
    train_loader: Loader
    val_loader: Loader | None


def build(cfg: Config, say: Say, stored: dict[str, Any] | None = None, given: Given = NOTHING) -> Parts:
    """Build a training, or with `stored` one that goes on from the state of a checkpoint.

    Raises ConfigError, DataError or CheckpointError for what does not fit together.
    """
    device = choose_device(cfg.train.use_gpu)
    dist.start(device, cfg.train.dist_timeout)
    agree_on_config(cfg)
    if stored:
        agree_on_checkpoint(stored["progress"], "--resume")
    cfg = resolve_auto(cfg, device)
    seed_everything(cfg.train)
    cfg, train, val, meta, task = _data_and_task(cfg, device, stored, given, say)
    if cfg.train.sync_batchnorm:
        synchronise(task, device)
    if cfg.train.activation_checkpointing:
        recompute(task, cfg)
    prepare_networks(task, cfg.train, training=True)
    named = {"given": given.names()} if given.names() else {}
    agree_on_data(train, val)
    parts = _assembled(cfg, device, (train, val), meta, task, named, say)
    if stored:
        parts.state.load_state_dict(stored, networks=False)
        progress = parts.state.progress
        progress.batch = parts.train_loader.batches_in(progress.samples)
    else:
        load_optimizers(parts.state.update, cfg, say)
        for line in parts.state.update.odd_schedules(cfg.train, len(parts.train_loader)):
            say(line)
    return parts


def rebuilt(parts: Parts, cfg: Config, say: Say) -> Parts:
    """Return the parts of a run that has not begun with another config of its loaders and optimizers."""
    given = {name: value for name, value in parts.state.about.items() if name == "given"}
    data = parts.train_loader.dataset, parts.val_loader.dataset if parts.val_loader else None
    again = _assembled(cfg, parts.device, data, parts.state.meta, parts.state.task, given, say)
    load_optimizers(again.state.update, cfg)
    return again


def _assembled(
    cfg: Config,
    device: torch.device,
    data: tuple[Dataset, Dataset | None],
    meta: Meta,
    task: Task,
    about: dict[str, Any],
    say: Say,
) -> Parts:
    """Return a training of these data and networks, with loaders and optimizers."""
    train, val = data
    serve = partial(Loader, cfg=cfg.data, seed=cfg.train.seed, say=say, device=device, classes=task.label_classes)
    train_loader = serve(train, training=True, least=least_batch(task))
    val_loader = None if val is None else serve(val, training=False)
    about = {"fingerprint": fingerprint(device, train_loader.size), **about}
    splits = {"train": train} | ({} if val is None else {"val": val})
    about["data"] = {split: identity_of(dataset) for split, dataset in splits.items()}
    about["names"] = names_of(splits)
    if cfg.train.overfit:
        indices, again = train_loader.first(cfg.train.overfit), repeats(cfg.train, train_loader)
        val_loader = val_loader and serve(train, training=False).part(indices)
        train_loader = train_loader.part(indices, again)
        train_loader.mixing = None  # a mixed batch cannot be learned by heart
    if train_loader.mixing and isinstance(loss := getattr(task, "loss", None), nn.Module):
        check_mixed(loss, train_loader.mixing.classes)
    twin = divide(task, cfg, device)
    state = RunState(cfg, task, make_updates(task, cfg, len(train_loader)), meta, about, twin)
    if val_loader is None:
        state.monitor.name = None  # nothing is measured
    else:
        val_loader.probe()
        with suppress(ValueError):  # a dataset without names of classes is told of by the first batch
            state.monitor.check(meters_of(task, cfg))  # not after an epoch
    seed_everything(cfg.train, dist.rank())  # from here on each rank draws its own dropout
    return Parts(cfg, device, state, train_loader, val_loader)


def _data_and_task(
    cfg: Config, device: torch.device, stored: dict[str, Any] | None, given: Given, say: Say
) -> tuple[Config, Dataset, Dataset | None, Meta, Task]:
    """Return the data and the task of a training, with the weights that it goes on from, or begins with.

    The config is returned with the weights of classes that come from the data.
    """
    train = given.train
    if cfg.data.on_bad_sample != "raise":
        for handed in (given.train, given.val):
            be_lenient(handed)
    if train is None:
        train = build_dataset(cfg, "train", stored["meta"] if stored else {}, say)
    meta = stored["meta"] if stored else meta_of(train)
    cfg = with_balance(cfg, train, meta, say)
    task = build_task(cfg, meta, trained=stored is not None, given=given).to(device)
    if stored:
        load_network_state(task, stored["model"], stored.get("buffers", {}), "the checkpoint")
    else:
        initialise(task, cfg.train, say)
        load_initial(task, cfg.train, say)
    train = with_features(task, train, cfg, device, adapt=stored is None, say=say)
    train = with_fraction(train, cfg.data.fraction, cfg.train.seed)
    if not task.metrics or (given.train is not None and given.val is None):
        return cfg, train, None, meta, task
    val = build_dataset(cfg, "val", meta, say) if given.val is None else given.val
    return cfg, train, with_features(task, val, cfg, device, adapt=False, say=say), meta, task


def build_dataset(cfg: Config, split: str, meta: Meta, say: Say = show, whole: bool = False) -> Dataset:
    """Return the dataset of a split; it is offered the split's root and transform, and the training set's meta.

    `whole`: the split val is all labelled samples, because the data are others than those of the training.

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
    offered: Meta = {**meta, "split": split, "whole": whole}
    if cfg.data.fold is not None:
        offered["folds"] = Folds(*cfg.data.fold, cfg.data.group)
    if kind := COMPONENTS["task"].literal(cfg.task.name, "target_kind"):
        offered["target_kind"] = kind
    if "ignore_index" in cfg.task.args:
        offered["ignore_index"] = cfg.task.args["ignore_index"]
    if listed:
        offered["transform"] = make_transform(listed, fast=cfg.data.pixels == "fast")
    root = cfg.data.test_data_root if split == "test" else cfg.data.train_data_root
    if root is not None:
        offered["root"] = root
    try:
        dataset = registry.build(spec, "data.dataset", **offered)
    except OSError as error:
        raise DataError(f"data.dataset: {spec.name}: {reason_of(error)} ({place_of(error)})") from error
    refuse_incomplete(dataset)
    if cfg.data.on_bad_sample != "raise":
        be_lenient(dataset)
    device = choose_device(cfg.train.use_gpu if cfg.data.cache == "gpu" else False)
    return with_cache(dataset, cfg.data.cache, say, device)


def build_task(cfg: Config, meta: Meta, trained: bool = False, losses: bool = True, given: Given = NOTHING) -> Task:
    """Return the task with its networks, each of which takes from `meta` the arguments that it names.

    `trained`: weights come from a checkpoint, so that none that the config names are read or downloaded again.
    `losses`: a loss may be computed, so that a task's own loss network is needed. A task may take both as arguments.
    """
    if given.task is not None:
        return given.task
    networks: dict[str, nn.Module] = {} if given.model is None else {"model": given.model}
    for role, spec in cfg.model.items() if given.model is None else ():
        key = "model" if role == "model" else f"model.{role}"
        if meta.get("embedded") and "embedded" not in COMPONENTS["model"].signature(spec.name).parameters:
            raise ConfigError(f"{key}: {spec.name} takes no categories by number; {NO_EMBEDDING}")
        args = {name: value for name, value in spec.args.items() if not (trained and name == "weights")}
        with _meta_advised(cfg, meta, given):
            networks[role] = COMPONENTS["model"].build(Component(spec.name, args), key, **meta)
    for network in networks.values():
        refuse_unmade(network)
    for name in FROM_DATA & cfg.task.args.keys() & meta.keys():
        if to_plain(cfg.task.args[name]) != meta[name]:
            raise ConfigError(f"task.{name}: the data tell it, and say otherwise; leave it out")
    offered = {**meta, **networks, "output": cfg.test.output, "trained": trained, "losses": losses}
    if cfg.test.positive is not None:
        offered["positive"] = cfg.test.positive
    task: Task = COMPONENTS["task"].build(tensors_in(cfg.task), "task", **offered)
    refuse_other(task, Task)
    return task


@contextmanager
def _meta_advised(cfg: Config, meta: Meta, given: Given) -> Iterator[None]:
    """Add to the error about a missing argument that a dataset of one's own may tell it."""
    name = cfg.data.dataset.name if given.train is None else type(given.train).__name__
    own = not meta or given.train is not None or COMPONENTS["data"].origin(name)
    try:
        yield
    except ConfigError as error:
        if own and "missing a required argument" in str(error) and "; set it with" in str(error):
            raise ConfigError(f"{error} or give it in the meta of {name}") from error
        raise


def repeats(train: Train, loader: Loader) -> int:
    """Return how often an epoch of `train.overfit` has its batches, so that the run has max_steps or 200 steps."""
    batches = min(train.overfit, len(loader))
    return math.ceil((train.max_steps or OVERFIT_STEPS) / (train.max_epoch * batches))


def least_batch(task: Task) -> int:
    """Return the fewest samples that the task can learn from at once: BatchNorm compares two."""
    learning = [net for net in task.children() if any(p.requires_grad for p in net.parameters())]
    return 2 if any(is_batch_norm(layer) for net in learning for layer in net.modules()) else 1
