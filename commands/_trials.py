"""Trials of a sweep: Optuna draws the values, by its samplers and pruners, and its state lies in the study's folder."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from commands._cells import metrics_of
from utils.config.choices import Draw
from utils.errors import ConfigError
from utils.runs.children import Pool
from utils.runs.reading import read_curves
from utils.runs.study import Child, Study
from utils.words import suggest

__all__ = ["Trials", "check_names", "ends"]

FILE = "optuna.db"
PERIOD = 1.0  # s between two looks at the running children, for a pruner
KEEP_SEED = ("QMCSampler", "GridSampler", "BruteForceSampler")  # the others are seeded anew for each trial


class Trials:
    """Children that are drawn one after the other; with one job each is a function of the seed and those before."""

    def __init__(
        self,
        study: Study,
        swept: Mapping[str, Draw | Sequence[str]],
        add: Callable[[Mapping[str, str], int], Child],
    ):
        """Open Optuna's study in the folder. Raises ConfigError where Optuna is missing, or has no such sampler."""
        self.optuna = _optuna()
        self.study, self.swept, self.add, self.tried = study, swept, add, set[str]()
        self.ranges = {key: self._range(found) for key, found in swept.items()}
        study.path.mkdir(parents=True, exist_ok=True)
        self.trials = self.optuna.create_study(
            storage=f"sqlite:///{(study.path / FILE).resolve()}",
            study_name=study.name,
            direction="minimize",
            pruner=_pruner(self.optuna, study.options),
            load_if_exists=True,
        )
        self.reported: dict[str, int] = {}
        self.looked = 0.0

    def next(self, busy: Sequence[str]) -> Child | None:
        """Return a child that is not done; a new one is drawn while there are fewer than asked for."""
        for child in self.study.children:
            if child.name not in busy and child.name not in self.tried and not self.study.is_done(child):
                return child
        if len(self.study.children) >= int(self.study.options["trials"]):
            return None
        if not busy:
            self._tell_all()  # a parent that was killed may not have told the last ones
        return self._draw()

    def end(self, child: Child, value: float | None) -> None:
        """Tell Optuna the value; a child that stopped before its end is told when it has ended."""
        self.tried.add(child.name)
        self._tell_all()

    def look(self, pool: Pool) -> None:
        """Report the validations of running children to the pruner, and stop those that it gives up."""
        if "pruner" not in self.study.options or time.monotonic() < self.looked + PERIOD:
            return
        self.looked = time.monotonic()
        for name, _ in list(pool.running.values()):
            child = next(one for one in self.study.children if one.name == name)
            if not child.pruned and self._gives_up(child):
                child.pruned = True
                self.study.save()
                pool.stop(name)

    def _gives_up(self, child: Child) -> bool:
        curves = read_curves(self.study.folder(child) / "log.jsonl")
        points = sorted(curves.get(self.study.monitor(), {}).get("val", {}).items())
        trial = self.optuna.Trial(self.trials, self.trials.trials[child.trial]._trial_id)
        for step, value in points[self.reported.get(child.name, 0) :]:
            trial.report(self._signed(value), step)
        self.reported[child.name] = len(points)
        return bool(points) and trial.should_prune()

    def _tell_all(self) -> None:
        """Tell Optuna of each child that has ended and that it does not know of yet."""
        states = self.optuna.trial.TrialState
        for child in self.study.children:
            if child.trial is None or self.trials.trials[child.trial].state.is_finished():
                continue
            value, state = self.study.best(child), self.study.state(child)
            if state == "finished" and value is not None:
                self.trials.tell(child.trial, self._signed(value))
            elif state in ("finished", "pruned"):
                self.trials.tell(child.trial, state=states.PRUNED if state == "pruned" else states.FAIL)

    def _draw(self) -> Child:
        """Return a new child. The draw depends on the seed and its number alone, and on the trials before it."""
        number = len(self.study.children)
        known = {child.trial for child in self.study.children}
        for lost in self.trials.trials:  # drawn by a parent that was killed before it wrote the child down
            if lost.number not in known and not lost.state.is_finished():
                self.trials.tell(lost.number, state=self.optuna.trial.TrialState.FAIL)
        self.trials.sampler = _sampler(self.optuna, self.study.options, number)
        trial = self.trials.ask(self.ranges)
        return self.add({key: _text(value) for key, value in trial.params.items()}, trial.number)

    def _range(self, found: Draw | Sequence[str]) -> Any:
        if isinstance(found, Draw):
            return self.optuna.distributions.FloatDistribution(found.low, found.high, log=found.log)
        return self.optuna.distributions.CategoricalDistribution(list(found))

    def _signed(self, value: float) -> float:
        """Return a value of which less is better."""
        return value if metrics_of(self.study.task).get(self.study.monitor()) == "min" else -value


def check_names(options: Mapping[str, str]) -> None:
    """Raise ConfigError where Optuna is missing, and for a sampler or pruner that it cannot make."""
    optuna = _optuna()
    _sampler(optuna, {key: value for key, value in options.items() if key == "sampler"}, 0)
    _pruner(optuna, options)


def ends(ranges: Mapping[str, Draw]) -> Iterator[dict[str, str]]:
    """Yield the lower ends of all ranges, then the upper ends."""
    yield {key: _text(found.low) for key, found in ranges.items()}
    yield {key: _text(found.high) for key, found in ranges.items()}


def _text(value: object) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def _optuna() -> ModuleType:
    """Return Optuna, which reports its steps to nobody. Raises ConfigError where it is missing."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ConfigError("--trials: needs the package optuna: pip install 'deeptrain[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _component(optuna: ModuleType, kind: str, name: str) -> Any:
    """Return a sampler or a pruner of Optuna by its name, in any case, with or without Sampler at its end."""
    room = getattr(optuna, f"{kind}s")
    ending = kind.capitalize()
    known = {one.removesuffix(ending): one for one in room.__all__ if one.endswith(ending) and one != f"Base{ending}"}
    found = {short.lower(): one for short, one in known.items()}.get(name.lower().removesuffix(kind))
    if found is None:
        near = suggest(name, known) or f"; there is {', '.join(sorted(known))}"
        raise ConfigError(f"--{kind}={name}: Optuna has no such {kind}{near}")
    return getattr(room, found)


def _sampler(optuna: ModuleType, options: Mapping[str, Any], number: int) -> Any:
    """Return the sampler for the trial of that number; seeded anew, so that a resumed sweep draws as one in a piece."""
    import inspect

    kind = _component(optuna, "sampler", str(options.get("sampler", "TPE")))
    seed = int(options.get("seed", 0)) + (0 if kind.__name__ in KEEP_SEED else 1_000_003 * number)
    takes = inspect.signature(kind).parameters
    return _made(kind, "sampler", {"seed": seed % 2**32} if "seed" in takes else {})


def _pruner(optuna: ModuleType, options: Mapping[str, Any]) -> Any:
    return _made(_component(optuna, "pruner", str(options.get("pruner", "Nop"))), "pruner", {})


def _made(kind: Any, what: str, arguments: Mapping[str, Any]) -> Any:
    """Return a sampler or a pruner. Raises ConfigError for one that needs more than its name."""
    import warnings

    try:
        with warnings.catch_warnings(action="ignore"):  # those of experimental samplers
            return kind(**arguments)
    except (TypeError, ImportError) as error:
        raise ConfigError(f"--{what}={kind.__name__}: cannot be made from its name alone ({error})") from error
