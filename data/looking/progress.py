"""A bar on a terminal, and a line now and then elsewhere."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator

__all__ = ["Progress"]

PERIOD = 10.0  # s between two lines where there is no bar


class Progress:
    """Counts what was looked at; quiet, if `say` is None."""

    def __init__(self, say: Callable[[str], None] | None):
        self.say = say

    def of(self, items: Iterable, total: int, what: str) -> Iterator:
        """Yield the items, and show how many of `total` were there."""
        if self.say is None:
            yield from items
        elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            from tqdm import tqdm

            with os.fdopen(os.dup(2), "w") as stream:  # the pictures' decoders write to the first one
                yield from tqdm(items, what, total, leave=False, file=stream, unit="", dynamic_ncols=True)
        else:
            last = time.monotonic()
            for number, item in enumerate(items, 1):
                yield item
                if time.monotonic() - last > PERIOD:
                    last = time.monotonic()
                    self.say(f"{what}: {number:,} of {total:,}")
