"""Numbers and columns of the tables that commands print, and which way a metric is better."""

import unicodedata
from collections.abc import Mapping

from configs import COMPONENTS, directions

__all__ = ["GAP", "format_number", "metrics_of", "width"]

GAP = "  "


def metrics_of(task: str) -> Mapping[str, str]:
    """Return the metrics of a task, each with "min" or "max", whichever is better, and those of task.metrics_too."""
    return {**directions(), **(COMPONENTS["task"].literal(task, "metrics") or {})}


def format_number(value: float) -> str:
    """Return a number in a form that is easy to read: 0.9888, 173.3, 3.2e-05."""
    if value == 0 or 1e-3 <= abs(value) < 100:
        return f"{value:.4f}"
    return f"{value:.1f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"


def width(text: str) -> int:
    """Return the places that a text takes on a terminal: a Chinese character takes two."""
    return sum(1 + (unicodedata.east_asian_width(sign) in "WF") for sign in text)
