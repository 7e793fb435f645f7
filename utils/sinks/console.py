"""What a run says while it goes: a bar and a table on a terminal, plain lines elsewhere, JSON for scripts."""

import json
import math
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

import torch
from torch import Tensor

from utils.sinks.logger import Sink
from utils.sinks.table import Epoch, Table, clock, is_rate, number

__all__ = ["Console", "Output"]

Output = Literal["text", "quiet", "json"]
LINE_PERIOD = 10.0  # s between two lines of progress where there is no bar
BAR_PERIOD = 1.0  # s between two looks at what the bar tells besides its count
BAR = "{desc} {bar} {n_fmt}/{total_fmt}, {rate_noinv_fmt}, {remaining} left{postfix}"
BOLD, GREEN = "1", "32"  # of a terminal's colours


class Console(Sink):
    """A sink that prints; `say` is for sentences, `tell` for what an epoch has come to."""

    def __init__(self, output: Output = "text"):
        self.output = output
        self.notebook = _in_notebook()
        terminal = sys.stderr.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.terminal = (terminal or self.notebook) and output == "text"
        self.colour = self.terminal and not os.environ.get("NO_COLOR")  # https://no-color.org
        self.bar: Any = None
        self.table = Table()
        self.epoch = Epoch(0, 0, 0, 0)
        self.waiting: dict[str, str] = {}  # a row of the table that came too soon to be printed
        self.values: dict[str, float] = {}  # of the last train row
        self.printed = self.looked = float("-inf")

    def say(self, text: str) -> None:
        """One line, above the bar if there is one."""
        if self.output == "json":
            self._write({"phase": "note", "text": text})
        else:
            self.table.shown = []
            self._print(self._wrapped(text))

    def begin(self, epoch: int, epochs: int, total: int, done: int) -> None:
        """A new epoch (from 0, of `epochs`) of `total` batches, of which `done` are done already."""
        if self.epoch.done >= self.epoch.total > 0 and not self.epoch.told and self.output == "text":
            self.tell(self.epoch.number, self.epoch.step, best=False)  # no validation fell into it
        self.end()
        self.epoch = Epoch(epoch, epochs, total, done)
        if self.terminal:
            options: dict[str, Any] = {"leave": False, "dynamic_ncols": True, "unit": " step"}
            options |= {} if self.notebook else {"bar_format": BAR}
            bar = _notebook_bar() if self.notebook else _terminal_bar()
            self.bar = bar(total=total, initial=done, desc=f"epoch {epoch + 1}/{epochs}", **options)
            self.looked = float("-inf")

    def advance(self, scalars: Mapping[str, Tensor]) -> None:
        """One batch more, and what it gave."""
        self.epoch.done += 1
        if self.bar is not None:
            self.bar.update()
            if time.monotonic() - self.looked >= BAR_PERIOD:
                self._look(scalars)

    def end(self) -> None:
        """No bar from here on."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def flush(self) -> None:
        """Print the row of the table that is left: the run is finished."""
        self._print_waiting()

    def scalars(self, phase: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """A row of the journal. Those of validation are printed when it is known whether they are the best."""
        if phase != "train":
            self.epoch.measured = dict(values)
            return
        self.epoch.add(step, values)
        self.values = dict(values)
        if self.output == "json":
            self._write({"phase": phase, "epoch": epoch, "step": step, **values})
        elif not self.terminal and time.monotonic() - self.printed >= LINE_PERIOD:
            self._print(f"{self.epoch.progress()}  {_shown(values)}")
            self.table.shown = []

    def tell(self, epoch: int, step: int, best: bool) -> None:
        """A line on the epoch so far, after its validation; `best`: none was better."""
        seconds, measured = time.monotonic() - self.epoch.start, self.epoch.measured
        self.epoch.told = True
        if self.output == "json":
            known = {"is_best": best, "seconds": round(seconds, 3)}
            self._write({"phase": "val", "epoch": epoch, "step": step, **measured, **known})
            return
        row = {"epoch": self.epoch.position(), **self.epoch.columns(), "time": clock(seconds)}
        self.waiting = row | {"best": "*" if best else ""}
        if self.terminal or time.monotonic() - self.printed >= LINE_PERIOD:
            self._print_waiting()

    def done(self, facts: Mapping[str, Any]) -> None:
        """The last words: steps, epochs, seconds, folder, files, next (a command), and of the best validation monitor
        (the metric), best (its value, None where nothing was measured), best_epoch and best_file.
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
            self.say(text)

    def close(self) -> None:
        self.end()
        self._print_waiting()

    def _look(self, scalars: Mapping[str, Tensor]) -> None:
        """What the bar tells beside its count: memory, and the losses of the last row, before it those of this batch.

        A device is asked for a number once in a while, not each step: it would have to wait.
        """
        self.looked = time.monotonic()
        values = self.values or {name: float(value.detach()) for name, value in scalars.items()}
        losses = [f"{name} {number(value)}" for name, value in values.items() if not is_rate(name)]
        self.bar.set_postfix_str(", ".join([*losses[:2], *_memory()]))  # and draws it

    def _wrapped(self, text: str) -> str:
        """On a terminal, lines that break between words."""
        if not self.terminal:
            return text
        whole: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False, "subsequent_indent": "  "}
        width = shutil.get_terminal_size().columns
        return "\n".join(textwrap.fill(line, width, **whole) for line in text.split("\n"))

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
        self.printed = time.monotonic()
        self._put(f"\x1b[{colour}m{text}\x1b[0m" if colour and self.colour else text)

    def _write(self, row: Mapping[str, Any]) -> None:
        """A line of JSON, which has no word for what is not finite; in one piece, as other threads write too."""
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        self._put(json.dumps(plain, ensure_ascii=False))

    def _put(self, line: str) -> None:
        """A terminal that is gone, a pipe without a reader, or a full disk behind it, is no reason to end a run."""
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
            with suppress(OSError):  # what is left unwritten would fail again at the end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            with suppress(OSError):
                print(f"nothing is printed from here on ({error.strerror}); the run goes on", file=sys.stderr)


def _in_notebook() -> bool:
    """Return whether this runs in a notebook's kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def _terminal_bar() -> Any:
    from tqdm import tqdm

    return tqdm


def _notebook_bar() -> Any:
    """Return a bar of the notebook; one of text where ipywidgets are not installed."""
    from warnings import catch_warnings, simplefilter

    with catch_warnings():
        simplefilter("ignore")  # it would rather have them installed
        from tqdm.auto import tqdm
    return tqdm


def _memory() -> list[str]:
    """What the process holds in memory, where the system tells; and of its GPU's."""
    told = []
    with suppress(OSError, ValueError), open("/proc/self/statm") as stream:
        told.append(f"{int(stream.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 1e6:,.0f} MB")
    if torch.cuda.is_initialized():
        told.append(f"GPU {torch.cuda.memory_reserved() / 1e6:,.0f} MB")
    return told


def _shown(values: Mapping[str, float]) -> str:
    return "  ".join(f"{k} {v:.3g}" if is_rate(k) else f"{k} {number(v)}" for k, v in values.items())
