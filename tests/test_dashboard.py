"""The dashboard: a server that starts anywhere, and old runs replayed into it."""

import json
import signal
import socket
import sys
import urllib.request
from pathlib import Path

import pytest
from conftest import TOY, rows
from visdom_server import Server, odd_server, wait_for

from utils.sinks import visdom_server as dashboard


def answer(address):
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return direct.open(address, timeout=10).read().decode()


@pytest.fixture
def free_port(tmp_path):
    return Server(tmp_path / "nowhere").port


@pytest.fixture
def page(start, free_port, tmp_path):
    """Start a dashboard; gives the process and a client of its server."""

    def command(*words):
        process = start("dashboard", *words, f"--port={free_port}")
        client = Server(tmp_path / "nowhere")
        client.port = free_port
        assert wait_for(lambda: client.post("env_state", {}) is not None)
        return process, client

    return command


def test_it_answers_on_loopback_only_and_ends_in_peace(page, free_port, tmp_path):
    process, _ = page()
    assert 'id="app"' in answer(f"http://127.0.0.1:{free_port}/")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", free_port), timeout=5)  # this machine, but another address
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0 and err == "" and out.endswith("the dashboard is closed\n")
    assert f"http://127.0.0.1:{free_port}" in out
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [".visdom"]


def test_old_runs_are_shown_as_they_were_and_together(run, page):
    """Panes equal the journal, of each run and of the comparison."""
    for name, rate in (("a", "1e-3"), ("b", "1e-2")):
        args = [arg for arg in TOY if "lr" not in arg]
        assert run("train", f"--run={name}", *args, f"--lr={rate}", "--train.max_steps=30").code == 0
    with open("checkpoints/b/log.jsonl", "a") as journal:
        journal.write('{"phase": "train", "torn')
    process, client = page("checkpoints/a", "b")
    told = 4 + bool(dashboard.missing_assets())  # one line more says that they are missing
    lines = [process.stdout.readline() for _ in range(told)]
    assert "compar" in lines[-1] or "together" in lines[-1]
    for name in "ab":
        traces = client.traces(name, "loss")
        for phase in ("train", "val"):
            assert list(zip(*traces[phase], strict=True)) == [(r["step"], r["loss"]) for r in journal_of(name, phase)]
        assert len(traces["train"][0]) == 30
        assert client.traces("comparison", "train loss")[name] == traces["train"]
        assert client.traces("comparison", "val accuracy")[name] == client.traces(name, "accuracy")["val"]
    assert client.windows("a")["log"]["content"].count("val: accuracy") == 1
    maps = Path(f"/proc/{process.pid}/maps")
    assert not maps.exists() or "libtorch" not in maps.read_text()


def test_beside_a_running_one_old_runs_are_shown_in_it(run, page, start, free_port):
    assert run("train", "--run=a", *TOY, "--train.max_steps=4").code == 0
    process, client = page()
    other = start("dashboard", "a", f"--port={free_port}")
    out, err = other.communicate(timeout=60)
    assert (other.returncode, err) == (0, "") and process.poll() is None
    assert f"http://127.0.0.1:{free_port}/env/a shows checkpoints/a" in out
    assert len(client.traces("a", "loss")["train"][0]) == 4


def test_the_first_environment_says_where_the_runs_are(run, page):
    assert run("train", "--run=a", *TOY, "--train.max_steps=4").code == 0
    _, client = page("a")
    assert wait_for(lambda: any("/env/a" in str(pane.get("content")) for pane in client.windows("main").values()))


def test_a_page_without_scripts_says_in_itself_what_to_do(page, free_port):
    page()
    told = "python main.py dashboard --assets" in answer(f"http://127.0.0.1:{free_port}/")
    assert told == bool(dashboard.missing_assets())


def journal_of(name, phase):
    with open(f"checkpoints/{name}/log.jsonl") as lines:
        whole = [json.loads(line) for line in lines if line.endswith("\n")]
    return [row for row in whole if row["phase"] == phase]


def test_a_folder_of_runs_stands_for_its_runs(run, tmp_path):
    from commands.dashboard import _runs

    for name in "ab":
        assert run("train", f"--run={name}", *TOY, "--train.max_steps=2").code == 0
    assert [path.name for path in _runs("checkpoints")] == ["a", "b"]
    assert len(rows("a")) == 3


