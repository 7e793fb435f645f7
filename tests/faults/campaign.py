"""Families of faults: trials that are functions of a seed, and broken variants of the code that must be found out."""

import math
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from random import Random

JOBS = 2  # trials at a time
DEVICE: list[str] = []  # flags of every training: where it computes
ENOUGH = 40  # trials by whose notes a family is judged
TRIES = 200  # trials at most in which a broken variant must be found out
end = math.inf  # no trial begins later
SCRATCH = Path(tempfile.gettempdir()) / f"faults-{os.getpid()}"  # of the whole campaign; removed at its end


class Violation(AssertionError):
    """A promise that was not kept."""


def require(kept: object, message: str) -> None:
    """Raises Violation with the message unless the promise was kept."""
    if not kept:
        raise Violation(message)


@dataclass
class Trial:
    """One trial; all that is random in it is drawn from `rng`, a function of family and seed."""

    family: str
    seed: int
    folder: Path  # empty, of its own
    broken: str = ""  # how the code under test is broken on purpose; "" when it is not

    def __post_init__(self):
        self.rng = Random(f"{self.family}-{self.seed}")


@dataclass(frozen=True)
class Family:
    """Trials of one kind of fault; `controls` are the variants of the code that its check must refuse."""

    name: str
    fault: str  # what is done, for the table
    required: str  # what must come of it, for the table
    trials: int | Callable[[], int]  # of the whole campaign
    trial: Callable[[Trial], object]  # raises Violation; what it gives is counted, by its text
    controls: tuple[str, ...]
    prepare: Callable[[], object] | None = None  # once, in the process that all trials are forked from
    # a share of the trials, by the beginning of what they tell: fewer of them test nothing
    least: Mapping[str, float] = field(default_factory=dict)

    def count(self) -> int:
        return self.trials() if callable(self.trials) else self.trials


@dataclass
class Result:
    """What came of a family's trials."""

    name: str
    fault: str
    required: str
    trials: int = 0
    passed: int = 0
    controls: dict[str, str] = field(default_factory=dict)  # variant: by what it was found out; "" if it was not
    failures: list[dict[str, object]] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)  # what the trials told of themselves, and how often
    seconds: float = 0.0
    lacking: list[str] = field(default_factory=list)  # kinds of trials of which there were too few

    @property
    def good(self) -> bool:
        return 0 < self.trials == self.passed and all(self.controls.values()) and not self.lacking

    def line(self) -> str:
        seen = sum(map(bool, self.controls.values()))
        parts = [f"{self.name:<10} {self.trials:>6} trials  {self.passed:>6} passed"]
        parts += [f"controls seen to fail {seen}/{len(self.controls)}"] if self.controls else []
        return "  ".join([*parts, f"{self.seconds:.0f} s"])

    def complaints(self) -> Iterator[str]:
        """A line for each failed trial, with the command that repeats it, and for each control that did not fail."""
        for failure in self.failures:
            words = " ".join(str(failure["message"]).split())
            yield f"  FAILED {words[-700:]}\n         python -m tests.faults {self.name} --seed={failure['seed']}"
        for name, found in self.controls.items():
            if not found:
                yield f"  CONTROL '{name}' was not found out: the check cannot fail"
        yield from (f"  TOO FEW {kind}: the trials test too little" for kind in self.lacking)

    def as_dict(self) -> dict[str, object]:
        return asdict(self) | {"good": self.good}


def run(family: Family, seeds: Sequence[int], jobs: int, controls: Sequence[str]) -> Result:
    """Run the trials of these seeds, `jobs` at a time, and see these broken variants fail."""
    result, began = Result(family.name, family.fault, family.required), time.monotonic()
    if family.prepare:
        family.prepare()
    size = max(1, min(200, len(seeds) // (20 * jobs)))
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
        tasks = [(family.name, list(seeds[i : i + size])) for i in range(0, len(seeds), size)]
        for seed, message, note in (one for chunk in pool.map(_run_chunk, tasks) for one in chunk):
            result.trials += 1
            result.passed += not message
            result.notes[note] = result.notes.get(note, 0) + 1
            if message:
                result.failures.append({"seed": seed, "message": message})
        found = pool.map(_run_control, [(family.name, name) for name in controls])
        result.controls = dict(zip(controls, found, strict=True))
    result.notes.pop("", None)
    result.lacking = [kind for kind, share in family.least.items() if _share(result, kind) < share]
    result.seconds = time.monotonic() - began
    return result


def _share(result: Result, kind: str) -> float:
    """The share of the trials that told of this kind; all of them where there are too few to judge by."""
    told = sum(count for note, count in result.notes.items() if note.startswith(kind))
    return told / result.trials if result.trials >= ENOUGH else 1.0


def spread(count: int, wanted: int) -> list[int]:
    """`wanted` of the seeds below `count`, evenly spread."""
    wanted = min(max(wanted, 1), count)
    return [i * count // wanted for i in range(wanted)]


def _run_chunk(task: tuple[str, list[int]]) -> list[tuple[int, str, str]]:
    """(seed, what was violated or "", what the trial told) of each."""
    return [(seed, *run_trial(load(task[0]), seed)) for seed in task[1] if time.monotonic() < end]


def run_trial(family: Family, seed: int, broken: str = "") -> tuple[str, str]:
    """What a trial violates, "" if nothing, and what it told of itself."""
    with _folder() as folder:
        try:
            note = family.trial(Trial(family.name, seed, folder, broken))
            return "", str(note or "")
        except Violation as error:
            return str(error) or "violated", ""
        except Exception as error:  # a trial that cannot be run proves nothing
            place = traceback.extract_tb(sys.exc_info()[2])[-1]
            return f"the trial broke: {type(error).__name__}: {error} ({place.filename}:{place.lineno})", ""


def _run_control(task: tuple[str, str]) -> str:
    """The violation by which a broken variant was found out; "" when it was not."""
    family, broken = load(task[0]), task[1]
    count = family.count()
    seeds = Random(f"{family.name}-{broken}").sample(range(count), min(TRIES, count))
    for seed in seeds:
        message, _ = run_trial(family, seed, broken)
        if message and not message.startswith("the trial broke"):
            return message
    return ""


@contextmanager
def _folder() -> Iterator[Path]:
    SCRATCH.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=SCRATCH))
    try:
        yield folder
    finally:
        if not os.environ.get("FAULTS_KEEP"):  # set it to look at what a trial left
            shutil.rmtree(folder, ignore_errors=True)


def trials_of(family: Family, trials: int | None, seed: int | None, scale: float) -> list[int]:
    """The seeds to run: all, a share of them, or `trials` from `seed` on."""
    count = family.count()
    if seed is not None:
        return list(range(seed, seed + (trials or 1)))
    chosen = spread(count, trials if trials is not None else math.ceil(count * scale))
    return chosen if end == math.inf else Random(family.name).sample(chosen, len(chosen))


def load(name: str) -> Family:
    """The family of that name."""
    return import_module(f"tests.faults.{name}").FAMILY
