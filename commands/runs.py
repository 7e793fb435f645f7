"""runs: list the runs in checkpoints/ as a table, the newest first.

python main.py runs [WORD…] [--sort=…] [--state=…] [--model=…]
python main.py runs NAME

With words, only runs whose name holds one of them. NAME of a kfold or sweep
is its leaderboard: its runs, the best first. Nothing is trained.

  --sort=ORDER  newest (the default), best, time, epochs or run
  --state=NAME  only runs that are running, paused, finished, stopped, crashed
                or failed
  --model=NAME  only runs of that model; so for --task and --data
  --remove=STATE  remove those that are failed, crashed, stopped or finished;
                asks before, unless --yes is given
"""

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import PurePath

from commands._cells import GAP, format_number, metrics_of, width
from commands._leaderboard import leaderboard
from commands._remove_runs import refuse_state, remove_runs
from configs import COMPONENTS
from utils.config.cli import Flag
from utils.errors import CheckpointError, ConfigError
from utils.runs.folder import ROOT
from utils.runs.reading import STATES, Run, read_run, run_folders
from utils.runs.study import Study, find_study, is_study, read_study
from utils.terminal import head, padded, show
from utils.words import count_of, shortened, suggest

__all__ = ["columns", "metrics_of", "options_of", "run", "format_number", "width"]

