"""Children of a study on other machines: an array job for Slurm."""

import shlex
import sys
from pathlib import Path

from utils.errors import ConfigError
from utils.files import write_atomic
from utils.runs.children import MAIN
from utils.runs.study import Study
from utils.terminal import show

__all__ = ["hand_over"]

HEAD = """#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --output={folder}/%a.out
#SBATCH --signal=B:TERM@120
# Add the lines that your cluster asks for: partition, time, --gres=gpu:1. The same line sent again goes on with
# what is not finished: python main.py {command} --resume={folder} --on=slurm, then sbatch {file}
cd {here}
children=({children})
child="${{children[$SLURM_ARRAY_TASK_ID]}}"
"""
BODY = """run={folder}/"$child"
if compgen -G "$run/*.pth" > /dev/null || compgen -G "$run/*/SHA256SUMS" > /dev/null; then
    {python} {main} train --resume="$run" &
else
    rm -rf "$run"
    {python} {main} train {folder}/"$child".yaml --run={name}/"$child" &
fi
trap 'kill -TERM $!; wait $!' TERM
wait $!
"""


def hand_over(study: Study) -> None:
    """Write the array job of the children that are not done. Raises ConfigError for trials, which are no list."""
    if "trials" in study.options:
        raise ConfigError("--on=slurm: trials are drawn one after the other; sweep a grid there, without --trials")
    study.save()
    file = study.path / "job.sh"
    children = [child.name for child in study.children if not study.is_done(child)]
    if not children:
        show(f"{study.path}: all runs are finished")
        return
    facts = {"name": study.name, "folder": study.path, "last": len(children) - 1, "command": study.command}
    facts |= {"file": file, "here": shlex.quote(str(Path.cwd())), "children": " ".join(map(shlex.quote, children))}
    facts |= {"python": shlex.quote(sys.executable), "main": shlex.quote(str(MAIN))}
    write_atomic(file, (HEAD + BODY).format(**facts).encode())
    show(f"{file}: an array job of {len(children)}; look at it, then: sbatch {file}")
    show(f"when all have ended: python main.py {study.command} --resume={study.path}")
