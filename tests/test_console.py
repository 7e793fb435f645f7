"""What a run says: the bar and the table on a terminal, plain lines elsewhere, JSON for scripts."""

import fcntl
import itertools
import json
import math
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios

import pytest
from conftest import ROOT, TOY, rows, state

from utils.sinks import console as module
from utils.sinks.console import Console

FACTS = {"steps": 1200, "epochs": 3, "seconds": 3723.4, "monitor": "accuracy", "best": 0.75, "best_epoch": 2}
FACTS |= {"best_file": "checkpoints/a/best.pth", "folder": "checkpoints/a", "files": ["best.pth", "last.pth"]}
FACTS |= {"next": "python main.py test checkpoints/a"}
MEASURES = {"accuracy": 0.5, "loss": 1.25, "log_loss": 1.25, "f1": 0.25, "top5": 1.0}


@pytest.fixture
def clock(monkeypatch):
    """The seconds that the console sees; they pass when the test says so."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of a width."""

    def make(columns: int, **environment: str) -> None:
        for stream in (sys.stdout, sys.stderr):
            monkeypatch.setattr(stream, "isatty", lambda: True)
        for name, value in {"TERM": "xterm", "COLUMNS": str(columns), "NO_COLOR": "", **environment}.items():
            monkeypatch.setenv(name, value)

    return make


def train(console: Console, clock: list[float], epochs: int, seconds: float) -> None:
    """Epochs of four steps with two rows each, a validation after each, every second of which is the best so far."""
    for epoch in range(epochs):
        console.begin(epoch, epochs, 4, 0)
        for step in range(1, 5):
            clock[0] += seconds / 4
            console.advance({})
            if step % 2 == 0:
                console.scalars("train", epoch, 4 * epoch + step, {"loss": epoch + step / 2, "lr": 0.1})
        console.end()
        console.scalars("val", epoch, 4 * epoch + 4, MEASURES)
        console.tell(epoch, 4 * epoch + 4, best=epoch % 2 == 0)
    console.done(FACTS)


def test_off_a_terminal_there_is_at_most_a_line_in_ten_seconds_and_the_last_epochs_is_there(clock, capsys):
    console, times = Console(), []
    print_line = console._print
    console._print = lambda text, colour="": (times.append(clock[0]), print_line(text, colour))
    train(console, clock, 100, 1.0)
    lines = capsys.readouterr().out.splitlines()
    assert not any(mark in line for line in lines for mark in "\r\x1b")
    progress = [time for time, line in zip(times, lines, strict=True) if "/100" in line]
    assert len(progress) >= 10 and all(b - a >= 10 for a, b in itertools.pairwise(progress[:-1]))
    table = [line for line in lines if re.match(r" +\d+/100 ", line)]
    assert table[-1].split()[0] == "100/100"
    assert lines[-4:] == [
        "done: 1,200 steps, 3 epochs in 1:02:03",
        "best accuracy 0.7500 (epoch 2): checkpoints/a/best.pth",
        "files in checkpoints/a: best.pth, last.pth",
        "next: python main.py test checkpoints/a",
    ]


def test_within_a_long_epoch_a_line_tells_how_far_it_is(clock, capsys):
    console = Console()
    console.begin(0, 2, 100, 50)  # resumed in the middle
    for step in range(51, 61):
        clock[0] += 2
        console.advance({})
        console.scalars("train", 0, step, {"loss": 0.5, "lr": 0.1})
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/2  51/100  0.5 steps/s  1:38 left of epoch, 4:58 of run  loss 0.5000  lr 0.1",
        "epoch 1/2  56/100  0.5 steps/s  1:28 left of epoch, 4:48 of run  loss 0.5000  lr 0.1",
    ]


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ((60, math.inf), "1:40 left of epoch, 1:40 of run"),  # --train.max_steps within the epoch
        ((math.inf, 60.0), "40.0 s left of epoch, 40.0 s of run"),  # --train.max_minutes=1
        ((1000, math.inf), "3:00 left of epoch, 9:40 of run"),
        ((10, math.inf), "0.0 s left of epoch, 0.0 s of run"),  # the very last step
    ],
)
def test_the_time_left_is_that_of_the_run_too_and_ends_where_the_run_ends(clock, limits, left):
    console = Console()
    console.begin(0, 3, 100, 0, limits)
    for _ in range(10):
        clock[0] += 2
        console.advance({})
    epoch, _, run = left.partition(" left of epoch, ")
    expected = f"{epoch} left" if epoch == run.removesuffix(" of run") else left
    assert console.epoch.progress() == f"epoch 1/3  10/100  0.5 steps/s  {expected}"


