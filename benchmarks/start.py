"""Whole processes from their start: `help`, `check`, and `train` until its first step."""

import subprocess
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.processes import ROOT, python, run, started, train_command
from benchmarks.rows import Options, Row, Sample, alternate, fact, paired

__all__ = ["measure"]

HEAVY = {"torch", "torchvision", "numpy", "PIL", "sklearn", "matplotlib", "tensorboardX", "visdom", "torchnet"}


def measure(options: Options) -> Iterator[Row]:
    """Against `python -c pass` and `import torch`, which nobody who trains with torch comes below."""
    main, times = str(ROOT / "main.py"), options.times(15)
    for command in ("help", "check"):
        sides = [partial(run, [python(), main, command]), partial(run, [python(), "-c", "pass"])]
        name = f"`main.py {command}`; `python -c pass`"
        yield paired("start", name, "ms a process", alternate(sides, times), 1e3)
        found = _heavy_imports(main, command)
        note = f"of {', '.join(sorted(HEAVY))}" + (f": {', '.join(found)}" if found else "")
        yield fact("start", f"`main.py {command}`: heavy packages imported", "packages", len(found), note)
    yield from _first_step(options.times(7))


def _first_step(times: int) -> Iterator[Row]:
    sides: list[Callable[[], Sample]] = [
        partial(_until_first_row, "--model=MLP"),
        partial(_until_first_row, "--model=ResNet34"),
        partial(run, [python(), "-c", "import torch"]),
    ]
    *ours, bare = alternate(sides, times)
    for model, samples in zip(("MLP", "ResNet34"), ours, strict=True):
        name = f"`main.py train --model={model}` on Digits to its first step; `import torch`"
        yield paired("start", name, "s", (samples, bare), 1.0)


def _until_first_row(flag: str) -> Sample:
    """From the process's start to its first row, which is written after the first step."""
    with started(train_command(flag, "--print-freq=1")) as running:
        running.wait_for(lambda: running.journal() is not None)
        return running.cost()


def _heavy_imports(main: str, command: str) -> list[str]:
    """Which of the heavy packages a command imports, as Python itself tells."""
    told = subprocess.run(
        [python(), "-X", "importtime", main, command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    names = {line.rpartition("|")[2].strip().partition(".")[0] for line in told.stderr.splitlines()}
    return sorted(names & HEAVY)