FILTERS = {"state": "state", "task": "task", "data": "data.dataset", "model": "model"}
NUMBERS = ("best", "epochs", "steps", "time")  # columns that are aligned at the right
OPTIONAL = ("steps", "task", "config")  # columns that a narrow terminal leaves out: what is left says enough
# Least characters of a column on a narrow terminal; those of the second line are only cut when the first are at theirs.
LEAST = (
    {"run": 14, "model": 8},
    {"run": 8, "data": 5, "model": 5, "best": 8},
)
TWO_ENDED = ("run", "model")  # names that differ at their ends: a time, ResNet18 and ResNet34


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Print the runs that fit the filters, and whose name holds one of the words, if there are words.

    Raises ConfigError for an unknown option, order or filter value.
    """
    if len(words) == 1 and not flags and (path := find_study(words[0])):
        show("\n".join(leaderboard(read_study(path))))
        return
    sure = any(flag.key == "yes" for flag in flags)
    options = options_of([flag for flag in flags if flag.key != "yes"], ("sort", "remove", *FILTERS))
    if state := options.pop("remove", ""):
        refuse_state(state)
        options["state"] = state
    orders = _orders()
    if (order := options.get("sort", "newest")) not in orders:
        raise ConfigError(f"--sort={shortened(order)}: no such order{suggest(order, orders)}")
    runs, damaged = _read_all()
    _check_filters(options, runs)
    found = sorted((one for one in runs if _fits(one, words, options)), key=orders[order])
    if state:
        remove_runs(found, sure)
    elif found:
        show("\n".join(_table(found)))
    elif runs:
        wanted = " ".join([*words, *(flag.typed for flag in flags if flag.key != "sort")])
        show(f"none of the {len(runs)} runs in {ROOT} fits {wanted}")
    else:
        show(f"no run in {ROOT} yet; python main.py train begins one")
    for reason in damaged:
        show(f"passed over {reason}")
    for study in _studies() if not flags else ():
        show(
            f"{study.name}: {study.command} of {count_of(len(study.children), 'run')}; python main.py runs {study.name}"
        )


def options_of(flags: Sequence[Flag], known: Sequence[str]) -> dict[str, str]:
    """Return the values of a command's flags.

    Raises ConfigError for a flag that it does not take, and for one without a value.
    """
    for flag in flags:
        if flag.key not in known:
            raise ConfigError(f"{shortened(flag.typed)}: no option '{flag.key}'{suggest(flag.key, known)}")
        if not flag.text or flag.typed == f"--{flag.key}":
            raise ConfigError(f"{flag.typed}: needs a value: --{flag.key}=…")
    return {flag.key: flag.text for flag in flags}


def _read_all() -> tuple[list[Run], list[str]]:
    """Return the runs, and the faults of the folders that hold no whole run."""
    runs, damaged = [], []
    try:
        folders = run_folders(ROOT)
    except OSError as error:
        raise CheckpointError(f"{ROOT}: cannot be read: {error.strerror or error}") from error
    for folder in folders:
        if is_study(folder):
            continue
        try:
            runs.append(read_run(folder, metrics_of))
        except CheckpointError as error:
            damaged.append(str(error))
    return runs, damaged


def _studies() -> list[Study]:
    """Return the studies in checkpoints/, without damaged ones."""
    found = []
    for folder in run_folders(ROOT):
        with suppress(CheckpointError):
            found += [read_study(folder)] if is_study(folder) else []
    return found


def _orders() -> dict[str, Callable[[Run], tuple]]:
    """Return the sort key of each order; of equal runs the newest goes first."""
    return {
        "newest": lambda one: (-one.last_seen,),
        "run": lambda one: (one.name,),
        "best": _by_best,
        "epochs": lambda one: (-one.epochs, -one.steps, -one.last_seen),
        "time": lambda one: (-one.seconds, -one.last_seen),
    }


def _by_best(one: Run) -> tuple:
    """Return the sort key for the best value: runs with the same metric are together, runs without one at the end."""
    if one.best is None or one.monitor is None:
        return True, "", 0.0, -one.last_seen
    smaller_is_better = metrics_of(one.names("task")[0]).get(one.monitor) == "min"
    return False, one.monitor, one.best if smaller_is_better else -one.best, -one.last_seen


def _check_filters(options: Mapping[str, str], runs: Sequence[Run]) -> None:
    for key, value in options.items():
        if key not in FILTERS:
            continue
        known = {name for one in runs for name in _names(one, key)} if key != "state" else set(STATES)
        if key in COMPONENTS and value not in known:
            known |= set(COMPONENTS[key].all_names())
        if value not in known and value.partition(":")[0] not in known:
            raise ConfigError(f"--{key}={shortened(value)}: no {key} of that name{suggest(value, known)}")


def _fits(one: Run, words: Sequence[str], options: Mapping[str, str]) -> bool:
    named = not words or any(word.casefold() in one.name.casefold() for word in words)
    return named and all(_has(_names(one, key), options[key]) for key in FILTERS if key in options)


def _has(names: Sequence[str], wanted: str) -> bool:
    """Return whether one of the names is the wanted one, or a variant of it."""
    return any(name == wanted or name.startswith(f"{wanted}:") for name in names)


def _names(one: Run, key: str) -> list[str]:
    return [one.state] if key == "state" else one.names(FILTERS[key])


def _table(runs: Sequence[Run]) -> list[str]:
    """Return lines that fit the terminal."""
    cells = list(map(_cells, runs))
    rows = [{name: head(name) for name in cells[0]}, *cells]
    if _room(_widths(rows)) < 0:
        rows = list(map(_joined, rows))
    for column in OPTIONAL:
        if _room(_widths(rows)) < 0:
            rows = [{name: cell for name, cell in row.items() if name != column} for row in rows]
    widths = _widths(rows)
    for least in LEAST:
        shrinking = [name for name in least if widths[name] > least[name]]
        while _room(widths) < 0 and shrinking:
            widths[max(shrinking, key=lambda name: widths[name] - least[name])] -= 1
            shrinking = [name for name in least if widths[name] > least[name]]
    return [GAP.join(_cell(name, row[name], widths[name]) for name in row).rstrip() for row in rows]


def _joined(row: Mapping[str, str]) -> dict[str, str]:
    """Return the row with metric and best as one column."""
    pair = row["best"] if row["metric"] == head("metric") else f"{row['metric']} {row['best']}".removeprefix("- ")
    return {name: pair if name == "best" else text for name, text in row.items() if name != "metric"}


def _cells(one: Run) -> dict[str, str]:
    most = one.setting("train.max_epoch")
    return {
        "run": one.name,
        "config": _config_of(one),
        "task": "+".join(one.names("task")),
        "data": "+".join(one.names("data.dataset")),
        "model": "+".join(one.names("model")),
        "metric": "-" if one.best is None else str(one.monitor),
        "best": "-" if one.best is None else format_number(one.best),
        "epochs": f"{one.epochs}/{most}" if isinstance(most, int) else str(one.epochs),
        "steps": str(one.steps),
        "time": _duration(one.seconds),
        "state": one.state,
    }


def _config_of(one: Run) -> str:
    """Return the config's name; for a run that repeats another run's config.yaml, that run's name."""
    path = PurePath(one.config_name or "-")
    return path.parent.name if path.name == "config.yaml" and path.parent.name else path.stem


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def _widths(rows: Sequence[Mapping[str, str]]) -> dict[str, int]:
    return {name: max(width(row[name]) for row in rows) for name in rows[0]}


def _room(widths: Mapping[str, int]) -> int:
    """Return the free characters in a line, negative if the widths are too large."""
    return columns() - sum(widths.values()) - len(GAP) * (len(widths) - 1)


def columns() -> int:
    """Return the characters in a line of the terminal; unlimited for a pipe, whose reader wants whole names."""
    return shutil.get_terminal_size((0, 0)).columns or sys.maxsize


def _cell(name: str, text: str, room: int) -> str:
    return padded(_shortened(text, room, name in TWO_ENDED), room, left=name not in NUMBERS)


def _shortened(text: str, room: int, keep_end: bool) -> str:
    """Return the text cut at the end, or in the middle to keep its end."""
    if width(text) <= room:
        return text
    middle = len(text) // 2 if keep_end else len(text)
    left, right = text[:middle], text[middle:]
    while width(left) + 1 + width(right) > room:
        left, right = (left[:-1], right) if len(left) > len(right) else (left, right[1:])
    return f"{left}…{right}"
