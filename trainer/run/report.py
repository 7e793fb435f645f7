"""A run in words: in its status, before its first step, and at its end."""

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from configs import Config
from trainer.build import Parts, build_dataset
from trainer.checkpointing.store import BEST
from trainer.run.data_facts import FILE, data_facts, on_screen
from trainer.state import RunState
from trainer.task import Task
from trainer.watchers._thumbnails import guarded
from trainer.watchers.pictures import CURVES
from trainer.watchers.watcher import Run, Watcher
from utils.errors import StorageError
from utils.files import write_atomic
from utils.runs.folder import RunFolder
from utils.sinks.console import Console

__all__ = ["Status", "facts_of", "first_words", "last_words", "tell_data"]


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
    networks = ((role, sum(p.numel() for p in net.parameters())) for role, net in parts.state.task.named_children())
    sizes = f"{parts.train_loader.size:,} train samples"
    if parts.val_loader is not None:
        sizes = f"{parts.train_loader.size:,} train and {parts.val_loader.size:,} val samples"
    machine = [parts.device.type, train.precision]
    machine += ["channels last"] * bool(train.channels_last) + ["compiled"] * train.compile
    parameters = ", ".join(f"{role} {count:,}" for role, count in networks)
    console.say(f"{path}: {parameters} parameters; {sizes}; {', '.join(machine)}")
    steps = min(len(parts.train_loader) * train.max_epoch, train.max_steps or sys.maxsize)
    if cfg.log.print_freq > steps:
        asked = f"--print-freq={max(1, steps // 10)}"
        console.say(f"note: the training loss is told each {cfg.log.print_freq} steps, and there are {steps}; {asked}")


def tell_data(parts: Parts, path: Path, console: Console) -> None:
    """Print how the data were understood, and keep it as data.txt; a resumed run prints it only if it has changed."""
    loaders = {"train": parts.train_loader, "val": parts.val_loader}
    splits = {split: loader.dataset for split, loader in loaders.items() if loader is not None}
    lines = data_facts(type(parts.train_loader.dataset).__name__, splits)
    text = "\n".join(lines) + "\n"
    with suppress(OSError, UnicodeDecodeError):
        if (path / FILE).read_text(encoding="utf-8") == text:
            return
    write_atomic(path / FILE, text.encode("utf-8", "backslashreplace"))
    console.say("\n".join(on_screen(lines, str(path / FILE))))


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
    if note := _near_chance(state, facts["best"]):
        console.say(note)
    files = sorted(f.name for f in path.iterdir() if f.suffix in (".yaml", ".jsonl", ".png", ".pth"))
    console.done(facts | {"folder": str(path), "files": files, "next": f"python main.py {_next(cfg, state)} {path}"})


def _near_chance(state: RunState, best: float | None) -> str:
    """Return the note about a classifier that has hardly learned; empty for any other run."""
    classes = state.meta.get("num_classes")
    if state.monitor.name != "accuracy" or best is None or not isinstance(classes, int) or classes < 2:
        return ""
    if best > 1 / classes + 0.2 * (1 - 1 / classes):
        return ""
    told = f"note: accuracy {best:.2f} with {classes} classes is near chance ({1 / classes:.2f})"
    return f"{told}; try another --lr, more epochs, and docs/troubleshooting.md#it-runs-and-does-not-learn"


def _next(cfg: Config, state: RunState) -> str:
    """Return the command that can work on the run: generate, test where there are test data, otherwise val or plot."""
    if getattr(state.task, "generate", None) is not None:
        return "generate"
    if type(state.task).test_step is not Task.test_step:
        try:
            data = replace(cfg.data, cache=None)
            if len(build_dataset(replace(cfg, data=data), "test", state.meta, say=lambda _: None)):  # type: ignore[arg-type]
                return "test"
        except Exception:  # no test data, or a dataset of the user's that has no such split
            pass
    return "plot" if state.monitor.name is None else "val"
