"""Where a run's numbers go: its journal, console, TensorBoard and visdom."""

import sys
from pathlib import Path

from configs import Config
from trainer.checkpointing.saver import Saver
from trainer.checkpointing.store import Store
from trainer.run.report import _facts
from trainer.trainer import Trainer
from trainer.watchers.inspector import Inspector
from utils.config.convert import to_plain
from utils.config.yaml_text import dump_yaml
from utils.files import put
from utils.runs.folder import RunFolder
from utils.sinks.console import Console
from utils.sinks.journal import Journal
from utils.sinks.logger import Logger
from utils.sinks.tensorboard import TensorBoard
from utils.sinks.visdom_board import VisdomBoard

__all__ = []


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
