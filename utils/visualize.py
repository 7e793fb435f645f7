"""Live curves, pictures and text in the browser: visdom, as in the book, but unable to stop or slow a run."""

import contextlib
import html
import http.client
import os
import re
import sys
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import methodcaller
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from torch import Tensor

from utils.pictures import picture_grid, visdom_curves, visdom_matrix

__all__ = ["Visualizer"]

TIMEOUT = 2.0  # s, of each request: what a frozen server may cost the sender
PERIOD = 0.25  # s between two passes of the sender: at most 4 updates of a window a second
SHARE = 0.1  # of one core, at most, for the sender: very long curves are sent less often
RETRY = 3.0  # s between two attempts to reach a server
SAVE_PERIOD = 10.0  # s between two requests to store the environment on the server's disk
MAX_LINES, MAX_LINE = 500, 2000  # of a text window: lines, and characters in one
MAX_CALLS = 100  # calls of the visdom client that wait for a server

Picture = Tensor | np.ndarray
Draw = Callable[[Any], object]  # fills a window through the visdom client it is given


class Visualizer:
    """A visdom environment that is filled in the background.

    No call waits for the server, returns anything, or raises: what cannot be shown costs one warning line. Windows are
    kept and sent whole, so a server that starts late, or again and empty, shows everything. `warn` (default: a line on
    stderr) gets the warnings, one about the server in a run; it may be called from a thread. In a forked process every
    call does nothing. A method that is not defined here is the visdom client's: `vis.histogram(X, win="weights")`; such
    a call waits for a server too (the newest 100 do), but is made only once.
    """

    def __init__(
        self, env: str = "main", host: str = "127.0.0.1", port: int = 8097, warn: Callable[[str], None] | None = None
    ) -> None:
        self.env = re.sub(r"[^\w.-]", "_", env)[:100] or "main"  # the server makes a file and an address of it
        self._warn = warn or (lambda message: print(message, file=sys.stderr, flush=True))
        self._warned: set[str] = set()
        self._sender = _Sender(self.env, host, port, self._warn_once)
        self._owner = os.getpid()

    def plot(self, name: str, y: float | Tensor, x: float | None = None) -> None:
        """Add a point to the curve in window `name`; without `x` the points are counted from 0."""
        self.curve(name, name, x, y)

    def plot_many(self, values: Mapping[str, float | Tensor]) -> None:
        """Add a point to each of several curves: {window: y}."""
        for name, y in values.items():
            self.plot(name, y)

    def curve(self, window: str, trace: str, x: float | None, y: float | Tensor) -> None:
        """Add a point to one trace of a window, such as `val` in `loss`; a y that is not finite makes a gap."""
        self._do(window, lambda: self._sender.add_point(window, trace, x, _kept(y)))

    def images(self, name: str, array: Picture) -> None:
        """Show a picture [C, H, W], or the first 64 of [N, C, H, W]: uint8, or floats in [0, 1]; C is 1 or 3."""
        self._do(name, lambda: self._sender.show(name, partial(_draw_images, name, _kept(array[:64]))))

    def img(self, name: str, tensor: Picture) -> None:
        """Show pictures: the book's name for `images`."""
        self.images(name, tensor)

    def img_many(self, pictures: Mapping[str, Picture]) -> None:
        """Show several: {window: pictures}."""
        for name, tensor in pictures.items():
            self.images(name, tensor)

    def heatmap(self, name: str, matrix: Picture, labels: Sequence[str]) -> None:
        """Show a confusion matrix [C, C]: rows are the truth, the first class is at the top."""
        message = partial(visdom_matrix, _kept(matrix), list(labels))
        self._do(name, lambda: self._sender.show(name, partial(_draw_plot, name, message)))

    def log(self, info: object, win: str = "log_text") -> None:
        """Add a line with the time to a text window, which holds the newest 500."""
        self._do(win, lambda: self._sender.add_line(win, time.strftime("[%m-%d %H:%M:%S] ") + str(info)[:MAX_LINE]))

    def close(self, timeout: float = 2.0) -> None:
        """Send what can be sent within `timeout` seconds; calls that come later do nothing."""
        if os.getpid() == self._owner:
            self._sender.stop(timeout)

    def __getattr__(self, method: str) -> Callable[..., None]:
        if method.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {method!r}")
        return lambda *args, **kwargs: self._do(method, lambda: self._sender.call(method, _kept(args), _kept(kwargs)))

    def _do(self, what: str, change: Callable[[], None]) -> None:
        """Change what the sender holds, whatever the values are: the run matters more than its picture."""
        if os.getpid() != self._owner or self._sender.stopping.is_set():
            return
        try:
            change()
            self._sender.start()
        except Exception as error:
            self._warn_once(what, f"visdom: {what} is not shown: {error}")

    def _warn_once(self, topic: str, message: str) -> None:
        if topic not in self._warned:
            self._warned.add(topic)
            with contextlib.suppress(Exception):
                self._warn(" ".join(message.split()))


