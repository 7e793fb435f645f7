"""The Visualizer against real visdom servers that are there, late, frozen, killed, or something else."""

import html
import json
import math
import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest
import torch

from tests.visdom_server import PATIENCE, Server, odd_server, wait_for
from utils.figures.grid import picture_grid
from utils.sinks import visdom_sender
from utils.sinks.visdom_windows import downsample
from utils.visualize import Visualizer


class Watched(Visualizer):
    """A Visualizer whose warnings lie in `warnings`."""

    made = []

    def __init__(self, env, port):
        self.warnings = []
        super().__init__(env, port=port, warn=self.warnings.append)
        self.made.append(self)

    def close(self, timeout=PATIENCE):
        super().close(timeout)


def plot(vis, steps):
    for step in steps:
        vis.plot("loss", step)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(visdom_sender, "RETRY", 0.3)
    monkeypatch.setattr(visdom_sender, "TIMEOUT", 0.5)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # must be ignored
    yield
    while Watched.made:
        Watched.made.pop().close(0)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("visdom"))
    yield server.start()
    server.kill()


@pytest.fixture
def own_server(tmp_path):
    """Not yet started."""
    server = Server(tmp_path / "visdom")
    yield server
    server.kill()


def test_windows_hold_the_points(server):
    vis = Watched("points", server.port)
    for step in range(100):
        vis.curve("loss", "train", step, 1 / (step + 1))
        if step % 10 == 9:
            vis.curve("loss", "val", step, torch.tensor(step, dtype=torch.bfloat16, requires_grad=False))
    for y in (0.1, np.float32(0.5), torch.tensor([0.25], requires_grad=True)):
        vis.plot("lr", y)
    vis.plot_many({"odd": math.nan, "other": 1})
    vis.plot("odd", math.inf, x=7)
    vis.plot("odd", 2, x=8)
    vis.close()
    assert server.traces("points", "loss") == {
        "train": (list(range(100)), [1 / (step + 1) for step in range(100)]),
        "val": (list(range(9, 100, 10)), list(range(9, 100, 10))),
    }
    assert server.traces("points", "lr") == {"lr": ([0, 1, 2], [0.1, 0.5, 0.25])}
    assert server.traces("points", "odd") == {"odd": ([0, 7, 8], [None, None, 2])}
    assert server.windows("points")["loss"]["title"] == "loss"
    assert vis.warnings == []
    assert json.loads((server.folder / "points.json").read_text())["jsons"].keys() == {"loss", "lr", "odd", "other"}


def test_long_traces_are_thinned_and_keep_their_spikes(server):
    vis = Watched("long", server.port)
    wave = np.sin(np.arange(20_000) / 500)
    wave[[17_001, 3_107]] = 9.0, -9.0
    for step, y in enumerate(wave.tolist()):
        vis.curve("loss", "train", step, y)
        if step < 2000:
            vis.curve("loss", "val", step, y)
    vis.close()
    x, y = server.traces("long", "loss")["train"]
    assert 1000 < len(x) <= 2000 and x == sorted(set(x)) and (x[0], x[-1]) == (0, 19_999)
    assert dict(zip(x, y, strict=True)).items() >= {17_001: 9.0, 3_107: -9.0}.items()
    assert all(wave[int(step)] == value for step, value in zip(x, y, strict=True)), "points of it, not means"
    assert server.traces("long", "loss")["val"] == (list(range(2000)), wave[:2000].tolist())


@pytest.mark.parametrize("count", [2001, 2002, 2999, 3998, 123_457])
def test_thinning_at_its_edges(count):
    x = np.arange(count, dtype=float)
    y = np.where(x % 3 == 0, np.nan, x)
    kept, values = downsample(x, y)
    assert len(kept) <= 2000 and (kept[0], kept[-1]) == (0, count - 1)
    assert np.array_equal(values, y[kept.astype(int)], equal_nan=True)
    gone, _ = downsample(x, np.full(count, np.nan))
    assert len(gone) <= 2000


def test_histograms_of_several_tensors_in_one_window(server):
    vis = Watched("spread", server.port)
    small, large = np.full(50, 1e-6), np.full(10, -1.0)
    vis.spread("gradients", {"a.weight": small, "<b>": large, "none": np.array([0.0, np.nan])}, logarithmic=True)
    vis.spread("weights", {"a.weight": torch.linspace(-1, 1, 100)})
    vis.spread("nothing", {})
    vis.close()
    windows = server.windows("spread")
    (heat,) = windows["gradients"]["content"]["data"]
    assert heat["y"] == ["a.weight", "&lt;b&gt;", "none"]
    assert heat["z"][0][0] == heat["z"][1][-1] == 1 and sum(heat["z"][2]) == 0
    assert heat["x"][0] < -5.8 and heat["x"][-1] > -0.2
    (heat,) = windows["weights"]["content"]["data"]
    assert sum(heat["z"][0]) == pytest.approx(1) and max(heat["z"][0]) < 0.06
    assert vis.warnings == []


