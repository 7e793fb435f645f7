"""sweep: train a config with several values of its keys, each combination as a run of its own.

python main.py sweep [CONFIG] --optim.lr=1e-2,1e-3 --seed=0..2
python main.py sweep [CONFIG] --optim.lr='log(1e-4,1e-1)' --trials=30
python main.py sweep --resume=checkpoints/NAME

a,b,c is a list of values and 0..2 are whole numbers: all combinations are
trained, checkpoints/NAME/lr=0.01-seed=0 and so on, each in a process of its
own. log(a,b) and uniform(a,b) are ranges to draw from, by Optuna.

  --trials=N      draw N combinations instead of training all
  --sampler=NAME  how Optuna draws: TPE (the default), Random, …
  --pruner=NAME   how it ends runs that promise little: Median, Hyperband, …
  --jobs=1        runs that are trained at the same time
  --run=NAME      the folder, checkpoints/NAME
  --resume=checkpoints/NAME  goes on with the unfinished ones
  --on=ray        trains on the Ray cluster that is there (RAY_ADDRESS)
  --on=slurm      writes an array job for a cluster instead of training

Ctrl-C saves and stops. A run that fails does not end the others; the exit
code is then that of the first that failed. runs NAME prints the table again.
"""

from collections.abc import Mapping, Sequence

from commands._studies import Given, Listed, Source, add_child, given, go_on, new_study, pool_of, stored
from utils.config.choices import choices, combinations, drawn, short
from utils.config.cli import Flag, as_count
from utils.errors import ConfigError
from utils.runs.study import Child, Study
from utils.terminal import show

__all__ = ["run"]

MOST = 1000  # runs of a grid
LONGEST = 80  # characters of a child's name


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Train the combinations and print the leaderboard.

    Raises ConfigError for mistakes in the config or the flags, SystemExit with the code of a run that failed.
    """
    asked = given("sweep", words, flags, ("trials", "sampler", "pruner"))
    pool = pool_of(asked.options)  # before anything is made
    study = stored(asked) or _new(asked)
    if asked.options.get("on") == "slurm":
        from commands._clusters import hand_over

        return hand_over(study)
    go_on(study, pool, _source(study, asked))
    show(f"next: python main.py plot {study.path}")
    return None


def _source(study: Study, asked: Given) -> Source:
    if "trials" not in study.options:
        return Listed(study)
    from commands._trials import Trials

    config, flags = study.words[0] if study.words and not study.words[0].startswith("--") else "", study.words
    again = Given("sweep", [config] if config else [], _read(flags[bool(config) :]), asked.known)
    swept = {flag.key: drawn(flag) or choices(flag) for flag in again.flags}
    return Trials(study, {key: found for key, found in swept.items() if not _is_fixed(found)}, _adder(study, again))


def _read(typed: Sequence[str]) -> list[Flag]:
    """Return the flags of a stored command line."""
    from utils.config.cli import as_flag

    return [flag for text in typed if isinstance(flag := as_flag(text), Flag)]


def _is_fixed(found: object) -> bool:
    return isinstance(found, list) and len(found) == 1


def _new(asked: Given) -> Study:
    """Return a new study: a grid with all its children, or one whose children are drawn."""
    swept = [(flag, choices(flag)) for flag in asked.flags if drawn(flag) is None]
    ranges = [flag for flag in asked.flags if drawn(flag)]
    listed = [(flag, values) for flag, values in swept if len(values) > 1]
    if not listed and not ranges:
        raise ConfigError("sweep: nothing is swept; list values, as --optim.lr=1e-2,1e-3, or ranges, as log(1e-4,1e-1)")
    if "trials" in asked.options:
        return _new_trials(asked, {flag.key: choices(flag)[0] for flag in asked.flags if not drawn(flag)}, ranges)
    for option in ("sampler", "pruner"):
        if option in asked.options:
            raise ConfigError(f"--{option}={asked.options[option]}: needs --trials=N: a grid trains all combinations")
    if ranges:
        raise ConfigError(f"{ranges[0].typed}: a range is drawn from; --trials=N says how often")
    return _new_grid(asked, listed)


def _new_grid(asked: Given, listed: Sequence[tuple[Flag, Sequence[str]]]) -> Study:
    grid = list(combinations(listed))
    if len(grid) > MOST:
        raise ConfigError(f"sweep: {len(grid):,} combinations; at most {MOST:,}: sweep fewer, or draw with --trials=N")
    configs = [asked.load(_flags(asked, keys)) for keys in grid]
    study = new_study(asked, configs[0].task.name, {})
    for keys, config in zip(grid, configs, strict=True):
        add_child(study, Child(_name(study, keys), keys), config)
    return study


def _new_trials(asked: Given, fixed: Mapping[str, str], ranges: Sequence[Flag]) -> Study:
    """Return a study without children yet. Raises ConfigError for a config that is wrong at the ends of its ranges."""
    from commands._trials import check_names, ends

    check_names(asked.options)
    trials = as_count("trials", asked.options["trials"])
    for values in ends({flag.key: found for flag in ranges if (found := drawn(flag))}):
        first = asked.load(_flags(asked, {**fixed, **values}))
    options = {key: asked.options[key] for key in ("sampler", "pruner") if key in asked.options}
    return new_study(asked, first.task.name, {"trials": trials, **options, "seed": first.train.seed})


def _adder(study: Study, asked: Given):  # noqa: ANN202 - a function of the keys
    """Return the function that makes a child of drawn values."""

    def add(keys: Mapping[str, str], trial: int) -> Child:
        child = Child(_name(study, keys), dict(keys), trial=trial)
        add_child(study, child, asked.load(_flags(asked, keys)))
        study.save()
        return child

    return add


def _flags(asked: Given, keys: Mapping[str, str]) -> list[Flag]:
    """Return the typed flags, each swept one with its value."""
    return [
        Flag(flag.key, keys[flag.key], f"--{flag.key}={keys[flag.key]}") if flag.key in keys else flag
        for flag in asked.flags
    ]


def _name(study: Study, keys: Mapping[str, str]) -> str:
    """Return the name of a child: its changed keys, by their last names where those differ."""
    last = [key.rpartition(".")[2] for key in keys]
    names = [one if last.count(one) == 1 else key for one, key in zip(last, keys, strict=True)]
    base = "-".join(f"{name}={short(value)}" for name, value in zip(names, keys.values(), strict=True))[:LONGEST]
    base = base if base[0].isalnum() or base[0] == "_" else f"_{base}"
    taken = {child.name for child in study.children}
    return next(name for name in (base, *(f"{base}-{i}" for i in range(2, 10_000))) if name not in taken)
