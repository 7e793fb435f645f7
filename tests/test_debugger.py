"""The debugger in a running training: the file that asks for it, whose it is, and how it goes on or ends."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from types import ModuleType, SimpleNamespace

import pytest
from conftest import PLAIN, ROOT, TOY, rows, state

from trainer.control import debugger
from trainer.control.debugger import Debugger
from utils import optional

unix = pytest.mark.skipif(sys.platform == "win32", reason="there is no such terminal, and files have no owner")


class FakeTrainer(SimpleNamespace):
    """Hears sentences, and has a run's signals."""

    def __init__(self) -> None:
        self.said: list[str] = []
        console = SimpleNamespace(end=lambda: None, say=self.said.append)
        super().__init__(console=console, control=SimpleNamespace(signals=SimpleNamespace(stop=0)))


@pytest.fixture
def opened(monkeypatch):
    """How often the debugger was opened; nobody waits in it."""
    found: list[int] = []
    monkeypatch.setattr(debugger, "debugger", lambda: SimpleNamespace(set_trace=lambda: found.append(1)))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    return found


@unix
def test_the_runs_own_file_the_users_and_the_books_ask_for_it(tmp_path, opened):
    own, shared = tmp_path / "run", tmp_path / "book"
    own.mkdir()
    looking, trainer = Debugger(own, str(shared)), FakeTrainer()
    looking.begin()
    looking.look(trainer)
    assert not opened
    for count, file in enumerate((own / "debug", shared, tmp_path / f"book-{debugger._user()}"), 1):
        file.touch()
        looking.look(trainer)
        assert len(opened) == count and trainer.said[-2].startswith(f"{file} is there: a debugger; ")
        assert trainer.said[-1] == "the training goes on"
        file.unlink()


@unix
def test_a_file_of_another_user_is_ignored_with_a_sentence(tmp_path, opened, monkeypatch):
    shared, trainer = tmp_path / "book", FakeTrainer()
    shared.touch()
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    looking = Debugger(tmp_path, str(shared))
    looking.begin()
    for _ in range(3):
        looking.look(trainer)
    told = f"{shared} belongs to another user, and opens no debugger here; touch {tmp_path / 'debug'}"
    assert not opened and trainer.said == [told]


def test_without_a_terminal_the_runs_own_file_is_answered_once(tmp_path, opened, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    (tmp_path / "debug").touch()
    looking, trainer = Debugger(tmp_path, str(tmp_path / "debug")), FakeTrainer()
    looking.begin()
    for _ in range(3):
        looking.look(trainer)
    assert not opened and len(trainer.said) == 1 and "a debugger needs a terminal" in trainer.said[0]


def test_ipdb_is_taken_where_it_is_installed(monkeypatch):
    import pdb

    installed = optional.installed
    monkeypatch.setattr(optional, "installed", lambda name: name != "ipdb" and installed(name))
    assert optional.debugger() is pdb
    own = ModuleType("ipdb")
    monkeypatch.setattr(optional, "installed", lambda name: name == "ipdb" or installed(name))
    monkeypatch.setitem(sys.modules, "ipdb", own)
    assert optional.debugger() is own
    monkeypatch.setitem(sys.modules, "ipdb", None)  # it cannot be imported
    assert optional.debugger() is pdb


class Terminal:
    """A process on a terminal, which is read and typed at."""

    def __init__(self, command: list[str], folder, **environment: str):
        self.ours, theirs = pty.openpty()
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "dumb", **environment}
        options = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": True}
        self.process = subprocess.Popen(command, cwd=folder, env=variables, **options)
        os.close(theirs)
        self.text = ""

    def read(self, seconds: float = 0.1) -> None:
        if select.select([self.ours], [], [], seconds)[0]:
            try:
                self.text += os.read(self.ours, 1 << 16).decode(errors="replace")
            except OSError:  # the other end is closed
                time.sleep(seconds)

    def wait_for(self, pattern: str, seconds: float = 120.0) -> None:
        """Read until the pattern comes in what was not yet waited for."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text)):
            assert time.monotonic() < end and self.process.poll() is None, self.text
            self.read()
        self.text = self.text[found.end() :]

    def type(self, line: str) -> None:
        os.write(self.ours, f"{line}\n".encode())

    def end(self, seconds: float = 120.0) -> int:
        """Return the exit code."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, self.text
            self.read()
        self.read()
        os.close(self.ours)
        return self.process.returncode


@pytest.fixture
def on_terminal(tmp_path):
    """Start a command on a terminal of its own."""
    started = []

    def command(*words: str, **environment: str) -> Terminal:
        started.append(Terminal([sys.executable, *words], tmp_path, **environment))
        return started[-1]

    yield command
    for terminal in started:
        if terminal.process.poll() is None:
            os.killpg(terminal.process.pid, signal.SIGKILL)
            terminal.process.wait()