def test_a_constant_is_not_drawn_as_nothing(server):
    vis = Watched("constant", server.port)
    for step in range(3):
        vis.curve("learning rate", "lr", step, 0.001)
        vis.curve("zero", "train", step, 0)
        vis.curve("loss", "train", step, step)
    vis.close()
    layouts = {name: window["content"]["layout"] for name, window in server.windows("constant").items()}
    assert layouts["learning rate"]["yaxis"]["range"] == [0, 0.002] and layouts["zero"]["yaxis"]["range"] == [0, 1]
    assert "yaxis" not in layouts["loss"]


def test_pictures(server):
    vis = Watched("pictures", server.port)
    batch = torch.rand(11, 3, 6, 5)
    grey = (torch.rand(1, 6, 5) * 255).to(torch.uint8)
    vis.img("batch", torch.zeros(1, 1, 2, 2))
    vis.img_many({"batch": batch, "grey": grey})
    vis.images("dark", np.full((1, 1, 4, 4), 1, dtype=np.uint8))
    vis.images("many", np.zeros((200, 1, 2, 2)))
    expected = picture_grid(batch.numpy())
    batch.zero_()  # what happens to the tensor afterwards must not show
    vis.close()
    shown = {name: server.picture("pictures", name).transpose(2, 0, 1) for name in ("batch", "grey", "dark", "many")}
    assert np.array_equal(shown["batch"], expected)
    assert np.array_equal(shown["grey"], grey.expand(3, 6, 5).numpy())
    assert (shown["dark"] == 1).all()
    assert shown["many"].shape == (3, 8 * 4 - 2, 8 * 4 - 2)  # 64 of them


def test_confusion_matrix_is_the_right_way_up(server):
    vis = Watched("matrix", server.port)
    vis.heatmap("confusion", torch.tensor([[5, 1], [0, 4]]), ["cat", "<dog>"])
    vis.heatmap("wrong", np.zeros((3, 3)), ["cat", "dog"])
    vis.close()
    content = server.windows("matrix")["confusion"]["content"]
    assert content["data"][0]["z"] == [[5, 1], [0, 4]]
    assert content["data"][0]["x"] == content["data"][0]["y"] == ["cat", "&lt;dog&gt;"]
    assert content["layout"]["yaxis"]["autorange"] == "reversed"
    assert len(vis.warnings) == 1 and "wrong is not shown" in vis.warnings[0]


def test_text_is_escaped_and_bounded(server):
    vis = Watched("text", server.port)
    evil = "<script>alert('1')</script> & <img src=x onerror=alert(2)>"
    vis.log(evil)
    vis.curve(evil, evil, 0, 1)
    vis.text(evil, win="page", opts={"title": evil})
    for number in range(600):
        vis.log(number, win="numbers")
    vis.close()
    windows = server.windows("text")
    assert html.escape(evil) in windows["log_text"]["content"]
    assert windows["page"]["content"] == windows["page"]["title"] == html.escape(evil)
    assert windows[evil]["title"] == windows[evil]["content"]["data"][0]["name"] == html.escape(evil)
    assert "<script" not in json.dumps([window["content"] for window in windows.values()])
    lines = windows["numbers"]["content"].split("<br>")
    assert len(lines) == 500 and lines[0].endswith("] 100") and lines[-1].endswith("] 599")


@pytest.mark.parametrize("name, legal", [("run-1.2_x", "run-1.2_x"), ("a/b c?#%", "a_b_c___"), ("猫/<b>", "猫__b_")])
def test_environment_names_are_made_legal(server, name, legal):
    vis = Watched(name, server.port)
    assert vis.env == legal
    plot(vis, [1])
    vis.close()
    assert server.traces(legal, "loss") == {"loss": ([0], [1])}
    assert (server.folder / f"{legal}.json").is_file() and vis.warnings == []


def test_other_calls_go_to_the_client(server):
    vis = Watched("client", server.port)
    vis.histogram(torch.randn(50, requires_grad=True), win="weights", opts={"title": "w"})
    vis.bar(X=[1, 2, 3], win="bars")
    vis.line(Y=np.arange(3.0), win="line")
    vis.line(Y=np.arange(2.0), X=np.arange(3.0, 5.0), win="line", update="append")
    vis.histgram(torch.randn(50))
    vis.close()
    windows = server.windows("client")
    assert windows.keys() == {"weights", "bars", "line"}
    assert windows["line"]["content"]["data"][0]["y"] == [0, 1, 2, 0, 1]
    assert len(vis.warnings) == 1 and "histgram" in vis.warnings[0]
    with pytest.raises(AttributeError):
        vis._repr_html_()


def test_values_that_cannot_be_shown_cost_one_line_each(server):
    vis = Watched("bad", server.port)
    for _ in range(3):
        vis.plot("loss", "much")
        vis.plot("pair", torch.zeros(2))
        vis.images("flat", torch.zeros(4, 4))
        vis.images("text", "cat")
        vis.img("two channels", torch.zeros(2, 4, 4))
    vis.plot("good", 1)
    vis.close()
    assert server.windows("bad").keys() == {"good"}
    assert len(vis.warnings) == 5 and all("is not shown" in line and "\n" not in line for line in vis.warnings)


