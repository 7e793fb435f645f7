"""The command train around the Trainer: run folder, sinks, resume, and the last words."""

from contextlib import suppress

from configs import COMPONENTS, Config
from trainer.messages import told_in_words
from trainer.run.report import _facts, _last_words, _show_end
from trainer.run.sinks import _open_sinks
from trainer.signals import Stopped
from trainer.trainer import Trainer
from trainer.watchers.pictures import Drawings
from utils import dist
from utils.errors import NonFiniteError, StorageError, WorkerError
from utils.runs.folder import RunFolder, refuse_name, run_name
from utils.sinks.console import Console, Output

__all__ = ["train"]


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
