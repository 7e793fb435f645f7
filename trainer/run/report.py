"""What a run says of itself, in its status and at its end."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from trainer.checkpointing.store import BEST
from trainer.trainer import Trainer
from trainer.watchers.inspector import add_closing_views
from trainer.watchers.pictures import Drawings
from utils.errors import StorageError
from utils.runs.folder import RunFolder

__all__ = []


def _show_end(trainer: Trainer, folder: RunFolder, drawings: Drawings | None) -> None:
    """What only a finished run shows, in its folder and through sinks that are still open."""
    with suppress(StorageError):
        folder.set_status("finished", **_facts(trainer))
    if drawings is not None:
        drawings.at_end()
    add_closing_views(trainer)


def _facts(trainer: Trainer) -> dict[str, Any]:
    p = trainer.progress
    facts = {"epoch": p.epoch, "step": p.step, "monitor": trainer.monitor, "best": _best(trainer)[0]}
    return facts | {"seconds": round(p.seconds, 1)}


def _best(trainer: Trainer) -> tuple[float | None, int]:
    """The monitored metric's value in best.pth, None without one, and the epoch, from 1."""
    p = trainer.outdone or trainer.progress
    # 0 - 0 is 0, and -0.0 nobody wants to read
    return p.best if p.best is None or trainer.smaller_is_better else 0 - p.best, p.best_epoch + 1


def _last_words(trainer: Trainer, path: Path) -> None:
    p, command = trainer.progress, "test" if getattr(trainer.task, "generate", None) is None else "generate"
    facts = {"steps": p.step, "epochs": p.epoch, "seconds": round(p.seconds, 1), "monitor": trainer.monitor}
    facts["best"], facts["best_epoch"] = _best(trainer)
    facts["best_file"] = str(path / BEST)
    files = sorted(f.name for f in path.iterdir() if f.suffix in (".yaml", ".jsonl", ".png", ".pth"))
    trainer.console.done(facts | {"folder": str(path), "files": files, "next": f"python main.py {command} {path}"})