def test_a_warning_that_fails_is_no_error():
    vis = Visualizer(port=1, warn=lambda message: 1 / 0)
    vis.plot("loss", "much")
    vis.close()


def test_no_server_is_one_line(own_server, capfd):
    vis = Visualizer("nobody", port=own_server.port)
    plot(vis, range(2000))
    time.sleep(1)  # several attempts
    vis.close()
    plot(vis, range(3))
    where, how = f"127.0.0.1:{own_server.port}", f"python main.py dashboard --port={own_server.port}"
    line = f"no visdom server at {where}; curves go to the run folder only (start one with: {how})\n"
    assert capfd.readouterr() == ("", line)


def test_nothing_starts_before_the_first_call():
    before = threading.active_count()
    Visualizer(port=1).close()
    assert threading.active_count() == before


def test_server_that_starts_late_gets_everything(own_server, capfd):
    vis = Watched("late", own_server.port)
    plot(vis, range(50))
    vis.log("early")
    vis.bar(X=[1, 2], win="bars")
    assert wait_for(lambda: vis.warnings)
    own_server.start()
    assert wait_for(lambda: own_server.windows("late").keys() == {"loss", "log_text", "bars"})
    assert own_server.traces("late", "loss") == {"loss": (list(range(50)), list(range(50)))}
    assert len(vis.warnings) == 1 and capfd.readouterr().err == ""


@pytest.mark.parametrize("busy", [True, False])
def test_server_killed_with_its_state_gets_everything_again(own_server, busy, capfd):
    vis = Watched("killed", own_server.port)
    own_server.start()
    vis.img("picture", torch.zeros(3, 4, 4))
    vis.log("hello")
    plot(vis, range(30))
    assert wait_for(lambda: len(own_server.windows("killed")) == 3)
    own_server.kill()
    if busy:
        plot(vis, range(30, 60))
        assert wait_for(lambda: vis.warnings)
    own_server.start()
    assert wait_for(lambda: len(own_server.windows("killed")) == 3)
    steps = list(range(60 if busy else 30))
    assert wait_for(lambda: own_server.traces("killed", "loss") == {"loss": (steps, steps)})
    vis.close()
    assert len(vis.warnings) <= 1 and capfd.readouterr().err == ""


def test_frozen_server_holds_up_nobody(own_server):
    vis = Watched("frozen", own_server.port)
    own_server.start()
    vis.plot("loss", 0)
    assert wait_for(lambda: own_server.traces("frozen", "loss"))
    own_server.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    plot(vis, range(1, 500))
    closing = Watched("closing", own_server.port)
    plot(closing, range(3))
    closing.close(0.1)
    assert time.monotonic() - began < PATIENCE
    assert wait_for(lambda: vis.warnings)
    assert "does not answer" in vis.warnings[0]
    own_server.process.send_signal(signal.SIGCONT)
    plot(vis, [500])
    steps = list(range(501))
    assert wait_for(lambda: own_server.traces("frozen", "loss") == {"loss": (steps, steps)})
    assert len(vis.warnings) == 1


@pytest.mark.parametrize("status, text, words", [(500, "[]", "answers 500"), (200, "<html>", "as visdom does")])
def test_wrong_answers_are_errors(capfd, status, text, words):
    with odd_server() as odd:
        odd.status, odd.text = status, text
        vis = Watched("odd", odd.server_port)
        plot(vis, [1])
        assert wait_for(lambda: len(odd.paths) >= 2)  # it is tried again
        assert set(odd.paths) == {"/env_state"}
        odd.status, odd.text = 200, "[]"
        assert wait_for(lambda: "/events" in odd.paths)
        odd.status = 500
        plot(vis, [2])
        vis.close()
    assert len(vis.warnings) == 1 and words in vis.warnings[0]
    assert capfd.readouterr() == ("", "")


def test_a_window_is_sent_at_most_four_times_a_second():
    with odd_server() as odd:
        vis = Watched("rate", odd.server_port)
        began = time.monotonic()
        assert wait_for(lambda: plot(vis, [1]) or odd.paths.count("/events") >= 5)
        assert time.monotonic() - began > 0.95


def use_in_child(vis):
    vis.plot("loss", 99)
    vis.log("from a child")
    vis.histogram(torch.randn(3))
    vis.close()
    os._exit(0 if threading.active_count() == 1 else 1)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_forked_processes_leave_it_alone(server):
    vis = Watched("forked", server.port)
    vis.plot("loss", 0)
    child = multiprocessing.get_context("fork").Process(target=use_in_child, args=(vis,))
    child.start()
    child.join(PATIENCE)
    assert child.exitcode == 0
    vis.plot("loss", 1)
    vis.close()
    assert server.windows("forked").keys() == {"loss"}
    assert server.traces("forked", "loss") == {"loss": ([0, 1], [0, 1])}
