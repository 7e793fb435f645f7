"""What a run says while it goes: a bar on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

__all__ = ["Console"]

LINE_PERIOD = 10.0  # s between two train lines where there is no bar


class Console:
    """A backend that prints; `say` is for sentences."""

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self.terminal = sys.stderr.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.bar: Any = None
        self.last = float("-inf")
        self.heading = ""

    def say(self, text: str) -> None:
        """One line, above the bar if there is one."""
        if not self.quiet:
            self._print(text)

    def begin(self, heading: str, total: int, done: int) -> None:
        """A new epoch of `total` batches, of which `done` are done already."""
        self.heading = heading
        if self.terminal and not self.quiet:
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=done, desc=heading, leave=False, dynamic_ncols=True, unit="batch")

    def advance(self) -> None:
        """One batch more."""
        if self.bar is not None:
            self.bar.update()

    def end(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def scalars(self, phase: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        if self.bar is not None and phase == "train":
            self.bar.set_postfix_str(_shown(values))
        elif phase != "train" or time.monotonic() - self.last >= LINE_PERIOD:
            self.last = time.monotonic()
            self.say(f"{self.heading or f'epoch {epoch}'}  step {step:>6}  {phase:<5}  {_shown(values)}")

    def images(self, name: str, step: int, images: Tensor) -> None:
        """A terminal shows no pictures."""

    def text(self, name: str, step: int, text: str) -> None:
        self.say(text)

    def matrix(self, name: str, step: int, matrix: Any, labels: Sequence[str]) -> None:
        """A picture of it lies in the run folder."""

    def close(self) -> None:
        self.end()

    def _print(self, text: str) -> None:
        if self.bar is None:
            print(text, flush=True)
        else:
            self.bar.write(text, file=sys.stdout)


def _shown(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" if "lr" in name else f"{name} {value:.4f}" for name, value in values.items())