@unix
def test_a_look_changes_the_rate_goes_on_and_q_saves_and_ends(on_terminal, tmp_path):
    flags = ["--run=a", *TOY[:3], "--print-freq=5", *PLAIN, f"--debug-file={tmp_path / 'book'}"]
    (tmp_path / "book").touch()
    terminal = on_terminal(str(ROOT / "main.py"), "train", *flags)
    terminal.wait_for(r"is there: a debugger")
    terminal.wait_for(r"\(Pdb\) ")
    terminal.type("trainer.state.update.steps['model'].optimizer.param_groups[0]['lr'] = 0.25")
    terminal.wait_for(r"\(Pdb\) ")
    (tmp_path / "book").unlink()
    (tmp_path / "checkpoints/a/debug").touch()
    terminal.type("c")
    terminal.wait_for(r"the training goes on")
    terminal.wait_for(r"checkpoints/a/debug is there: a debugger")
    terminal.wait_for(r"\(Pdb\) ")
    terminal.type("q")
    assert terminal.end() == 130 and "stopped after step 10, saved" in terminal.text, terminal.text
    assert "Traceback" not in terminal.text
    assert [(row["step"], row["lr"]) for row in rows("a", tmp_path, "train")] == [(5, 1e-3), (10, 0.25)]
    assert state("a", folder=tmp_path)["progress"]["step"] == 10


@unix
@pytest.mark.slow
def test_of_two_processes_one_stops_and_the_other_waits_longer_than_any_timeout(on_terminal, tmp_path):
    timeout = 20
    command = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(ROOT / "main.py"), "train"]
    flags = ["run=a", *TOY[:3], "--print-freq=5", *PLAIN, f"debug_file={tmp_path / 'book'}"]
    flags.append(f"--train.dist_timeout={timeout}")
    (tmp_path / "book").touch()
    terminal = on_terminal(*command, *flags, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
    terminal.wait_for(r"is there: a debugger")
    terminal.wait_for(r"\(Pdb\) ")
    time.sleep(timeout + 10)
    (tmp_path / "book").unlink()
    terminal.type("c")
    terminal.wait_for(r"the training goes on")
    while len(rows("a", tmp_path, "train")) < 2:
        terminal.read()
    (tmp_path / "checkpoints/a/debug").touch()
    terminal.wait_for(r"\(Pdb\) ")
    terminal.type("q")
    assert terminal.end() != 0 and "saved; continue with --resume=checkpoints/a" in terminal.text, terminal.text
    stopped = json.loads((tmp_path / "checkpoints/a/status.json").read_text())
    saved = state("a", folder=tmp_path)["progress"]["step"]
    assert stopped["state"] == "stopped" and saved == stopped["step"] == rows("a", tmp_path, "train")[-1]["step"]


CRASHES = """
import torch
from torch import nn

__all__ = ["Mine"]


class Mine(nn.Module):
    def __init__(self, num_classes: int):
        super().__init__()
        self.fc = nn.Linear(64, num_classes)
        self.norm = nn.BatchNorm1d(64)
        self.calls = 0

    def forward(self, x):
        self.calls += self.training
        wide = self.norm(x.flatten(1))
        if self.calls > 7:
            wide = torch.cat([wide, wide[:, :3]], 1)
        return self.fc(wide)
"""
CRASH = ["--model=Mine", "--run=a", "--train.rehearse=false", "--debug", *TOY[1:]]


@unix
def test_after_a_crash_debug_saves_and_opens_a_debugger_in_the_users_code(on_terminal, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/mine.py").write_text(CRASHES)
    terminal = on_terminal(str(ROOT / "main.py"), "train", *CRASH)
    terminal.wait_for(
        r"a/rescue.pth: the weights and the optimizer after step 7, before the step that failed; last.pth"
    )
    terminal.wait_for(r"Traceback(.|\n)*RuntimeError")
    terminal.wait_for(r"models/mine.py\(20\)forward\(\)(.|\n)*\(Pdb\) ")
    terminal.type("p wide.shape, self.calls")
    terminal.wait_for(r"\(torch.Size\(\[32, 67\]\), 8\)")
    terminal.type("q")
    code = terminal.end()
    assert code == 2, (code, terminal.text)  # that of torch's error in words, as without --debug
    saved = state("a", "rescue.pth", tmp_path)
    assert saved["progress"]["step"] == 7 and len(rows("a", tmp_path, "train")) == 7
    assert state("a", folder=tmp_path)["progress"]["step"] == 0


def test_after_a_crash_without_a_terminal_there_is_only_the_traceback(run, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/mine.py").write_text(
        CRASHES.replace("wide = torch.cat([wide, wide[:, :3]], 1)", "wide.undefined")
    )
    given = run("train", *CRASH)
    assert given.code == 10 and "AttributeError" in given.err and "debugger" not in given.err + given.out
    assert "rescue.pth: the weights" in given.out
    assert run("val", "checkpoints/a/rescue.pth").code == 0
    without = run("train", *[flag for flag in CRASH if flag not in ("--debug", "--run=a")], "--run=b")
    assert without.code == 10 and "rescue" not in without.out and not (tmp_path / "checkpoints/b/rescue.pth").exists()
    assert run("train", *[flag for flag in CRASH if flag != "--run=a"], "--run=c", "--train.save_steps=7").code == 10
    assert not (tmp_path / "checkpoints/c/rescue.pth").exists()
