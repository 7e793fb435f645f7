"""Several processes from one command: one exit code, one sentence, and an end or a new start when one is lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PLAIN, ROOT, rows, state

from utils.runs.folder import started
from utils.runs.group import first_host, join_srun, launch_id

TWO = ["--train.processes=2", "--model=MLP", "--optim=SGD", "--lr=0.1", "--train.save_steps=20", *PLAIN]
LONG = ["--max-epoch=1000", "--train.max_steps=600"]
ENDLESS = ["--max-epoch=100000", "--train.max_steps=1000000"]


def ranks(folder: Path) -> dict[int, int]:
    """The processes of a group that were started in a folder: their numbers by rank, the youngest launch's."""
    found: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(path / "cwd") != str(folder) or ") Z " in (path / "stat").read_text():
                continue
            words = (path / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        found |= {int(word[5:]): int(path.name) for word in words if word.startswith("RANK=")}
    return found


def step_of(folder: Path, run: str = "a") -> int:
    journal = folder / "checkpoints" / run / "log.jsonl"
    lines = journal.read_text().splitlines() if journal.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


def until(true, seconds: float, process: subprocess.Popen | None = None) -> bool:
    """Wait until something is true; False if it is not in time, or if the process has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        if process is not None and process.poll() is not None:
            return bool(true())
        time.sleep(0.05)
    return False


@pytest.fixture
def begun(start, tmp_path):
    """A launch whose run has taken some steps: its launcher, and its processes by rank."""

    def command(*arguments: str) -> tuple[subprocess.Popen, dict[int, int]]:
        given = {word.partition("=")[0] for word in arguments}
        flags = [word for word in (*TWO, *LONG) if word.partition("=")[0] not in given]
        process = start("train", "--run=a", *flags, *arguments)
        assert until(lambda: step_of(tmp_path) >= 40, 120, process), process.communicate()
        return process, ranks(tmp_path)

    yield command
    for number in ranks(tmp_path).values():
        os.kill(number, signal.SIGKILL)


def told(process: subprocess.Popen, seconds: float = 120) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=seconds)
    assert "Traceback" not in out + err
    return process.returncode, out, err


@pytest.mark.slow
def test_two_processes_are_one_command(start, tmp_path):
    code, out, err = told(start("train", "--run=a", *TWO, "--max-epoch=2"))
    assert (code, err) == (0, "") and out.count("done:") == 1, err
    stored = state("a", folder=tmp_path)
    assert len(stored["ranks"]) == 2 and stored["config"]["train"]["processes"] == 2
    code, out, err = told(start("train", "--resume=checkpoints/a", "--max-epoch=3"))  # without the flag: one
    assert (code, err) == (0, "") and len(state("a", folder=tmp_path)["ranks"]) == 1
    code, out, err = told(start("train", "--resume", "--train.processes=2", "--max-epoch=4"))
    assert code == 4 and "no unfinished run" in err


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_starts_all_again(begun, tmp_path, rank):
    process, pids = begun()
    os.kill(pids[rank], signal.SIGKILL)
    code, out, err = told(process)
    assert code == 0 and f"process {rank} of 2 was ended by SIGKILL: all start again" in err, err
    assert len(err.splitlines()) == 1 and "resuming" in out and out.count("done: 600 steps") == 1
    assert [row["step"] for row in rows("a", tmp_path, "train")] == list(range(20, 601, 20))
    assert not ranks(tmp_path)


@pytest.mark.slow
def test_a_killed_process_changes_no_bit(begun, start, tmp_path):
    process, pids = begun()
    os.kill(pids[1], signal.SIGKILL)
    assert told(process)[0] == 0
    assert told(start("train", "--run=b", *TWO, *LONG))[0] == 0
    assert rows("a", tmp_path) == rows("b", tmp_path)


@pytest.mark.slow
def test_a_frozen_process_is_told_in_time(begun, tmp_path):
    process, pids = begun("--train.dist_timeout=5")
    os.kill(pids[1], signal.SIGSTOP)
    began = time.monotonic()
    line = process.stderr.readline()
    assert "did not answer within 5 s" in line and f"process 1 ({pids[1]} on" in line and "was stopped" in line
    assert time.monotonic() - began < 12
    code, _, err = told(process)
    assert (code, err) == (9, "") and not ranks(tmp_path)


@pytest.mark.slow
def test_a_killed_launcher_leaves_no_orphan(begun, tmp_path):
    process, _ = begun(*ENDLESS)
    process.kill()
    assert until(lambda: not ranks(tmp_path), 15), ranks(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_its_code_passes_through(begun, tmp_path, number, code):
    process, _ = begun(*ENDLESS)
    process.send_signal(number)
    given, out, err = told(process)
    assert (given, err) == (code, "") and "saved; continue with --resume=checkpoints/a" in out
    assert state("a", folder=tmp_path)["progress"]["step"] >= 40 and not ranks(tmp_path)


@pytest.mark.slow
def test_a_signal_saves_soon_however_seldom_rows_are_written(start, tmp_path):
    flags = ["--print-freq=1000000", "--train.max_steps=1000000", "--max-epoch=100000"]
    process = start("train", "--run=a", *(word for word in TWO if "save_steps" not in word), *flags)
    last = tmp_path / "checkpoints" / "a" / "last.pth"
    assert until(lambda: last.exists(), 120, process)
    time.sleep(5)
    began = time.time()
    process.terminate()
    assert told(process)[0] == 143
    assert last.stat().st_mtime - began < 8  # 5 on a quiet machine


@pytest.mark.slow
def test_a_signal_for_one_process_stops_all(begun, tmp_path):
    process, pids = begun(*ENDLESS)
    os.kill(pids[1], signal.SIGTERM)
    code, out, err = told(process)
    assert (code, err) == (143, "") and "stopped after step" in out and not ranks(tmp_path)


@pytest.mark.slow
def test_no_two_groups_train_one_run(begun, start, tmp_path):
    process, _ = begun(*ENDLESS)
    code, _, err = told(start("train", "--resume=checkpoints/a", "--train.processes=2"))
    assert code == 2 and "in use by process" in err and len(err.splitlines()) == 1
    process.terminate()
    assert told(process)[0] == 143


def test_mistakes_are_found_before_anything_is_started(run, monkeypatch):
    given = run("train", "--train.processes=2", "--model=ResNet43")
    assert given.code == 2 and "no 'ResNet43'" in given.err
    assert "must be from 1" in run("train", "--train.processes=0").err
    Path("checkpoints/a").mkdir(parents=True)
    given = run("train", "--run=a", "--train.processes=2")
    assert given.code == 2 and "checkpoints/a exists" in given.err
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    given = run("train", "--train.processes=3")
    assert given.code == 2 and "there are 2 GPUs, one for each process" in given.err
    given = run("train", "--train.processes=2", "--train.devices=[0,5]")
    assert given.code == 2 and "there is no GPU 5, they are 0 to 1" in given.err


@pytest.mark.slow
def test_what_each_process_finds_is_told_by_one(start, tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "train.csv").write_text("id,x,target\n" + "".join(f"{i},{i},{i % 2}\n" for i in range(4)))
    flags = ["table", "--data.dataset.root=t", "--batch-size=1", "--log.visdom=false"]
    code, _, err = told(start("train", *flags, "--train.processes=6"))
    assert code in (2, 3) and len(err.splitlines()) == 1, err
    code, _, err = told(start("train", *TWO, "--use-gpu=true"))
    assert code == 2 and len(err.splitlines()) == 1 and "there is no GPU" in err, err


def by_hand(folder: Path, port: int, rank: int, *arguments: str) -> subprocess.Popen:
    """Start one process of a group of two as a scheduler would."""
    env = {**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1"}
    env |= {"MASTER_PORT": str(port), "TORCH_CPP_LOG_LEVEL": "FATAL"}
    command = [sys.executable, str(ROOT / "main.py"), "train", "--model=MLP", "--train.max_steps=20", *PLAIN]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *arguments], cwd=folder, env=env, **pipes)


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--lr=0.1", "--data.dataset.seed=1", "--batch-size=7"])
def test_processes_of_other_configs_end_with_one_sentence(tmp_path, free_port, flag):
    both = [by_hand(tmp_path, free_port, 0, "--run=a"), by_hand(tmp_path, free_port, 1, "--run=a", flag)]
    given = [told(process, 60) for process in both]
    assert [code for code, *_ in given] == [2, 2]
    assert "differs between process 0 and process 1" in given[0][2] and given[1][2] == ""
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_a_port_in_use_and_a_process_alone(tmp_path, free_port):
    with socket.socket() as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(("0.0.0.0", 0))
        place.listen()
        code, _, err = told(by_hand(tmp_path, place.getsockname()[1], 0))
    assert code == 2 and "another program uses this port" in err and len(err.splitlines()) == 1
    code, _, err = told(by_hand(tmp_path, free_port, 0, "--train.dist_timeout=3"))
    assert code == 9 and "did not find one another within 3 s" in err and len(err.splitlines()) == 1


@pytest.mark.slow
def test_torchrun_starts_again_and_goes_on(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "--max-restarts=2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    arguments = [word for word in TWO if "processes" not in word]
    process = subprocess.Popen(
        [*command, str(ROOT / "main.py"), "train", "run=a", *arguments, *LONG],
        cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert until(lambda: step_of(tmp_path) >= 40, 120, process), process.communicate()
    os.kill(ranks(tmp_path)[1], signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "resuming" in out and out.count("done: 600 steps") == 1, err


@pytest.mark.slow
def test_a_run_that_another_node_takes_ends_with_a_sentence(start, tmp_path):
    """As where a network disk has no locks for all nodes: the one that came later has the folder."""
    process = start("train", "--run=a", *(word for word in TWO if "processes" not in word), "--max-epoch=100000")
    owner = tmp_path / "checkpoints" / "a" / ".owner"
    assert until(lambda: step_of(tmp_path) >= 40, 120, process), process.communicate()
    owner.write_text(json.dumps({"process": 5, "host": "node2"}))
    code, _, err = told(process)
    assert code == 5 and "is trained by process 5 on node2, too" in err and len(err.splitlines()) == 1


def test_python_trains_in_one_process_and_says_so(run):
    from configs import load
    from trainer import fit

    given = run("train", "--run=x", "--train.processes=0")
    assert given.code == 2
    values = {"train.processes": 2, "train.max_steps": 1, "log.visdom": False, "log.pictures": False}
    fit(load("default", values, model="MLP"), run="a")
    assert state("a")["config"]["train"]["processes"] == 1


def test_srun_is_understood(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "")
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("ENVIRONMENT", "BATCH")
    monkeypatch.setenv("SLURM_NTASKS", "4")  # sbatch's own script is no task of srun
    join_srun()
    assert "RANK" not in os.environ and launch_id() == ""
    task = {"PROCID": "3", "LOCALID": "1", "STEP_NUM_TASKS": "4", "STEP_NODELIST": "gpu[07-08]", "JOB_ID": "812"}
    for name, value in {**task, "STEP_ID": "0", "STEP_TASKS_PER_NODE": "2(x2)"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    join_srun()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
    assert [os.environ[name] for name in names] == ["3", "4", "1", "2", "gpu07"]
    assert launch_id() == "slurm-812"
    assert [first_host(nodes) for nodes in ("a", "a,b", "n[1,3]", "n[01-04],m")] == ["a", "a", "n1", "n01"]


def test_a_begun_run_of_the_same_launch_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPTRAIN_LAUNCH", "x")
    monkeypatch.setenv("RANK", "1")
    folder = tmp_path / "checkpoints" / "a"
    folder.mkdir(parents=True)
    (folder / "reproduce.json").write_text(json.dumps({"launch": "x", "command": ["train", "--lr=1"]}))
    (folder / "last.pth").write_bytes(b"")
    assert started("a", ["train", "--lr=1"]) == started(None, ["train", "--lr=1"]) == Path("checkpoints/a")
    assert started("a", ["train", "--lr=2"]) is None and started("b", ["train", "--lr=1"]) is None
    (folder / "last.pth").unlink()
    assert started("a", ["train", "--lr=1"]) is None and folder.exists(), "only the first process removes it"
    monkeypatch.setenv("RANK", "0")
    assert started("a", ["train", "--lr=1"]) is None and not folder.exists()
    monkeypatch.delenv("DEEPTRAIN_LAUNCH")
    monkeypatch.delenv("RANK")
    assert started("a", ["train", "--lr=1"]) is None


@pytest.mark.parametrize(("act", "code"), [("lambda: 0", 0), ("lambda: 3", 3), ("lambda: sys.exit(143)", 143)])
def test_a_process_of_a_group_ends_without_pythons_own_end(act, code):
    """gloo's threads may abort it there; whatever asked to be done at the exit is done, and nothing said is lost."""
    text = "import sys, atexit, threading, time; from utils.runs.group import end_with; atexit.register(print, 'done')"
    text += f"; threading.Thread(target=time.sleep, args=(60,)).start(); print('said'); end_with({act})"
    env = {**os.environ, "RANK": "0", "WORLD_SIZE": "2", "PYTHONPATH": str(ROOT)}
    given = subprocess.run([sys.executable, "-c", text], env=env, capture_output=True, text=True, timeout=30)
    assert (given.returncode, given.stdout) == (code, "said\ndone\n"), given.stderr
