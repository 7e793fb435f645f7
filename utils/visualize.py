"""Live curves, pictures and text in the browser: visdom, as in the book, but it never stops or slows a run."""

import contextlib
import html
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import methodcaller
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.sinks.visdom_sender import Sender, told_instead
from utils.sinks.visdom_shared import env_name
from utils.sinks.visdom_windows import Matrix, Pictures, Spread, Windows
from utils.terminal import show

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Visualizer"]

MAX_LINE = 2000  # characters in a line of a text window


class Visualizer:
    """A visdom environment that is filled in the background.

    No call waits for the server, returns anything, or raises: a value that cannot be shown costs one warning line.
    Windows are kept and sent whole, so that a server that starts late, or restarts empty, shows everything. `warn`
    (default: a line on stderr) gets the warnings, one about the server in a run; it may be called from a thread. In a
    forked process every call does nothing. With `greets` the page's address is told, too, once a server has answered.

    A method that is not defined here is the visdom client's: `vis.histogram(X, win="weights")`. Such a call also waits
    for a server (the newest 100 do), but is made only once.
    """

    def __init__(
        self,
        env: str = "main",
        host: str = "127.0.0.1",
        port: int = 8097,
        warn: Callable[[str], None] | None = None,
        greets: bool = False,
    ) -> None:
        self.env = env_name(env)
        self._warn = warn or (lambda message: show(message, error=True, flush=True))
        self._warned: set[str] = set()
        self._sender = Sender(self.env, host, port, self._warn_once, greets)
        self._owner = os.getpid()

    def plot(self, name: str, y: "float | Tensor", x: float | None = None) -> None:
        """Add a point to the curve in window `name`; without `x` the points are counted from 0."""
        self.curve(name, name, x, y)

    def plot_many(self, values: "Mapping[str, float | Tensor]") -> None:
        """Add a point to each of several curves: {window: y}."""
        for name, y in values.items():
            self.plot(name, y)

    def curve(self, window: str, trace: str, x: float | None, y: "float | Tensor") -> None:
        """Add a point to one trace of a window, such as `val` in `loss`; a y that is not finite makes a gap."""
        self._change(window, _add_point, trace, x, y)

    def images(self, name: str, array: "Tensor | np.ndarray") -> None:
        """Show a picture [C, H, W], or the first 64 of [N, C, H, W]: uint8, or floats in [0, 1]; C is 1 or 3."""
        with self.warning_on_error(name):
            self._change(name, _show, Pictures, array[:64])

    def img(self, name: str, tensor: "Tensor | np.ndarray") -> None:
        """Show pictures: the book's name for `images`."""
        self.images(name, tensor)

    def img_many(self, pictures: "Mapping[str, Tensor | np.ndarray]") -> None:
        """Show pictures in several windows: {window: pictures}."""
        for name, tensor in pictures.items():
            self.images(name, tensor)

    def heatmap(self, name: str, matrix: "Tensor | np.ndarray", labels: Sequence[str]) -> None:
        """Show a confusion matrix [C, C]: rows are the truth, the first class is at the top."""
        self._change(name, _show, Matrix, matrix, list(labels))

    def spread(self, name: str, values: "Mapping[str, Tensor | np.ndarray]", logarithmic: bool = False) -> None:
        """Show the histograms of several tensors below each other; `logarithmic`: of the sizes of their values."""
        self._change(name, _show, Spread, values, logarithmic)

    def log(self, info: object, win: str = "log_text", when: float | None = None) -> None:
        """Add a line with the time (now, or `when` in s since 1970) to a text window, which holds the newest 500."""
        warning_on_error = time.strftime("[%m-%d %H:%M:%S] ", time.localtime(when))
        self._change(win, _add_line, warning_on_error + str(info)[:MAX_LINE])

    def close(self, timeout: float = 2.0) -> bool:
        """Send as much as possible within `timeout` seconds. Returns whether that was all. Later calls do nothing."""
        return os.getpid() != self._owner or self._sender.stop(timeout)

    def __getattr__(self, method: str) -> Callable[..., None]:
        if method.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {method!r}")
        return lambda *args, **kwargs: self._call(method, args, kwargs)

    def row(self, name: str, fill: Callable[..., None], *arguments: Any) -> None:
        """Have the thread call `fill(windows, *arguments)`: the cheapest way to add many points; numbers only."""
        if os.getpid() == self._owner and not self._sender.stopping.is_set():
            self._sender.put(name, lambda windows: fill(windows, *arguments))

    def greet(self) -> None:
        """Look for the server at once, not with the first value."""
        self.row("the server", lambda windows: None)

    def _change(self, window: str, fill: Callable[..., None], *arguments: Any) -> None:
        with self.warning_on_error(window):
            self.row(window, fill, window, *map(_copied, arguments))

    def _call(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        if os.getpid() != self._owner or self._sender.stopping.is_set():
            return
        with self.warning_on_error(method):
            self._sender.call(method, methodcaller(method, *_escaped(_copied(args)), **_escaped(_copied(kwargs))))

    @contextlib.contextmanager
    def warning_on_error(self, what: str) -> Iterator[None]:
        """Turn any error within into a warning: the run matters more than its picture."""
        try:
            yield
        except Exception as error:
            self._warn_once(what, f"visdom: {what} is not shown: {error}")

    def _warn_once(self, topic: str, message: str) -> None:
        if topic not in self._warned and not told_instead(message):
            self._warned.add(topic)
            with contextlib.suppress(Exception):
                self._warn(" ".join(message.split()))


def _add_point(windows: Windows, window: str, trace: str, x: float | None, y: Any) -> None:
    y = float(np.asarray(y).item())  # before the window is made
    windows.curves(window).add(trace, x, y)


def _add_line(windows: Windows, window: str, line: str) -> None:
    windows.lines(window).add(line)


def _show(windows: Windows, window: str, kind: type, *content: Any) -> None:
    windows.put(kind(window, *content))


def _copied(value: Any) -> Any:
    """Return a copy that does not change with the value; tensors become arrays."""
    if hasattr(value, "detach"):  # a tensor, recognised without importing torch
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return value.copy() if isinstance(value, np.ndarray) else value


def _escaped(value: Any) -> Any:
    """Return the same value with its texts escaped for a browser."""
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, Mapping):
        return {key: item if key in ("win", "env") else _escaped(item) for key, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value
