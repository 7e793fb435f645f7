"""The dashboard's door: pages of others are kept out on every route, programs and its own page are let in."""

import asyncio
import http.client
import json
import os
import signal
import threading

import pytest
from visdom_server import Server, wait_for

from utils.sinks import visdom_server as dashboard
from utils.sinks.visdom_shared import env_name, keep_token, read_token
from utils.visualize import Visualizer

EVIL = "../../victim"
# All that any route reads, and a name that leads out of the folder wherever there may be one.
MESSAGE = {
    "eid": EVIL,
    "prev_eid": "main",
    "win": "w",
    "sid": "s",
    "data": [EVIL],
    "message_type": "send",
    "layout": {},
}
WINDOW = {"type": "text", "content": "x"}
MESSAGES = [MESSAGE, MESSAGE | {"data": [WINDOW]}, MESSAGE | {"data": "{}"}, MESSAGE | {"win": None, "data": "{}"}]
COMMANDS = [
    {"cmd": command, "eid": EVIL, "prev_eid": previous, "data": data, "win": "w"}
    for command in ("close", "save", "delete_env", "save_layouts", "forward_to_vis", "layout_item_update", "echo")
    for previous, data in (("main", {}), (EVIL, {"eid": EVIL, "target": "w"}))
]


class Door:
    """The dashboard's application on a free port, in a thread of this process."""

    def __init__(self, folder, token=""):
        self.folder, self.port = folder, Server(folder).port
        self.host = f"127.0.0.1:{self.port}"
        self.application = dashboard._application(folder, self.port, token)
        self.loop, self.ended, listening = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=(self.serve(listening),))
        self.thread.start()
        assert listening.wait(20)

    async def serve(self, listening):
        server = self.application.listen(self.port, address="127.0.0.1")
        listening.set()
        await self.ended.wait()
        server.stop()
        await server.close_all_connections()

    def close(self):
        self.loop.call_soon_threadsafe(self.ended.set)
        self.thread.join()
        self.loop.close()

    def routes(self):
        """(An address that leads there, its handler) of every route."""
        for rule in self.application.wildcard_router.rules:
            pattern = rule.matcher.regex.pattern
            path = pattern.rstrip("$").replace("(.*)", "name").replace("\\", "").replace("(", "").replace(")", "")
            assert rule.matcher.regex.match(path), pattern
            yield path if path.startswith("/") else f"/{path}", rule.target

    def ask(self, method, path, message=None, **headers):
        """Status, headers and text of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, None if message is None else json.dumps(message), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, answer.headers, text

    def socket(self, path, **options):
        import websocket

        return websocket.create_connection(
            f"ws://{self.host}{path}", timeout=20, http_no_proxy=["127.0.0.1"], **options
        )

    def state(self):
        """What it knows, as it goes to the page."""
        return json.dumps({name: dict(env) for name, env in self.application.state.items()}, sort_keys=True)


@pytest.fixture
def door(tmp_path):
    folder = tmp_path / "checkpoints" / ".visdom"
    folder.mkdir(parents=True)
    (tmp_path / "victim.json").write_text("precious")
    (folder / "old.json").write_text('{"jsons": {}, "reload": {}}')
    door = Door(folder)
    yield door
    door.close()


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def strangers(port):
    """Headers that a browser sends for the page of somebody else."""
    for origin in (
        "http://evil.example",
        "null",
        f"http://127.0.0.1:{port + 1}",
        f"http://localhost:{port}",
        "file://",
    ):
        yield {"Origin": origin}
    for host in (f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", "", f"127.0.0.2:{port}"):
        yield {"Host": host}
        yield {"Host": host, "Origin": f"http://{host}"}
    yield {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "script"}
    yield {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"}


def test_every_route_is_shut_to_pages_of_others(door, tmp_path):
    before = files(tmp_path), door.state()
    routes = list(door.routes())
    assert len(routes) >= 20 and {"/env/name", "/save", "/socket", "/name"} <= {path for path, _ in routes}
    for path, _ in routes:
        for headers in strangers(door.port):
            for method, message in (("GET", None), ("POST", MESSAGE), ("PUT", MESSAGE), ("OPTIONS", None)):
                status, _, text = door.ask(method, path, message, **headers)
                assert (status, text[:4]) == (403, "403:"), (method, path, headers)
    assert (files(tmp_path), door.state()) == before


def test_every_socket_is_shut_to_pages_of_others(door, tmp_path):
    import websocket

    sockets = [path for path, handler in door.routes() if issubclass(handler, tornado_socket())]
    assert sockets == ["/socket", "/vis_socket"]
    for path in sockets:
        for headers in strangers(door.port):
            if headers.get("Host") != "" and "Sec_Fetch_Site" not in headers:  # the client cannot send those
                with pytest.raises(websocket.WebSocketBadStatusException) as refused:
                    door.socket(path, **{name.lower(): value for name, value in headers.items()})
                assert refused.value.status_code == 403
        by_name = f"localhost:{door.port}"
        ours = {"origin": f"http://{door.host}"}, {"host": by_name, "origin": f"http://{by_name}"}
        for options in (*ours, {"suppress_origin": True}):
            connection = door.socket(path, **options)
            assert json.loads(connection.recv())["command"] in ("register", "alive")
            connection.close()


def tornado_socket():
    from tornado.websocket import WebSocketHandler

    return WebSocketHandler


def test_programs_and_the_page_come_in_as_before(door):
    """Without Origin, by both names of this machine, by a forwarded port, and by a link on another page."""
    port = door.port
    for host in (door.host, f"localhost:{port}", f"LOCALHOST:{port}", "localhost:9000"):
        for headers in ({"Host": host}, {"Host": host, "Origin": f"http://{host.lower()}"}):
            status, _, text = door.ask("POST", "/env_state", {}, **headers)
            assert status == 200 and "main" in json.loads(text)
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert 'id="app"' in door.ask("GET", "/env/main", **link)[2]
    for path, _ in door.routes():
        for method, message in (("GET", None), ("POST", MESSAGE)):
            assert door.ask(method, path, message)[0] != 403, "or the other tests would show nothing"


def test_the_client_of_visdom_comes_in_as_before(door, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    import visdom

    client = visdom.Visdom("http://127.0.0.1", port=door.port, raise_exceptions=True)
    assert wait_for(lambda: client.socket_alive)
    assert client.text("hello", win="w", env="my run") == "w"
    assert wait_for(lambda: "my_run" in client.get_env_list())
    assert json.loads(client.get_window_data("w", "my run"))["content"] == "hello"
    assert json.loads(client.save(["my run"])) == ["my_run"] and (door.folder / "my_run.json").exists()
    client.use_socket = False  # or its thread would go on connecting


@pytest.mark.slow
def test_no_name_leads_out_of_the_folder(door, tmp_path):
    """Whatever route, command or socket it comes by."""
    names = [EVIL, "..", "/etc/x", "a/b", "..\\x", "\x00", "x" * 300, ""]
    for path in (door.folder / "with space.json", tmp_path / "victim" / ".json"):  # visdom would read the second, too
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"jsons": {}, "reload": {}}')
    polling = json.loads(door.ask("GET", "/socket_wrap")[2])["sid"]
    page = door.socket("/socket", suppress_origin=True)
    page.recv()
    for name in names:
        texts = [json.dumps(message).replace(EVIL, json.dumps(name)[1:-1]) for message in (*MESSAGES, *COMMANDS)]
        for message in (json.loads(text) | {"sid": polling} for text in texts):
            for path, _ in door.routes():
                for place in (path, path.replace("name", "..%2F..%2Fvictim")):
                    text = door.ask("POST", place, message)[2]
                    assert "Traceback" not in text and 'File "' not in text
            door.ask("POST", "/socket_wrap", {"message_type": "send", "sid": polling, "message": json.dumps(message)})
            page.send(json.dumps(message))
            if message.get("cmd"):  # one that fails closes the socket
                page.close()
                page = door.socket("/socket", suppress_origin=True)
    page.close()
    outside = {name for name in files(tmp_path) if not name.startswith("checkpoints/.visdom/")}
    assert outside == {"victim.json", "victim/.json"} and (tmp_path / "victim.json").read_text() == "precious"
    inside = {path.name.removesuffix(".json") for path in door.folder.iterdir()} - {"view", "with space"}
    assert {"main", "old", "_._.._victim", "_etc_x", "a_b"} <= inside
    for name in inside | door.application.state.keys():
        assert name == env_name(name) and not set("/\\\x00") & set(name) and name[0] != "."


def test_names_of_files_that_lay_there_are_mended(tmp_path):
    (tmp_path / "my run.json").write_text('{"jsons": {"w": 1}, "reload": {}}')
    door = Door(tmp_path)
    try:
        assert json.loads(door.ask("POST", "/win_data", {"win": None, "eid": "my run"})[2]) == {"w": 1}
        assert set(door.application.state) == {"main", "my_run"}
    finally:
        door.close()


def test_what_deletes_and_what_fails_is_gone(door):
    assert door.ask("POST", "/delete_env", {"eid": "old"})[0] == 404
    assert door.ask("GET", "/error/x")[0] == 404
    page = door.socket("/socket", origin=f"http://{door.host}")
    polling = json.loads(door.ask("GET", "/socket_wrap")[2])["sid"]
    command = json.dumps({"cmd": "delete_env", "eid": "old"})
    page.send(command)
    page.send(json.dumps({"cmd": "save", "eid": "later", "prev_eid": "main", "data": {}}))
    door.ask("POST", "/socket_wrap", {"message_type": "send", "sid": polling, "message": command})
    assert wait_for((door.folder / "later.json").exists), "the socket is open still"
    page.close()
    assert (door.folder / "old.json").exists() and "old" in door.application.state


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[]", b"5", b'{"win": "w"}', b"[" * 100_000])
def test_no_traceback_is_shown(door, body):
    for path, handler in door.routes():
        if not issubclass(handler, tornado_socket()):
            connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=20)
            connection.request("POST", path, body)
            answer = connection.getresponse()
            text = answer.read()
            connection.close()
            assert b"Traceback" not in text and b"File " not in text and b".py" not in text, path


# The token


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dashboard-tokens"


def test_only_the_owner_can_read_the_token(cache):
    before = os.umask(0)
    try:
        keep_token(8097, "first")
        keep_token(8097, "secret")
    finally:
        os.umask(before)
    (file,) = cache.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600 and cache.stat().st_mode & 0o777 == 0o700
    assert read_token("127.0.0.1", 8097) == read_token("localhost", 8097) == "secret"
    assert read_token("127.0.0.1", 8098) == read_token("elsewhere", 8097) == ""


def test_a_token_keeps_others_out_on_every_route(tmp_path):
    door = Door(tmp_path / "envs", token="secret")
    try:
        before = files(tmp_path)
        for path, _ in door.routes():
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"dashboard-{door.port}=wrong"}):
                for method, message in (("GET", None), ("POST", MESSAGE)):
                    status, _, text = door.ask(method, path, message, **headers)
                    assert status == 403 and "secret" not in text and "--token" in text
            assert door.ask("POST", f"{path}?token=secret", MESSAGE)[0] == 403, "it is for the first look at the page"
            assert (
                door.ask("POST", path, MESSAGE, Origin="http://evil.example", Authorization="Bearer secret")[0] == 403
            )
        assert files(tmp_path) == before
        assert door.ask("POST", "/env_state", {}, Authorization="Bearer secret")[0] == 200
    finally:
        door.close()


def test_the_browser_takes_the_token_from_the_address_once(tmp_path):
    door = Door(tmp_path, token="secret")
    try:
        status, headers, _ = door.ask("GET", "//evil.example/env/main?token=secret")
        assert status == 302 and headers["Location"] == "/evil.example/env/main"
        status, headers, _ = door.ask("GET", "/env/main?token=secret")
        assert status == 302 and headers["Location"] == "/env/main"
        cookie, *traits = headers["Set-Cookie"].split("; ")
        assert {"HttpOnly", "SameSite=Strict"} <= set(traits)
        assert 'id="app"' in door.ask("GET", headers["Location"], Cookie=cookie)[2]
        assert door.ask("POST", "/env_state", {}, Cookie=cookie)[0] == 200
        assert door.ask("POST", "/env_state", {}, Cookie=cookie, Origin="http://evil.example")[0] == 403
        door.socket("/socket", cookie=cookie).close()
    finally:
        door.close()


def test_runs_find_the_token_and_it_goes_with_the_dashboard(start, cache, tmp_path):
    port = Server(tmp_path / "nowhere").port
    process = start("dashboard", "--token", f"--port={port}")
    line = next(line for line in iter(process.stdout.readline, "") if "?token=" in line)
    token = line.split("?token=")[1].split()[0]
    assert len(token) > 40 and read_token("127.0.0.1", port) == token
    stranger = Server(tmp_path / "nowhere")
    stranger.port = port
    assert stranger.post("env_state", {}) is None
    warnings = []
    visualizer = Visualizer("mine", port=port, warn=warnings.append)
    visualizer.log("hello")
    assert visualizer.close(20) and warnings == []
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0 and list(cache.iterdir()) == []


def test_a_token_that_cannot_be_kept_is_told_and_an_old_one_is_removed(start, run, cache, monkeypatch, tmp_path):
    port = Server(tmp_path / "nowhere").port
    keep_token(port, "of a dashboard that was killed")
    process = start("dashboard", f"--port={port}")
    assert wait_for(lambda: read_token("127.0.0.1", port) == "")
    process.kill()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    given = run("dashboard", "--token", f"--port={Server(tmp_path / 'nowhere').port}")
    assert given.code == 5 and "the token cannot be written: Not a directory" in given.err


def test_a_run_without_the_token_is_told_so(cache, tmp_path):
    door = Door(tmp_path / "envs", token="secret")
    try:
        warnings = []
        visualizer = Visualizer("mine", port=door.port, warn=warnings.append)
        visualizer.log("hello")
        assert not visualizer.close(20) and "does not let this run in" in warnings[0]
    finally:
        door.close()
