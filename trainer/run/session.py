"""A new run in its folder, with sinks, watchers and status around the training."""

from contextlib import suppress
from functools import partial
from pathlib import Path

from configs import COMPONENTS, Config
from trainer.build import NOTHING, Given, Parts, build
from trainer.checks.memory import find_batch_size
from trainer.checks.rates import tell_rates
from trainer.checks.rehearsal import rehearse
from trainer.checks.shortage import fitted
from trainer.last_epochs import keep_mean
from trainer.messages import explain_torch_errors
from trainer.run.inherited import inherit_requests
from trainer.run.recorder import Origin, begin_record
from trainer.run.report import (
    draw_stopped,
    facts_of,
    first_words,
    gather_bad_samples,
    keep_bad_samples,
    last_words,
    tell_bad_samples,
    tell_data,
)
from trainer.run.rescue import write_rescue
from trainer.run.result import Result
from trainer.run.sinks import open_outlets
from trainer.signals import Stopped
from trainer.trainer import Trainer
from utils import dist
from utils.errors import StorageError, WorkerError
from utils.runs.folder import ROOT, RunFolder, refuse_name, run_name
from utils.sinks.console import Console, Output

__all__ = ["begin", "run_fitting", "train"]


def train(cfg: Config, origin: Origin, run: str | None, output: Output = "text") -> None:
    """Train a new run, as the command does. Raises SystemExit, after saving, when a signal stopped it."""
    if code := begin(cfg, origin, run, output).stopped:
        raise SystemExit(code)


def begin(cfg: Config, origin: Origin, run: str | None, output: Output = "text", given: Given = NOTHING) -> Result:
    """Train a new run in a folder of its own."""
    console = Console(output if dist.is_main() else "quiet")
    if origin.why:
        console.say(origin.why)
    takes = COMPONENTS["data"].signature(cfg.data.dataset.name).parameters
    if cfg.data.train_data_root is not None and "root" not in takes and given.train is None:
        console.say(f"note: {cfg.data.dataset.name} reads no folder; train_data_root is not used")
    if cfg.data.balance_classes:
        console.say("note: data.balance_classes is another name for data.sampler=ClassBalanced")
    if cfg.train.processes not in (1, "auto", dist.local_size()):
        console.say(f"note: train.processes is for the command train; processes here: {dist.local_size()}")
    if "fold" in cfg.data.dataset.args and "folds" in takes:
        told = "note: data.dataset.fold is the older name of data.fold, which gives each fold its share of each class; "
        console.say(told + ("data.fold is used" if cfg.data.fold else "it keeps its own division of the rows"))
    if run is not None and dist.is_main():
        refuse_name(run)  # not after an hour of reading data
    with explain_torch_errors(cfg):
        parts = build(cfg, console.say, given=given)
        networks = given.names().get("model") or "-".join(spec.name for spec in cfg.model.values())
        name = dist.broadcast(run or run_name(origin.config, networks))
        folder = RunFolder.create(name, origin.config) if dist.is_main() else None
        try:
            if folder is not None:
                begin_record(folder.path, origin)
                inherit_requests(origin.config, parts.cfg, folder.path, console.say)
            if cfg.data.batch_size == "auto":
                parts = find_batch_size(parts, console.say)
            return _rehearse_and_run(parts, folder, ROOT / name, console, given)
        except (Exception, KeyboardInterrupt) as error:
            begun = parts.state.progress.step or parts.state.progress.validated >= 0
            if folder and not begun and not isinstance(error, (StorageError, WorkerError)):
                folder.remove()  # the mended command may take the same name
            raise
        finally:
            if folder is not None:
                folder.release()


def _rehearse_and_run(parts: Parts, folder: RunFolder | None, path: Path, console: Console, given: Given) -> Result:
    """Rehearse and run; where memory runs out and `train.oom` is fit, with a smaller batch."""
    while True:
        try:
            rehearsed = rehearse(parts, path, given, console.say)
            break
        except Exception as error:
            parts = fitted(parts, error, None, given, False, console.say)
    if parts.cfg.train.rehearse == "only":
        if folder is not None:
            folder.remove()
        dist.stop()
        return Result(path, None, lambda: parts.state.eval_task)
    return run_fitting(parts, folder, path, console, given, rehearsed)


def run_fitting(
    parts: Parts, folder: RunFolder | None, path: Path, console: Console, given: Given, rehearsed: bool = False
) -> Result:
    """Run in the folder; where memory runs out and `train.oom` is fit, go on with a smaller batch."""
    while True:
        try:
            return _run_in_folder(parts, folder, path, console, given, rehearsed)
        except Exception as error:
            parts = fitted(parts, error, folder.path if folder is not None else None, given, True, console.say)


def _run_in_folder(
    parts: Parts, folder: RunFolder | None, path: Path, console: Console, given: Given, rehearsed: bool
) -> Result:
    """Fit with sinks, watchers and status around it; only rank 0 has a folder."""
    keep_bad_samples(parts, folder.path if folder is not None else None)
    outlets = open_outlets(parts, folder, console, given, rehearsed)
    if folder is not None:
        first_words(parts, folder.path, console)
        tell_data(parts, folder.path, console)
        tell_rates(parts, folder.path, console)
    trainer = Trainer(parts.cfg, parts, outlets)
    state, code = "failed", 0
    try:
        trainer.fit(partial(keep_mean, parts, outlets.saver, console.say))
        state = "finished"
    except Stopped as asked:
        state, code = "stopped", asked.exit_code
    except Exception:
        write_rescue(parts.state, outlets.saver, outlets.logger, console)
        raise
    finally:
        if folder is not None and folder.status().get("state") != "finished":  # said before its pictures are drawn
            with suppress(StorageError):  # a full disk has been reported already
                folder.set_status(state, **facts_of(parts.state))
        if state != "failed":
            gather_bad_samples(parts)
        trainer.close(failed=state == "failed")
        if folder is not None and state == "stopped" and parts.cfg.log.pictures:
            draw_stopped(folder.path, console)
    run = parts.state
    tell_bad_samples(parts, console)
    if code:
        console.say(f"stopped after step {run.progress.step}, saved; continue with --resume={path}")
    elif folder is not None:
        last_words(parts.cfg, run, folder.path, console)
    return Result(path, run.monitor.best(run.progress)[0], lambda: run.eval_task, code)
