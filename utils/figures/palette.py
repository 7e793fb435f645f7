"""One palette for classes: of masks, of their legends and of their curves."""

import colorsys
from collections.abc import Sequence
from typing import Any

__all__ = ["IGNORED", "class_colours"]

Colour = tuple[int, int, int]  # red, green, blue from 0 to 255
IGNORED: Colour = (150, 150, 150)  # pixels that have no class
# Okabe and Ito, 2008, which those who see few colours can tell apart, too.
FIRST: tuple[Colour, ...] = ((0, 0, 0), (230, 159, 0), (0, 114, 178), (0, 158, 115), (240, 228, 66), (204, 121, 167))
FIRST += ((86, 180, 233), (213, 94, 0))
GOLDEN = 0.618034  # of the circle of hues between a colour and the next one


def class_colours(count: int, values: Sequence[Any] = ()) -> list[Colour]:
    """Return a colour for each class; `values` of masks that are colours themselves are taken as they are."""
    if len(values) == count and all(isinstance(value, list | tuple) for value in values):
        return [(int(red), int(green), int(blue)) for red, green, blue in values]
    return [FIRST[number] if number < len(FIRST) else _later(number) for number in range(count)]


def _later(number: int) -> Colour:
    """Return a colour by turning the hue; its brightness changes, too."""
    parts = colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.55 + 0.15 * (number % 3), 0.95 - 0.25 * (number % 2))
    red, green, blue = (round(255 * part) for part in parts)
    return red, green, blue
