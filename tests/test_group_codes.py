"""The end of several processes is that of one: its exit code, and one sentence from one of them."""

import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PLAIN, ROOT, rows, state

from utils.runs.group import join_srun

RUN = ["--run=a", "--model=MLP", "--train.max_steps=20", *PLAIN]
MODEL = """\"\"\"Mine.\"\"\"

import torch
from torch import nn

__all__ = ["Mine"]


class Mine(nn.Module):
    def __init__(self, num_classes: int):
        super().__init__()
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        if self.training:
            {body}
        return self.fc(x.flatten(1))
"""
DATA = """\"\"\"Mine.\"\"\"

import os

import torch
from torch.utils.data import get_worker_info

__all__ = ["Mine"]


class Mine:
    def __init__(self, split):
        self.meta = {"classes": [str(i) for i in range(10)], "num_classes": 10, "image_size": [8, 8]}

    def __len__(self):
        return 64

    def __getitem__(self, i):
        if i == 5 and get_worker_info() is not None:
            os._exit(9)
        return torch.zeros(1, 8, 8), i % 10
"""


def group(folder: Path, *arguments: str, command: str = "train", program: Path = ROOT / "main.py", **options):
    """Run a command in two processes; its code, and what it says."""
    process = subprocess.run(
        [sys.executable, str(program), command, *arguments, "--train.processes=2"],
        cwd=folder, capture_output=True, text=True, timeout=400, env={**os.environ, "OMP_NUM_THREADS": "1"}, **options,
    )  # fmt: skip
    return process.returncode, process.stdout, process.stderr


def own_file(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def own_model(folder: Path, body: str) -> list[str]:
    own_file(folder, "models/mine.py", MODEL.format(body=body))
    return ["--run=a", "--model=Mine", "--train.max_steps=20", "--train.rehearse=false", *PLAIN]


def small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "told"),
    [
        (0, ""),
        (2, "model.hidden"),
        (3, "nowhere"),
        (4, "there is no such run folder or checkpoint"),
        (5, "checkpoints/a"),
        (6, "the loss is nan"),
        (7, "the processes that load data were lost 3 times in one epoch"),
        (8, "memory"),
        (10, "models/mine.py:16: in forward: KeyError: 'attention'"),
    ],
)
def test_an_exit_code_passes_through(tmp_path, code, told):
    options = {"preexec_fn": small_files} if code == 5 else {}
    if code == 7:
        own_file(tmp_path, "data/mine.py", DATA)
    arguments = {
        2: [*RUN, "--model.hidden=[-1]"],
        3: ["table", "--run=a", "--data.dataset.root=nowhere", *PLAIN],
        4: ["--resume=checkpoints/none"],
        6: [*RUN, "--optim=SGD", "--lr=1e30", "--train.rehearse=false"],
        7: [*RUN, "--data.dataset=Mine", "--num-workers=1"],
        8: own_model(tmp_path, "torch.empty(2**50)") if code == 8 else [],
        10: own_model(tmp_path, "raise KeyError('attention')") if code == 10 else [],
    }.get(code, RUN)
    given, out, err = group(tmp_path, *arguments, **options)
    said = [line for line in err.splitlines() if not line.startswith(("data workers lost", "    raise"))]
    assert given == code and told in err and "Traceback" not in out + err, (given, err)
    assert len(said) == (1 if told else 0), err
    assert out.count("done:") == (0 if code else 1)


@pytest.mark.slow
def test_a_bug_of_ours_is_one_traceback(tmp_path):
    """Of a program that was broken for it, by the file that starts it."""
    program = tmp_path / "main.py"
    program.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from trainer.trainer import Trainer\n"
        "Trainer.fit = None\n"
        f"import trainer.parallel.launch as launcher\nlauncher.MAIN = {str(program)!r}\n"
        "import main\nsys.exit(main.main(sys.argv[1:]))\n"
    )
    code, _, err = group(tmp_path, *RUN, program=program)
    assert code == 1 and err.count("Traceback") == 1 and "TypeError: 'NoneType'" in err, err


def scheduled(folder: Path, rank: int, *arguments: str, wrap: str = "", **variables: str) -> subprocess.Popen:
    """Start one of two processes as a scheduler would; `wrap` is done before the program begins."""
    first = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['main.py', *sys.argv[1:]]\n{wrap}\n"
    script = f"{first}import main; sys.exit(main.main(sys.argv[1:]))"
    env = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", script, "train", *arguments], cwd=folder, env=env, **pipes)


def described(rank: int, port: int) -> dict[str, str]:
    names = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {name: str(value) for name, value in names.items()} | {"TORCH_CPP_LOG_LEVEL": "FATAL"}