class _Sender:
    """What the windows should show, and the thread that has visdom show it: the run writes, the thread reads."""

    def __init__(self, env: str, host: str, port: int, warn_once: Callable[[str, str], None]) -> None:
        self._env, self._address, self._warn_once = env, (host, port), warn_once
        self._lock = threading.Lock()  # never held while anything is sent
        self._windows: dict[str, Any] = {}  # traces {name: (x, y)}, lines of text, or a Draw
        self._changed: dict[str, None] = {}  # a set that keeps its order
        self._calls: deque[tuple[str, Draw]] = deque(maxlen=MAX_CALLS)
        self._thread: threading.Thread | None = None
        self.stopping = threading.Event()
        self._connection: _Connection | None = None
        self._client: Any = None
        self._unsaved, self._saved = False, 0.0

    def add_point(self, window: str, trace: str, x: float | None, y: Any) -> None:
        y = float(np.asarray(y).item())
        with self._lock:
            xs, ys = self._content(window, dict).setdefault(trace, (array("d"), array("d")))
            xs.append(float(len(xs) if x is None else x))
            ys.append(y)

    def add_line(self, window: str, line: str) -> None:
        with self._lock:
            self._content(window, deque, (), MAX_LINES).append(line)

    def show(self, window: str, draw: Draw) -> None:
        with self._lock:
            self._windows[window], self._changed[window] = draw, None

    def call(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._calls.append((method, methodcaller(method, *args, **kwargs)))

    def _content(self, window: str, kind: type, *arguments: object) -> Any:
        self._changed[window] = None
        if not isinstance(self._windows.get(window), kind):
            self._windows[window] = kind(*arguments)
        return self._windows[window]

    def start(self) -> None:
        """Start the thread, once."""
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="visdom", daemon=True)
                thread.start()
                self._thread = thread

    def stop(self, timeout: float) -> None:
        """Have the thread send what is left, and end."""
        self.stopping.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        pause, last = 0.0, False
        while not last:
            last = self.stopping.wait(pause)
            try:
                pause = self._pass(last)
            except Exception as error:  # whatever it is, the run goes on
                self._warn_once("the server", str(error))
                self._connection, pause = None, RETRY
        self._connection = self._client = None

    def _pass(self, last: bool) -> float:
        """Send what changed; gives the seconds to wait before the next pass."""
        if self._connection is None or not self._connection.is_open():
            self._connect()
        began = time.thread_time()
        for name, draw in self._drawings():
            self._draw(name, draw)
        for _ in range(len(self._calls)):
            self._draw(*self._calls.popleft())
        if self._unsaved and (last or time.monotonic() > self._saved + SAVE_PERIOD):
            self._unsaved, self._saved = False, time.monotonic()
            self._client.save([self._env])
        return max(PERIOD, (time.thread_time() - began) / SHARE)

    def _connect(self) -> None:
        connection = self._connection = _Connection(*self._address)
        import visdom

        self._client = visdom.Visdom(env=self._env, send=False, use_incoming_socket=False)
        self._client.send = True  # only now, or it would post and print
        self._client._handle_post = lambda url, data=None: connection.post(urlsplit(url).path, data or "{}")
        with self._lock:  # whatever the server was told before, it may have forgotten
            self._changed = dict.fromkeys(self._windows)

    def _drawings(self) -> list[tuple[str, Draw]]:
        """How to draw each window that has changed, as it is now."""
        with self._lock:
            changed, self._changed = self._changed, {}
            return [(window, _drawing(window, self._windows[window])) for window in changed]

    def _draw(self, name: str, draw: Draw) -> None:
        self._unsaved = True
        try:
            draw(self._client)
        except _ServerError:
            raise
        except Exception as error:
            self._warn_once(name, f"visdom: {name} is not shown: {error}")


class _ServerError(Exception):
    """There is no server, or it cannot be relied on; the text is a sentence for the user."""


class _Connection(http.client.HTTPConnection):
    """A single connection: once it breaks, the server may have forgotten all it was told."""

    # Not `requests`: it connects again behind our back, and through a proxy where the environment names one.

    auto_open = 0

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port, timeout=TIMEOUT)
        try:
            self.connect()
        except OSError as error:
            why = f"no visdom server at {host}:{port}; curves go to the run folder only"
            raise _ServerError(f"{why} (start one with: python -m visdom.server -port {port} -bind_local)") from error
        if not self.post("/env_state", "{}").startswith("["):
            raise self._trouble("does not answer as visdom does")

    def post(self, path: str, body: str) -> str:
        """The server's answer; raises _ServerError where none comes, or an error does."""
        try:
            self.request("POST", path, body.encode())
            answer = self.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise self._trouble("does not answer") from error
        if answer.status != 200:
            raise self._trouble(f"answers {answer.status}")
        return text

    def _trouble(self, what: str) -> _ServerError:
        server = f"the visdom server at {self.host}:{self.port}"
        return _ServerError(f"{server} {what}; curves go to the run folder, and sending is tried again")

    def is_open(self) -> bool:
        """Whether the server has not hung up."""
        from urllib3.util import wait_for_read

        return self.sock is not None and not wait_for_read(self.sock, timeout=0)  # nothing is due but an end


def _drawing(window: str, content: Any) -> Draw:
    """How to draw a window, independent of what is added to its content later."""
    if isinstance(content, dict):
        traces = {name: (xs[:], ys[:]) for name, (xs, ys) in content.items()}
        return partial(_draw_plot, window, partial(visdom_curves, traces))
    if isinstance(content, deque):
        lines = "<br>".join(map(html.escape, content))
        return methodcaller("text", lines, win=window, opts={"title": html.escape(window)})
    return content


def _draw_plot(window: str, make: Callable[[], dict[str, Any]], client: Any) -> None:
    message = make()
    message["layout"]["title"] = title = html.escape(window)
    client._send({"win": window, "eid": client.env, "opts": {"title": title}, **message})


def _draw_images(window: str, array: np.ndarray, client: Any) -> None:
    client.image(picture_grid(array), win=window, opts={"title": html.escape(window)})


def _kept(value: Any) -> Any:
    """A copy that does not change with the value: tensors as arrays, texts harmless to a browser."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, Mapping):
        return {key: item if key in ("win", "env") else _kept(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_kept(item) for item in value]
    return value.copy() if isinstance(value, np.ndarray) else value
