"""The output of a named layer for each sample of a split, as an npz file; the network's file is not touched."""

import io
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from configs import Config
from data.loading.loader import Loader
from data.protocol import ids_of
from trainer.evaluate import evaluating
from trainer.inference.trained import LoadedRun
from trainer.looking.opened import names_of
from trainer.looking.vitals import first_tensor
from trainer.messages import explain_torch_errors
from trainer.task import Task
from utils import dist
from utils.config.cli import Flag, to_flags
from utils.device import autocast
from utils.errors import ConfigError
from utils.files import write_atomic
from utils.words import suggest

__all__ = ["Features", "extract", "features_of"]


class Features(NamedTuple):
    """The features [N, …] in the order of the split, the samples' names, and labels [N, …] where there are some."""

    features: np.ndarray
    ids: np.ndarray
    labels: np.ndarray | None

    def write(self, target: Path) -> None:
        """Write an npz file of plain arrays. Raises StorageError."""
        buffer, labels = io.BytesIO(), {} if self.labels is None else {"labels": self.labels}
        np.savez(buffer, allow_pickle=False, features=self.features, ids=self.ids, **labels)
        write_atomic(target, buffer.getbuffer())


def features_of(checkpoint: str, layer: str, split: str, pool: bool, flags: Sequence[Flag]) -> tuple[Features, Path]:
    """Return the features by a checkpoint, and its file. Raises ConfigError for a layer that does not exist."""
    trained = LoadedRun(checkpoint)
    whole = to_flags({"train.compile": "false"}) if trained.stored.train.compile else []  # a hook sees no fused layer
    cfg, task, device = trained.load_task([*flags, *whole], losses=split != "test")
    chosen = named_layer(task, layer)
    plain = replace(cfg, data=replace(cfg.data, transform=replace(cfg.data.transform, train=cfg.data.transform.eval)))
    with explain_torch_errors(cfg, training=False), closing(trained.loader(plain, split, task, device)) as loader:
        found = extract(task, chosen, layer, loader, cfg, split == "test", pool)
    dist.stop()
    return found, trained.source


def named_layer(task: Task, name: str) -> nn.Module:
    """Return the layer of that name. Raises ConfigError with a suggestion."""
    names = names_of(task)
    if name not in names:
        raise ConfigError(f"--layer={name}: the network has no such layer{suggest(name, names)}")
    return names[name]


def extract(
    task: Task, layer: nn.Module, name: str, loader: Loader, cfg: Config, unlabelled: bool, pool: bool
) -> Features:
    """Return the layer's output for each sample of a loader; `pool`: its mean over height and width.

    Raises ConfigError for a layer that is not used once a batch, or does not give a row for each sample.
    """
    seen: list[Tensor] = []
    rows: dict[int, Tensor] = {}
    targets: dict[int, Tensor] = {}

    def keep(used: nn.Module, given: Any, output: Any) -> None:
        tensor = first_tensor(output)
        seen.extend(
            [] if tensor is None else [tensor.detach().float().cpu().clone()]
        )  # a ReLU after it may work in place

    hook, meters = layer.register_forward_hook(keep), task.meters()
    try:
        with evaluating(task), torch.no_grad():
            for indices, batch in loader.epoch(0):
                seen.clear()
                with autocast(loader.device, cfg.train.precision):
                    task.test_step(batch) if unlabelled else task.val_step(batch, meters)
                rows.update(zip(indices, _one(seen, name, len(indices), pool), strict=True))
                targets.update(zip(indices, _labels(batch, len(indices), unlabelled), strict=False))
    finally:
        hook.remove()
    order, names = sorted(rows), ids_of(loader.dataset)  # samples that were passed over have no row
    labels = torch.stack([targets[i] for i in order]).numpy() if len(targets) == len(rows) and targets else None
    ids = np.array([str(names[i]) for i in order])
    return Features(torch.stack([rows[i] for i in order]).numpy(), ids, labels)


def _one(seen: list[Tensor], name: str, count: int, pool: bool) -> Tensor:
    """Return the only output of a batch [B, …]."""
    if len(seen) != 1:
        told = f"is used {len(seen)} times a batch" if seen else "gives no numbers, or is not used here"
        raise ConfigError(f"--layer={name}: {told}; take a layer that is used once")
    (output,) = seen
    if len(output) != count:
        raise ConfigError(f"--layer={name}: gives {len(output)} rows for {count} samples; take another layer")
    return output.flatten(2).mean(2) if pool and output.ndim > 2 else output


def _labels(batch: Any, count: int, unlabelled: bool) -> Sequence[Tensor]:
    target = batch[1] if isinstance(batch, tuple | list) and len(batch) == 2 else None
    fits = isinstance(target, Tensor) and len(target) == count and not unlabelled
    return list(target.cpu()) if fits else []  # type: ignore[union-attr]
