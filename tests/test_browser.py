"""The dashboard's page in a real browser: every point is drawn, nothing fails to load, nothing comes from elsewhere."""

import http.server
import json
import signal
import threading

import numpy as np
import pytest
from browser import Browser, find_chromium
from conftest import TOY, rows
from PIL import Image
from visdom_server import Server, wait_for

from utils.sinks.visdom_server import missing_assets

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="needs Chromium (apt-get install chromium)"),
    pytest.mark.skipif(bool(missing_assets()), reason="needs the page's files (python main.py dashboard --assets)"),
]
PLOTS = "document.querySelectorAll('.js-plotly-plot')"
# What the page drew: for each plot its title, and for each trace how many points there are.
DRAWN = f"""JSON.stringify(Object.fromEntries(Array.from({PLOTS}, plot => [
  plot.layout.title.text, Object.fromEntries(plot.data.map(trace => [trace.name, (trace.y || []).length]))])))"""


@pytest.fixture
def free_port(tmp_path):
    return Server(tmp_path / "nowhere").port


@pytest.fixture
def browser(tmp_path):
    browser = Browser(tmp_path / "chromium")
    yield browser
    browser.close()


@pytest.fixture
def dashboard(start, free_port, tmp_path):
    """Start one with words; gives a client of its server."""

    def command(*words):
        process = start("dashboard", *words, f"--port={free_port}")
        assert str(free_port) in process.stdout.readline()
        client = Server(tmp_path / "nowhere")
        client.port, client.process = free_port, process
        return client

    return command


@pytest.fixture
def train(start, free_port):
    """Start a training that sends to it."""

    def command(epochs):
        args = [arg for arg in TOY if "visdom" not in arg and "epoch" not in arg]
        return start("train", "--run=a", *args, f"--max-epoch={epochs}", f"--log.visdom_port={free_port}")

    return command


def test_a_run_is_drawn_point_by_point_while_it_goes(dashboard, train, browser, free_port, tmp_path):
    server, training = dashboard(), train(epochs=4)
    assert wait_for(lambda: server.windows("a")), training.communicate()
    browser.open(address := f"http://127.0.0.1:{free_port}/env/a")
    assert training.wait() == 0
    count = len(rows("a", tmp_path, "train"))
    browser.wait_for(f"{PLOTS}.length", 6)
    browser.wait_for(f"JSON.parse({DRAWN}).loss.train", count)
    drawn = json.loads(browser.evaluate(DRAWN))
    assert drawn["loss"] == {"train": count, "val": 4}
    assert drawn["accuracy"] == {"val": 4} and drawn["learning rate"] == {"lr": count}
    assert "epoch 4, step 160, val: accuracy" in browser.evaluate("document.body.innerText")
    assert browser.failures == []
    assert not [url for url in browser.requests if not url.startswith((address.removesuffix("env/a"), "data:"))]
    browser.screenshot(tmp_path / "page.png")
    pixels = np.asarray(Image.open(tmp_path / "page.png").convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 200  # curves, texts, buttons


def test_old_runs_are_compared_in_one_window(run, dashboard, browser, free_port):
    for name, rate in (("a", "1e-3"), ("b", "1e-2")):
        args = [arg for arg in TOY if "lr" not in arg]
        assert run("train", f"--run={name}", *args, f"--lr={rate}").code == 0
    server = dashboard("checkpoints")
    assert wait_for(lambda: server.windows("comparison"))
    browser.open(f"http://127.0.0.1:{free_port}/env/comparison")
    browser.wait_for(f"{PLOTS}.length", 6)
    drawn = json.loads(browser.evaluate(DRAWN))
    train, val = len(rows("a", phase="train")), len(rows("a", phase="val"))
    assert drawn["train loss"] == {"a": train, "b": train} and drawn["val accuracy"] == {"a": val, "b": val}
    assert browser.failures == []


def test_the_server_is_killed_with_its_state_and_comes_again(dashboard, train, browser, free_port, tmp_path):
    """The run goes on all the while; at the end the page has every point, once."""
    server, training = dashboard(), train(epochs=12)
    assert wait_for(lambda: len(server.traces("a", "loss").get("train", [[]])[0]) > 50), training.communicate()
    server.folder = tmp_path / "checkpoints" / ".visdom"
    training.send_signal(signal.SIGSTOP)  # or it might be over before there is a server again
    server.kill()
    dashboard()
    training.send_signal(signal.SIGCONT)
    assert training.wait() == 0
    browser.open(f"http://127.0.0.1:{free_port}/env/a")
    browser.wait_for(f"JSON.parse({DRAWN}).loss.val", 12)
    assert json.loads(browser.evaluate(DRAWN))["loss"]["train"] == len(rows("a", tmp_path, "train"))
    assert browser.failures == []


def test_the_printed_address_opens_a_dashboard_with_a_token(start, train, browser, free_port, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    process = start("dashboard", "--token", f"--port={free_port}")
    address = process.stdout.readline().split()[0]
    assert train(epochs=1).wait() == 0
    browser.open(f"http://127.0.0.1:{free_port}/env/a")
    browser.wait_for("document.body.innerText.includes('--token')")
    browser.failures.clear()
    browser.open(address.replace("?", "env/a?"))
    browser.wait_for(f"{PLOTS}.length", 6)
    assert browser.evaluate("location.href") == f"http://127.0.0.1:{free_port}/env/a"
    assert not [failure for failure in browser.failures if "favicon" not in failure]  # the refused page's may come late


HOSTILE = """<script>
const done = [], host = "127.0.0.1:PORT", body = JSON.stringify({eid: "evil", data: [{type: "text", content: "evil"}]});
const tell = name => answer => done.push(name + " " + answer.type);
fetch(`http://${host}/events`, {method: "POST", mode: "no-cors", body}).then(tell("post"), tell("post"));
fetch(`http://${host}/socket_wrap`, {mode: "no-cors"}).then(tell("get"), tell("get"));
const socket = new WebSocket(`ws://${host}/socket`);
socket.onopen = socket.onerror = tell("socket");
</script>"""


def test_another_page_in_the_browser_reaches_nothing(dashboard, browser, free_port):
    """As any page of the internet might try it: a form's post, a plain load, a websocket."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(HOSTILE.replace("PORT", str(free_port)).encode())

        def log_message(self, *arguments):
            pass

    server = dashboard()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as other:
        threading.Thread(target=other.serve_forever, args=(0.05,), daemon=True).start()
        for name in ("127.0.0.1", "localhost"):
            browser.failures.clear()
            browser.open(f"http://{name}:{other.server_port}/")
            browser.wait_for("done.sort().join()", "get opaque,post opaque,socket error")
            refused = [failure for failure in browser.failures if failure.startswith("403")]
            assert {failure.rpartition("/")[2] for failure in refused} >= {"events", "socket_wrap"}
        other.shutdown()
    assert server.post("env_state", {}) == ["main"]
