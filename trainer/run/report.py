"""A run in words: in its status, before its first step, and at its end."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from configs import COMPONENTS, Config
from configs.schema import Data
from data._splits import split_of
from data.loading.bad_samples import FILE as BAD_SAMPLES
from data.protocol import kind_of
from trainer.build import Parts
from trainer.checkpointing.store import BEST
from trainer.checks.data_facts import FILE, data_facts, on_screen
from trainer.parallel.apart import drawn_apart
from trainer.state import RunState
from trainer.task import Task
from trainer.watchers._thumbnails import guarded
from trainer.watchers.pictures import CURVES
from trainer.watchers.watcher import Run, Watcher
from utils import dist
from utils.errors import StorageError
from utils.files import write_atomic
from utils.runs.folder import RunFolder
from utils.runs.saves import in_parts
from utils.sinks.console import Console

__all__ = [
    "Status",
    "draw_stopped",
    "facts_of",
    "first_words",
    "gather_bad_samples",
    "keep_bad_samples",
    "last_words",
    "tell_bad_samples",
    "tell_data",
]

PUBLISHED = ("t10k", "cifar")  # the beginnings of files whose sets have a test split of their own


class Status(Watcher):
    """Says in status.json that the run is finished, before anything is drawn at its end."""

    def __init__(self, folder: RunFolder, state: RunState):
        self.folder, self.state = folder, state

    def end(self, run: Run) -> None:
        with suppress(StorageError):  # a full disk has been reported already
            self.folder.set_status("finished", **facts_of(self.state))


def facts_of(state: RunState) -> dict[str, Any]:
    """Return the facts of a run for status.json."""
    p = state.progress
    facts = {"epoch": p.epoch, "step": p.step, "monitor": state.monitor.name, "best": state.monitor.best(p)[0]}
    return facts | {"seconds": round(p.seconds, 1)}


def first_words(parts: Parts, path: Path, console: Console) -> None:
    """Print the networks, the data and the device before the first step."""
    cfg, train = parts.cfg, parts.cfg.train
    sums = ((role, sum(p.numel() for p in net.parameters())) for role, net in parts.state.task.named_children())
    networks = ((role, count) for role, count in sums if count or role not in parts.state.task.unsaved)
    sizes = f"{parts.train_loader.size:,} train samples"
    if parts.val_loader is not None:
        sizes = f"{parts.train_loader.size:,} train and {parts.val_loader.size:,} val samples"
    machine = [parts.device.type, train.precision]
    machine += ["channels last"] * bool(train.channels_last) + ["compiled"] * train.compile
    parameters = ", ".join(f"{role} {count:,}" for role, count in networks)
    console.say(f"{path}: {parameters} parameters; {sizes}; {', '.join(machine)}")
    if dist.world_size() > 1:
        console.say(parts.train_loader.tell_shares())
        if parts.train_loader.least > 1 and not train.sync_batchnorm:
            say_how = "--train.sync_batchnorm=true takes the whole batch"
            console.say(f"note: BatchNorm takes the statistics of each process's share; {say_how}")
        if own := drawn_apart(parts.state.task, cfg):
            console.say(f"note: each process has its own {own}: another number of processes learns other weights")
    if told := parts.state.freezing.tell(parts.state.progress.epoch):
        console.say(told)
    if parts.state.swa:
        console.say(parts.state.swa.tell(train.max_epoch))
    steps = min(len(parts.train_loader) * train.max_epoch, train.max_steps or sys.maxsize)
    if cfg.log.print_freq > steps:
        asked = f"--print-freq={max(1, steps // 10)}"
        console.say(f"note: the training loss is told each {cfg.log.print_freq} steps, and there are {steps}; {asked}")


def tell_data(parts: Parts, path: Path, console: Console) -> None:
    """Print how the data were understood, and keep it as data.txt; a resumed run prints it only if it has changed."""
    loaders = {"train": parts.train_loader, "val": parts.val_loader}
    splits = {split: loader.dataset for split, loader in loaders.items() if loader is not None}
    lines = data_facts(kind_of(parts.train_loader.dataset).__name__, splits, parts.cfg.data.transform)
    text = "\n".join(lines) + "\n"
    with suppress(OSError, UnicodeDecodeError):
        if (path / FILE).read_text(encoding="utf-8") == text:
            return
    write_atomic(path / FILE, text.encode("utf-8", "backslashreplace"))
    console.say("\n".join(on_screen(lines, str(path / FILE))))


def keep_bad_samples(parts: Parts, path: Path | None) -> None:
    """Let the loaders list samples that cannot be read in the run folder, after those that a resumed run had met.

    Only rank 0 has a folder; the others learn from it which samples had been met.
    """
    for loader in filter(None, (parts.train_loader, parts.val_loader)):
        if path is not None:
            loader.bad.keep_in(path / BAD_SAMPLES, resumed=parts.state.progress.step > 0)
        loader.bad.share(check=False)


def gather_bad_samples(parts: Parts) -> None:
    """Take in the samples that other ranks have met since the last epoch's end: a run may end within an epoch."""
    for loader in filter(None, (parts.train_loader, parts.val_loader)):
        loader.bad.share(check=False)


