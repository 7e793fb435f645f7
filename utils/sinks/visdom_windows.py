"""The content of visdom's windows (curves, a text, pictures, a matrix), and the messages that show it."""

import html
import math
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from utils.figures.grid import picture_grid

__all__ = ["MAX_POINTS", "Curves", "Lines", "Matrix", "Pane", "Pictures", "Spread", "Windows", "downsample"]

MAX_POINTS = 2000  # points of a trace, at most, that are sent
MAX_MARKED = 50  # points of a trace, at most, that get markers: a line through one point would be invisible
MAX_LINES = 500  # of a text window
COLOURS = {"train": "#1f77b4", "val": "#ff7f0e", "test": "#2ca02c"}  # the same in every window, and as in curves.png
SIZE = {"width": 400, "height": 310}  # pixels of a window: three beside each other on a common screen
MARGIN = {"l": 58, "r": 14, "t": 42, "b": 50}
BUTTONS = ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"]  # plotly's, which would cover the title
BLUES = [[0, "#f4f8fc"], [0.5, "#6baed6"], [1, "#08306b"]]
BINS = 40

Send = Callable[[Any], object]  # fills a window through the visdom client


class Windows:
    """The windows of one environment by name, and the names of those that changed since `take_changed`."""

    def __init__(self) -> None:
        self._panes: dict[str, Any] = {}
        self._changed: dict[str, None] = {}  # a set that keeps its order

    def _pane(self, window: str, kind: type) -> Any:
        """Return the content of a window; a new one if it is of another kind."""
        self._changed[window] = None
        if not isinstance(self._panes.get(window), kind):
            self._panes[window] = kind(window)
        return self._panes[window]

    def curves(self, window: str) -> "Curves":
        """Return a window of curves, and count it as changed."""
        return self._pane(window, Curves)

    def lines(self, window: str) -> "Lines":
        """Return a window of text, and count it as changed."""
        return self._pane(window, Lines)

    def put(self, pane: "Pane") -> None:
        """Replace a window's content."""
        self._panes[pane.window] = pane
        self._changed[pane.window] = None

    def change_all(self) -> None:
        """Count every window as changed."""
        self._changed = dict.fromkeys(self._panes)

    def take_changed(self) -> list[tuple[str, Send]]:
        """Return the names of the changed windows, each with a function that fills it; they then count as unchanged."""
        changed, self._changed = self._changed, {}
        return [(window, self._panes[window].send) for window in changed]


class Pane:
    """The content of a window."""

    def __init__(self, window: str) -> None:
        self.window, self.title = window, html.escape(window)

    def _plot(self, client: Any, data: Sequence[Mapping[str, Any]], layout: Mapping[str, Any]) -> None:
        title = {"text": self.title, "font": {"size": 15}, "x": 0.02, "xanchor": "left", "y": 0.97, "yanchor": "top"}
        layout = {"title": title, "margin": MARGIN, "modebar": {"remove": BUTTONS}, **layout}
        options = {"title": self.title, **SIZE}
        client._send({"win": self.window, "eid": client.env, "data": data, "layout": layout, "opts": options})


class Curves(Pane):
    """Traces over the steps."""

    def __init__(self, window: str) -> None:
        super().__init__(window)
        self.traces: dict[str, tuple[array, array]] = {}

    def add(self, trace: str, x: float | None, y: float) -> None:
        """Add a point to one trace; without x the points are counted. A value that is not finite makes a gap."""
        xs, ys = self.traces.setdefault(trace, (array("d"), array("d")))
        xs.append(len(xs) if x is None else x)
        ys.append(y)

    def send(self, client: Any) -> None:
        data, seen = [], set[float]()
        for name, (xs, ys) in self.traces.items():
            x, y = (_finite(values) for values in downsample(np.asarray(xs), np.asarray(ys)))
            line = {"width": 1.6} | ({"color": COLOURS[name]} if name in COLOURS else {})
            mode = "lines+markers" if len(x) <= MAX_MARKED else "lines"
            trace = {"name": html.escape(name), "x": x, "y": y, "type": "scatter", "mode": mode}
            data.append(trace | {"line": line, "marker": {"size": 5}})
            seen |= {value for value in y if value is not None}
        legend = {"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"}
        many = len(self.traces) > 1 or next(iter(self.traces)) != self.window
        axes: dict[str, Any] = {"xaxis": {"title": _label("step"), "rangemode": "tozero"}}
        if len(seen) == 1:  # plotly would show it between -1 and 1, where 0.001 looks like 0
            value = seen.pop()
            axes["yaxis"] = {"range": [min(0, 2 * value), max(0, 2 * value) or 1]}
        self._plot(client, data, {"showlegend": many, "legend": legend, **axes})


class Lines(Pane):
    """A text, of which the newest lines are kept."""

    def __init__(self, window: str) -> None:
        super().__init__(window)
        self.lines: deque[str] = deque(maxlen=MAX_LINES)

    def add(self, line: str) -> None:
        self.lines.append(line)

    def send(self, client: Any) -> None:
        text = "<br>".join(html.escape(line).replace("\n", "<br>") for line in self.lines)
        client.text(text, win=self.window, opts={"title": self.title, **SIZE})


