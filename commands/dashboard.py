"""dashboard: visdom's page on this machine, for runs in progress and for runs that are over.

dashboard [RUN…] [--port=8097] [--token] [--assets]

Runs send to --log.visdom-port, which is 8097 as well. RUN is a run folder, its
name, or a folder of runs: they are shown as they showed themselves; several of
them also together, each metric's curves in one window (environment comparison).

  --port=8097  where to listen, on 127.0.0.1 only
  --token      keep other users of this machine out: the printed address holds
               a token for the browser; your runs find it by themselves
  --assets     put the page's scripts in place first, with npm; needed once
"""

import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from commands.runs import options_of
from utils.config.cli import Flag
from utils.errors import ConfigError
from utils.runs.folder import ROOT
from utils.runs.reading import Curves, find_run, read_curves, run_folders, run_labels, without_copies
from utils.terminal import show

if TYPE_CHECKING:
    from utils.sinks.visdom_windows import Windows
    from utils.visualize import Visualizer

__all__ = ["run"]

PORT = 8097
BARE = ("--assets", "--token")  # flags without a value
PHASES = ("val", "test", "train")  # the order of the windows
WELCOME = "choose a run above, under Environment"
PATIENCE = 60.0  # s, for the server to take in a run


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Serve the page until interrupted, and show in it the runs that the words name.

    Raises ConfigError for a port that cannot be had, CheckpointError for a run that is not there.
    """
    options = options_of([flag for flag in flags if flag.typed not in BARE], ("port",))
    assets, wants_token = (any(flag.typed == name for flag in flags) for name in BARE)
    port = _port(options.get("port", str(PORT)))
    folders = list({path.resolve(): path for word in words for path in _runs(word)}.values())
    _prepare(assets)
    from utils.sinks.visdom_server import serve

    if folders and _is_running(port):
        show(f"a dashboard is open at http://127.0.0.1:{port}; these are shown in it")
        _replay(folders, port)
        return
    token = secrets.token_urlsafe() if wants_token else ""
    try:
        serve(port, ROOT / ".visdom", partial(_begin, folders, port, token), token)
    except KeyboardInterrupt:
        show("the dashboard is closed")


def _is_running(port: int) -> bool:
    """Return whether a server that answers as visdom does, and lets us in, listens at the port."""
    from urllib.error import URLError
    from urllib.request import ProxyHandler, Request, build_opener

    from utils.sinks.visdom_shared import read_token

    token = read_token("127.0.0.1", port)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = Request(f"http://127.0.0.1:{port}/env_state", b"{}", headers, method="POST")
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=2) as answer:
            return answer.read(1) == b"["
    except (URLError, OSError, ValueError):
        return False


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ConfigError(f"--port={text}: expected a number from 1 to 65535")
    return int(text)


def _runs(word: str) -> Iterable[Path]:
    """Return the run of that name or path, or all runs in the folder of that path."""
    path = Path(word)
    if path.is_dir() and not (path / "log.jsonl").exists():
        inside = [folder for folder in run_folders(path) if (folder / "log.jsonl").is_file()]
        if inside:
            return inside
    return [find_run(word, ROOT)]


def _prepare(fetch: bool) -> None:
    """See to the files of the page."""
    from utils.sinks.visdom_server import fetch_assets, missing_assets

    if not missing_assets():
        return
    if fetch:
        show(f"{fetch_assets()} files of the page were put in place")
    else:
        show("the page lacks its scripts and stays empty: `python main.py dashboard --assets` fetches them with npm")


def _begin(folders: Sequence[Path], port: int, token: str) -> None:
    address = f"http://127.0.0.1:{port}" + (f"/?token={token}" if token else "")
    show(f"{address} shows what runs send to --log.visdom_port={port}; Ctrl-C ends it", flush=True)
    threading.Thread(target=_show, args=(folders, port), name="replay", daemon=True).start()


def _show(folders: Sequence[Path], port: int) -> None:
    """Show the runs, and in the environment main, with which the page opens, where they are."""
    if folders:
        _replay(folders, port)
    from utils.sinks.visdom_shared import env_name
    from utils.visualize import Visualizer

    visualizer = Visualizer("main", port=port, warn=lambda _: None)
    saved = {path.stem for path in (ROOT / ".visdom").glob("*.json")} - {"main"}
    for name in sorted(saved | {env_name(label) for label in run_labels(folders)}):
        visualizer.log(f"http://127.0.0.1:{port}/env/{name}", win=WELCOME)
    visualizer.log(
        "python main.py dashboard RUN shows an old run; a run in progress prints its own address", win=WELCOME
    )
    visualizer.close(PATIENCE)


def _replay(folders: Sequence[Path], port: int) -> None:
    """Show runs as they would have shown themselves, and of several what can be compared in one environment."""
    from utils.sinks.visdom_board import VisdomBoard
    from utils.visualize import Visualizer

    names = run_labels(folders)
    for name, folder in zip(names, folders, strict=True):
        visualizer = Visualizer(name, port=port)
        board = VisdomBoard(visualizer)
        board.replay(folder / "log.jsonl")
        for name in ("predictions", "samples batch"):
            board.picture(name, folder / f"{name.replace(' ', '_')}.png")
        board.picture("confusion matrix", folder / "confusion_matrix.png")
        _finish(visualizer, port, str(folder))
    if len(folders) > 1:
        visualizer = Visualizer("comparison", port=port)
        curves = without_copies(*(read_curves(folder / "log.jsonl") for folder in folders))
        visualizer.row("comparison", _compare, dict(zip(names, curves, strict=True)))
        _finish(visualizer, port, f"{len(folders)} runs together")


def _finish(visualizer: "Visualizer", port: int, what: str) -> None:
    if visualizer.close(PATIENCE):
        show(f"http://127.0.0.1:{port}/env/{visualizer.env} shows {what}", flush=True)
    else:
        show(f"{what} could not be shown within {PATIENCE:.0f} s", flush=True)


def _compare(windows: "Windows", runs: Mapping[str, Curves]) -> None:
    """Show a window for each metric of validation and training, with a trace for each run that has it."""
    places = dict.fromkeys((phase, name) for phase in PHASES for c in runs.values() for name in c if phase in c[name])
    for phase, name in places:
        pane = windows.curves(f"{phase} {name}")
        for run, curves in runs.items():
            for step, value in curves.get(name, {}).get(phase, {}).items():
                pane.add(run, step, value)
