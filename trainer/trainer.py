"""The training loop: `fit`, `train_epoch`, `after_step`, `end_epoch` and `validate` are all of it."""

import os
import pdb
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from configs import Config
from data.loading.batches import Batches
from trainer.build import build, least_batch
from trainer.checkpointing.saver import Saver
from trainer.checkpointing.store import BEST
from trainer.evaluate import measure
from trainer.optim.average import make_averaged
from trainer.optim.nonfinite import Keeper, answer, explain
from trainer.optim.update import make_updates
from trainer.progress import Progress, Window, monitored
from trainer.setup import lay_out, make_repeatable, settled
from trainer.signals import Signals, Stopped
from trainer.state import pack, unpack
from trainer.task import Task
from utils import dist
from utils.device import autocast, choose_device
from utils.errors import DataError, NonFiniteError
from utils.sinks.console import Console
from utils.sinks.journal import Journal
from utils.sinks.logger import Logger

__all__ = ["Trainer"]


class Trainer:
    """One config, trained on one device of one process, or on a device in each process of a group."""

    def __init__(self, cfg: Config, stored: dict[str, Any] | None = None, console: Console | None = None):
        """`stored`: the state to continue from, as a checkpoint holds it.

        Raises ConfigError, DataError or CheckpointError for what does not fit together.
        """
        self.device, self.console = choose_device(cfg.train.use_gpu), console or Console()
        self.cfg = cfg = settled(cfg, self.device)
        dist.start(self.device)
        make_repeatable(cfg.train)
        train, val, self.meta, self.task = build(cfg, self.device, stored, self.console.say)
        lay_out(self.task, cfg.train, training=True)
        serve = partial(Batches, cfg=cfg.data, seed=cfg.train.seed, say=self.console.say, device=self.device)
        self.train_batches = serve(train, training=True, least=least_batch(self.task))
        self.val_batches = None if val is None else serve(val, training=False)
        self.update = make_updates(self.task, cfg, len(self.train_batches))
        self.averaged = make_averaged(self.task, cfg.train.ema)
        self.keeper = Keeper(self)
        self.ranks = dist.world_size()
        self.train_step = self.task.train_step if self.ranks == 1 else dist.shared_step(self.task, cfg.optim)
        self.monitor, self.smaller_is_better = monitored(cfg)
        self.progress, self.window, self.signals = Progress(), Window(), Signals()
        self.saver: Saver | None = None  # without one nothing is saved, as on ranks other than 0
        self.journal: Journal | None = None
        self.logger = Logger()
        self.is_best, self.matrices = False, dict[str, Any]()
        self.outdone: Progress | None = None  # of a best.pth that was measured where a longer run does not look
        self.averaged_at, self.started, self.saved = 0, time.monotonic(), 0.0
        make_repeatable(cfg.train, dist.rank())  # from here on each rank draws its own dropout
        if stored:
            unpack(self, stored)

    def fit(self) -> None:
        """Train to the end that the config sets.

        Raises Stopped, after saving, when a signal asked for it.
        """
        p, train = self.progress, self.cfg.train
        self.started, self.saved = time.monotonic() - p.seconds, p.seconds
        with self.signals:
            self.save([])  # a folder that cannot be written, or too small a disk, is found now, not after an hour
            if p.finished(train) or self.validation_due():  # resumed: stopped within it, or all but done
                self.begin_epoch()
                if self.validation_due():
                    self.validate()
                    self.save([BEST] if self.is_best else [])
                self.console.end()
            while not self.progress.finished(train):
                done = self.train_epoch()
                self.console.end()
                if done:
                    self.end_epoch()
            self.measure_end()
            self.saved_for_sure()

    def begin_epoch(self) -> None:
        """Tell who shows it."""
        p = self.progress
        if self.journal is not None:
            self.journal.epoch = p.epoch
        self.console.begin(p.epoch, self.cfg.train.max_epoch, len(self.train_batches), p.batch)

    def train_epoch(self) -> bool:
        """The rest of the epoch in progress; False if it is not done: the run is to end, or has gone back."""
        p, train = self.progress, self.cfg.train
        self.task.train()
        self.begin_epoch()
        for indices, batch in self.train_batches.epoch(p.epoch, p.batch):
            self.update.begin(p.step, len(indices) / self.cfg.data.batch_size, self.train_batches.fullness(p.batch))
            self.keeper.note()
            scalars: dict[str, Tensor] = {}
            try:
                if [p.epoch, p.batch] not in p.left_out:
                    with autocast(self.device, train.precision):
                        scalars = self.train_step(batch, self.update)
            except NonFiniteError as error:
                if answer(self, error, indices):
                    return False
            self.after_step(scalars, len(indices))
            if p.ended(train):
                return False
        try:
            self.close_epoch()
        except NonFiniteError as error:
            return not answer(self, error, [])
        return True

    def after_step(self, scalars: dict[str, Tensor], samples: int) -> None:
        """Count, log, validate, save, and stop if asked to."""
        p, log = self.progress, self.cfg.log
        p.batch, p.step = p.batch + 1, p.step + 1
        self.window.add(samples, scalars)
        self.after_update()
        self.console.advance(scalars)
        if self.saver is not None:
            self.saver.check()
        row_due = p.step % log.print_freq == 0
        if row_due:
            self.write_row()
        if self.validation_due():
            self.validate()
        if self.ranks == 1 or row_due:  # ranks agree now and then: a message each step would cost too much
            self.heed_signals()
        if self.is_best or self.save_due():
            self.save([BEST] if self.is_best else [])
        if row_due and os.path.exists(log.debug_file):
            self.debug()

    def end_epoch(self) -> None:
        """Validation, schedules, best, and only then the next epoch."""
        p, train = self.progress, self.cfg.train
        if not train.val_steps and p.validated < p.step:
            self.validate()
        for schedule in self.update.schedules():
            schedule.after_epoch()
        names = [BEST] if self.is_best else []
        kept, dropped = p.choose_kept(train)
        p.epoch, p.batch = p.epoch + 1, 0
        self.save(names + kept, drop=dropped)

    def measure_end(self) -> None:
        """Validate, if the run ended where it would not have been: within an epoch, say, by max_steps.

        A longer run would not have measured here, so what a resume continues from is saved before.
        """
        if self.progress.batch:
            self.save([])
        if self.progress.validated < self.progress.step:
            self.progress = replace(self.progress)
            self.validate()
        if self.is_best:
            self.save([BEST], last=False)

    def validate(self) -> dict[str, float]:
        """Measure the validation split, log it, see whether it is the best; show what the task can show.

        Raises Stopped, after saving, when a signal asked for it; the resumed run begins with this validation.
        """
        p, split = self.progress, self.val_batches
        numbers: dict[str, float] = {}
        if split is not None:
            try:
                numbers, self.matrices = measure(self.eval_task, split, self.cfg, self.device, self.signals.break_off)
            except Stopped:
                self.heed_signals()
                raise
            self.logger.scalars("val", p.epoch, p.step, numbers)
        for name, matrix in self.matrices.items():
            self.logger.matrix(name, p.step, matrix, self.meta.get("classes", []))
        self.eval_task.show(self.logger, p.step)
        p.validated, p.seconds = p.step, self.elapsed()
        if self.monitor is not None:
            self.judge(numbers)
        self.console.tell(p.epoch, p.step, best=self.monitor is not None and p.waited == 0)
        return numbers

    def judge(self, numbers: dict[str, float]) -> None:
        """See whether a validation is the best so far, and tell the schedules."""
        p = self.progress
        if self.monitor not in numbers:
            raise DataError(
                f"validation gives no '{self.monitor}' here (it gives {', '.join(numbers)}); see train.monitor"
            )
        score = numbers[self.monitor] if self.smaller_is_better else -numbers[self.monitor]
        if p.note(score, self.cfg.train) and not (self.outdone and self.outdone.best <= score):  # type: ignore[operator]
            self.is_best, self.outdone = True, None
        for schedule in self.update.schedules():
            schedule.after_validation(numbers.get("loss", score), score)

    @property
    def eval_task(self) -> Task:
        """What val and test use: the averaged weights, if there are any."""
        return self.averaged.module if self.averaged else self.task  # type: ignore[return-value]

    def after_update(self) -> None:
        """What follows an optimizer's step: averaged weights, statistics that ranks share."""
        if self.ranks > 1:
            dist.average_(self.task.buffers())
        if self.averaged and self.update.taken > self.averaged_at:
            self.averaged.update_parameters(self.task)
            self.averaged_at = self.update.taken

    def close_epoch(self) -> None:
        """Step with what short windows hold.

        Raises ConfigError when a network's optimizer was never called.
        """
        self.update.close()
        self.after_update()
        self.update.check_used()

    def heed_signals(self) -> None:
        """Save if asked to; stop after it if asked to."""
        self.progress.seconds = self.elapsed()
        stop, save = self.signals.agreed()
        if stop or save:
            self.save([BEST] if self.is_best else [])
            self.signals.save = 0
        if stop:
            self.saved_for_sure()
            raise Stopped(stop)

    def elapsed(self) -> float:
        return dist.broadcast(time.monotonic() - self.started)

    def validation_due(self) -> bool:
        """Whether one is to be made within the epoch, by `train.val_steps`."""
        p, every = self.progress, self.cfg.train.val_steps
        return every is not None and p.step > 0 and p.step % every == 0 and p.validated < p.step

    def save_due(self) -> bool:
        p, train = self.progress, self.cfg.train
        by_steps = train.save_steps is not None and p.step % train.save_steps == 0
        return by_steps or (train.save_minutes is not None and p.seconds - self.saved >= 60 * train.save_minutes)

    def save(self, copies: list[str], last: bool = True, drop: Sequence[str] = ()) -> None:
        """Write last.pth, and the same under the names of `copies`; or, unless `last`, only under those.

        The checkpoints in `drop` are removed afterwards.
        """
        self.saved = self.progress.seconds
        if self.journal is not None:
            self.progress.journal = self.journal.size()
        state = pack(self)
        if self.saver is not None:
            self.saver.save(state, copies, last, drop)
        self.is_best = False

    def saved_for_sure(self) -> None:
        """Wait until what was saved is on the disk."""
        if self.saver is not None:
            self.saver.wait()

    def write_row(self) -> None:
        """A train row: means over the samples since the last one.

        Raises NonFiniteError where the loss could not be looked at sooner, on a GPU.
        """
        p, means = self.progress, self.window.means()
        if any(value != value or abs(value) == float("inf") for value in means.values()):
            error = f"not finite since step {p.step - self.cfg.log.print_freq}: {means}"
            raise explain(self, NonFiniteError(error), [], ahead=0)
        self.logger.scalars("train", p.epoch, p.step, means | self.update.rates())

    def close(self, failed: bool = False) -> None:
        """Let go of wrappers and the process group; gloo aborts when a wrapper outlives its group."""
        self.console.end()
        if self.saver is not None:
            with suppress(Exception):  # what ended the run is told already; a save that mattered was waited for
                self.saver.wait()
        self.logger.close()
        self.train_batches.close()
        if self.val_batches is not None:
            self.val_batches.close()
        self.train_step = self.task.train_step
        dist.stop(failed)

    def debug(self) -> None:
        """The book's `touch /tmp/debug`: look around in the running training; `c` goes on, `q` ends it."""
        if dist.world_size() == 1 and sys.stdin is not None and sys.stdin.isatty():
            self.console.end()
            self.console.say(f"{self.cfg.log.debug_file} is there: a debugger; `self.task` is the task, c continues")
            pdb.set_trace()
