"""The thread that sends the windows' content to a visdom server, and never stops the run for it."""

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

__all__ = ["Sender", "nothing_sent", "told_instead"]

TIMEOUT = 2.0  # s, of each request: the longest wait for a frozen server
PERIOD = 0.25  # s between two passes of the sender: at most 4 updates of a window a second
MAX_CPU = 0.1  # fraction of one core, at most, for the sender: very long curves are sent less often
RETRY = 3.0  # s between two attempts to reach a server
SAVE_PERIOD = 10.0  # s between two requests to store the environment on the server's disk
MAX_CALLS = 100  # calls of the visdom client that wait for a server

Change = Callable[[Windows], None]
Tell = Callable[[str], None]


class _Dry:
    """Makes each change at once and encodes what it would send; the messages go nowhere."""

    def __init__(self, tell: Tell) -> None:
        self.tell, self.windows, self.sent = tell, Windows(), set[str]()
        self.client: Any = None

    def put(self, what: str, change: Change) -> None:
        try:
            change(self.windows)
            for window, send in self.windows.take_changed():
                self.send(window, send)
        except Exception as error:
            self.tell(f"visdom: {what} is not shown: {error}")

    def call(self, method: str, call: Send) -> None:
        self.put(method, lambda windows: self.send(method, call))

    def send(self, what: str, send: Send) -> None:
        with contextlib.suppress(ModuleNotFoundError):  # without visdom nothing is encoded
            self.client = self.client or _client("rehearsal", lambda path, body: "")
        if self.client is not None:
            send(self.client)
            self.sent.add(what)


_dry: list[_Dry] = []  # the innermost last


@contextlib.contextmanager
def nothing_sent(tell: Tell) -> Iterator[set[str]]:
    """Have all senders of this process draw and encode at once, and send nothing; each has its windows as before.

    `tell` gets a sentence for each window that cannot be shown, while the code that asked for it still runs. Yields
    the names of the windows that were encoded.
    """
    _dry.append(_Dry(tell))
    try:
        yield _dry[-1].sent
    finally:
        _dry.pop()


def told_instead(sentence: str) -> bool:
    """Return whether nothing is sent now, after telling the sentence to those who see to that."""
    if _dry:
        _dry[-1].tell(sentence)
    return bool(_dry)


class Sender:
    """A queue of changes and a thread that makes them; it sends each changed window as a whole.

    So nothing is lost when the server is missing, or restarts empty, and nothing is shown twice.
    """

    def __init__(
        self, env: str, host: str, port: int, warn_once: Callable[[str, str], None], greets: bool = False
    ) -> None:
        """Prepare the thread. `warn_once` gets a topic and a sentence, and is called on the thread.

        `greets`: the address of the page is a sentence, too, once a server has answered.
        """
        self._env, self._address, self._warn_once, self._greets = env, (host, port), warn_once, greets
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
        """Have the thread make a change; a warning about it names `what`."""
        if _dry:
            _dry[-1].put(what, change)
            return
        self._inbox.append((what, change))  # no lock: a deque's append is atomic
        if self._thread is None:
            self._start()

    def call(self, method: str, call: Send) -> None:
        """Have the thread call the visdom client, once."""
        if _dry:
            _dry[-1].call(method, call)
        else:
            self.put(method, lambda windows: self._calls.append((method, call)))

    def stop(self, timeout: float) -> bool:
        """Have the thread send the rest, and end. Returns whether all was sent within `timeout` seconds."""
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
            except Exception as error:  # the run goes on after any error
                self._warn_once("the server", str(error))
                self._connection, pause = None, RETRY
        self._connection = self._client = None

    def _make_changes(self) -> None:
        for _ in range(len(self._inbox)):
            what, change = self._inbox.popleft()
            with self._warn_on_error(what):
                change(self._windows)

    def _pass(self, last: bool) -> float:
        """Send the changed windows. Returns the seconds to wait before the next pass."""
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
        return max(PERIOD, (time.thread_time() - began) / MAX_CPU)

    def _send(self, what: str, send: Send) -> None:
        self._unsaved = True
        with self._warn_on_error(what):
            send(self._client)

    def _connect(self) -> None:
        connection = self._connection = _Connection(*self._address)
        self._client = _client(self._env, connection.post)
        if self._greets:
            self._warn_once("the page", f"curves: http://{self._address[0]}:{self._address[1]}/env/{self._env}")
        self._windows.change_all()  # a new server knows none of the windows

    @contextlib.contextmanager
    def _warn_on_error(self, what: str) -> Iterator[None]:
        """Turn an error that is not the server's into one warning line."""
        try:
            yield
        except _ServerError:
            raise
        except Exception as error:
            self._warn_once(what, f"visdom: {what} is not shown: {error}")


def _client(env: str, post: Callable[[str, str], str]) -> Any:
    """Return visdom's client, whose messages go through `post`."""
    import visdom

    client: Any = visdom.Visdom(env=env, send=False, use_incoming_socket=False)
    client.send = True  # set only now, otherwise it would post and print
    client._handle_post = lambda url, data=None: post(urlsplit(url).path, data or "{}")
    return client


class _ServerError(Exception):
    """A server that is missing or unreliable; the text is a sentence for the user."""


class _Connection(http.client.HTTPConnection):
    """A single connection; when it breaks, the server may have lost the windows."""

    # Not `requests`: it would connect again unnoticed, and through a proxy if the environment names one.

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
        """Return the server's answer. Raises _ServerError if there is none, or if it is an error."""
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
        """Return whether the server has not hung up."""
        from urllib3.util import wait_for_read

        # nothing to read is expected, except the end
        return self.sock is not None and not wait_for_read(self.sock, timeout=0)