def ends(both: list[subprocess.Popen], within: float = 10.0) -> list[tuple[int, str, str]]:
    """What each said; all must have ended within so many seconds of the first sentence."""
    both[0].stderr.readable()
    first = both[0].stderr.readline()
    began = time.monotonic()
    given = [process.communicate(timeout=within) for process in both]
    assert time.monotonic() - began < within
    texts = [(given[0][0], first + given[0][1]), given[1]]
    return [(process.returncode, *text) for process, text in zip(both, texts, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["version", "program", "data", "sizes", "cells"])
def test_processes_of_other_versions_or_data_end_with_one_sentence(tmp_path, free_port, kind):
    wraps, flags, told = ["", ""], [[], []], ""
    if kind == "version":
        wraps[1] = "import torch; torch.__version__ = torch.torch_version.TorchVersion('2.99.0')\n"
        wraps[1] += "import utils.runs.record as r; own = r.versions; r.versions = lambda: {**own(), 'torch': '2.99.0'}"
        told = "the version of torch differs between process 0 and process 1 of the group: 2."
    elif kind == "program":
        wraps[1] = "import utils.runs.record as r; own = r.hashes; r.hashes = lambda files: {**own(files), 'x': '1'}"
        told = "the program's code differs"
    else:
        flags = [["table", f"--data.dataset.root=data{rank}"] for rank in (0, 1)]
        for rank in (0, 1):
            (tmp_path / f"data{rank}").mkdir()
            count = 41 if rank and kind == "sizes" else 40
            lines = [
                f"{i},{(i + (rank and kind == 'cells')) % 7},{(i + (rank and kind == 'data')) % 2}"
                for i in range(count)
            ]
            (tmp_path / f"data{rank}" / "train.csv").write_text("\n".join(["id,x,target", *lines]) + "\n")
        told = "the train split"
    plain = [word for word in RUN if "model" not in word] if flags[0] else RUN
    both = [
        scheduled(tmp_path, rank, *flags[rank], *plain, wrap=wraps[rank], **described(rank, free_port))
        for rank in (0, 1)
    ]
    given = ends(both)
    assert [code for code, *_ in given] == [2, 2], given
    assert told in given[0][2] and len(given[0][2].splitlines()) == 1 and given[1][2] == "", given
    assert "differs between process 0 and process 1" in given[0][2]
    assert not (tmp_path / "checkpoints").exists() or not list((tmp_path / "checkpoints").glob("*"))


SLURM = {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "localhost", "SLURM_NODEID": "0"}


@pytest.mark.slow
@pytest.mark.parametrize("step", [True, False])
def test_tasks_of_slurm_find_one_another(tmp_path, step):
    """By SLURM's own variables, those of the step or those of the job; a requeued job goes on with its run."""
    more = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_ID": "0"} if step else {}
    for steps in (20, 40):
        job = {**SLURM, **more, "SLURM_JOB_ID": str(os.getpid() * 2 + step)}
        both = [
            scheduled(tmp_path, rank, *RUN, **job, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank)) for rank in (0, 1)
        ]
        given = [process.communicate(timeout=300) for process in both]
        assert [process.returncode for process in both] == [0, 0], given
        assert given[0][0].count("done:") == (1 if steps == 20 else 0) and given[1] == ("", "")
        assert steps == 20 or "is finished" in given[0][0]
    assert len(state("a", folder=tmp_path)["ranks"]) == 2


def test_a_batch_script_of_slurm_is_no_task(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "")
    for name, value in {**SLURM, "SLURM_PROCID": "0", "ENVIRONMENT": "BATCH"}.items():
        monkeypatch.setenv(name, value)
    join_srun()
    assert "RANK" not in os.environ
    monkeypatch.delenv("ENVIRONMENT")
    join_srun()
    assert (os.environ["RANK"], os.environ["WORLD_SIZE"], os.environ["MASTER_ADDR"]) == ("0", "2", "localhost")


@pytest.mark.slow
def test_children_of_a_study_train_in_two_processes(tmp_path):
    command = ["--lr=0.1,0.01", "--optim=SGD", "--run=s", *(word for word in RUN if "run" not in word)]
    code, out, err = group(tmp_path, *command, command="sweep")
    assert code == 0, (out, err)
    children = sorted(path for path in (tmp_path / "checkpoints/s").iterdir() if (path / "last.pth").exists())
    assert len(children) == 2
    for child in children:
        assert len(state(f"s/{child.name}", folder=tmp_path)["ranks"]) == 2
        assert rows(f"s/{child.name}", tmp_path)


@pytest.mark.slow
def test_a_fold_trains_in_two_processes(tmp_path):
    code, out, err = group(tmp_path, "--folds=2", "--run=k", *RUN[1:], command="kfold")
    assert code == 0, (out, err)
    children = [path for path in (tmp_path / "checkpoints/k").iterdir() if (path / "last.pth").exists()]
    assert len(children) == 2 and (tmp_path / "checkpoints/k/oof.csv").exists()
    assert all(len(state(f"k/{child.name}", folder=tmp_path)["ranks"]) == 2 for child in children)


@pytest.mark.slow
def test_a_study_that_is_stopped_stops_the_processes_of_its_children(start, tmp_path):
    process = start("sweep", "--lr=0.1,0.01", "--run=s", "--train.processes=2", *ENDLESS)
    journal = tmp_path / "checkpoints/s"
    end = time.monotonic() + 200
    while not list(journal.glob("*/log.jsonl")) and time.monotonic() < end and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 143 and "Traceback" not in out + err, (out, err)
    assert not left_in(tmp_path)


ENDLESS = ["--optim=SGD", "--model=MLP", "--max-epoch=100000", *PLAIN]


def left_in(folder: Path) -> list[str]:
    """The processes whose working folder this is."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(path / "cwd") == str(folder) and not re.search(r"\) Z ", (path / "stat").read_text()):
                found.append((path / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found
