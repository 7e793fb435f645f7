"""What goes to a machine with a GPU and no network, and how it is run there."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

from benchmarks.report import write_table
from benchmarks.rows import fact
from installer import gpu


def ask(*words, **environment):
    command = [sys.executable, ROOT / "installer" / "gpu.py", *words]
    return subprocess.run(command, capture_output=True, text=True, env={"CUDA_VISIBLE_DEVICES": "", **environment})


def test_without_a_gpu_it_says_so_in_one_sentence(tmp_path):
    given = ask("run", str(tmp_path))
    assert given.returncode == 1 and not given.stdout
    assert re.fullmatch(r"make gpu: torch \S+ finds no GPU here\n", given.stderr)


def test_without_wheels_it_says_who_makes_them(tmp_path):
    given = ask("run", str(tmp_path), "--rehearse")
    assert given.returncode == 1 and f"no wheels in {tmp_path}; make gpu-wheels" in given.stderr


def test_without_torch_another_python_is_asked_for(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError")
    assert "GPU_PYTHON=" in ask("run", str(tmp_path), PYTHONPATH=str(tmp_path)).stderr


def test_what_travels_was_tested():
    names = re.findall(r"^[\w-]+", (ROOT / "installer" / "gpu-wheels.txt").read_text(), re.M)
    assert {name for name in names if gpu.pinned(name) == name} == {"visdom"}, "whose version installer/visdom says"
    text = (ROOT / "requirements.txt").read_text()
    needed = set(re.findall(r"^\w[\w-]+", text, re.M)) - {"torch", "torchvision", "matplotlib", "pyyaml"}
    assert "PyYAML" in names and needed <= set(names)


def test_a_call_ends_within_eight_minutes():
    assert sum(seconds + gpu.GRACE for seconds, _ in gpu.PARTS.values()) <= 480


@pytest.mark.parametrize(
    ("code", "seconds", "end"),
    [
        ("print('well')", 60, "done"),
        ("print('ill'); raise SystemExit(3)", 60, "failed (3)"),
        ("import time; print('slow', flush=True); time.sleep(60)", 2, "stopped after 2 s"),
        (
            "import signal, time; signal.signal(2, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)",
            2,
            "stopped after 2 s",
        ),
    ],
)
def test_how_a_part_ended_is_said_and_what_it_said_is_kept(tmp_path, monkeypatch, code, seconds, end):
    monkeypatch.setattr(gpu, "GRACE", 1)
    assert gpu.follow("a part", ["-c", code], seconds, str(tmp_path), tmp_path / "log") == end
    assert re.match("well|ill|slow|deaf", (tmp_path / "log").read_text())


def test_only_what_a_machine_lacks_is_installed(tmp_path, monkeypatch, capsys):
    for name in ("pytest-1.0", "unheard_of-1.0"):
        (tmp_path / f"{name}-py3-none-any.whl").touch()
    calls = []
    monkeypatch.setattr(gpu.subprocess, "run", lambda command, check: calls.append(command))
    gpu.install(tmp_path, "there")
    assert [word for word in calls[0] if word.endswith(".whl")] == [str(tmp_path / "unheard_of-1.0-py3-none-any.whl")]
    assert "--no-index" in calls[0] and "unheard_of" in capsys.readouterr().out


def test_the_table_of_a_gpu_has_a_place_of_its_own(tmp_path):
    page = tmp_path / "page.md"
    marks = [f"<!-- benchmarks{where}: {edge} -->" for where in ("", " on a GPU") for edge in ("begin", "end")]
    page.write_text("\n".join(marks))
    write_table(page, {"GPU": "a card"}, False, [fact("step", "one", "s", 1.0)])
    write_table(page, {"GPU": "a card"}, False, [fact("gpu", "two", "s", 2.0)])
    own, there = page.read_text().split(marks[1])
    assert "| one |" in own and "| two |" not in own and "| two |" in there and "a card" in there
    write_table(tmp_path / "new.md", {}, False, [fact("gpu", "two", "s", 2.0)])
    assert "| two |" in (tmp_path / "new.md").read_text()
