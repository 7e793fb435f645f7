"""The output of a run while it trains: a bar and a table on a terminal, plain lines elsewhere, JSON for scripts."""

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

import torch
from torch import Tensor

from utils.optional import installed
from utils.sinks.logger import Sink
from utils.sinks.table import NO_LIMITS, Epoch, Pair, Table, clock, is_rate, number
from utils.terminal import filled, in_language, printable, show

__all__ = ["Console", "Output"]

Output = Literal["text", "quiet", "json"]
LINE_PERIOD = 10.0  # s between two lines of progress where there is no bar
BAR_PERIOD = 1.0  # s between two updates of the text beside the bar's count
BAR = "{desc} {bar} {n_fmt}/{total_fmt}, {rate_noinv_fmt}{postfix}"
BOLD, GREEN = "1", "32"  # colours of a terminal


class Console(Sink):
    """A sink that prints; `say` prints a sentence, `tell` the results of an epoch."""

    def __init__(self, output: Output = "text"):
        self.output = output
        self.notebook = _in_notebook()
        terminal = sys.stderr.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.terminal = (terminal or self.notebook) and output == "text" and installed("tqdm")
        self.colour = self.terminal and not os.environ.get("NO_COLOR")  # https://no-color.org
        self.bar: Any = None
        self.table = Table()
        self.epoch = Epoch(0, 0, 0, 0)
        self.waiting: dict[str, str] = {}  # a row of the table that came too early to be printed
        self.values: dict[str, float] = {}  # of the last train row
        self.printed = self.last_look = float("-inf")

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        if self.output == "json":
            self._write({"phase": "note", "text": text})
        else:
            self.table.shown = []
            self._print(self._wrapped(text))

    def begin(self, epoch: int, epochs: int, total: int, done: int, limits: Pair = NO_LIMITS) -> None:
        """Begin an epoch (from 0, of `epochs`) of `total` batches, of which `done` are already done.

        `limits`: the steps and the seconds that the run may still take.
        """
        if self.epoch.done >= self.epoch.total > 0 and not self.epoch.reported and self.output == "text":
            self.tell(self.epoch.number, self.epoch.step, best=False)  # no validation came in this epoch
        self.end()
        (steps, seconds), before = self.epoch.spent(), self.epoch.before
        self.epoch = Epoch(epoch, epochs, total, done, limits, (before[0] + steps, before[1] + seconds * (steps > 0)))
        if self.terminal:
            options: dict[str, Any] = {"leave": False, "dynamic_ncols": True, "unit": " step"}
            options |= {} if self.notebook else {"bar_format": BAR}
            bar = _notebook_bar() if self.notebook else _terminal_bar()
            self.bar = bar(total=total, initial=done, desc=in_language(f"epoch {epoch + 1}/{epochs}"), **options)
            self.last_look = float("-inf")

    def advance(self, scalars: Mapping[str, Tensor]) -> None:
        """Count one more batch, with its losses."""
        self.epoch.done += 1
        if not self.epoch.sums:
            self.epoch.unwritten.append({name: value.detach() for name, value in scalars.items()})
        if self.bar is not None:
            self.bar.update()
            if time.monotonic() - self.last_look >= BAR_PERIOD:
                self._update_bar(scalars)

    def end(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def scalars(self, phase: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Take a row of the journal. A row of validation is printed later, when it is known whether it is the best."""
        if phase != "train":
            self.epoch.measured = dict(values)
            return
        self.epoch.add(step, values)
        self.values = dict(values)
        if self.output == "json":
            self._write({"phase": phase, "epoch": epoch, "step": step, **values})
        elif not self.terminal and time.monotonic() - self.printed >= LINE_PERIOD:
            self._print(f"{in_language(self.epoch.progress())}  {_format(values)}")
            self.table.shown = []

    def tell(self, epoch: int, step: int, best: bool) -> None:
        """Print a line about the epoch so far, after its validation; `best`: it is the best validation yet."""
        seconds, measured = time.monotonic() - self.epoch.start, self.epoch.measured
        self.epoch.reported = True
        if self.output == "json":
            known = {"is_best": best, "seconds": round(seconds, 3)}
            self._write({"phase": "val", "epoch": epoch, "step": step, **measured, **known})
            return
        row = {"epoch": self.epoch.position(), **self.epoch.columns(), "time": clock(seconds)}
        self.waiting = row | {"best": "*" if best else ""}
        if self.terminal or time.monotonic() - self.printed >= LINE_PERIOD:
            self._print_waiting()

    def done(self, facts: Mapping[str, Any]) -> None:
        """Print the end of the run.

        `facts` are steps, epochs, seconds, folder, files and next (a command). About the best validation they hold
        monitor (the metric), best (its value, None without a validation), best_epoch and best_file.
        """
        if self.output == "json":
            self._write({"phase": "done", **facts})
            return
        self._print_waiting()
        counts = ", ".join(f"{facts[k]:,} {k.removesuffix('s') if facts[k] == 1 else k}" for k in ("steps", "epochs"))
        self._print(f"done: {counts} in {clock(facts['seconds'])}", BOLD)
        if facts["best"] is not None:
            best = f"best {facts['monitor']} {number(facts['best'])} (epoch {facts['best_epoch']})"
            self._print(f"{best}: {facts['best_file']}", GREEN)
        self._print(self._wrapped(f"files in {facts['folder']}: {', '.join(facts['files'])}"))
        self._print(f"next: {facts['next']}", BOLD)

    def text(self, name: str, step: int, text: str) -> None:
        if self.output == "json":
            self._write({"phase": "show", "step": step, "name": name, "text": text})
        else:
            self.say(f"{name}: {text}")

    def close(self) -> None:
        self.end()
        self._print_waiting()

    def _update_bar(self, scalars: Mapping[str, Tensor]) -> None:
        """Show memory and losses beside the bar's count: the last row's losses, before the first row this batch's.

        A device is asked for a number once in a while, not each step, because each question waits for it.
        """
        self.last_look = time.monotonic()
        values = self.values or {name: float(value.detach()) for name, value in scalars.items()}
        losses = [f"{name} {number(value)}" for name, value in values.items() if not is_rate(name)]
        self.bar.set_postfix_str(
            in_language(", ".join([self.epoch.left(), *losses[:2], *_memory()]))
        )  # this also draws the bar

    def _wrapped(self, text: str) -> str:
        """Return the text in the language of the terminal, on a terminal wrapped between words."""
        text = in_language(text)
        if not self.terminal:
            return text
        width = shutil.get_terminal_size().columns
        return "\n".join(filled(line, width, "", "  ", whole=True) for line in text.split("\n"))

    def _print_waiting(self) -> None:
        if self.waiting:
            width = shutil.get_terminal_size().columns if self.terminal else 10**6
            head, line = self.table.lines(self.waiting, width)
            if head:
                self._print(head)
            self._print(line, GREEN if self.waiting["best"] else "")
            self.waiting = {}

    def _print(self, text: str, colour: str = "") -> None:
        if self.output != "text":
            return
        self.printed, text = time.monotonic(), printable(in_language(text))
        self._put(f"\x1b[{colour}m{text}\x1b[0m" if colour and self.colour else text)

    def _write(self, row: Mapping[str, Any]) -> None:
        """Print a line of JSON, with null for a value that is not finite.

        It is written in one piece, because other threads write too.
        """
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        self._put(json.dumps(plain, ensure_ascii=False))

    def _put(self, line: str) -> None:
        """Print a line. If the terminal or the pipe's reader is gone, or a disk is full, the run goes on in silence."""
        try:
            if self.bar is not None:
                self.bar.write(line, file=sys.stdout)
            elif sys.stdout is not None:
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
        except OSError as error:
            self.output, self.terminal = "quiet", False
            if self.bar is not None:
                self.bar.disable, self.bar = True, None
            with suppress(OSError):  # the unwritten rest would fail again at the end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            with suppress(OSError):
                show(f"nothing is printed from here on ({error.strerror}); the run goes on", error=True)


def _in_notebook() -> bool:
    """Return whether this runs in a notebook's kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def _terminal_bar() -> Any:
    from tqdm import tqdm

    return tqdm


def _notebook_bar() -> Any:
    """Return a bar of the notebook, or a bar of text without ipywidgets."""
    from warnings import catch_warnings, simplefilter

    with catch_warnings():
        simplefilter("ignore")  # it warns that ipywidgets are missing
        from tqdm.auto import tqdm
    return tqdm


def _memory() -> list[str]:
    """Return the process's memory, if the system reports it, and the GPU's."""
    memory = []
    with suppress(OSError, ValueError), open("/proc/self/statm") as stream:
        memory.append(f"mem {int(stream.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 1e6:,.0f} MB")
    if torch.cuda.is_initialized():
        memory.append(f"GPU {torch.cuda.memory_reserved() / 1e6:,.0f} MB")
    return memory


def _format(values: Mapping[str, float]) -> str:
    return "  ".join(f"{k} {v:.3g}" if is_rate(k) else f"{k} {number(v)}" for k, v in values.items())