def tell_bad_samples(parts: Parts, console: Console) -> None:
    """Print in one line how many samples could not be read, and where they are listed."""
    records = [loader.bad for loader in (parts.train_loader, parts.val_loader) if loader is not None]
    for record in records:
        record.write()
    if told := [record.summary() for record in records if record.found]:
        console.say(f"{'; '.join(told)}; files and reasons in {records[0].path}")


def draw_stopped(path: Path, console: Console) -> None:
    """Draw the curves of a run that was stopped; those of a finished one are drawn before its end."""
    from utils.figures.curves import draw_curves

    with guarded(path / CURVES, console.say) as target:
        draw_curves(path / "log.jsonl", target)


def last_words(cfg: Config, state: RunState, path: Path, console: Console) -> None:
    """Print the best metric of a finished run, where its files are, and the next command to type."""
    p = state.progress
    facts: dict[str, Any] = {"steps": p.step, "epochs": p.epoch, "seconds": round(p.seconds, 1)}
    facts["monitor"], (facts["best"], facts["best_epoch"]) = state.monitor.name, state.monitor.best(p)
    facts["best_file"] = str(path / BEST)
    if state.monitor.name is not None and facts["best"] is None:
        console.say(f"no best.pth: {state.monitor.name} was no finite number in any validation")
    kept = [f for f in path.iterdir() if f.suffix in (".yaml", ".jsonl", ".png", ".pth") or in_parts(f)]
    files = sorted(f"{f.name}/" if f.is_dir() else f.name for f in kept)
    console.done(facts | {"folder": str(path), "files": files, "next": f"python main.py {_next(cfg, state)} {path}"})


def _next(cfg: Config, state: RunState) -> str:
    """Return the command that can work on the run: generate, test where there are test data, otherwise val or plot."""
    if getattr(state.task, "generate", None) is not None:
        return "generate"
    if type(state.task).test_step is not Task.test_step and _has_test(cfg.data):
        return "test"
    return "plot" if state.monitor.name is None else "val"


def _has_test(data: Data) -> bool:
    """Return whether the folder of the data holds something that looks like a test split; nothing is read."""
    if "root" not in COMPONENTS["data"].signature(data.dataset.name).parameters:
        return True
    if data.test_data_root is not None:
        return os.path.isdir(os.path.expanduser(data.test_data_root))
    root = str(data.dataset.args.get("root") or data.train_data_root)
    with suppress(OSError, TypeError):
        names = [os.path.splitext(name)[0] for name in os.listdir(os.path.expanduser(root))]
        return any(split_of(name) == "test" or name.lower().startswith(PUBLISHED) for name in names)
    return False
