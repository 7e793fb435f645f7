"""Requests of ctl, carried out after a step, kept with that step, and repeated when the run is."""

import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainer.control.debugger import Debugger
from trainer.optim.rates import set_rate
from trainer.signals import Signals, Stopped
from utils import dist
from utils.errors import StorageError
from utils.runs.folder import RunFolder
from utils.runs.requests import answer, read_interventions, take, write_interventions

__all__ = ["Control"]

PERIOD = 0.2  # s between two looks for a request
REPEATED = ("lr", "val")  # these change a run, and belong to it for ever

Request = dict[str, Any]


class Control:
    """Everything that reaches a run from outside: signals, requests of ctl, the debugger.

    The first process reads requests; all carry them out after the same step.
    """

    def __init__(self, folder: Path | None, debug_file: str):
        self.folder = folder  # None without one, and for every process except the first
        self.signals, self.debugger = Signals(), Debugger(folder, debug_file)
        self.listens = self.paused = False
        self.next_look = 0.0  # on the monotonic clock
        self.rows: list[Request] = []  # requests that were carried out, or will be when their step comes again
        self.repeated: list[Request] = []  # those that change the run; the progress counts them

    def begin(self, trainer: Any) -> None:
        """Get ready, and carry out what the run had done at this very step when it was saved before."""
        stored = read_interventions(self.folder) if self.folder is not None else []
        self.listens, rows = dist.broadcast((self.folder is not None, stored))
        self._keep(rows)
        self.debugger.begin()
        self._repeat(trainer)

    def after_step(self, trainer: Any) -> None:
        """Carry out new requests, and those of this step from before a resume. Every rank must call it."""
        step = trainer.state.progress.step
        self._repeat(trainer)
        if self._due(step):
            self._heed(trainer)
        if step % trainer.cfg.log.print_freq == 0:
            self.debugger.look(trainer)

    def _due(self, step: int) -> bool:
        """Return whether to look for requests: by time, or in a group whenever it has agreed on signals."""
        if not self.listens:
            return False
        if dist.world_size() > 1:
            return self.signals.steps.agreed == step
        now = time.monotonic()
        due = now >= self.next_look
        if due:
            self.next_look = now + PERIOD
        return due

    def _heed(self, trainer: Any) -> None:
        while asked := dist.broadcast(take(self.folder) if self.folder is not None else None):
            name, request = asked
            if reason := self._refusal(trainer, request) or self._record(trainer, request):
                self._answer(name, f"not done: {reason}", refused=True)
            else:
                self._obey(trainer, name, request)

    def _refusal(self, trainer: Any, request: Request) -> str:
        """Return why a request cannot be carried out; empty if it can."""
        step = trainer.state.progress.step
        match request["request"]:
            case "val" if trainer.val_loader is None:
                return "this run has no validation split"
            case "val" if trainer.state.progress.validated == step:
                return f"step {step} is validated already"
            case "pause" if self.paused:
                return f"the run is paused already, at step {step}"
            case "go" if not self.paused:
                return f"the run is not paused; it is at step {step}"
        return ""

    def _record(self, trainer: Any, request: Request) -> str:
        """Keep a request with its step, before it is carried out. Returns why that cannot be; empty if it can.

        Of rates that were set at later steps, before the run went back behind these, none is set again.
        """
        p = trainer.state.progress
        row = {"time": round(time.time(), 3), "epoch": p.epoch, "step": p.step, **request}
        ahead = self.repeated[p.interventions :]
        dropped = [other for other in ahead if other["request"] == request["request"] == "lr"]
        gone, later = {id(other) for other in dropped}, {id(other) for other in ahead}  # two requests may be equal
        rows = [other for other in self.rows if id(other) not in gone]
        place = next((i for i, other in enumerate(rows) if id(other) in later), len(rows))
        rows.insert(place, row)
        reason = ""
        if self.folder is not None:
            try:
                write_interventions(self.folder, rows)
            except StorageError as error:
                reason = str(error)
        if not (reason := dist.broadcast(reason)):
            self._keep(rows)
            for other in dropped:
                trainer.console.say(f"lr={other['value']}, set before at step {other['step']}, is not set again")
        return reason

    def _keep(self, rows: list[Request]) -> None:
        self.rows, self.repeated = rows, [row for row in rows if row["request"] in REPEATED]

    def _repeat(self, trainer: Any) -> None:
        """Carry out what the run had, up to this step, when it was at it before."""
        while (p := trainer.state.progress).interventions != len(self.repeated):
            if not 0 <= p.interventions < len(self.repeated):  # their file was removed
                p.interventions = len(self.repeated)
                return
            row = self.repeated[p.interventions]
            if row["step"] > p.step:
                return
            if row["step"] == p.step or row["request"] == "lr":
                self._change(trainer, row)
            else:  # its validation is over
                p.interventions += 1

    def _change(self, trainer: Any, row: Request) -> None:
        """Carry out a request that changes the run; only then the progress counts it."""
        p = trainer.state.progress
        if row["request"] == "lr":
            set_rate(trainer.state.update, row["value"])
            told = f"lr={row['value']}"
        else:
            if p.validated < p.step:
                trainer.validate()
            told = "val"
        p.interventions += 1
        trainer.logger.note(p.epoch, p.step, "ctl", told)
        if trainer.state.monitor.is_best:
            trainer.save()

    def _obey(self, trainer: Any, name: str, request: Request) -> None:
        state, step = trainer.state, trainer.state.progress.step
        match request["request"]:
            case "lr" | "val":
                before = ", ".join(f"{key} {value:g}" for key, value in state.update.rates().items())
                self._repeat(trainer)
                told = f"was {before}" if request["request"] == "lr" else _measured(trainer)
                self._answer(name, f"done at step {step}: {told}")
            case "save":
                state.read_clock()
                trainer.save()
                trainer.saver.wait()
                self._answer(name, f"saved at step {step}")
            case "pause":
                self._answer(name, f"paused at step {step}; go continues, stop saves and ends")
                self._pause(trainer)
            case "go":
                self.paused = False
                self._answer(name, f"goes on from step {step}")
            case "stop":
                self._stop(trainer, name)

    def _stop(self, trainer: Any, name: str) -> None:
        """Save and end, as SIGTERM does."""
        self.signals.stop = self.signals.stop or signal.SIGTERM
        try:
            trainer.handle_signals()
        except Stopped:
            self._answer(name, f"stopped after step {trainer.state.progress.step}, saved")
            raise

    def _pause(self, trainer: Any) -> None:
        """Wait until `go`; a signal saves and ends as ever. The run's own clock stands still."""
        self.paused = True
        state = trainer.state
        state.read_clock()
        self._tell_status(trainer, "paused")
        trainer.console.say(f"paused at step {state.progress.step}")
        while self.paused:
            time.sleep(PERIOD)
            state.start_clock()
            trainer.handle_signals()
            self._heed(trainer)
        self._tell_status(trainer, "running")
        trainer.console.say(f"goes on from step {state.progress.step}")

    def _tell_status(self, trainer: Any, state: str) -> None:
        if self.folder is None:
            return
        folder, p = RunFolder(self.folder), trainer.state.progress
        facts = {key: value for key, value in folder.status().items() if key not in ("time", "pid")}
        facts |= {"state": state, "epoch": p.epoch, "step": p.step, "seconds": round(p.seconds, 1)}
        with suppress(StorageError):
            folder.set_status(**facts)

    def _answer(self, name: str, text: str, refused: bool = False) -> None:
        if self.folder is not None:
            with suppress(StorageError):  # nobody waits for it any more
                answer(self.folder, name, text, refused)


def _measured(trainer: Any) -> str:
    """Return the monitored metric of the last validation, in words."""
    monitor, p = trainer.state.monitor, trainer.state.progress
    if monitor.name is None or p.score is None:
        return "validated"
    return f"{monitor.name} {p.score if monitor.mode == 'min' else -p.score:.4g}"
