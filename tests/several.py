"""Pictures with several labels each: coloured corners, in a CSV of columns, or of names with a sign between."""

from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["COLOURS", "corners", "truth_of"]

COLOURS = {"red": 0, "green": 1, "blue": 2}


def truth_of(number: int) -> list[int]:
    """The labels of a picture: each third or so is one of them, and some have none."""
    return [int(number % 2 == 0), int(number % 3 == 0), int(number % 5 in (1, 2))]


def corners(folder: Path, count: int = 60, form: str = "columns", sign: str = ";", size: int = 12) -> Path:
    """Make `count` pictures and a CSV `trainLabels.csv`; a third more, in test/, without labels."""
    rng = np.random.default_rng(0)
    lines = ["id,red,green,blue" if form == "columns" else "id,tags"]
    for number in range(count + count // 3):
        pixels = rng.integers(0, 60, (size, size, 3))
        for label, channel in zip(truth_of(number), COLOURS.values(), strict=True):
            half, place = size // 2, channel % 2 * (size // 2)
            pixels[place : place + half, :half, channel] += 180 * label
        place = folder / ("train" if number < count else "test")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(place / f"p{number}.png")
        if number < count:
            names = [name for name, there in zip(COLOURS, truth_of(number), strict=True) if there]
            cell = ",".join(map(str, truth_of(number))) if form == "columns" else f'"{sign.join(names)}"'
            lines.append(f"p{number},{cell}")
    (folder / "trainLabels.csv").write_text("\n".join(lines) + "\n")
    return folder
