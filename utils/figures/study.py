"""The score of a study's runs over each of its changed keys, in one picture."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.figures.curves import DPI, PANEL, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_study"]

COLOUR = "#0072b2"
WIDE = 10  # highest over lowest value from which an axis is logarithmic
MANY = 6  # different numbers; more of them get the axis's own marks
LONGEST = 14  # characters of a value at the axis


def draw_study(name: str, metric: str, scores: Sequence[tuple[Mapping[str, str], float]], target: Path) -> None:
    """Draw a panel for each key: a point for each run, and a line through the means of its values.

    `scores` are the changed keys of each run, and its score. Raises StorageError when the picture cannot be written.
    """
    from matplotlib.figure import Figure

    keys = list(scores[0][0]) or ["run"]
    columns = min(3, len(keys))
    rows = math.ceil(len(keys) / columns)
    figure = Figure((PANEL[0] * columns, PANEL[1] * rows + 0.4), dpi=DPI, layout="constrained")
    figure.suptitle(f"{name}: {metric} of {len(scores)} runs", parse_math=False)
    for number, key in enumerate(keys, start=1):
        axes = figure.add_subplot(rows, columns, number)
        _draw_key(axes, [(values.get(key, "-"), score) for values, score in scores])
        axes.set_xlabel(key, parse_math=False)
        axes.set_ylabel(metric, parse_math=False)
        axes.grid(alpha=0.3)
    write_figure(figure, target)


def _draw_key(axes: "Axes", points: Sequence[tuple[str, float]]) -> None:
    """Draw the scores over the values of a key: numbers at their places, other values side by side."""
    texts = list(dict.fromkeys(text for text, _ in points))
    numbers = {text: number for text in texts if (number := _number(text)) is not None}
    places = numbers if len(numbers) == len(texts) else {text: float(i) for i, text in enumerate(texts)}
    axes.plot([places[text] for text, _ in points], [score for _, score in points], "o", color=COLOUR, alpha=0.6)
    means = {text: [score for one, score in points if one == text] for text in texts}
    order = sorted(texts, key=places.__getitem__)
    if len(texts) < len(points):
        axes.plot(
            [places[text] for text in order], [sum(means[text]) / len(means[text]) for text in order], color=COLOUR
        )
    if places is numbers and min(numbers.values()) > 0 and max(numbers.values()) / min(numbers.values()) >= WIDE:
        axes.set_xscale("log")
        axes.minorticks_off()
    if places is not numbers or len(texts) <= MANY:
        axes.set_xticks(list(places.values()), [text[:LONGEST] for text in places], parse_math=False)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
