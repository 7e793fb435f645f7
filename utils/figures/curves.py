"""Draw a run: curves, a confusion matrix and grids of pictures, as PNG files."""

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.errors import CheckpointError
from utils.figures.fonts import fonts_for, printable
from utils.figures.palette import class_colours
from utils.files import write_atomic
from utils.runs.reading import read_curves, read_rows, read_run, without_copies

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "DPI",
    "HEAD",
    "PANEL",
    "axis_label",
    "draw_confusion",
    "draw_curves",
    "finish_panel",
    "write_figure",
    "write_heading",
]

DPI = 100
PANEL = (4.8, 3.4)  # inches
HEAD = 0.4  # inches, for a title above all panels
LETTERS = 10.5  # of a title of 12 points, in an inch
STEP = "step (batches)"
FRACTIONS = ("accuracy", "auc", "f1", "mean_iou", "top5")
UNITS = {**dict.fromkeys(FRACTIONS, "0 to 1"), "log_loss": "nats", "rmse": "unit of the target"}
# Distinct without colour too; the markers also show a phase that has a single point.
STYLES: dict[str, dict[str, Any]] = {
    "train": {"color": "tab:blue", "linestyle": "-", "marker": "o"},
    "val": {"color": "tab:orange", "linestyle": "--", "marker": "s"},
    "test": {"color": "tab:green", "linestyle": ":", "marker": "^"},
}
MAX_NUMBERED = 20  # up to this many classes, the cells hold their numbers
MAX_HORIZONTAL = 7  # characters of the longest name that is written horizontally


def draw_curves(journal: Path, target: Path) -> bool:
    """Draw a run's `log.jsonl` into a PNG: a panel for each metric over the steps, train and val together, rates last.

    Incomplete lines (a run may have died while writing) are skipped. Returns False, and writes nothing, if there is
    nothing to draw. Raises StorageError when the picture cannot be written.
    """
    panels = without_copies(read_curves(journal))[0]
    if not panels:
        return False
    from matplotlib.figure import Figure

    ious = {name.removeprefix("iou_"): panels.pop(name)["val"] for name in list(panels) if _is_class_iou(name, panels)}
    count = len(panels) + bool(ious)
    columns = min(3, count)
    rows = math.ceil(count / columns)
    figure = Figure((PANEL[0] * columns, PANEL[1] * rows + HEAD), dpi=DPI, layout="constrained")
    heading, (monitor, step) = _heading(journal)
    write_heading(figure, heading, PANEL[0] * columns)
    names = sorted(panels, key=lambda name: name.startswith("lr"))
    for number, name in enumerate(names, start=1):
        _draw_panel(figure.add_subplot(rows, columns, number), name, panels[name], step if name == monitor else None)
    if ious:
        _draw_ious(figure.add_subplot(rows, columns, count), ious)
    write_figure(figure, target)
    return True


def _is_class_iou(name: str, panels: Mapping[str, Mapping[str, Any]]) -> bool:
    return name.startswith("iou_") and "val" in panels[name]


def _draw_ious(axes: "Axes", ious: Mapping[str, Mapping[int, float]]) -> None:
    """Draw the IoU of each class over the steps, in the classes' colours; the worst are first in the legend."""
    last = {
        name: next((points[s] for s in sorted(points, reverse=True) if points[s] == points[s]), math.nan)
        for name, points in ious.items()
    }
    names, family = printable(list(ious))
    shown = dict(zip(ious, names, strict=True))
    for (name, points), colour in zip(ious.items(), class_colours(len(ious)), strict=True):
        steps = sorted(points)
        label = f"{shown[name]} {last[name]:.2f}"
        rgb = tuple(part / 255 for part in colour)
        axes.plot(steps, [points[step] for step in steps], label=label, marker="s", markersize=3, color=rgb)
    finish_panel(axes, "IoU (0 to 1)", max(step for points in ious.values() for step in points))
    axes.set_title("IoU of each class (val)")
    handles, labels = axes.get_legend_handles_labels()
    worst = sorted(range(len(labels)), key=lambda number: list(last.values())[number])[:MAX_NUMBERED]
    columns = 1 + (len(worst) > 8)
    legend = axes.legend([handles[k] for k in worst], [labels[k] for k in worst], fontsize=7, ncols=columns)
    for text in legend.get_texts():
        text.set_parse_math(False)
        text.set_fontfamily(family)


def _heading(journal: Path) -> tuple[str, tuple[str, int | None]]:
    """Return the title of a run's curves, and where its best value is: metric and step, None without one.

    A folder without a config, or with a damaged one, has its name only.
    """
    folder = journal.absolute().parent
    try:
        run = read_run(folder, lambda task: {})
    except CheckpointError:
        return f"run {folder.name}", ("", None)
    told = [folder.name, f"{'+'.join(run.names('model'))} on {'+'.join(run.names('data.dataset'))}"]
    rate = run.setting("optim.lr")
    told += [f"lr {rate:g}"] if isinstance(rate, int | float) else []
    for row in read_rows(journal, ("val",)):
        if run.best is not None and row.get(str(run.monitor)) == run.best:
            told.append(f"best {run.monitor} {run.best:.4f} at epoch {row['epoch'] + 1}")
            return " · ".join(told), (str(run.monitor), row["step"])
    return " · ".join(told), ("", None)


