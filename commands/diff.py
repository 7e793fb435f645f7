"""diff: print the keys in which two runs or configs differ, and the metrics of the runs.

python main.py diff RUN RUN

RUN is a run folder, its name in checkpoints/, or a YAML file.
Keys that are the same in both are left out.
"""

import itertools
import math
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from commands.runs import columns, format_number, metrics_of, options_of, width
from configs import load
from utils.config.cli import Flag
from utils.config.convert import to_plain
from utils.config.yaml_text import dump_line
from utils.errors import ConfigError
from utils.runs.folder import ROOT
from utils.runs.reading import (
    Curves,
    best_value,
    component_names,
    find_run,
    read_config,
    read_curves,
    run_labels,
    without_copies,
)
from utils.terminal import head, in_language, padded, show

__all__ = ["run"]

NONE = "-"  # in place of a key or a metric that only the other side has
GAP = "  "
PHASES = ("val", "test", "train")  # in the order of the list

Rows = dict[str, tuple[str, str]]  # the two texts beside a key or a metric


class Side(NamedTuple):
    """One of the two: its config's values by dotted key as printed, its curves, and the directions of its metrics."""

    keys: dict[str, str]
    curves: Curves
    better: Mapping[str, str]


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Print the differences of two run folders or YAML files.

    Raises ConfigError unless there are two of them, CheckpointError for one that is missing or damaged.
    """
    options_of(flags, ())
    if len(words) != 2:
        got = f", got {', '.join(words)}" if words else ""
        raise ConfigError(f"diff takes two runs{got}; e.g. python main.py diff checkpoints/ONE checkpoints/OTHER")
    paths = [Path(word) if _is_yaml(word) else find_run(word, ROOT) for word in words]
    left, right = (_read(path) for path in paths)
    labels = run_labels(paths)
    keys = _differing(left.keys, right.keys)
    curves = without_copies(left.curves, right.curves)
    one, other = (_measured(c, side.better) for c, side in zip(curves, (left, right), strict=True))
    names = sorted(one | other, key=lambda name: PHASES.index(name.partition(" ")[0]))
    metrics = {name: (one.get(name, NONE), other.get(name, NONE)) for name in names}
    if not keys:
        show(f"{' and '.join(labels)} have the same config")
    if keys or metrics:
        show("\n".join(_table(labels, [rows for rows in (keys, metrics) if rows])))


def _is_yaml(word: str) -> bool:
    return word.endswith((".yaml", ".yml")) and os.path.isfile(word)


def _read(path: Path) -> Side:
    if path.is_file():
        return Side(dict(_flat(to_plain(load(str(path))))), {}, {})
    config = read_config(path)
    better = metrics_of(component_names(config["task"])[0])
    return Side(dict(_flat(config)), read_curves(path / "log.jsonl"), better)


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted keys and values as YAML text, without null.

    An item of a list has the key `train[0].size`; a list of numbers stays whole.
    """
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _flat(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and not all(isinstance(item, int | float) for item in value):
        for number, item in enumerate(value):
            yield from _flat(item, f"{key}[{number}]")
    elif value not in (None, []):
        yield key, dump_line(value)


def _measured(curves: Curves, better: Mapping[str, str]) -> dict[str, str]:
    """Return the best and the last value of each metric; only the last if better is neither min nor max."""
    found: dict[str, str] = {}
    for phase in PHASES:
        for name in dict.fromkeys([*better, *curves]):
            values = curves.get(name, {}).get(phase, {})
            points = {step: value for step, value in values.items() if math.isfinite(value)}
            if not points or name.startswith("lr"):
                continue
            best = best_value(points.values(), "min" if name == "loss" else better.get(name))
            if best is not None:
                found[head(f"{phase} {name}, best")] = _at(next(step for step in points if points[step] == best), best)
            found[head(f"{phase} {name}, last")] = _at(max(points), points[max(points)])
    return found


def _at(step: int, value: float) -> str:
    return in_language(f"{format_number(value)} at step {step}")


def _differing(left: dict[str, str], right: dict[str, str]) -> Rows:
    """Return the keys that differ, section by section; a component without arguments is written as its name alone."""
    left = {f"{key}.name" if f"{key}.name" in right else key: text for key, text in left.items()}
    right = {f"{key}.name" if f"{key}.name" in left else key: text for key, text in right.items()}
    sections = list(dict.fromkeys(key.partition(".")[0] for key in [*left, *right]))
    keys = sorted(left | right, key=lambda key: sections.index(key.partition(".")[0]))
    return {key: (left.get(key, NONE), right.get(key, NONE)) for key in keys if left.get(key) != right.get(key)}


def _table(labels: Sequence[str], parts: Sequence[Rows]) -> list[str]:
    """Return a table of three columns. Long texts are wrapped, because the difference may be at their end."""
    rows = [("", *labels), *((key, *texts) for part in parts for key, texts in part.items())]
    key, left, right = (max(map(width, column)) for column in zip(*rows, strict=True))
    room = max(columns() - key - 2 * len(GAP), 20)
    left = min(left, max(room // 2, room - right))
    widths = key, left, min(right, room - left)
    lines = _wrapped(rows[0], widths)
    for part in parts:
        lines += ["", *(line for name, texts in part.items() for line in _wrapped((name, *texts), widths))]
    return lines


def _wrapped(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    cells = []
    for text, most in zip(row, widths, strict=True):
        signs = most if text.isascii() else most // 2  # a Chinese character takes two places
        fits = width(text) <= most
        cells.append([text] if fits else textwrap.wrap(text, signs, break_on_hyphens=False))
    lines = itertools.zip_longest(*cells, fillvalue="")
    return [GAP.join(map(partial(padded, left=True), line, widths)).rstrip() for line in lines]
