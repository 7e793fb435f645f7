"""The thread through which a visdom server is told what its windows should show, whatever the server does meanwhile."""

import contextlib
import http.client
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from utils.sinks.visdom_shared import read_token
from utils.sinks.visdom_windows import Send, Windows

__all__ = ["Sender"]

TIMEOUT = 2.0  # s, of each request: what a frozen server may cost the sender
PERIOD = 0.25  # s between two passes of the sender: at most 4 updates of a window a second
SHARE = 0.1  # of one core, at most, for the sender: very long curves are sent less often
RETRY = 3.0  # s between two attempts to reach a server
SAVE_PERIOD = 10.0  # s between two requests to store the environment on the server's disk
MAX_CALLS = 100  # calls of the visdom client that wait for a server

Change = Callable[[Windows], None]


class Sender:
    """The run puts changes in and goes on; the thread makes them, and sends every window that changed as a whole.

    So nothing is lost when the server is not there, or comes again without what it knew, and nothing is there twice.
    """

    def __init__(self, env: str, host: str, port: int, warn_once: Callable[[str, str], None]) -> None:
        """`warn_once` gets a topic and a sentence, on the thread."""
        self._env, self._address, self._warn_once = env, (host, port), warn_once
        self._inbox: deque[tuple[str, Change]] = deque()
        self._windows = Windows()
        self._calls: deque[tuple[str, Send]] = deque(maxlen=MAX_CALLS)
        self._thread: threading.Thread | None = None
        self.stopping = threading.Event()
        self._connection: _Connection | None = None
        self._client: Any = None
        self._unsaved, self._saved = False, 0.0
        self._all_sent = False  # true at the end only

    def put(self, what: str, change: Change) -> None:
        """Have the thread make a change; `what` is what a failure is told of."""
        self._inbox.append((what, change))  # no lock: a deque's append is whole
        if self._thread is None:
            self._start()

    def call(self, method: str, call: Send) -> None:
        """Have the thread call the visdom client, once."""
        self.put(method, lambda windows: self._calls.append((method, call)))

    def stop(self, timeout: float) -> bool:
        """Have the thread send what is left, and end; whether all was sent within `timeout` seconds."""
        self.stopping.set()
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or self._all_sent

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="visdom", daemon=True)
        thread.start()
        self._thread = thread

    def _run(self) -> None:
        pause, last = PERIOD, False
        while not last:
            last = self.stopping.wait(pause)
            self._make_changes()
            try:
                pause = self._pass(last)
                self._all_sent = last
            except Exception as error:  # whatever it is, the run goes on
                self._warn_once("the server", str(error))
                self._connection, pause = None, RETRY
        self._connection = self._client = None

    def _make_changes(self) -> None:
        for _ in range(len(self._inbox)):
            what, change = self._inbox.popleft()
            with self._told(what):
                change(self._windows)

    def _pass(self, last: bool) -> float:
        """Send what changed; gives the seconds to wait before the next pass."""
        if self._connection is None or not self._connection.is_open():
            self._connect()
        began = time.thread_time()
        for what, send in self._windows.take_changed():
            self._send(what, send)
        for _ in range(len(self._calls)):
            self._send(*self._calls.popleft())
        if self._unsaved and (last or time.monotonic() > self._saved + SAVE_PERIOD):
            self._unsaved, self._saved = False, time.monotonic()
            self._client.save([self._env])
        return max(PERIOD, (time.thread_time() - began) / SHARE)

    def _send(self, what: str, send: Send) -> None:
        self._unsaved = True
        with self._told(what):
            send(self._client)

    def _connect(self) -> None:
        connection = self._connection = _Connection(*self._address)
        import visdom

        self._client = visdom.Visdom(env=self._env, send=False, use_incoming_socket=False)
        self._client.send = True  # only now, or it would post and print
        self._client._handle_post = lambda url, data=None: connection.post(urlsplit(url).path, data or "{}")
        self._windows.change_all()  # whatever the server was told before, it may have forgotten

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """A failure that is not the server's costs one line."""
        try:
            yield
        except _ServerError:
            raise
        except Exception as error:
            self._warn_once(what, f"visdom: {what} is not shown: {error}")


class _ServerError(Exception):
    """There is no server, or it cannot be relied on; the text is a sentence for the user."""


class _Connection(http.client.HTTPConnection):
    """A single connection: once it breaks, the server may have forgotten all it was told."""

    # Not `requests`: it connects again behind our back, and through a proxy where the environment names one.

    auto_open = 0

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port, timeout=TIMEOUT)
        token = read_token(host, port)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            self.connect()
        except OSError as error:
            why = f"no visdom server at {host}:{port}; curves go to the run folder only"
            raise _ServerError(f"{why} (start one with: python main.py dashboard --port={port})") from error
        if not self.post("/env_state", "{}").startswith("["):
            raise self._trouble("does not answer as visdom does")

    def post(self, path: str, body: str) -> str:
        """The server's answer; raises _ServerError where none comes, or an error does."""
        try:
            self.request("POST", path, body.encode(), self._headers)
            answer = self.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise self._trouble("does not answer") from error
        if answer.status == 403:
            raise self._trouble("does not let this run in (the dashboard of another user, or its token is lost)")
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
