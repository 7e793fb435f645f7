"""The training loop: `fit`, `train_epoch`, `after_step`, `end_epoch` and `validate` are all of it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from configs import Config
from trainer.build import Parts, build
from trainer.checkpointing.store import BEST
from trainer.control.requests import Control
from trainer.evaluate import evaluate
from trainer.optim.nonfinite import decide
from trainer.signals import Stopped
from trainer.watchers.watcher import Outlets, Run, Watchers
from utils import dist
from utils.device import autocast
from utils.errors import NonFiniteError

__all__ = ["Trainer"]


class Trainer:
    """One config, trained on one device of one process, or on a device in each process of a group."""

    def __init__(self, cfg: Config, parts: Parts | None = None, outlets: Outlets | None = None):
        """Build what is not handed in. Raises ConfigError, DataError or CheckpointError for parts that do not fit."""
        self.lone, outlets = outlets is None, outlets or Outlets()  # if lone, nobody but `fit` lets it go
        parts = parts or build(cfg, outlets.console.say)
        self.cfg, self.device, self.state = parts.cfg, parts.device, parts.state
        self.train_loader, self.val_loader = parts.train_loader, parts.val_loader
        self.train_step = self.state.make_step()
        self.console, self.logger, self.saver = outlets.console, outlets.logger, outlets.saver
        self.watchers = Watchers(outlets.watchers, Run.of(parts, outlets))
        self.control = Control(self.saver.folder, self.cfg.log.debug_file)

    def fit(self, at_end: Callable[..., object] = lambda ask: None) -> list[dict[str, Any]]:
        """Train to the end that the config sets. Returns the rows of a journal in memory.

        `at_end` is called before the run counts as finished. Raises Stopped, after saving, when a signal asked for it.
        """
        failed = True
        try:
            self.run(at_end)
            failed = False
        finally:
            if self.lone:
                self.close(failed)
        return self.logger.history()

    def run(self, at_end: Callable[..., object]) -> None:
        """Train, validate and save until the run is finished."""
        state, train = self.state, self.cfg.train
        state.start_clock()
        with self.control.signals:
            self.save()  # a folder that cannot be written, or too small a disk, is found now, not after an hour
            self.watchers.begin()
            if state.progress.finished(train) or state.progress.validation_due(train):
                self.begin_epoch()
            if state.progress.validation_due(train):  # the run was stopped within a validation
                self.validate()
                self.save()
            self.control.begin(self)
            while not state.progress.finished(train):
                done = self.train_epoch()
                self.console.end()
                if done:
                    self.end_epoch()
            self.final_validation()
            self.saver.wait()
            at_end(self.control.signals.raise_if_stopping)  # raises Stopped, too
        self.watchers.end()

    def begin_epoch(self) -> None:
        """Announce the epoch to the console."""
        p = self.state.progress
        self.console.begin(p.epoch, self.cfg.train.max_epoch, len(self.train_loader), p.batch, p.limits(self.cfg.train))

    def train_epoch(self) -> bool:
        """Train the rest of the current epoch. Returns False if the run must end or was rolled back."""
        state, p, train = self.state, self.state.progress, self.cfg.train
        self.train_step = state.begin_training(self.train_step, self.console.say)
        self.begin_epoch()
        for indices, batch in self.train_loader.epoch(p.epoch, p.batch):
            state.update.begin(p.step, *self.train_loader.weights(p.batch, len(indices)))
            scalars: dict[str, Tensor] = {}
            try:
                if not p.skips():
                    with autocast(self.device, train.precision):
                        scalars = self.train_step(batch, state.update)
            except NonFiniteError as error:
                if self.answer(error, indices, batch):
                    return False
            self.after_step(batch, scalars, len(indices))
            if p.ended(train) and p.batch < len(self.train_loader):
                return False
        try:
            state.close_epoch()
        except NonFiniteError as error:
            return not self.answer(error, [])
        return True

    def after_step(self, batch: Any, scalars: dict[str, Tensor], samples: int) -> None:
        """Count, log, validate, save, and stop if asked to."""
        state, p, log = self.state, self.state.progress, self.cfg.log
        state.add_scalars(samples, scalars)
        p.batch, p.samples, p.step = p.batch + 1, self.train_loader.taken(p.batch + 1), p.step + 1
        state.after_step()
        self.console.advance(scalars)
        self.saver.check()
        if p.step % log.print_freq == 0:
            state.write_row(self.logger, self.train_loader.dataset, log.print_freq)
        self.watchers.after_step(batch, scalars)
        if p.validation_due(self.cfg.train):
            self.validate()
        if self.control.signals.due(p.step):
            self.handle_signals()
        if state.monitor.is_best or p.save_due(self.cfg.train):
            self.save()
        self.control.after_step(self)

    def end_epoch(self) -> None:
        """Validate, step the schedulers, keep the best, and only then begin the next epoch."""
        p, train = self.state.progress, self.cfg.train
        if not train.val_steps and p.validated < p.step:
            self.validate()
        for schedule in self.state.update.schedules():
            schedule.after_epoch()
        kept, dropped = p.choose_kept(train)
        p.epoch, p.batch, p.samples = p.epoch + 1, 0, 0
        self.save(kept, drop=dropped)

    def final_validation(self) -> None:
        """Validate if the run ended within an epoch. A longer run would not, so the state to resume is saved before."""
        if self.state.progress.batch:
            self.save()
        if self.state.progress.validated < self.state.progress.step:
            self.state.progress = replace(self.state.progress)
            self.validate()
        if self.state.monitor.is_best:
            self.save(last=False)

    def validate(self) -> None:
        """Evaluate the validation split, log it, see whether it is the best; show what the task can show.

        Raises Stopped, after saving, when a signal asked for it; the resumed run begins with this validation.
        """
        state, p, ask = self.state, self.state.before_validation(), self.control.signals.raise_if_stopping
        try:
            numbers, extras = evaluate(state.eval_task, self.val_loader, self.cfg, self.device, ask)
        except Stopped:
            self.handle_signals()
            raise
        self.logger.validation(p.epoch, p.step, numbers, extras, state.meta.get("classes", []))
        state.show(self.logger)
        state.after_validation(numbers, self.cfg)
        self.console.tell(p.epoch, p.step, best=state.monitor.name is not None and p.waited == 0)
        self.watchers.after_validation(numbers, extras)

    def answer(self, error: NonFiniteError, indices: list[int], batch: Any = None) -> bool:
        """Carry out the decision on a step that is not finite: raises the error, or returns whether it rolled back."""
        state, step = self.state, self.state.progress.step + 1
        decision = decide(error, state.progress, self.cfg.train, saves=self.saver.folder is not None)
        if decision.action == "stop":
            raise state.explain(error, step, self.train_loader.dataset, indices, batch) from error
        state.update.undo()
        if decision.action == "rollback":
            state.roll_back(self.saver, self.logger)
        state.progress.skipped = decision.skipped
        self.console.say(decision.tell(error, step, state.progress.step))
        return decision.action == "rollback"

    def handle_signals(self) -> None:
        """Save if asked to; stop after it if asked to."""
        self.state.read_clock()
        stop, save = self.control.signals.across_ranks(self.state.progress.step)
        if stop or save:
            self.save()
        if stop:
            self.saver.wait()
            raise Stopped(stop)

    def save(self, copies: Sequence[str] = (), last: bool = True, drop: Sequence[str] = ()) -> None:
        """Write last.pth, if `last`, and the same as `copies`, and as best.pth if it is the best; remove `drop`."""
        p, monitor = self.state.progress, self.state.monitor
        names = [*([BEST] if monitor.is_best else []), *copies]
        p.journal, p.saved, monitor.is_best = self.logger.size(), p.seconds, False
        self.saver.save(self.state.state_dict(), names, last, drop)

    def close(self, failed: bool = False) -> None:
        """Let go of wrappers and the process group; gloo aborts when a wrapper outlives its group."""
        self.console.end()
        self.saver.close()
        self.watchers.close()
        self.logger.close()
        for loader in filter(None, (self.train_loader, self.val_loader)):
            loader.close()
        self.train_step = self.state.task.train_step
        dist.stop(failed)
