"""Curves of several runs in one picture: a panel for each metric, a line for each run."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.figures.curves import DPI, PANEL, finish_panel, write_figure
from utils.figures.fonts import fonts_for
from utils.runs.reading import Curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_comparison"]

# Dashes and markers distinguish runs without colour. Their numbers have no common divisor: 28 runs before two look
# alike.
DASHES = ("-", "--", ":", "-.")
MARKERS = "os^DvPX"
COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#e69f00", "#cc79a7", "#56b4e9")  # Okabe and Ito, 2008
MAX_POINTS = 60  # points of a line
MAX_MARKS = 8  # markers on a line with many points; more of them would hide it
MAX_NAME = 32  # characters of a run's name
STEEP_RATIO = 100  # a value this many times the median would flatten all others

Lines = dict[str, dict[int, float]]  # run: step: value


def draw_comparison(runs: Mapping[str, Curves], target: Path) -> list[str]:
    """Draw runs by name into a PNG: a panel for each metric of the validation, the train loss and the learning rate.

    Returns the names in the legend: a name that no font here can show becomes its number. Raises StorageError when the
    picture cannot be written.
    """
    from matplotlib.figure import Figure

    panels = _panels(runs)
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    labels, family = _labels(list(runs))
    beside = max(1, int(PANEL[0] * columns / (0.7 + 0.085 * max(map(len, labels)))))  # names in a row of the legend
    height = PANEL[1] * rows + 0.4 + 0.23 * math.ceil(len(labels) / beside)
    figure = Figure((PANEL[0] * columns, height), dpi=DPI, layout="constrained")
    figure.suptitle(f"comparison of {len(runs)} runs")
    for number, (title, lines) in enumerate(panels.items(), start=1):
        _draw_panel(figure.add_subplot(rows, columns, number), title, [lines.get(run, {}) for run in runs])
    _add_legend(figure, labels, family, beside)
    write_figure(figure, target)
    return labels


def _panels(runs: Mapping[str, Curves]) -> dict[str, Lines]:
    """Return the lines by title: validation metrics, then train losses and metrics without validation, then rates."""
    found: dict[str, Lines] = {}
    names = list(dict.fromkeys(name for curves in runs.values() for name in curves))
    measured = {name for curves in runs.values() for name, phases in curves.items() if "val" in phases}
    for phase in ("val", "train"):
        for name in names:
            lines = {run: curves[name][phase] for run, curves in runs.items() if phase in curves.get(name, {})}
            if lines and (phase == "val" or name == "loss" or name not in measured):
                found[f"{phase} {name}"] = lines
    return dict(sorted(found.items(), key=lambda item: item[0].startswith("train lr")))


def _style(number: int) -> dict[str, Any]:
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": DASHES[number % len(DASHES)],
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 4.5,
    }


def _draw_panel(axes: "Axes", title: str, lines: Sequence[Mapping[int, float]]) -> None:
    name = title.partition(" ")[2]
    is_rate = name.startswith("lr")
    drawn = [dict(sorted(points.items())) if is_rate else _smoothed(points) for points in lines]
    for number, points in enumerate(drawn):
        every = max(1, len(points) // MAX_MARKS)
        start = every * number // len(lines)  # so that markers of similar runs are beside one another
        width = 2.2 - 1.2 * number / len(lines)  # so that a run below another one is still seen
        axes.plot(list(points), list(points.values()), markevery=(start, every), linewidth=width, **_style(number))
    if _is_steep([value for points in drawn for value in points.values()]) and not is_rate:
        axes.set_yscale("log")
    axes.set_title(_title(title, list(map(len, drawn)) != list(map(len, lines))), parse_math=False)
    finish_panel(axes, name, max(step for points in lines for step in points))


def _title(title: str, smoothed: bool) -> str:
    title = title.replace("train lr_", "learning rate of ").replace("train lr", "learning rate")
    return f"{title}, smoothed" if smoothed else title


def _smoothed(points: Mapping[int, float]) -> dict[int, float]:
    """Sort by steps, and average neighbours if there are many points: noise hides dashes.

    Each mean is at its last step.
    """
    steps = sorted(points)
    size = math.ceil(len(steps) / MAX_POINTS) if len(steps) > 2 * MAX_POINTS else 1
    groups = [steps[start : start + size] for start in range(0, len(steps), size)]
    finite = {group[-1]: [points[step] for step in group if math.isfinite(points[step])] for group in groups}
    return {step: statistics.fmean(values) if values else math.nan for step, values in finite.items()}


def _is_steep(values: Sequence[float]) -> bool:
    """Return whether a few values are so large that the others need a logarithmic axis."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > STEEP_RATIO * statistics.median(finite)


def _add_legend(figure: "Figure", labels: Sequence[str], family: Sequence[str], beside: int) -> None:
    """Add the names below the panels, where they cover no curve."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linewidth=1.4, **_style(number)) for number in range(len(labels))]
    place: dict[str, Any] = {"loc": "outside lower center", "ncols": min(beside, len(labels))}
    legend = figure.legend(handles, labels, prop={"family": list(family), "size": 9}, handlelength=4, **place)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _labels(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names, long ones cut in the middle, and the fonts for them; without a font a name is its number."""
    short = [
        name if len(name) <= MAX_NAME else f"{name[: MAX_NAME // 2]}…{name[1 - MAX_NAME // 2 :]}" for name in names
    ]
    family, missing = fonts_for("".join(short))
    return [f"#{number}" if missing & set(name) else name for number, name in enumerate(short, 1)], family
