"""--on=slurm: the array job as a cluster runs it, by a stand-in for sbatch that runs its elements one by one."""

import csv
import os
import re
import subprocess

import pytest
from conftest import PLAIN, rows
from test_studies import TINY

from utils.runs.study import read_study

pytestmark = pytest.mark.slow
SBATCH = r"""#!/bin/bash
# As Slurm: --array and --output of the script's own lines; each element is a batch script with its number.
job="$1"
[ -f "$job" ] || { echo "sbatch: error: Unable to open file $job" >&2; exit 1; }
range=$(sed -n 's/^#SBATCH --array=//p' "$job")
output=$(sed -n 's/^#SBATCH --output=//p' "$job")
echo "Submitted batch job 7"
for number in $(seq "${range%-*}" "${range#*-}"); do
    export SLURM_JOB_ID=$((8 + number)) SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$number SLURM_NTASKS=1
    file="${output//%a/$number}"
    if [ -n "$PREEMPT" ]; then
        bash "$job" > "$file" 2>&1 &
        for wait in $(seq 600); do grep -q '"step": 3' "$PREEMPT"/*/log.jsonl 2> /dev/null && break; sleep 0.1; done
        kill -TERM $!  # --signal=B:TERM@120 reaches the batch script alone
        wait $!
    else
        bash "$job" > "$file" 2>&1
    fi
    echo "element $number: $?"
done
"""


@pytest.fixture
def sbatch(tmp_path):
    """Submit a job to a cluster of this machine; return the exit codes of its elements."""
    tool = tmp_path / "bin" / "sbatch"
    tool.parent.mkdir()
    tool.write_text(SBATCH)
    tool.chmod(0o755)
    path = f"{tool.parent}:{os.environ['PATH']}"

    def command(job: str, **more: str) -> list[int]:
        env = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **more}
        given = subprocess.run(["sbatch", job], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=280)
        assert given.returncode == 0 and "Submitted batch job 7" in given.stdout, given
        return [int(code) for code in re.findall(r"element \d+: (\d+)", given.stdout)]

    return command


def submitted(told: str) -> str:
    """The job file that the command says to submit."""
    return re.search(r"then: sbatch (\S+)", told)[1]


def test_the_elements_of_an_array_job_train_the_children(run, sbatch, tmp_path):
    given = run("sweep", *TINY, "--lr=1e-2,1e-3", "--on=slurm", "--run=far")
    assert given.code == 0, given
    assert sbatch(submitted(given.out)) == [0, 0]
    assert "done: " in (tmp_path / "checkpoints/far/0.out").read_text()
    board = run("runs", "far")
    assert board.code == 0 and board.out.count("finished") == 2 and "lr=0.001" in board.out, board
    again = run("sweep", "--resume=checkpoints/far")
    assert again.code == 0 and "started" not in again.out and "0.01" in again.out, again
    assert "all runs are finished" in run("sweep", "--resume=checkpoints/far", "--on=slurm").out


def test_an_element_that_is_preempted_goes_on_when_it_is_sent_again(run, sbatch, tmp_path):
    long = ["--model=MLP", "--optim=Adam", "--max-epoch=4", "--print-freq=1", "--train.save_steps=2", *PLAIN]
    given = run("sweep", *long, "--lr=1e-2,1e-3", "--on=slurm", "--run=cut")
    folder = tmp_path / "checkpoints/cut"
    first, _ = sbatch(submitted(given.out), PREEMPT=str(folder))
    assert first == 143 and "stopped after step" in (folder / "0.out").read_text()
    study = read_study(folder)
    assert "stopped" in [study.state(child) for child in study.children]
    given = run("sweep", "--resume=checkpoints/cut", "--on=slurm")
    assert set(sbatch(submitted(given.out))) == {0}
    assert run("runs", "cut").out.count("finished") == 2
    steps = [row["step"] for row in rows("cut/lr=0.01", phase="train")]
    assert steps == list(range(1, 161))


def test_folds_on_a_cluster_leave_an_oof_file(run, sbatch, tmp_path):
    given = run("kfold", *TINY, "--folds=2", "--on=slurm", "--run=kf")
    assert sbatch(submitted(given.out)) == [0, 0]
    given = run("kfold", "--resume=checkpoints/kf")
    assert given.code == 0 and "each predicted by the run that did not see it" in given.out, given
    with open(tmp_path / "checkpoints/kf/oof.csv") as file:
        assert len(list(csv.DictReader(file))) == 1527
