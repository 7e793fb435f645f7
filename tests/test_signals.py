"""Signals and the debugger: several processes agree by time, and whoever looks around can end the run whole."""

import os
import pty
import signal
import subprocess
import sys
import time
from itertools import pairwise
from types import SimpleNamespace

import pytest
from conftest import PLAIN, ROOT, TOY, rows

from trainer import signals
from utils import dist


def test_ranks_agree_by_time_and_not_by_rows(monkeypatch):
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    monkeypatch.setattr(dist, "gather", lambda value: [value, (15, 0, 1)])
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    watched, agreed = signals.Signals(), []
    for step in range(1, 200):
        now[0] += 0.5  # s a step
        if watched.due(step):
            assert watched.across_ranks(step) == (15, 0)
            agreed.append(step)
    assert agreed[0] == 1 and {b - a for a, b in pairwise(agreed[1:])} == {int(signals.AGREE / 0.5)}


def test_ranks_of_a_resumed_run_agree_soon(monkeypatch):
    """The steps before it were taken in no time, as far as its own clock knows."""
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    monkeypatch.setattr(dist, "gather", lambda value: [value])
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    watched, agreed = signals.Signals(), []
    for step in range(5001, 5100):
        now[0] += 0.5
        if watched.due(step):
            watched.across_ranks(step)
            agreed.append(step)
    assert agreed[:2] == [5001, 5002] and max(b - a for a, b in pairwise(agreed)) <= signals.AGREE / 0.5


def test_one_process_looks_after_each_step():
    watched = signals.Signals()
    watched.stop = signal.SIGTERM
    assert watched.due(1) and watched.across_ranks(1) == (signal.SIGTERM, 0)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no owner here")
def test_a_debug_file_of_another_user_is_no_request(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(signals.pdb, "set_trace", lambda: opened.append(1))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    trainer = SimpleNamespace(console=SimpleNamespace(end=lambda: None, say=lambda text: None))
    file = tmp_path / "debug"
    signals.look_around(trainer, str(file))
    file.touch()
    signals.look_around(trainer, str(file))
    assert len(opened) == 1
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    signals.look_around(trainer, str(file))
    assert len(opened) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such terminal")
def test_q_in_the_debugger_saves_and_ends(tmp_path):
    (tmp_path / "debug").touch()
    ours, theirs = pty.openpty()
    flags = ["--run=a", *TOY[:3], "--print-freq=3", *PLAIN, f"--debug-file={tmp_path / 'debug'}"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), "train", *flags],
        cwd=tmp_path,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.write(ours, b"q\n")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in err, (out, err)
    assert "stopped after step 3, saved" in out
    os.close(ours), os.close(theirs)
    assert [row["step"] for row in rows("a", tmp_path, "train")] == [3]
