"""LoadedRun: from a checkpoint alone, which holds model, arguments, classes and transforms."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from configs import COMPONENTS, Config, differences, load_stored
from data.loading.bad_samples import FILE as BAD_SAMPLES
from data.loading.loader import Loader
from data.protocol import identity_of, names_of
from trainer.build import NOTHING, Given, build_dataset, build_task
from trainer.checkpointing.store import BEST, LAST, PREVIOUS, read_newest
from trainer.checkpointing.weights import load_network_state
from trainer.features import with_features
from trainer.messages import explain_torch_errors
from trainer.setup import prepare_networks, resolve_auto, seed_everything
from trainer.task import Task
from utils import dist
from utils.config.cli import Flag, as_typed
from utils.device import choose_device
from utils.errors import ConfigError
from utils.runs.folder import refuse_absent, run_path
from utils.terminal import show

__all__ = ["LoadedRun"]

# Keys that change how is measured, not what was trained.
NAMES = ("use_gpu", "threads", "precision", "tf32", "deterministic", "channels_last", "compile", "seed")
COMPUTING = tuple(f"train.{name}" for name in NAMES)
# Another folder, or another file, is scored whole.
PLACES = (
    "data.train_data_root",
    *(f"data.dataset.{name}" for name in ("root", "train", "labels", "annotations", "files")),
)
MEASURING = ("data.", "test.", "log.", "task.metrics_too", "task.threshold", *COMPUTING)


class LoadedRun:
    """A checkpoint: `stored` is its config; `load_task` gives its task, with averaged weights if there are any."""

    def __init__(self, checkpoint: str, given: Given = NOTHING):
        """Read the checkpoint. `given`: the objects that it was trained with.

        Raises CheckpointError when there is none that can be read, or objects are missing.
        """
        path = run_path(checkpoint)
        refuse_absent(path, checkpoint)
        self.state, self.source, rejected = read_newest(path, (BEST, LAST, PREVIOUS))
        for reason in rejected:
            dist.on_main(show, f"passed over {reason}")
        given.refuse_others(self.state, self.source)
        self.given, self.stored = given, load_stored(self.state["config"], self.source)
        self.meta: dict[str, Any] = self.state["meta"]

    def load_task(self, flags: Sequence[Flag], losses: bool = False) -> tuple[Config, Task, torch.device]:
        """Return the config with the flags laid over it, and the task ready to be used; with its losses if needed.

        Raises ConfigError for a flag that would have made another training.
        """
        cfg = load_stored(self.state["config"], self.source, flags)
        takes = f"data.*, test.*, task.metrics_too, task.threshold, {', '.join(COMPUTING)} may be given"
        if wrong := [key for key in differences(self.stored, cfg) if not key.startswith(MEASURING)]:
            raise ConfigError(
                "\n".join(f"{as_typed(k, flags)}: a checkpoint keeps its own {k}; {takes}" for k in wrong)
            )
        device = choose_device(cfg.train.use_gpu)
        cfg = resolve_auto(cfg, device)
        dist.start(device)
        seed_everything(cfg.train)
        torch.backends.cudnn.benchmark = False  # the fastest algorithm may be another one each time
        with explain_torch_errors(cfg, training=False):
            task = build_task(cfg, self.meta, True, losses, self.given)
            self.load_weights(task)
            prepare_networks(task, cfg.train)
            return cfg, task.to(device).eval(), device

    def load_weights(self, task: Task) -> None:
        """Load the weights, averaged ones if there are any."""
        weights, buffers = self.state["ema"] or self.state["model"], self.state.get("buffers", {})
        load_network_state(task, weights, buffers, str(self.source))

    def loader(self, cfg: Config, split: str, task: Task, device: torch.device) -> Loader:
        """Return the batches of a split, in the order of its samples."""
        root, name = f"{'test' if split == 'test' else 'train'}_data_root", cfg.data.dataset.name
        unused = getattr(cfg.data, root) is not None and "root" not in COMPONENTS["data"].signature(name).parameters
        if unused:
            dist.on_main(show, f"note: {name} reads no folder; {root} is not used")
        dataset = with_features(task, self._dataset(cfg, split), cfg, device, adapt=False)
        classes = task.label_classes if split == "val" else None  # a test split may have no labels
        loader = Loader(dataset, cfg.data, cfg.train.seed, training=False, device=device, classes=classes)
        loader.bad.split = split
        if split == "test":
            dist.on_main(loader.bad.keep_in, self.source.parent / BAD_SAMPLES, resumed=False)
        return loader

    def _dataset(self, cfg: Config, split: str) -> Dataset:
        """Return the dataset of a split; that of val is all labelled samples, if other data are named than trained."""
        dataset = build_dataset(cfg, split, self.meta)
        if split != "val" or not any(key in PLACES for key in differences(self.stored, cfg)):
            return dataset
        return dataset if self._held_out(dataset) else build_dataset(cfg, split, self.meta, whole=True)

    def _held_out(self, dataset: Dataset) -> bool:
        """Return whether these are the samples of the run's validation: rows of another table have the same names."""
        if identity_of(dataset) != self.state.get("data", {}).get("val"):
            return False
        before, now = self.state.get("names", {}).get("val", [])[2:], names_of({"val": dataset})["val"][2]
        return not now or not any(before) or before == [now]  # 0: not known
