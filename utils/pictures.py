"""How a run is drawn: curves and a confusion matrix as PNG files, and the same as windows of visdom."""

import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.files import put
from utils.runs import read_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "DPI",
    "PANEL",
    "draw_confusion",
    "draw_curves",
    "picture_grid",
    "printable",
    "visdom_curves",
    "visdom_matrix",
    "write_figure",
]

DPI = 100
PANEL = (4.8, 3.4)  # inches
# Told apart without colour too; the markers also show a phase that has a single point.
STYLES: dict[str, dict[str, Any]] = {
    "train": {"color": "tab:blue", "linestyle": "-", "marker": "o"},
    "val": {"color": "tab:orange", "linestyle": "--", "marker": "s"},
    "test": {"color": "tab:green", "linestyle": ":", "marker": "^"},
}
NUMBERED = 20  # classes, at most, whose cells hold their numbers
LONGEST = 18  # characters of a class name
CJK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti TC",
    "Arial Unicode MS",
)
MARKED = 50  # points, at most, of a visdom trace with markers: a line through one point would not be seen


def draw_curves(journal: Path, target: Path) -> bool:
    """Draw a run's `log.jsonl` into a PNG: a panel a metric over the steps, train and val together, `lr` last.

    Lines that are not whole (a run may have died while writing) are passed over. Gives False, and writes nothing, where
    there is nothing to draw. Raises StorageError where the picture cannot be written.
    """
    panels = read_curves(journal)
    if not panels:
        return False
    from matplotlib.figure import Figure

    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure((PANEL[0] * columns, PANEL[1] * rows), dpi=DPI, layout="constrained")
    names = sorted(panels, key=lambda name: name == "lr")
    for number, name in enumerate(names, start=1):
        _draw_panel(figure.add_subplot(rows, columns, number), name, panels[name])
    write_figure(figure, target)
    return True