class Pictures(Pane):
    """A picture, or a grid of them."""

    def __init__(self, window: str, array: np.ndarray) -> None:
        """Store the pictures: [C, H, W] or [N, C, H, W], uint8 or floats in [0, 1].

        Raises ValueError for another shape.
        """
        super().__init__(window)
        self.grid = picture_grid(array)  # uint8 [3, H, W]

    def send(self, client: Any) -> None:
        height, width = self.grid.shape[1:]
        columns = 2 if width > 1.5 * SIZE["width"] else 1  # a large picture may hold words
        scale = min((columns * (SIZE["width"] + 10) - 10) / width, 2 * SIZE["height"] / height)
        size = {"width": max(160, int(width * scale)), "height": max(80, int(height * scale)) + 30}
        client.image(self.grid, win=self.window, opts={"title": self.title, **size})


class Matrix(Pane):
    """A confusion matrix: rows are the truth, the first class is at the top."""

    def __init__(self, window: str, matrix: np.ndarray, labels: Sequence[str]) -> None:
        """Store the counts [C, C]. Raises ValueError if there are not C labels."""
        super().__init__(window)
        if matrix.shape != (len(labels), len(labels)):
            raise ValueError(f"a matrix of shape {list(matrix.shape)} does not go with {len(labels)} labels")
        self.cells, self.labels = matrix, [html.escape(str(label)) for label in labels]

    def send(self, client: Any) -> None:
        cells = [_finite(row) for row in self.cells.tolist()]
        layout = {
            "xaxis": {"title": _label("prediction"), "type": "category", "automargin": True},
            # plotly draws upwards
            "yaxis": {"title": _label("truth"), "type": "category", "autorange": "reversed", "automargin": True},
        }
        names = self.labels
        numbered = len(names) <= 12
        style = {"colorscale": BLUES, "showscale": not numbered, "hovertemplate": "truth %{y}, prediction %{x}: %{z}"}
        data = {"type": "heatmap", "x": names, "y": names, "z": cells, "name": "", **style}
        if numbered:
            layout["annotations"] = _numbers(cells, names)  # type: ignore[assignment]
        self._plot(client, [data], layout)


class Spread(Pane):
    """The histograms of several tensors below each other: a row for each; the colour is the fraction of its values."""

    def __init__(self, window: str, values: Mapping[str, np.ndarray], logarithmic: bool) -> None:
        """Compute the histograms; `logarithmic`: of log10 of the absolute values, without zeros."""
        super().__init__(window)
        finite = {name: array[np.isfinite(array)] for name, array in values.items()}
        if logarithmic:
            finite = {name: np.log10(np.abs(array[array != 0])) for name, array in finite.items()}
        whole = np.concatenate([np.zeros(0), *finite.values()])
        low, high = np.percentile(whole, [0.1, 99.9]) if whole.size else (0.0, 1.0)
        edges = np.linspace(low, max(high, low + 1e-12), BINS + 1)
        shares = [np.histogram(array.clip(low, high), edges)[0] / max(1, array.size) for array in finite.values()]
        self.unit = "log10 of the size" if logarithmic else "value"
        self.names, self.cells, self.middles = list(finite), shares, (edges[1:] + edges[:-1]) / 2

    def send(self, client: Any) -> None:
        names = [html.escape(name) for name in self.names]
        layout = {
            "xaxis": {"title": _label(self.unit)},
            "yaxis": {"type": "category", "autorange": "reversed", "automargin": True},
        }
        cells, x = [_finite(row) for row in self.cells], _finite(self.middles)
        style = {"colorscale": BLUES, "hovertemplate": "%{y} at %{x:.3g}: %{z:.1%}"}
        self._plot(client, [{"type": "heatmap", "x": x, "y": names, "z": cells, "name": "", **style}], layout)


def downsample(x: np.ndarray, y: np.ndarray, limit: int = MAX_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Return a trace of at most `limit` points: its ends, and the least and largest of each stretch, to keep spikes.

    In a long trace, values that are not finite make a gap only if they fill a whole stretch.
    """
    if len(x) <= limit:
        return x, y
    size = math.ceil((len(x) - 2) / (limit // 2 - 1))
    inner = np.full(size * math.ceil((len(y) - 2) / size), np.nan)
    inner[: len(y) - 2] = y[1:-1]
    stretches = np.where(np.isfinite(inner), inner, np.nan).reshape(-1, size)
    lowest = np.where(np.isnan(stretches), np.inf, stretches).argmin(1)
    highest = np.where(np.isnan(stretches), -np.inf, stretches).argmax(1)
    starts = 1 + size * np.arange(len(stretches))
    kept = np.unique(np.concatenate([[0, len(x) - 1], starts + lowest, starts + highest]))
    return x[kept], y[kept]


def _label(text: str) -> dict[str, Any]:
    """Return an axis's title, placed close to the axis."""
    return {"text": text, "standoff": 6, "font": {"size": 12}}


def _numbers(cells: Sequence[Sequence[float | None]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the counts as texts on the cells, white on the dark ones."""
    top = max((cell or 0 for row in cells for cell in row), default=0)
    return [
        {
            "x": names[column],
            "y": names[row],
            "text": f"{cell:g}",
            "showarrow": False,
            "font": {"size": 10, "color": "white" if cell > 0.55 * top else "#444"},
        }
        for row, line in enumerate(cells)
        for column, cell in enumerate(line)
        if cell
    ]


def _finite(values: Iterable[float]) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]
