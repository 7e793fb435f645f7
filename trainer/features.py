"""Features of photos by a frozen network: computed once, kept on disk, and believed only if nothing has changed."""

import contextlib
import hashlib
import inspect
import io
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from configs import Config
from data.loading.cache import stamp
from data.loading.loader import Loader
from data.protocol import photographed
from trainer.evaluate import evaluating
from trainer.task import Task
from utils import dist
from utils.errors import StorageError
from utils.files import write_atomic
from utils.runs.folder import ROOT

__all__ = ["with_features"]

FOLDER = ROOT / ".features"
LIBRARIES = ("torch", "torchvision", "pillow")  # they read, shrink and encode the photos


def with_features(
    task: Any,
    dataset: Any,
    cfg: Config,
    device: torch.device,
    adapt: bool,
    say: Callable[[str], None] = lambda text: None,
) -> Dataset:
    """Return the dataset of features, if the task works on them (it has `encode`, the dataset `pictures`); or as it is.

    Such a task also has an `encoder` and `adapt`, such a dataset the paths `files` and `with_features`.
    The features are float32 [photos, D], of the dataset's pictures as its transform gives them: one that draws random
    numbers would be frozen in one draw. `adapt`: the task is shown them first, as those of the training set. They lie
    in checkpoints/.features, under a fingerprint of all that they depend on; a file there that is damaged is computed
    anew, and a folder that cannot be written costs nothing but the time of the next run.

    Raises DataError when a photo cannot be read, or pictures differ in size.
    """
    pictured = photographed(dataset)
    if pictured is None or not hasattr(task, "encode"):
        return dataset
    path = FOLDER / f"{fingerprint(task, dataset, device)}.pt"
    features = _kept(path, len(dataset))
    known = dist.gather(features is not None)
    if features is None or not all(known):  # ranks on several machines agree: they compute together
        say(f"features of {len(dataset):,} photos: computed once, kept in {FOLDER}")
        features = _compute(task, pictured.pictures, cfg, device)
        _keep(path, features)
    if adapt:
        task.adapt(features)
    return pictured.with_features(features)


def fingerprint(task: Any, dataset: Any, device: torch.device) -> str:
    """Return a sha256 of everything that decides the features: encoder, transform, photos, libraries.

    Raises DataError for a photo that is gone.
    """
    numbers = torch.get_float32_matmul_precision()
    digest = hashlib.sha256(repr([device.type, numbers, *((name, version(name)) for name in LIBRARIES)]).encode())
    digest.update(repr([task.encoder, dataset.pictures.transform]).encode())
    digest.update(Path(inspect.getfile(type(task.encoder))).read_bytes())
    for name, tensor in task.encoder.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return stamp(digest, dataset.files)


def _compute(task: Task, pictures: Dataset, cfg: Config, device: torch.device) -> Tensor:
    """Compute the features of all pictures; each rank encodes its share."""
    rows: dict[int, Tensor] = {}
    data = replace(cfg.data, on_bad_sample="raise")  # no other photo's features may stand for those of a bad one
    reading = contextlib.closing(Loader(pictures, data, cfg.train.seed, training=False, device=device))
    with reading as loader, evaluating(task), torch.no_grad():
        for indices, batch in loader.epoch(0):
            rows.update(zip(indices, task.encode(batch).float().cpu(), strict=True))  # type: ignore[operator]
    whole = {index: row for part in dist.gather(rows) for index, row in part.items()}
    return torch.stack([whole[index] for index in range(loader.size)])


def _kept(path: Path, count: int) -> Tensor | None:
    """Return the features in a file, None if it is absent or cannot be trusted."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        features = content["features"]
        return features if len(features) == count and content["sha256"] == _digest(features) else None
    except Exception:  # absent, damaged or foreign: torch raises what it likes
        return None


def _keep(path: Path, features: Tensor) -> None:
    buffer = io.BytesIO()
    torch.save({"features": features, "sha256": _digest(features)}, buffer)
    with contextlib.suppress(StorageError, OSError):  # then the next run computes them again
        write_atomic(path, buffer.getbuffer())


def _digest(features: Tensor) -> str:
    return hashlib.sha256(features.numpy().tobytes()).hexdigest()