def test_the_time_left_of_the_run_counts_validations_of_epochs_before(clock):
    console = Console()
    console.begin(0, 2, 10, 0)
    for _ in range(10):
        clock[0] += 1
        console.advance({})
    clock[0] += 10  # a validation as long as the epoch
    console.begin(1, 3, 10, 0)
    for _ in range(5):
        clock[0] += 1
        console.advance({})
    assert console.epoch.left() == "5.0 s left of epoch, 25.0 s of run"  # 25 s for 15 steps so far, 15 are to come


@pytest.mark.parametrize("columns", [80, 200])
def test_the_table_of_epochs_aligns_and_fits_the_terminal(terminal, clock, capsys, columns):
    terminal(columns, NO_COLOR="1")
    train(Console(), clock, 11, 65.0)
    head, *lines = capsys.readouterr().out.splitlines()[:12]
    ends = {match.end() for match in re.finditer(r"\S+( loss)?", head)}
    assert all({m.end() for m in re.finditer(r"\S+", line)} <= ends | {len(line)} for line in lines)
    assert max(map(len, [head, *lines])) <= columns
    assert head.split("  ")[-1] == "best" and "train loss" in head and "accuracy" in head
    assert ("top5" in head) == (columns == 200)
    first = dict(zip(re.split(r" {2,}", head.strip()), re.split(r" {2,}", lines[0].strip()), strict=True))
    assert first["epoch"] == "1/11" and first["train loss"] == "1.5000" and first["val loss"] == "1.2500"
    assert (first["lr"], first["time"], first["best"]) == ("0.1", "1:05", "*")
    assert [line.endswith("*") for line in lines] == [epoch % 2 == 0 for epoch in range(11)]


def test_an_epoch_without_a_validation_has_its_line_too(terminal, clock, capsys):
    terminal(80, NO_COLOR="1")
    console = Console()
    for epoch in range(2):
        console.begin(epoch, 2, 1, 0)
        clock[0] += 3
        console.advance({})
        console.scalars("train", epoch, epoch + 1, {"loss": 0.25, "lr": 0.1})
        console.end()
    console.tell(1, 2, best=False)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["epoch", "loss", "lr", "time", "best"]
    assert [line.split() for line in lines] == [[f"{n}/2", "0.2500", "0.1", "3.0", "s"] for n in (1, 2)]


def test_the_bar_tells_a_gpus_memory_too(terminal, clock, capsys, monkeypatch):
    monkeypatch.setattr(module.torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(module.torch.cuda, "memory_reserved", lambda: 2_100_000_000)
    terminal(120)
    console = Console()
    console.begin(0, 1, 3, 0)
    console.advance({"loss": module.torch.tensor(0.5, requires_grad=True)})
    console.close()
    assert re.search(r" 1/3, .*, loss 0\.5000, mem [\d,]+ MB, GPU 2,100 MB", capsys.readouterr().err)


def test_long_lines_break_between_words_on_a_terminal_only(terminal, capsys):
    files = [f"picture{number}.png" for number in range(9)]
    Console().done(FACTS | {"files": files})
    assert f"files in checkpoints/a: {', '.join(files)}\n" in capsys.readouterr().out
    terminal(80)
    Console().done(FACTS | {"files": files})
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].startswith("  picture") and max(map(len, lines[2:4])) <= 80
    Console().say("two\nlines")
    assert capsys.readouterr().out == "two\nlines\n"


def test_colours_are_for_terminals_that_want_them(terminal, capsys):
    for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        terminal(80, **environment)
        Console().done(FACTS)
        assert ("\x1b" in capsys.readouterr().out) == coloured


def test_json_holds_the_journals_rows_and_nothing_else_is_on_stdout(run):
    given = run("train", "--run=a", *TOY, "--json")
    lines = [json.loads(line) for line in given.out.splitlines()]
    assert (given.code, given.err) == (0, "")
    assert [line["phase"] for line in lines if line["phase"] in ("note", "done")] == ["note", "note", "note", "done"]
    told = [line for line in lines if line["phase"] in ("train", "val")]
    assert [{k: v for k, v in line.items() if k not in ("is_best", "seconds")} for line in told] == rows("a")
    assert next(line["is_best"] for line in told if line["phase"] == "val")
    assert lines[-1]["next"] == "python main.py test checkpoints/a" and lines[-1]["steps"] == 80
    assert lines[-1]["best"] == max(row["accuracy"] for row in rows("a", phase="val"))
    resumed = run("train", "--resume=checkpoints/a", "--json").out
    assert "is finished" in json.loads(resumed)["text"]