def test_mistakes_are_sentences(run, free_port):
    given = run("dashboard", "--port=0")
    assert (given.code, given.err) == (2, "--port=0: expected a number from 1 to 65535\n")
    given = run("dashboard", "nobody")
    assert given.code == 4 and "there is no such run folder" in given.err
    with socket.create_server(("127.0.0.1", free_port)):
        given = run("dashboard", f"--port={free_port}")
    assert given.code == 2 and "is a dashboard open already?" in given.err and "Traceback" not in given.err


def test_the_server_does_without_torch_and_gives_it_back():
    before = sys.modules.pop("torch", None)
    try:
        with dashboard._without_torch():
            with pytest.raises(ImportError):
                import torch  # noqa: F401
        assert "torch" not in sys.modules
    finally:
        if before is not None:
            sys.modules["torch"] = before


def test_what_the_page_lacks_is_told_and_fetched(run, monkeypatch, tmp_path, free_port):
    """Without npm it is a sentence; with it, exactly the files that are wanted are written."""
    monkeypatch.setattr(dashboard, "_static", lambda: tmp_path / "static")
    monkeypatch.setattr(dashboard, "serve", lambda *arguments: None)
    assert len(dashboard.missing_assets()) > 30
    assert "dashboard --assets` fetches them" in run("dashboard").out
    monkeypatch.setenv("PATH", "")
    given = run("dashboard", "--assets")
    assert given.code == 2 and "npm is needed once" in given.err


def test_a_package_that_lacks_a_file_is_refused(tmp_path):
    import tarfile

    (tmp_path / "sjcl.js").write_text("x")
    for names, fails in (([], True), (["sjcl.js"], False)):
        with tarfile.open(tmp_path / "sjcl-1.0.7.tgz", "w:gz") as archive:
            for name in names:
                archive.add(tmp_path / name, f"package/{name}")
        if fails:
            with pytest.raises(dashboard.DataError, match="lacks sjcl.js"):
                list(dashboard._unpacked(tmp_path, "sjcl@1.0.7"))
        else:
            assert list(dashboard._unpacked(tmp_path, "sjcl@1.0.7")) == [("js/sjcl.js", b"x")]


@pytest.mark.slow
def test_points_survive_whatever_the_server_does(start, tmp_path):
    """None, late, frozen, killed with its state, answering 500, back empty under a resumed run: no gap, no overlap."""
    server = Server(tmp_path / "environments")
    path = tmp_path / "checkpoints" / "a" / "log.jsonl"
    count = lambda: len(path.read_text().splitlines()) if path.exists() else 0  # noqa: E731
    shown = lambda: max(server.traces("a", "loss").get("train", [[0]])[0])  # the last step: long traces are thinned  # noqa: E731
    args = [arg for arg in TOY if "visdom" not in arg and "epoch" not in arg]
    training = start("train", "--run=a", *args, "--max-epoch=100000", f"--log.visdom_port={server.port}")
    assert wait_for(lambda: count() > 50)
    server.start()
    assert wait_for(lambda: shown() > 50)
    server.process.send_signal(signal.SIGSTOP)
    reached = count()
    assert wait_for(lambda: count() > reached + 500), "a frozen server must not hold up the training"
    server.process.send_signal(signal.SIGCONT)
    assert wait_for(lambda: shown() > reached + 400)
    server.kill()
    with odd_server(server.port) as odd:
        odd.status = 500
        assert wait_for(lambda: len(odd.paths) > 1)
    training.send_signal(signal.SIGTERM)
    out, err = training.communicate()
    assert training.returncode == 143 and err == "" and out.count("visdom") == 1, "one line, with the command"
    server.start()
    steps = json.loads((tmp_path / "checkpoints/a/status.json").read_text())["step"] + 100
    resumed = start("train", "--resume=checkpoints/a", f"--train.max_steps={steps}")
    assert resumed.wait() == 0, resumed.communicate()
    whole = [json.loads(line) for line in path.read_text().splitlines()]
    compare(server, whole)


def compare(server, whole):
    """Every trace of the server is that of the journal, or a part of it with its ends where it is long."""
    try:
        for name in ("loss", "accuracy", "f1"):
            for phase, (x, y) in server.traces("a", name).items():
                wanted = {row["step"]: row[name] for row in whole if row["phase"] == phase}
                assert (x[0], x[-1]) == (min(wanted), max(wanted)) and x == sorted(set(x))
                assert [wanted[step] for step in x] == y
                assert len(x) == len(wanted) if len(wanted) <= 2000 else 1000 < len(x) <= 2000
    finally:
        server.kill()
