"""A run that goes on: from its newest good checkpoint, as the same run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs import Config, differences, load_stored
from trainer.checkpointing.store import BEST, Store, read, read_newest
from trainer.messages import told_in_words
from trainer.progress import Progress
from trainer.run.session import _fit
from trainer.state import fingerprint
from trainer.trainer import Trainer
from utils import dist
from utils.config.cli import Flag, as_typed
from utils.config.yaml_text import dump_line
from utils.errors import CheckpointError, ConfigError
from utils.runs.folder import RunFolder, newest_unfinished, refuse_unless_run, run_path
from utils.sinks.console import Console, Output

__all__ = ["resume"]

# What a resumed run may have otherwise; everything else would make it another run.
CHANGEABLE = ("train.max_epoch", "train.max_steps", "train.max_minutes", "data.num_workers", "data.loader", "log.")


def resume(where: str, flags: Sequence[Flag], output: Output = "text") -> None:
    """Continue a run from its newest good checkpoint; `where` is its folder, a .pth in it, or "" for the newest."""
    console = Console(output if dist.is_main() else "quiet")
    path = run_path(where) if where else newest_unfinished()
    folder = RunFolder(path if path.is_dir() else path.parent)
    refuse_unless_run(path, f"--resume={where}")
    if dist.is_main():
        folder.own()
        Store(folder.path).sweep()
    state, source, rejected = read_newest(path)
    for reason in rejected:
        console.say(f"passed over {reason}")
    cfg = _changed(state["config"], source, flags, console)
    progress = Progress.from_state(state["progress"])
    told = folder.status().get("state") == "finished"
    if progress.finished(cfg.train) and (told or progress.validated == progress.step):  # else that is still to be done
        if dist.is_main() and not told:  # killed while it drew its pictures, say
            folder.finish()
        on = progress.continued_by(cfg.train)
        console.say(f"{folder.path} is finished at epoch {progress.epoch}, step {progress.step}; {on}")
        return
    with told_in_words(cfg):
        trainer = Trainer(cfg, state, console)
        trainer.outdone = _outdone(folder.path / BEST, progress)
        _compare_fingerprints(state.get("fingerprint", {}), fingerprint(trainer), console)
        for schedule in trainer.update.schedules():
            if schedule.end < schedule.length:
                console.say(
                    f"the learning rate's rule was made for {schedule.end} {schedule.unit}s: its last rate stays"
                )
        console.say(f"resuming {source} at step {progress.step} (epoch {progress.epoch + 1}, batch {progress.batch})")
        _fit(trainer, folder if dist.is_main() else None, folder.path.name)


def _changed(stored: dict[str, Any], source: Path, flags: Sequence[Flag], console: Console) -> Config:
    """The stored config with the flags laid over it, each change said.

    Raises ConfigError for a change that would make it another run.
    """
    cfg = load_stored(stored, source, flags)
    changed = differences(load_stored(stored, source), cfg)
    if wrong := [key for key in changed if not key.startswith(CHANGEABLE)]:
        allowed = ", ".join(CHANGEABLE).replace("log.", "log.*")
        raise ConfigError(
            "\n".join(
                f"{as_typed(k, flags)}: a resumed run keeps its {k} {dump_line(changed[k][0])}; "
                f"only {allowed} may change"
                for k in wrong
            )
        )
    for key, (old, new) in changed.items():
        console.say(f"{key}: {dump_line(old)} -> {dump_line(new)}")
    return cfg


def _outdone(best: Path, progress: Progress) -> Progress | None:
    """Of a best.pth that a run wrote which ended within an epoch: it must not give way to one that is worse."""
    if not best.exists():
        return None
    try:
        found = Progress.from_state(read(best)["progress"])
    except CheckpointError:  # damaged: the next one takes its place
        return None
    better = found.best is not None and (progress.best is None or found.best < progress.best)
    return found if better else None


def _compare_fingerprints(old: dict[str, Any], new: dict[str, Any], console: Console) -> None:
    different = [f"{key} {old.get(key)} -> {new[key]}" for key in new if old.get(key) != new[key]]
    if different:
        console.say(f"not the same set-up ({', '.join(different)}): from here on exact in steps and data, not in bits")
