"""The leaderboard of a study: its children, the best first, and mean ± spread over seeds and folds."""

from collections.abc import Mapping, Sequence

from commands._cells import GAP, format_number, metrics_of, width
from utils.runs.folder import RunFolder
from utils.runs.study import Child, Group, Study
from utils.terminal import head, in_language, padded
from utils.words import count_of

__all__ = ["APART", "leaderboard", "ordered"]

APART = ("seed", "train.seed", "data.fold", "fold")  # keys whose values are no setting: they are averaged over


def leaderboard(study: Study) -> list[str]:
    """Return the lines: a row for each child, then one for each setting that several seeds or folds have."""
    metric = study.monitor() or "best"
    rows = [_row(study, child, metric) for child in ordered(study, study.children)]
    lines = _aligned(rows) if rows else ["no child yet"]
    groups = study.groups(APART)
    if any(len(group.children) > 1 for group in groups):
        lines += ["", *_aligned([_mean(study, group, metric) for group in _by_mean(study, groups)])]
    return lines


def ordered(study: Study, children: Sequence[Child]) -> list[Child]:
    """Return children with the best value first, and those without one at the end."""
    return sorted(children, key=lambda child: _rank(study, study.best(child)))


def _by_mean(study: Study, groups: Sequence[Group]) -> list[Group]:
    spreads = {id(group): study.spread(group) for group in groups}
    return sorted(groups, key=lambda group: _rank(study, (spreads[id(group)] or [None])[0]))


def _rank(study: Study, value: float | None) -> tuple[bool, float]:
    smaller = metrics_of(study.task).get(study.monitor()) == "min"
    return value is None, 0.0 if value is None else value if smaller else -value


def _row(study: Study, child: Child, metric: str) -> dict[str, str]:
    value, status = study.best(child), RunFolder(study.folder(child)).status()
    return {
        "run": child.name,
        **child.keys,
        metric: "-" if value is None else format_number(value),
        "epochs": str(status.get("epoch", 0)),
        "state": study.state(child) + (f" (exit code {child.code})" if child.code and child.code < 129 else ""),
    }


def _mean(study: Study, group: Group, metric: str) -> dict[str, str]:
    """Return the row of a setting; its spread is the standard deviation over seeds and folds."""
    found = study.spread(group)
    told = f"{format_number(found[0])} ± {format_number(found[1])}" if found else "-"
    return {**group.keys, f"mean {metric}": told, "of": in_language(count_of(found[2] if found else 0, "run"))}


def _aligned(rows: Sequence[Mapping[str, str]]) -> list[str]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = [{name: head(name) for name in names}, *rows]
    widths = {name: max(width(row.get(name, "-")) for row in table) for name in names}
    return [GAP.join(padded(row.get(name, "-"), widths[name], left=True) for name in names).rstrip() for row in table]
