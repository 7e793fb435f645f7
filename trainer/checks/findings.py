"""Looks at a run that has not begun: disk, files in both splits, the test split and its submission."""

import hashlib
import io
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, redirect_stdout
from itertools import cycle
from pathlib import Path

import torch

from configs import Config
from data.loading.loader import Loader
from data.loading.samplers import spread
from data.protocol import files_of, ids_of, labels_of, photographed
from trainer.build import Given, Parts, build_dataset, build_task
from trainer.checkpointing.weights import load_network_state
from trainer.evaluate import evaluate, predict
from trainer.setup import prepare_networks
from trainer.state import RunState
from trainer.submission.predict import Form
from trainer.submission.sample import read_sample
from trainer.submission.write import laid_out, target_of, write_pictures, write_rows
from trainer.task import Task
from utils.errors import DataError, StorageError
from utils.randomness import seed_all

__all__ = [
    "check_disk",
    "check_submission",
    "check_test_data",
    "files_in_both",
    "memory_peak",
    "odd_validation",
    "shared_files",
    "spread_part",
]

PATIENCE = 3.0  # s for a look at files
BEGINNING = 1 << 20  # bytes of a file that are compared
SAME = 1e-3  # of a number of validation: it is the same


def check_disk(cfg: Config, size: int, folder: Path) -> str:
    """Return in words how much disk the checkpoints of `size` bytes need. Raises StorageError if there is less."""
    train = cfg.train
    kept = (
        4 + train.keep_top + (train.max_epoch // train.keep_every if train.keep_every else 0)
    )  # and one being written
    free = shutil.disk_usage(folder).free
    told = f"{size / 1e6:,.1f} MB a checkpoint, {kept * size / 1e6:,.1f} MB at most, {free / 1e6:,.0f} MB free"
    if kept * size > free:
        raise StorageError(f"{folder}: the disk is too small: {told}; make room, or keep fewer (train.keep_every)")
    return told


def shared_files(train: Sequence[str], val: Sequence[str]) -> str:
    """Return in words which files are in both splits, by their paths or their content; empty if none are."""
    known = {os.path.realpath(file): file for file in train}
    pairs = [(known[real], file) for file in val if (real := os.path.realpath(file)) in known]
    how = "" if pairs else " with the same content"
    pairs = pairs or _same_content(train, val)
    if not pairs:
        return ""
    count = (
        f"{len(pairs):,} files of the validation split are" if len(pairs) > 1 else "a file of the validation split is"
    )
    (one, other), more = pairs[0], "; the first is " if len(pairs) > 1 else ": "
    named = one if one == other else f"{one} and {other}"
    return f"{count} in the training split, too{how}{more}{named}; validation then tells too good a number"


def _same_content(train: Iterable[str], val: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs of files with the same size and beginning, as far as they are found in some seconds."""
    end, sizes = time.monotonic() + PATIENCE, dict[int, list[str]]()
    pairs, digests = [], dict[str, bytes]()

    def digest(file: str) -> bytes:
        if file not in digests:
            with open(file, "rb") as stream:
                digests[file] = hashlib.sha256(stream.read(BEGINNING)).digest()
        return digests[file]

    try:
        for file in train:
            sizes.setdefault(os.stat(file).st_size, []).append(file)
            if time.monotonic() > end:
                break
        for file in val:
            pairs += [(one, file) for one in sizes.get(os.stat(file).st_size, ()) if digest(one) == digest(file)][:1]
            if time.monotonic() > end:
                break
    except OSError:  # a file that is gone is told of by whoever reads it
        return pairs
    return pairs


def spread_part(loader: Loader) -> Loader:
    """Return a batch of samples from all over a split, of each class if it has room for them."""
    chosen, labels = spread(loader.size, loader.batch_size), labels_of(loader.dataset)
    return loader.part(chosen if labels is None else labels.cpu().argsort(stable=True)[chosen])


def odd_validation(state: RunState, parts: Parts) -> str:
    """Return in words that the same validation gives other numbers with other random numbers; empty if it does not."""
    if parts.val_loader is None:
        return ""
    loader, found = spread_part(parts.val_loader), []
    for seed in (1, 2):
        seed_all(seed)
        found.append(evaluate(state.eval_task, loader, parts.cfg, parts.device)[0])
    for name, value in found[0].items():
        other = found[1][name]
        if abs(value - other) > SAME * max(abs(value), abs(other)):
            return (
                f"the same validation gives {name} {value:.4g} and {other:.4g}: random numbers are drawn in it; does "
                "forward use F.dropout without training=self.training?"
            )
    return ""


def check_test_data(parts: Parts) -> str:
    """Return in words why there is no test split, where the config names its folder; empty for no fault."""
    cfg = parts.cfg
    if cfg.data.test_data_root is None:
        return ""
    try:
        build_dataset(cfg, "test", parts.state.meta, lambda text: None)
    except DataError as error:
        return str(error)
    return ""


def check_submission(state: RunState, parts: Parts, given: Given, folder: Path | None) -> str:
    """Predict a batch of the test split as the command test does, and write a submission with all its ids.

    Without a folder another process writes it.

    Returns in words what was done. Raises what `test` would, such as DataError for ids that the sample does not have.
    """
    cfg, meta = parts.cfg, parts.state.meta
    if type(state.task).test_step is Task.test_step:
        return ""
    target_of(cfg.test, folder or Path())
    try:
        dataset = build_dataset(cfg, "test", meta, lambda text: None)
    except DataError:  # see check_test_data
        return "no test split"
    if not len(dataset) or (photographed(dataset) is not None and hasattr(state.task, "encode")):  # type: ignore[arg-type]
        return "no prediction"
    ids = [str(one) for one in ids_of(dataset)]
    if len(set(ids)) < len(ids):
        raise DataError(f"{len(ids)} test samples have only {len(set(ids))} different ids; make the file names unique")
    with closing(Loader(dataset, cfg.data, cfg.train.seed, training=False, device=parts.device)) as loader:
        rows = predict(_loaded(state, parts, given), loader.part(loader.first(1)), cfg, parts.device)
    if folder is None:
        return ""
    target, form = folder / "submission.csv", Form(cfg, meta, read_sample(cfg.test.sample) if cfg.test.sample else None)
    written = write_pictures(target, form.apply(rows))
    with redirect_stdout(io.StringIO()):  # test will say the same
        layout, whole = laid_out(dict(zip(ids, cycle(written.values()), strict=False)), form.sample)
        write_rows(target, layout, whole, form.probabilities(whole))
    return f"{len(rows)} predictions, a submission of {len(ids):,} rows"


def _loaded(state: RunState, parts: Parts, given: Given) -> Task:
    """Return the task as `test` builds it from a checkpoint; objects from Python are taken as they are."""
    if given.names():
        return state.eval_task
    task = build_task(parts.cfg, parts.state.meta, trained=True, losses=False)
    saved = state.state_dict()
    load_network_state(task, saved["ema"] or saved["model"], saved["buffers"], "the rehearsal's checkpoint")
    prepare_networks(task, parts.cfg.train)
    return task.to(parts.device).eval()


def memory_peak(device: torch.device) -> str:
    """Return the most memory that was in use so far, in words."""
    if device.type == "cuda":
        peak, whole = torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
        return f"{peak / 1e9:.2f} of {whole / 1e9:.0f} GB of GPU memory at the peak"
    try:
        import resource  # not on Windows
    except ImportError:
        return ""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB of memory at the peak"


def files_in_both(parts: Parts) -> str:
    """Return in words which files are in the training and in the validation split; empty if none are."""
    if parts.val_loader is None or parts.cfg.train.overfit:
        return ""
    return shared_files(files_of(parts.train_loader.dataset), files_of(parts.val_loader.dataset))