def write_heading(figure: "Figure", text: str, width: float = 100) -> None:
    """Write a title above all panels `width` inches wide, without the characters that no font here has."""
    text = textwrap.fill(text, max(20, int(width * LETTERS)))
    family, missing = fonts_for(text.replace("\n", ""))
    text = "".join("?" if sign in missing else sign for sign in text)
    figure.suptitle(text, family=family, fontsize=12).set_parse_math(False)


def _draw_panel(axes: "Axes", name: str, phases: Mapping[str, Mapping[int, float]], best: int | None) -> None:
    """Draw a metric's phases; a star is at the `best` step of validation, and a lone point has its value beside it."""
    for phase, style in STYLES.items():
        if phase in phases:
            steps = sorted(phases[phase])
            every = max(1, len(steps) // 12)  # a marker on each of many points would hide the line
            values = [phases[phase][step] for step in steps]
            axes.plot(steps, values, label=phase, markevery=every, markersize=4, linewidth=1.4, **style)
            if len(steps) == 1:
                place: dict[str, Any] = {
                    "textcoords": "offset points",
                    "xytext": (-8, 0),
                    "ha": "right",
                    "va": "center",
                }
                axes.annotate(f"{values[0]:.4g}", (steps[0], values[0]), fontsize=10, **place)
    if best is not None:
        star: dict[str, Any] = {"marker": "*", "markersize": 13, "color": "tab:red", "linestyle": "", "zorder": 5}
        axes.plot([best], [phases["val"][best]], label="best", **star)
    finish_panel(axes, name, max(step for points in phases.values() for step in points))
    title = name.replace("lr_", "learning rate of ") if name.startswith("lr_") else name
    axes.set_title("learning rate" if name == "lr" else title, parse_math=False)
    if len(phases) > 1 or best is not None:
        axes.legend()


def finish_panel(axes: "Axes", name: str, last: int) -> None:
    """Label the axes of a metric over the steps up to the `last` one.

    The axis of a learning rate starts at 0, so that a constant rate does not look like noise.
    """
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(STEP)
    axes.set_ylabel(axis_label(name), parse_math=False)
    axes.set_xlim(0, 1.03 * max(1, last))
    if name.startswith("lr"):
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.grid(alpha=0.3)


def axis_label(name: str) -> str:
    """Return a metric's name with its unit."""
    if name.startswith("lr"):
        return "learning rate"
    return f"{name} ({UNITS[name]})" if name in UNITS else name


def draw_confusion(matrix: Any, classes: Sequence[str], target: Path, title: str = "confusion matrix") -> None:
    """Draw a confusion matrix [C, C] of counts, rows = truth, into a PNG; the colour is the fraction of the row.

    The first class is at the top. Up to 20 classes, each cell holds its count and its rate. Raises ValueError when
    matrix and class names do not match, StorageError when the picture cannot be written.
    """
    from matplotlib.figure import Figure

    counts = np.asarray(matrix)
    if counts.shape != (len(classes), len(classes)) or not len(classes):
        raise ValueError(f"a confusion matrix of {len(classes)} classes cannot have the shape {list(counts.shape)}")
    totals = counts.sum(1, keepdims=True)
    rates = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    side = min(max(0.62 * len(classes), 2.2), 12.5)
    figure = Figure((side + 2.6, side + 1.8), dpi=DPI, layout="compressed")  # for square cells
    axes = figure.add_subplot()
    image = axes.imshow(rates, cmap="Blues", vmin=0, vmax=1)  # imshow puts the first row at the top
    figure.colorbar(image, ax=axes, label="share of the true class (0 to 1)", shrink=0.8, aspect=30, pad=0.02)
    _label(axes, classes)
    right = counts.trace() / max(counts.sum(), 1)
    axes.set_title(f"{title}\n{counts.sum():,} in all, {_percent(float(right))} right", fontsize=10)
    if len(classes) <= MAX_NUMBERED:
        _number_cells(axes, counts, rates)
    write_figure(figure, target)


def _label(axes: "Axes", classes: Sequence[str]) -> None:
    """Write the names at both axes, only some of them if there are very many."""
    names, family = printable(classes)
    places = list(range(0, len(names), math.ceil(len(names) / 60)))
    style: dict[str, Any] = {"fontsize": 9 if len(names) <= 40 else 7, "parse_math": False, "family": family}
    longest = max(sum(1 if sign.isascii() else 2 for sign in name) for name in names)
    upright = len(names) > MAX_NUMBERED or longest > MAX_HORIZONTAL
    axes.set_xticks(places, [names[place] for place in places], rotation=90 if upright else 0, **style)
    axes.set_yticks(places, [names[place] for place in places], **style)
    axes.set_xlabel("prediction (class)")
    axes.set_ylabel("truth (class)")


def _number_cells(axes: "Axes", counts: np.ndarray, rates: np.ndarray) -> None:
    edges = np.arange(len(counts) - 1) + 0.5  # thin lines, along which the eye finds row and column
    for draw in (axes.hlines, axes.vlines):
        draw(edges, -0.5, len(counts) - 0.5, colors="0.8", linewidth=0.5)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            rate = float(rates[row, column])
            colour = "white" if rate > 0.55 else "black"
            axes.text(column, row, f"{count}\n{_percent(rate)}", ha="center", va="center", fontsize=8, color=colour)


def _percent(rate: float) -> str:
    """Return a rounded percentage, in which a few mistakes are not 0 %, and almost all is not 100 %."""
    if 0 < rate < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= rate < 1 else f"{rate:.0%}"


def write_figure(figure: "Figure", target: Path) -> None:
    """Write a figure as PNG. Raises StorageError when it cannot be written."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomic(target, buffer.getvalue())
