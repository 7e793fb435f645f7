"""The command train around the Trainer: run folder, sinks, resume, and the last words."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from configs import COMPONENTS, Config, differences, load_stored
from trainer.checkpointing.saver import Saver
from trainer.checkpointing.store import BEST, Store, read, read_newest
from trainer.progress import Progress
from trainer.setup import told_in_words
from trainer.signals import Stopped
from trainer.state import fingerprint
from trainer.trainer import Trainer
from trainer.watchers.inspector import Inspector, add_closing_views
from trainer.watchers.pictures import Drawings
from utils import dist
from utils.config.cli import Flag, as_typed
from utils.config.convert import to_plain
from utils.config.yaml_text import dump_line, dump_yaml
from utils.errors import CheckpointError, ConfigError, NonFiniteError, StorageError, WorkerError
from utils.files import put
from utils.runs.folder import RunFolder, newest_unfinished, refuse_name, refuse_unless_run, run_name, run_path
from utils.sinks.console import Console, Output
from utils.sinks.logger import Journal, Logger, VisdomBoard
from utils.sinks.tensorboard import TensorBoard

__all__ = ["resume", "train"]

# What a resumed run may have otherwise; everything else would make it another run.
CHANGEABLE = ("train.max_epoch", "train.max_steps", "train.max_minutes", "data.num_workers", "data.loader", "log.")


def train(cfg: Config, config_name: str, run: str | None, output: Output = "text") -> None:
    """Train a new run in a folder of its own."""
    console = Console(output if dist.is_main() else "quiet")
    takes = COMPONENTS["data"].signature(cfg.data.dataset.name).parameters
    if cfg.data.train_data_root is not None and "root" not in takes:
        console.say(f"note: {cfg.data.dataset.name} reads no folder; train_data_root is not used")
    if run is not None and dist.is_main():
        refuse_name(run)  # not after an hour of reading data
    with told_in_words(cfg):
        trainer = Trainer(cfg, console=console)
        name = dist.broadcast(run or run_name(config_name, "-".join(spec.name for spec in cfg.model.values())))
        folder = RunFolder.create(name, config_name) if dist.is_main() else None
        try:
            _fit(trainer, folder, name)
        except (Exception, KeyboardInterrupt) as error:
            begun = trainer.progress.step or trainer.progress.validated >= 0
            if folder and not begun and not isinstance(error, (NonFiniteError, StorageError, WorkerError)):
                folder.remove()  # the mended command may take the same name
            raise


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


def _fit(trainer: Trainer, folder: RunFolder | None, name: str) -> None:
    """Fit with sinks and status around it; only rank 0 has a folder."""
    if folder is not None:
        _open_sinks(trainer, folder, name)
    drawings = None
    if folder is not None and trainer.cfg.log.pictures:
        drawings = Drawings(trainer, folder.path)
        trainer.logger.backends.append(drawings)
    state, code = "failed", 0
    try:
        trainer.fit()
        state = "finished"
        if folder is not None:
            _show_end(trainer, folder, drawings)
    except Stopped as asked:
        state, code = "stopped", asked.exit_code
    finally:
        if folder is not None:
            with suppress(StorageError):  # a disk that is full has been told of, with what to do
                folder.set_status(state, **_facts(trainer))
        trainer.close(failed=state == "failed")
    if code:
        trainer.console.say(
            f"stopped after step {trainer.progress.step}, saved; continue with --resume=checkpoints/{name}"
        )
        raise SystemExit(code)
    if folder is not None:
        _last_words(trainer, folder.path)


def _show_end(trainer: Trainer, folder: RunFolder, drawings: Drawings | None) -> None:
    """What only a finished run shows, in its folder and through sinks that are still open."""
    with suppress(StorageError):
        folder.set_status("finished", **_facts(trainer))
    if drawings is not None:
        drawings.at_end()
    add_closing_views(trainer)


def _open_sinks(trainer: Trainer, folder: RunFolder, name: str) -> None:
    """The journal first: it is the truth, and what comes after it may fail."""
    cfg, console, path = trainer.cfg, trainer.console, folder.path
    resolved = to_plain(cfg)
    resolved["train"]["use_gpu"] = trainer.device.type == "cuda"
    ways = {batches.threaded for batches in (trainer.train_batches, trainer.val_batches) if batches is not None}
    if len(ways) == 1:
        resolved["data"]["loader"] = "threads" if ways.pop() else "processes"
    put(path / "config.yaml", dump_yaml(resolved).encode())
    folder.set_status("running", **_facts(trainer))
    trainer.journal = Journal(path / "log.jsonl", keep=trainer.progress.journal)
    trainer.logger = Logger([trainer.journal, console])
    durable: list[Journal | TensorBoard] = [trainer.journal]
    if cfg.log.tensorboard:
        durable.append(_tensorboard(path, trainer.progress.step, console))
        trainer.logger.backends.append(durable[-1])
    trainer.saver = Saver(Store(path), cfg.train.save_in_background, lambda: [sink.sync() for sink in durable])
    if cfg.log.visdom:
        trainer.logger.backends.append(_visdom(cfg, name, path, console))
    if cfg.log.histograms:
        boards = [board for board in trainer.logger.backends if isinstance(board, TensorBoard | VisdomBoard)]
        trainer.logger.backends.append(Inspector(trainer.task, boards, cfg.log.histograms, trainer.progress.step))
    parts = ", ".join(f"{k} {sum(p.numel() for p in net.parameters()):,}" for k, net in trainer.task.named_children())
    sizes = f"{trainer.train_batches.size:,} train samples"
    if trainer.val_batches is not None:
        sizes = f"{trainer.train_batches.size:,} train and {trainer.val_batches.size:,} val samples"
    console.say(f"{path}: {parts} parameters; {sizes}; {_machine(trainer)}")
    steps = min(len(trainer.train_batches) * cfg.train.max_epoch, cfg.train.max_steps or sys.maxsize)
    if cfg.log.print_freq > steps:
        asked = f"--print-freq={max(1, steps // 10)}"
        console.say(f"note: the training loss is told each {cfg.log.print_freq} steps, and there are {steps}; {asked}")


def _machine(trainer: Trainer) -> str:
    """What computes, and in which numbers."""
    train = trainer.cfg.train
    parts = [trainer.device.type, train.precision]
    parts += ["channels last"] * bool(train.channels_last) + ["compiled"] * train.compile
    return ", ".join(parts)


def _tensorboard(path: Path, step: int, console: Console) -> TensorBoard:
    """The event files; after a resume without what came after the save, be it of the same step."""
    board = TensorBoard(path / "tensorboard", step or None, console.say)
    if step:
        board.replay(path / "log.jsonl", step)
    return board


def _visdom(cfg: Config, name: str, path: Path, console: Console) -> VisdomBoard:
    """The visdom view; after a resume it is shown the curves so far."""
    from utils.visualize import Visualizer

    board = VisdomBoard(Visualizer(cfg.log.env or name, cfg.log.visdom_host, cfg.log.visdom_port, console.say))
    board.replay(path / "log.jsonl")
    return board


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
