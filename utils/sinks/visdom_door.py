"""The door of the dashboard: visdom's server lets any web page in, this one its own page and programs only."""

import hmac
import json
from typing import Any

import tornado.web
import tornado.websocket
from tornado.httputil import HTTPServerRequest

from utils.sinks.visdom_shared import LOOPBACK, env_name

__all__ = ["Door"]

GONE_ROUTES = ("/delete_env", "/error/")
GONE_COMMANDS = ("delete_env",)
FOREIGN = "403: this dashboard answers its own page at http://127.0.0.1 and programs on this machine only"
NO_TOKEN = "403: open the address with the token that `python main.py dashboard --token` printed"


class Door(tornado.web.Application):
    """An application whose requests are looked at before any handler sees them.

    Mixed into visdom's. A foreign Host or Origin gets 403, so does a request without the token where there is one.
    """

    port: int  # visdom's application has it
    state: dict[str, Any]

    def __init__(self, *args: Any, token: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._token = token
        self.settings |= {"debug": False, "serve_traceback": False}  # visdom switches them on
        for name in list(self.state):  # of files that lay there
            self.state[env_name(name)] = self.state.pop(name)
        for rule in self.wildcard_router.rules:
            pattern = rule.matcher.regex.pattern  # type: ignore[attr-defined]
            if pattern.startswith(GONE_ROUTES):
                rule.target, rule.target_kwargs = tornado.web.ErrorHandler, {"status_code": 404}
            elif "app" in rule.target_kwargs:  # visdom's own, all except the one for files
                careful = _CarefulSocket if issubclass(rule.target, tornado.websocket.WebSocketHandler) else _Careful
                rule.target = type(rule.target.__name__, (careful, rule.target), {})

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """Return what answers a request: the route's handler, or one that refuses it."""
        if _is_foreign(request):
            return self.get_handler_delegate(request, _Refused, {"reason": FOREIGN})
        if self._token and not self._knows_token(request):
            asked = request.query_arguments.get("token", [b""])[-1]
            if request.method == "GET" and self._is_token(asked.decode(errors="replace")):
                cookie = (self._cookie, self._token)
                return self.get_handler_delegate(request, _Entrance, {"cookie": cookie})
            return self.get_handler_delegate(request, _Refused, {"reason": NO_TOKEN})
        return super().find_handler(request, **kwargs)

    @property
    def _cookie(self) -> str:
        return f"dashboard-{self.port}"  # a browser sends cookies to all ports

    def _knows_token(self, request: HTTPServerRequest) -> bool:
        cookie = request.cookies.get(self._cookie)
        header = request.headers.get("Authorization", "")
        return self._is_token(header.removeprefix("Bearer ")) or (cookie is not None and self._is_token(cookie.value))

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self._token.encode())


def _is_foreign(request: HTTPServerRequest) -> bool:
    """Return whether another page than the dashboard's own asks."""
    headers = request.headers
    host = headers.get("Host", LOOPBACK[0]).lower()  # only a program of HTTP/1.0 sends none
    if host.partition(":")[0] not in LOOPBACK:
        return True  # a foreign name that leads to this machine
    # The port may be another than ours, of `ssh -L`. What counts is that page and server have the same.
    if headers.get("Origin", f"http://{host}").lower() != f"http://{host}":
        return True
    if headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
        return False
    # A page that only loads something sends no Origin. A link may lead here: the other page cannot read it.
    kind = (request.method, headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest"))
    return kind != ("GET", "navigate", "document")


@tornado.web.stream_request_body
class _Refused(tornado.web.RequestHandler):
    """Answers 403 before the body has come."""

    def initialize(self, reason: str) -> None:
        self.reason = reason

    def prepare(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain")
        self.finish(f"{self.reason}\n")

    def data_received(self, chunk: bytes) -> None:
        """Let the body go by."""


class _Entrance(tornado.web.RequestHandler):
    """Gives the token to the browser as a cookie, and the page without the token in its address."""

    def initialize(self, cookie: tuple[str, str]) -> None:
        self.cookie = cookie

    def get(self) -> None:
        self.set_cookie(*self.cookie, httponly=True, samesite="Strict")
        self.redirect("/" + self.request.path.lstrip("/"))


class _Careful(tornado.web.RequestHandler):
    """Mends the names of environments in an address and in a body before visdom's handler sees them."""

    def prepare(self) -> None:
        self.path_args = ["+".join(map(env_name, argument.split("+"))) for argument in self.path_args]
        if self.request.body:
            try:
                self.request.body = _cleaned(self.request.body).encode()
            except ValueError as error:
                raise tornado.web.HTTPError(400) from error


class _CarefulSocket(tornado.websocket.WebSocketHandler):
    """Mends the names of environments in the messages of a websocket."""

    def on_message(self, message: str | bytes) -> Any:
        return super().on_message(_cleaned(message))


def _cleaned(text: str | bytes) -> str:
    """Return a message with names of environments by our rule. Raises ValueError if it is not JSON."""
    message = json.loads(text)
    if isinstance(message, dict):
        _clean(message)
    return json.dumps(message)


def _clean(message: dict[str, Any]) -> None:
    for key in ("eid", "prev_eid"):
        if message.get(key) is not None:
            message[key] = env_name(str(message[key]))
    if message.get("cmd") in GONE_COMMANDS:
        message["cmd"] = None
    if isinstance(message.get("message"), str):  # a command of a page that polls
        message["message"] = _cleaned(message["message"])
    match message.get("data"):
        case dict() as packet:
            _clean(packet)
        case list() as names:  # of environments to save; elsewhere they are no texts
            message["data"] = [env_name(name) if isinstance(name, str) else name for name in names]