def test_json_has_null_for_what_is_not_finite(capsys):
    Console("json").scalars("train", 0, 1, {"loss": float("nan")})
    assert json.loads(capsys.readouterr().out)["loss"] is None


def test_quiet_prints_nothing_and_does_not_go_with_json(run):
    given = run("train", "--run=a", *TOY, "--quiet", "--train.max_steps=2")
    assert (given.code, given.out, given.err) == (0, "", "")
    assert run("train", *TOY, "--quiet", "--json").err.startswith("--quiet --json: ")


def test_a_run_ends_with_its_best_its_files_and_the_next_command(run):
    lines = run("train", "--run=a", *TOY).out.splitlines()
    assert lines[-1] == "next: python main.py test checkpoints/a"
    assert re.fullmatch(r"best accuracy 0\.\d{4} \(epoch [12]\): checkpoints/a/best.pth", lines[-3])
    assert lines[-2].startswith("files in checkpoints/a: best.pth, ") and lines[-4].startswith("done: 80 steps, 2 ")


def test_a_bar_counts_batches_on_a_terminal(tmp_path):
    """The ancestor's bar had as many steps as there are samples, and never reached its end."""
    lead, follow = pty.openpty()
    fcntl.ioctl(follow, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = [sys.executable, str(ROOT / "main.py"), "train", "--run=a", *TOY]
    env = {**os.environ, "TERM": "xterm", "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, stdin=follow, stdout=follow, stderr=follow, env=env)
    os.close(follow)
    seen = b""
    try:
        while piece := os.read(lead, 65536):
            seen += piece
    except OSError:
        pass  # Linux's way to say that the other end is closed
    assert process.wait(60) == 0, seen.decode()
    text = seen.decode()
    assert re.search(r"epoch 1/2 .*/40, .*step/s, .* left.*, loss \d\.\d{4}, mem [\d,]+ MB", text)
    assert "1258" not in text.replace("1,258", "")
    assert re.search(r"^ +1/2 .*\r\n +2/2 .*\r\ndone: 80 steps", re.sub(r"\r(?!\n)[^\n]*\r(?!\n)", "", text), re.M)


@pytest.mark.parametrize("flag", ["--json", "--json=false"])
def test_a_reader_that_goes_away_does_not_end_the_run(tmp_path, flag):
    """As `train | head -1`, or a tee that dies."""
    args = [sys.executable, str(ROOT / "main.py"), "train", "--run=a", *TOY, flag]
    process = subprocess.Popen(args, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait(120) == 0 and said == "nothing is printed from here on (Broken pipe); the run goes on\n"
    assert json.loads((tmp_path / "checkpoints/a/status.json").read_text())["state"] == "finished"


@pytest.mark.parametrize("nohup", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_terminal_that_goes_away_stops_the_run_saved_unless_it_was_told_to_stay(tmp_path, nohup):
    """As when ssh is cut: SIGHUP comes, and the bar and the lines go nowhere."""
    lead, follow = pty.openpty()

    def own_terminal():
        os.setsid()
        fcntl.ioctl(follow, termios.TIOCSCTTY, 0)
        if nohup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    args = [arg for arg in TOY if "max-epoch" not in arg]
    command = [sys.executable, str(ROOT / "main.py"), "train", "--run=a", *args, "--max-epoch=20", "--num-workers=1"]
    streams = {"stdin": follow, "stdout": follow, "stderr": follow}
    env = {**os.environ, "TERM": "xterm", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, preexec_fn=own_terminal, env=env, **streams)
    os.close(follow)
    seen = b""
    while b"3/20" not in seen:
        seen += os.read(lead, 65536)
    os.close(lead)
    assert process.wait(120) == (0 if nohup else 129)
    told = json.loads((tmp_path / "checkpoints/a/status.json").read_text())
    saved = state("a", folder=tmp_path)["progress"]["step"]
    assert told["state"] == ("finished" if nohup else "stopped") and told["step"] == saved
    assert saved == 800 if nohup else 80 < saved < 800


def test_without_an_output_a_run_is_a_run(tmp_path):
    command = f"{sys.executable} {ROOT / 'main.py'} train --run=a {' '.join(TOY)} >&-"
    given = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert (given.returncode, given.stderr) == (0, "")
