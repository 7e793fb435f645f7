"""The learning rate over a whole run, drawn before the run begins."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from utils.figures.curves import DPI, PANEL, write_figure
from utils.figures.palette import class_colours

__all__ = ["draw_rates"]

MOST = 8  # groups of parameters with curves of their own

Rates = tuple[Sequence[float], Sequence[Sequence[float]], bool]


def draw_rates(roles: Mapping[str, Rates], target: Path) -> None:
    """Draw a panel for each network: the rate of each group of its parameters over the epochs.

    A network has places in epochs, the rates of the groups at each, and whether later rates follow the validation.
    Raises StorageError when the picture cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure((PANEL[0] * len(roles) + 1, PANEL[1]), dpi=DPI, layout="tight")
    for number, (role, (places, rates, follows)) in enumerate(roles.items(), start=1):
        axes = figure.add_subplot(1, len(roles), number)
        curves = list(dict.fromkeys(zip(*rates, strict=True)))[:MOST]
        for curve, (red, green, blue) in zip(curves, class_colours(MOST), strict=False):
            axes.plot(places, curve, color=(red / 255, green / 255, blue / 255))
        axes.set_title("learning rate" if len(roles) == 1 else f"learning rate of {role}", parse_math=False)
        axes.set_xlabel("epoch; from some place on it follows the validation" if follows else "epoch")
        axes.set_ylim(bottom=0)
        axes.set_xlim(0, max(places[-1], 1e-9))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if len(curves) > 1:
            names = [f"up to {max(curve):.2g}" for curve in curves]
            axes.legend(names, title="groups", fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    write_figure(figure, target)
