"""The outlets of a run: journal, console, TensorBoard, visdom, checkpoints and watchers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from configs import COMPONENTS, Config
from trainer.build import Given, Parts
from trainer.checkpointing.saver import NoSaver, Saver
from trainer.checkpointing.store import Store
from trainer.run.profiler import Profiler
from trainer.run.recorder import Recorder
from trainer.run.report import Status, facts_of
from trainer.watchers.chance import Chance
from trainer.watchers.closing import ClosingViews
from trainer.watchers.first_steps import FirstSteps
from trainer.watchers.inspector import Inspector
from trainer.watchers.overfit import Overfit
from trainer.watchers.pictures import Pictures
from trainer.watchers.predictions import Predictions
from trainer.watchers.watcher import Outlets, Watcher
from utils import dist
from utils.blame import refuse_other
from utils.config.convert import to_plain
from utils.config.yaml_text import dump_yaml
from utils.files import write_atomic
from utils.optional import installed, without
from utils.runs.folder import RunFolder
from utils.sinks.console import Console
from utils.sinks.journal import Journal
from utils.sinks.logger import Logger, Sink
from utils.sinks.tensorboard import TensorBoard
from utils.sinks.visdom_board import VisdomBoard

__all__ = ["open_outlets"]


def open_outlets(
    parts: Parts, folder: RunFolder | None, console: Console, given: Given, rehearsed: bool = False
) -> Outlets:
    """Open everything that a run with a folder writes to; the journal first, which is the truth.

    Only rank 0 has a folder; the other ones save their parts of divided networks. What a rehearsal has told
    is not told again. Raises StorageError when the folder cannot be written.
    """
    path = Path(dist.broadcast(str(folder.path) if folder is not None else ""))
    if folder is None:
        return Outlets(console, Logger(), _open_saver(parts, path, first=False))
    cfg, progress = _possible(parts.cfg, console), parts.state.progress
    write_atomic(path / "config.yaml", _resolved(parts, given).encode())
    folder.set_status("running", **facts_of(parts.state))
    journal = Journal(path / "log.jsonl", keep=progress.journal, say=console.say)
    sinks: list[Sink] = [console]
    durable: list[Journal | TensorBoard] = [journal]
    if cfg.log.tensorboard:
        durable.append(_tensorboard(path, progress.step, console))
        sinks.append(durable[-1])
    if cfg.log.visdom:
        sinks.append(_visdom(cfg, path, console))
    before = partial(_before_save, folder, durable)
    saver = _open_saver(parts, path, first=True, before=before)
    sharded = parts.state.sharded  # then the watchers, which are on rank 0 alone, cannot run the networks
    if sharded:
        console.say("note: train.shard: no pictures of predictions, and no look at the first steps")
    watchers: list[Watcher] = [Status(folder, parts.state), Recorder(), Chance(first=not rehearsed)]
    watchers += [Pictures()] if sharded and cfg.log.pictures else [] if sharded else _watchers(cfg)
    watchers[1:1] = [] if rehearsed or sharded else [FirstSteps()]
    watchers += [Overfit()] if cfg.train.overfit else []
    return Outlets(console, Logger(sinks, journal), saver, watchers)


def _open_saver(parts: Parts, path: Path, first: bool, before: Callable[[], object] = lambda: None) -> Saver:
    """Return what saves the run in this process: nothing except in the first one, unless each has a part."""
    background = parts.cfg.train.save_in_background
    if not parts.state.sharded:
        return Saver(Store(path), background, before) if first else NoSaver()
    from trainer.checkpointing.sharded import ShardedSaver  # reads much of torch

    return ShardedSaver(path, first, background, before)


def _before_save(folder: RunFolder, durable: Sequence[Journal | TensorBoard]) -> None:
    """Make everything written so far durable, in a folder that is still this process's own."""
    folder.refuse_if_taken()
    for sink in durable:
        sink.sync()


def _possible(cfg: Config, console: Console) -> Config:
    """Return the config without the views whose packages are missing; one line tells all that the run goes without."""
    log, wanted = cfg.log, {"visdom": cfg.log.visdom, "tensorboardX": cfg.log.tensorboard}
    wanted["matplotlib"] = log.pictures
    if told := without(name for name, asked in wanted.items() if not asked):
        console.say(told)
    visdom, tensorboard = log.visdom and installed("visdom"), log.tensorboard and installed("tensorboardX")
    return replace(cfg, log=replace(log, visdom=visdom, tensorboard=tensorboard))


def _watchers(cfg: Config) -> Iterator[Watcher]:
    """Yield the watchers that the config asks for."""
    if cfg.log.histograms:
        yield Inspector(cfg.log.histograms)
    if cfg.log.pictures:
        yield from (Pictures(), Predictions())
    if cfg.log.tensorboard:
        yield ClosingViews()
    if cfg.train.profile:
        yield Profiler(*cfg.train.profile)
    for i, spec in enumerate(cfg.log.watchers):
        watcher = COMPONENTS["watcher"].build(spec, f"log.watchers[{i}]")
        refuse_other(watcher, Watcher)
        yield watcher


def _resolved(parts: Parts, given: Given) -> str:
    """Return the config as it is stored, with `auto` resolved and a note on objects that no config can name."""
    resolved = to_plain(parts.cfg)
    resolved["train"]["use_gpu"] = parts.device.type == "cuda"
    ways = {loader.threaded for loader in (parts.train_loader, parts.val_loader) if loader is not None}
    if len(ways) == 1:
        resolved["data"]["loader"] = "threads" if ways.pop() else "processes"
    names = {part: f"{name} (given from Python)" for part, name in given.names().items()}
    resolved |= {part: names[part] for part in ("model", "task") if part in names}
    if "train" in names:
        resolved["data"]["dataset"] = names["train"]
    about = "".join(f"# {part}: {name}; fit(…, {part}=…) takes it again\n" for part, name in names.items())
    return about + dump_yaml(resolved)


def _tensorboard(path: Path, step: int, console: Console) -> TensorBoard:
    """Return the event files; in those of a resumed run the step of the save and later ones are replayed."""
    board = TensorBoard(path / "tensorboard", step or None, console.say)
    if step:
        board.replay(path / "log.jsonl", step)
    return board


def _visdom(cfg: Config, path: Path, console: Console) -> VisdomBoard:
    """Return the visdom view; that of a resumed run is shown the curves so far."""
    from utils.visualize import Visualizer

    address = cfg.log.visdom_host, cfg.log.visdom_port
    board = VisdomBoard(Visualizer(cfg.log.env or path.name, *address, console.say, greets=True))
    board.visualizer.greet()
    board.replay(path / "log.jsonl")
    return board