def _draw_panel(axes: "Axes", name: str, phases: Mapping[str, Mapping[int, float]]) -> None:
    from matplotlib.ticker import MaxNLocator

    for phase, style in STYLES.items():
        if phase in phases:
            steps = sorted(phases[phase])
            every = max(1, len(steps) // 12)  # a marker on each of many points would hide the line
            values = [phases[phase][step] for step in steps]
            axes.plot(steps, values, label=phase, markevery=every, markersize=4, linewidth=1.4, **style)
    axes.set_title("learning rate" if name == "lr" else name, parse_math=False)
    axes.set_xlabel("step")
    axes.set_ylabel(name, parse_math=False)
    axes.set_xlim(0, 1.03 * max(1, *(step for points in phases.values() for step in points)))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.grid(alpha=0.3)
    axes.legend()


def draw_confusion(matrix: Any, classes: Sequence[str], target: Path) -> None:
    """Draw a confusion matrix [C, C] of counts, rows = truth, into a PNG: the colour is the share of the row.

    The first class is at the top. Up to 20 classes, each cell holds its count and its share. Raises ValueError where
    matrix and class names do not go together, StorageError where the picture cannot be written.
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
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8, aspect=30, pad=0.02)
    _label(axes, classes)
    if len(classes) <= NUMBERED:
        _number_cells(axes, counts, rates)
    write_figure(figure, target)


def _label(axes: "Axes", classes: Sequence[str]) -> None:
    """Names at both axes, thinned out where there are very many."""
    names, family = printable(classes)
    places = list(range(0, len(names), math.ceil(len(names) / 60)))
    style: dict[str, Any] = {"fontsize": 9 if len(names) <= 40 else 7, "parse_math": False, "family": family}
    axes.set_xticks(places, [names[place] for place in places], rotation=90 if len(names) > 3 else 0, **style)
    axes.set_yticks(places, [names[place] for place in places], **style)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    axes.set_title("confusion matrix")


def _number_cells(axes: "Axes", counts: np.ndarray, rates: np.ndarray) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if count:
            rate = float(rates[row, column])
            colour = "white" if rate > 0.55 else "black"
            axes.text(column, row, f"{count}\n{_percent(rate)}", ha="center", va="center", fontsize=8, color=colour)


def _percent(rate: float) -> str:
    """Rounded, but a few mistakes are not none, nor almost all all."""
    if 0 < rate < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= rate < 1 else f"{rate:.0%}"


def printable(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names cut to a length, and fonts that have them; a name that no font here can show becomes its number."""
    from matplotlib.font_manager import findfont, fontManager, get_font

    family = ["DejaVu Sans"]
    known = set(get_font(findfont("DejaVu Sans")).get_charmap())
    if not set(map(ord, "".join(names))) <= known:
        installed = {entry.name: entry.fname for entry in fontManager.ttflist if entry.name in CJK_FONTS}
        for font in [font for font in CJK_FONTS if font in installed][:1]:
            family.append(font)
            known |= set(get_font(installed[font]).get_charmap())
    short = [name if len(name) <= LONGEST else name[: LONGEST - 1] + "…" for name in names]
    return [name if set(map(ord, name)) <= known else f"#{number}" for number, name in enumerate(short)], family


def write_figure(figure: "Figure", target: Path) -> None:
    """Write a figure as PNG. Raises StorageError when it cannot be written."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    put(target, buffer.getvalue())


def picture_grid(pictures: np.ndarray, columns: int = 8, gap: int = 2) -> np.ndarray:
    """Pictures [N, C, H, W] or one [C, H, W], uint8 or floats in [0, 1], C = 1 or 3, as uint8 [3, H', W'] on white."""
    if pictures.ndim == 3:
        return picture_grid(pictures[None], columns, gap=0)
    if pictures.ndim != 4 or pictures.shape[1] not in (1, 3) or not pictures.size:
        raise ValueError(f"pictures must be [N, C, H, W] with 1 or 3 channels, not {list(pictures.shape)}")
    if not np.issubdtype(pictures.dtype, np.integer):
        pictures = (np.nan_to_num(pictures.astype(np.float32)).clip(0, 1) * 255).round()
    count, _, height, width = pictures.shape
    columns = min(columns, count)
    shape = 3, math.ceil(count / columns) * (height + gap) - gap, columns * (width + gap) - gap
    grid = np.full(shape, 255, dtype=np.uint8)
    for number, picture in enumerate(pictures.clip(0, 255).astype(np.uint8)):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        grid[:, top : top + height, left : left + width] = picture
    return grid


def visdom_curves(traces: Mapping[str, tuple[Iterable[float], Iterable[float]]]) -> dict[str, Any]:
    """A message that fills a visdom window with curves {name: (x, y)}; what is not finite is a gap."""
    data = []
    for name, (x, y) in traces.items():
        xs, ys = _finite(x), _finite(y)
        mode = "lines+markers" if len(xs) <= MARKED else "lines"
        data.append({"name": html.escape(name), "x": xs, "y": ys, "type": "scatter", "mode": mode})
    return {"data": data, "layout": {"showlegend": True}}


def visdom_matrix(matrix: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """A message that fills a visdom window with a confusion matrix [C, C], rows = truth, the first at the top."""
    if matrix.shape != (len(labels), len(labels)):
        raise ValueError(f"a matrix of shape {list(matrix.shape)} does not go with {len(labels)} labels")
    names = [html.escape(str(label)) for label in labels]
    cells = [_finite(row) for row in matrix.tolist()]
    layout = {
        "xaxis": {"title": "prediction", "type": "category"},
        "yaxis": {"title": "truth", "type": "category", "autorange": "reversed"},  # plotly draws upwards
    }
    return {"data": [{"type": "heatmap", "x": names, "y": names, "z": cells, "colorscale": "Blues"}], "layout": layout}


def _finite(values: Iterable[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
