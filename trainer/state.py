"""RunState: everything that decides the future of a run, as tensors and plain values."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from configs import Config, more_metrics
from trainer.checkpointing.saver import Saver
from trainer.checkpointing.store import read_newest
from trainer.checkpointing.weights import buffer_state, load_network_state, network_state
from trainer.optim.average import EpochMean, MovingAverage
from trainer.optim.closure import with_closure
from trainer.optim.nonfinite import explain, odd_samples
from trainer.optim.update import Updates
from trainer.parallel.ddp import Step, average_, shared_step
from trainer.parallel.fsdp import is_sharded, reshard
from trainer.parameters.freezing import Freezing
from trainer.progress import Monitor, Progress, RowMeans, scalar_fault
from trainer.task import Task
from utils import dist
from utils.blame import place_of_method
from utils.config.convert import to_plain
from utils.errors import CheckpointError, CodeError, NonFiniteError
from utils.randomness import random_state, set_random_state
from utils.sinks.logger import Logger

__all__ = ["RunState", "fingerprint"]

PATIENCE = 10  # steps within an epoch that may learn nothing: a task may pass over its first batches


class RunState:
    """A run between two steps. Saving, resuming and going back work on it; it needs no Trainer."""

    def __init__(
        self,
        cfg: Config,
        task: Task,
        update: Updates,
        meta: dict[str, Any],
        about: dict[str, Any],
        twin: Task | None = None,
    ):
        """`about`: what a checkpoint tells of the run besides, such as its fingerprint.

        `twin`: of networks that are divided among ranks the copy for averaged weights.
        """
        self.sharded = is_sharded(cfg)
        self.task, self.update, self.meta = task, update, meta
        self.averaged = None if cfg.train.ema is None else MovingAverage(task, cfg.train.ema, twin)
        self.swa = None if cfg.train.swa is None else EpochMean(cfg.train)
        self.progress, self.means, self.monitor = (
            Progress(),
            RowMeans(),
            Monitor(cfg.train, {**task.metrics, **more_metrics(cfg.task)}),
        )
        self.freezing = Freezing(task, cfg)
        self.freezing.apply(0)
        self.about = {"config": to_plain(cfg), "meta": meta, **about}
        self.started = time.monotonic()

    @property
    def eval_task(self) -> Task:
        """The task for val and test: with averaged weights, if there are any."""
        return self.averaged.module if self.averaged else self.task  # type: ignore[return-value]

    def make_step(self) -> Step:
        """Return `train_step` as the loop calls it: shared by the ranks, driven by an optimizer that asks."""
        return with_closure(shared_step(self.task, self.update.steps, self.sharded), self.task, self.update)

    def begin_training(self, step: Step, say: Callable[[str], None]) -> Step:
        """Switch to training, with the layers frozen that the epoch asks for; say if others learn than before.

        Returns the step to take: `step`, or one whose processes share the gradients of the layers that learn now.
        """
        if self.sharded:
            reshard(self.task)
        changed = self.freezing.apply(self.progress.epoch)
        if changed:
            say(f"epoch {self.progress.epoch + 1}: {self.freezing.tell(self.progress.epoch)}")
        if self.swa:
            self.swa.begin(self.update, self.progress.epoch)
        self.task.train()
        return self.make_step() if changed else step

    def after_step(self) -> None:
        """Do what follows an optimizer's step: averaged weights, statistics that ranks share."""
        if self.sharded:
            reshard(self.task)
        if dist.world_size() > 1:
            average_(self.freezing.moving())
        if self.averaged:
            self.averaged.follow(self.task, self.update.taken)

    def close_epoch(self) -> None:
        """Step with the gradients of short windows.

        Raises NonFiniteError, and CodeError when a network's optimizer was never called.
        """
        self.update.close()
        self.after_step()
        if self.swa:
            self.swa.follow(self.task, self.progress.epoch)
        self._check_updates()

    def _check_updates(self, patience: int = 1) -> None:
        """Raises CodeError when the task has never called `update` for a role in more than `patience` steps."""
        for role in self.update.unused():
            # where a step was undone, its calls are forgotten
            if not self.progress.skipped and self.progress.step > max(patience, self.task.update_every.get(role, 1)):
                place = place_of_method(self.task, "train_step") or "task"
                call = "update(loss)" if role == "model" else f"update(loss, {role!r})"
                raise CodeError(
                    f"{place}: in {self.progress.step} steps train_step never called {call}, so that the network "
                    f"'{role}' does not learn; call it, or take the network's optimizer out of optim"
                )

    def add_scalars(self, samples: int, scalars: Mapping[str, Tensor]) -> None:
        """Add the scalars of a step to the means. Raises CodeError for anything but a dict of tensors of one number."""
        try:
            self.means.add(samples, scalars)
        except (AttributeError, TypeError) as error:
            place = place_of_method(self.task, "train_step") or "task"
            due = "a dict of tensors of one number each, as {'loss': loss}"
            raise CodeError(f"{place}: train_step gives {scalar_fault(scalars)}; it must return {due}") from error

    def roll_back(self, saver: Saver, logger: Logger) -> None:
        """Make everything as it was at the last save; what the journal holds of later steps never was."""
        assert saver.folder is not None, "a run without checkpoints does not go back"
        saver.wait()
        stored, source, _ = read_newest(saver.folder)
        self.load_state_dict(stored, str(source))
        if not self.update.window_is_finite():  # saved between the batch that is to blame and the step
            self.update.drop()
        logger.cut(self.progress.journal)

    def before_validation(self) -> Progress:
        """Note the time, and return the progress."""
        self.read_clock()
        return self.progress

    def after_validation(self, numbers: Mapping[str, float], cfg: Config) -> None:
        """Take in a validation's numbers: position, best score, schedulers.

        Raises DataError when the monitored metric is not among them.
        """
        self.progress.validated, began = self.progress.step, self.progress.seconds
        self.read_clock()
        self.progress.validation_seconds = self.progress.seconds - began
        if self.monitor.name is not None:
            score = self.monitor.update(numbers, self.progress, cfg.train)
            for schedule in self.update.schedules():
                schedule.after_validation(numbers.get("loss", score), score)

    def show(self, logger: Logger) -> None:
        """Show what the task can show; of divided networks nothing, as only rank 0 would run them."""
        if not self.sharded:
            self.eval_task.show(logger, self.progress.step)

    def start_clock(self) -> None:
        """Count the seconds of training from here on."""
        self.started = time.monotonic() - self.progress.seconds

    def read_clock(self) -> None:
        """Note the seconds of training so far, the same on every rank."""
        self.progress.seconds = dist.broadcast(time.monotonic() - self.started)

    def explain(
        self, error: NonFiniteError, step: int, dataset: Any, indices: list[int], batch: Any = None
    ) -> NonFiniteError:
        """Return the same error with the step and its cause: a sample, or learning rates and gradients."""
        facts = {**self.update.rates(), **self.update.norms()}
        return explain(error, step, facts, dataset, indices, odd_samples(batch))

    def write_row(self, logger: Logger, dataset: Any, every: int) -> None:
        """Write a train row: means over the samples since the last one, `every` steps ago.

        Raises NonFiniteError where the loss could not be looked at sooner, on a GPU.
        """
        p, means = self.progress, self.means.means()
        if any(value != value or abs(value) == float("inf") for value in means.values()):
            raise self.explain(NonFiniteError(f"not finite since step {p.step - every}: {means}"), p.step, dataset, [])
        self._check_updates(PATIENCE)
        logger.scalars("train", p.epoch, p.step, means | self.update.rates())

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two steps; every rank must call it. Of divided networks each has its parts."""
        averaged = self.averaged
        return {
            "model": network_state(self.task),
            "buffers": buffer_state(self.task),
            "ema": network_state(averaged.module) if averaged else None,  # type: ignore[arg-type]
            "ema_count": averaged.count if averaged else 0,
            "update": self.update.state_dict(),
            "progress": self.progress.state_dict(),
            "ranks": dist.gather({"random": random_state(), "window": self.means.state_dict()}),
            **({"swa": self.swa.state_dict()} if self.swa else {}),
            **self.about,
        }

    def load_state_dict(self, state: dict[str, Any], source: str = "the checkpoint", networks: bool = True) -> None:
        """Stand where `state_dict` was called; without `networks` these have their weights already.

        Raises CheckpointError when the state lacks something, or is that of another run.
        """
        if networks:
            load_network_state(self.task, state["model"], state["buffers"], source)
        try:
            self._load(state)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            reason = f"{type(error).__name__}: {error}"[:200]
            raise CheckpointError(f"the checkpoint's state is not whole ({reason}); resume from another one") from error

    def _load(self, state: dict[str, Any]) -> None:
        if self.averaged:
            weights, buffers = state["ema"] or state["model"], state["buffers"]
            load_network_state(self.averaged.module, weights, buffers, "the checkpoint")  # type: ignore[arg-type]
            self.averaged.count = int(state["ema_count"])
        self.update.load_state_dict(state["update"])
        if self.averaged:
            self.averaged.followed = self.update.taken
        if self.swa:
            self.swa.load_state_dict(state["swa"], network_state(self.task))
        self.progress = Progress.from_state(state["progress"])
        self.freezing.apply(self.progress.epoch)
        # A new rank keeps its random numbers of the start; the losses of one that is gone go to another.
        own = state["ranks"][dist.rank() :: dist.world_size()]
        self.means.load_state_dict(*(rank["window"] for rank in own))
        if own:
            set_random_state(own[0]["random"])


def fingerprint(device: torch.device, samples: int) -> dict[str, Any]:
    """Return what must be the same for a resumed run to be the same to the last bit."""
    return {
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "processes": dist.world_size(),
        "training samples": samples,
    }
