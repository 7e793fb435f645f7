"""The loss over the learning rate of a range test, as a PNG."""

from collections.abc import Sequence
from pathlib import Path

from utils.figures.curves import DPI, write_figure, write_heading

__all__ = ["draw_rates"]

SIZE = (7.0, 4.4)  # inches
ABOVE = 1.6  # times the first loss that is still shown


def draw_rates(points: Sequence[tuple[float, float, float]], suggestion: float, about: str, target: Path) -> None:
    """Draw (rate, loss, smoothed loss), with a line at the suggested rate.

    Raises StorageError when the picture cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(SIZE, dpi=DPI, layout="constrained")
    write_heading(figure, f"{about}: loss over the learning rate", SIZE[0])
    axes = figure.add_subplot()
    rates = [rate for rate, _, _ in points]
    smooth = [value for _, _, value in points]
    axes.plot(rates, [loss for _, loss, _ in points], ".", color="0.7", label="loss of a batch")
    axes.plot(rates, smooth, color="tab:blue", linewidth=1.6, label="smoothed")
    axes.axvline(suggestion, color="tab:red", linestyle="--", label=f"suggestion {suggestion:.2g}")
    axes.set_xscale("log")
    low, high = min(smooth), max(smooth[: max(1, len(smooth) // 10)])
    room = max(high - low, 1e-12) * (ABOVE - 1)
    axes.set_ylim(low - room, high + room)
    axes.set_xlabel("learning rate (logarithmic)")
    axes.set_ylabel("training loss")
    axes.grid(alpha=0.3)
    axes.legend()
    write_figure(figure, target)
