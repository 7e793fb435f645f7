"""Numbers with a range, for the annotations of constructors: `check` reads them, and refuses what lies outside."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

__all__ = [
    "Count",
    "Fraction",
    "LONGEST",
    "LOSSES",
    "Depth",
    "NonNegative",
    "Positive",
    "Range",
    "Seed",
    "TORCH",
    "TORCHVISION",
]

LONGEST = 2**63 - 1  # the largest whole number that torch and numpy hold
FINITE = 1e30  # a bound that leaves out infinity alone


@dataclass(frozen=True)
class Range:
    """The least and the largest allowed value, in `Annotated[int, Range(1)]`; of a list each number's."""

    least: float = float("-inf")
    largest: float = float("inf")
    zeros: bool = True  # whether all numbers of a list may be 0

    def holds(self, numbers: Iterable[float]) -> bool:
        """Return whether all of the numbers are allowed; of no numbers they are."""
        numbers = list(numbers)
        return all(self.least <= n <= self.largest for n in numbers) and (self.zeros or not numbers or any(numbers))

    def __str__(self) -> str:
        return self._bounds() + ("" if self.zeros else ", and one of them above 0")

    def _bounds(self) -> str:
        if self.largest >= FINITE:
            return f"at least {_plain(self.least)}" + " and finite" * (self.largest == FINITE)
        return f"from {_plain(self.least)} to {_plain(self.largest)}"


def _plain(bound: float) -> str:
    """Return a bound without the .0 of a whole number."""
    return str(int(bound)) if bound == int(bound) else f"{bound:g}"


Count = Annotated[int, Range(1)]
Depth = Annotated[int, Range(1, 1000)]  # more of them would take hours to build
Fraction = Annotated[float, Range(0, 1)]
Seed = Annotated[int, Range(0, 2**31)]
NonNegative = Annotated[float, Range(0, FINITE)]
Positive = Annotated[float, Range(1 / FINITE, FINITE)]

# Arguments of torch's optimizers and schedulers, which tell no range in their types.
TORCH = {
    "lr": Range(0, FINITE),
    "momentum": Range(0, 1),
    "dampening": Range(0, 1),
    "betas": Range(0, 1),
    "alpha": Range(0, 1),
    "rho": Range(0, 1),
    "weight_decay": Range(0, FINITE),
    "eps": Range(0, 1),
    "lambd": Range(0, FINITE),
    "gamma": Range(0, 1e3),
    "factor": Range(0, 1),
    "start_factor": Range(0, 1),
    "end_factor": Range(0, 1),
    "pct_start": Range(0, 1),
    "div_factor": Range(1e-6, 1e12),
    "final_div_factor": Range(1e-6, 1e12),
    "base_momentum": Range(0, 1),
    "max_momentum": Range(0, 1),
    "max_lr": Range(0, FINITE),
    "base_lr": Range(0, FINITE),
    "min_lr": Range(0, FINITE),
    "eta_min": Range(0, FINITE),
    "patience": Range(0, 1e9),
    "cooldown": Range(0, 1e9),
    "T_max": Range(1, 1e9),
    "T_0": Range(1, 1e9),
    "T_mult": Range(1, 1e9),
    "step_size": Range(1, 1e9),
    "step_size_up": Range(1, 1e9),
    "step_size_down": Range(1, 1e9),
    "total_iters": Range(0, 1e9),
    "lr_decay": Range(0, 1),
}

# The same of losses; a name before the argument is of that loss alone.
LOSSES = {
    "label_smoothing": Range(0, 1),
    "beta": Range(0, FINITE),
    "delta": Range(1 / FINITE, FINITE),
    "eps": Range(0, 1),
    "margin": Range(-FINITE, FINITE),
    "MultiMarginLoss.margin": Range(1 / FINITE, FINITE),
    # below 0 a class's loss would grow; 0 leaves a class out, and of all of them nothing is left to learn
    "weight": Range(0, FINITE, zeros=False),
    "pos_weight": Range(0, FINITE, zeros=False),
    "blank": Range(0, 1e9),
}

# The same of torchvision's transforms: sizes, and how often something is done, which would take hours beyond.
TORCHVISION = {
    "size": Range(1, 1e5),
    "min_size": Range(1, 1e5),
    "max_size": Range(1, 1e5),
    "padding": Range(-1e5, 1e5),
    "num_ops": Range(0, 100),
    "num_magnitude_bins": Range(2, 1000),
    "magnitude": Range(0, 1000),
    "severity": Range(1, 10),
    "mixture_width": Range(1, 100),
    "chain_depth": Range(-1, 100),
    "trials": Range(1, 1000),
    "p": Range(0, 1),
}
