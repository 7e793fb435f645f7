"""A run killed by SIGKILL in mid-epoch goes on from its last save to the bits of the run that nobody killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import PLAIN, ROOT, dogcats, rows, same, same_run, state
from test_bad_samples import spoil
from test_freezing import NET
from test_poetry import SMALL, poem, write_poems

KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
from trainer.trainer import Trainer
after_step = Trainer.after_step

def then_die(self, *given):
    after_step(self, *given)
    if self.state.progress.step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)

Trainer.after_step = then_die
import main
main.main(sys.argv[1:])
"""
SAVES = 4  # steps between two saves
SAVING = ["--print-freq=1", f"--train.save_steps={SAVES}", "--train.save_in_background=false"]
ADAMW = ["--optim=AdamW", "--optim.weight_decay=0.1", "--lr=1e-2"]
DIGITS = ["--model=MLP", "--model.hidden=[16]", "--model.dropout=0.2", "--batch-size=100", *PLAIN]
ADAM = [*DIGITS, *ADAMW]
NORMED = ["--model=Normed", "--batch-size=100", *ADAMW, *PLAIN]
FREEZE = ["--train.freeze=[first.*, second.*]", '--train.unfreeze={3: ["second.*"]}']
PHOTOS = ["dogcat_small", "--train-data-root=train", "--model=MLP", "--model.hidden=[4]", "--schedule=null"]
PHOTOS += ["--batch-size=3", *PLAIN]
POEMS = ["poetry", "--train.clip=null", *(flag for flag in SMALL if "print-freq" not in flag)]


def photos(folder: Path) -> None:
    dogcats(folder / "train", 14)


def damaged_photos(folder: Path) -> None:
    spoil(dogcats(folder / "train", 14), "cat.3", "cat.7", "dog.11")


def poems(folder: Path) -> None:
    write_poems(folder / "poems", [poem(i) for i in range(49)])


def normed(folder: Path) -> None:
    (folder / "models").mkdir()
    (folder / "models/normed.py").write_text(NET)


class Case(NamedTuple):
    """A run, the step of its death, its data, and the files beside journal and checkpoint that must be the same."""

    flags: list[str]
    step: int = 19
    make: Callable[[Path], None] | None = None
    files: tuple[str, ...] = ()
    epochs: int = 3


BAD = [*PHOTOS, "--data.max_bad=0.3"]
CASES = {
    "LBFGS": Case([*DIGITS, "--optim={name: LBFGS, lr: 0.5, max_iter: 4, line_search_fn: strong_wolfe}"]),
    "SparseAdam": Case(
        [*POEMS, "--model.sparse", "--optim={name: SparseAdam, lr: 1e-2, rest: {name: Adam, lr: 1e-2}}"], 30, poems
    ),
    "Muon": Case([*DIGITS, "--optim={name: Muon, lr: 0.02, rest: {name: AdamW, lr: 1e-3}}"]),
    "groups": Case(
        [
            *ADAM,
            '--optim.groups=[{match: "*.bias", lr: 0.1, betas: [0.8, 0.9]}]',
            "--optim.no_decay=[bias]",
            "--optim.layer_decay=0.5",
            "--schedule={name: OneCycleLR, warmup: 0.5}",
        ]
    ),
    "frozen, freed after the resume": Case([*NORMED, *FREEZE], 19, normed),
    "frozen, freed before it": Case([*NORMED, *FREEZE], 33, normed),
    "swa": Case([*NORMED, "--train.swa={from: 0.5, lr: 3e-3}"], 45, normed, ("averaged.pth",), epochs=4),
    "mixup and cutmix": Case([*PHOTOS, "--data.mix={mixup: 0.4, cutmix: 1.0}"], 11, photos),
    "Weighted": Case([*ADAM, "--data.sampler={name: Weighted, weights: [9, 1, 1, 1, 1, 1, 1, 1, 1, 1]}"]),
    "ClassBalanced": Case([*ADAM, "--data.sampler=ClassBalanced"]),
    "replaced bad samples": Case([*BAD, "--data.on_bad_sample=replace"], 11, damaged_photos, ("bad_samples.csv",)),
    "bad samples in quarantine": Case(
        [*BAD, "--data.on_bad_sample=quarantine", "--num-workers=2"], 11, damaged_photos, ("bad_samples.csv",)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_killed_run_goes_on_to_the_same_bits(run, tmp_path, name):
    case = CASES[name]
    if case.make:
        case.make(tmp_path)
    flags = [*case.flags, *SAVING, f"--max-epoch={case.epochs}"]
    given = run("train", "--run=whole", *flags)
    assert given.code == 0, given.err
    die("--run=cut", *flags, step=case.step)
    left = state("cut")["progress"]
    assert left["batch"] > 0 and 0 < case.step - left["step"] < SAVES, "it had saved in mid-epoch, and gone on"
    given = run("train", "--resume=checkpoints/cut")
    assert given.code == 0 and f"at step {left['step']}" in given.out, given.err
    assert rows("cut") == rows("whole")
    assert same_run(state("cut"), state("whole")) and same_run(state("cut", "best.pth"), state("whole", "best.pth"))
    assert same(state("cut").get("swa"), state("whole").get("swa"))
    for file in case.files:
        cut, whole = (Path("checkpoints", run_name, file) for run_name in ("cut", "whole"))
        if file.endswith(".pth"):
            assert same(state("cut", file)["model"], state("whole", file)["model"])
        else:
            assert sorted(cut.read_text().splitlines()) == sorted(whole.read_text().splitlines())


def die(*arguments: str, step: int) -> None:
    """Train in a process that kills itself after a step, as the kernel or a person would."""
    code = KILLED.format(root=str(ROOT), step=step)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.run([sys.executable, "-c", code, "train", *arguments], capture_output=True, text=True, env=env)
    assert process.returncode == -signal.SIGKILL, process.stdout + process.stderr
