"""Pictures and masks written in another format, with the same values or with others."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

__all__ = ["MASKS", "PICTURES"]

Alter = Callable[[Path, Random], object]
Encode = Callable[[np.ndarray, Path], object]  # grey values uint8 [H, W], and the path


def encoded(where: str, encode: Encode, suffix: str = ".png", share: float = 1.0) -> Alter:
    """Return the alteration that writes pictures below `where` again: all of them, or one."""

    def alter(data: Path, rng: Random) -> None:
        paths = sorted(data.glob(where))
        for path in paths if rng.random() < share else [rng.choice(paths)]:
            values = np.asarray(Image.open(path).convert("L"))
            path.unlink()
            encode(values, path.with_suffix(suffix))

    return alter


def as_mode(mode: str, **options: object) -> Encode:
    return lambda values, path: Image.fromarray(values).convert(mode).save(path, **options)


def deep(values: np.ndarray, path: Path) -> None:
    """16 bit, black at 0 and white at 65,535."""
    Image.fromarray(values.astype(np.uint16) * 257).save(path)


def stored_as(kind: type) -> Encode:
    """The very values, as numbers of another kind."""
    return lambda values, path: Image.fromarray(values.astype(kind)).save(path)


def fraction(values: np.ndarray, path: Path) -> None:
    Image.fromarray(values.astype(np.float32) / np.float32(255)).save(path)


def palette(values: np.ndarray, path: Path) -> None:
    """The numbers of a palette of greys, in another order."""
    image = Image.fromarray(255 - values, "P")
    image.putpalette([255 - i // 3 for i in range(768)])
    image.save(path)


def colours(values: np.ndarray, path: Path) -> None:
    """The numbers of a palette with colours, as VOC has them."""
    image = Image.fromarray(values, "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, *range(256)][:768] + [0] * 500)
    image.save(path)


def rgb(values: np.ndarray, path: Path) -> None:
    """A colour for each class."""
    table = np.asarray([[0, 0, 0], [200, 30, 30], [30, 30, 200], [0, 0, 0]], np.uint8)
    Image.fromarray(table[values.clip(0, 3)]).save(path)


def times(most: int, kind: type) -> Alter:
    """Return the alteration of masks that multiplies their values."""

    def alter(data: Path, rng: Random) -> None:
        factor = rng.randint(2, most)
        one = lambda values, path: Image.fromarray((values.astype(np.int64) * factor).astype(kind)).save(path)  # noqa: E731
        encoded(LABELS, one)(data, rng)

    return alter


def border(values: np.ndarray, path: Path) -> None:
    """Pixels without a class at the edge."""
    values = values.copy()
    values[0], values[:, -1] = 255, 255
    Image.fromarray(values).save(path)


def smaller(values: np.ndarray, path: Path) -> None:
    Image.fromarray(values[:8, :8]).save(path)


def named(end: str) -> Alter:
    def alter(data: Path, rng: Random) -> None:
        for path in sorted(data.glob(LABELS)):
            path.rename(path.with_stem(path.stem + end))

    return alter


def missing(data: Path, rng: Random) -> None:
    rng.choice(sorted(data.glob(LABELS))).unlink()


ALL, LABELS = "*/*/*", "train/label/*"
ONE = 0.0  # of all pictures, one
HALF = 0.5
PICTURES: dict[str, tuple[Alter, str]] = {
    "BMP": (encoded(ALL, as_mode("RGB"), ".bmp"), "same"),
    "TIFF": (encoded(ALL, as_mode("RGB", compression="tiff_lzw"), ".tif"), "same"),
    "PPM": (encoded(ALL, as_mode("RGB"), ".ppm"), "same"),
    "lossless WebP": (encoded(ALL, as_mode("RGB", lossless=True), ".webp"), "same"),
    "written again": (encoded(ALL, as_mode("RGB", optimize=True), share=HALF), "same"),
    "grey": (encoded(ALL, as_mode("L"), share=HALF), "same"),
    "grey TIFF": (encoded(ALL, as_mode("L"), ".tiff", share=HALF), "same"),
    "with an opaque alpha": (encoded(ALL, as_mode("RGBA"), share=HALF), "same"),
    "grey with alpha": (encoded(ALL, as_mode("LA"), share=HALF), "same"),
    "palette": (encoded(ALL, palette, share=HALF), "same"),
    "16 bit": (encoded(ALL, deep, share=HALF), "same refused"),
    "16 bit TIFF": (encoded(ALL, deep, ".tif", share=HALF), "same refused"),
    "float": (encoded(ALL, fraction, ".tif", share=HALF), "same refused"),
}
MASKS: dict[str, tuple[Alter, str]] = {
    "16 bit": (encoded(LABELS, stored_as(np.uint16), share=HALF), "same"),
    "16 bit TIFF": (encoded(LABELS, stored_as(np.uint16), ".tif", share=HALF), "same"),
    "palette with colours": (encoded(LABELS, colours), "same refused"),
    "one palette with colours": (encoded(LABELS, colours, share=ONE), "same refused"),
    "grey as RGB": (encoded(LABELS, as_mode("RGB"), share=HALF), "same"),
    "with an opaque alpha": (encoded(LABELS, as_mode("LA"), share=HALF), "same"),
    "BMP": (encoded(LABELS, as_mode("L"), ".bmp"), "same"),
    "float": (
        encoded(LABELS, stored_as(np.float32), ".tif"),
        "same refused",
    ),
    "whole numbers of 32 bit": (
        encoded(LABELS, stored_as(np.int32), ".tif"),
        "same",
    ),
    "values times a number": (times(100, np.uint8), "same"),
    "large values": (times(30_000, np.uint16), "same"),
    "a border of 255": (encoded(LABELS, border, share=HALF), "refused"),
    "colours": (encoded(LABELS, rgb), "refused"),
    "JPEG": (encoded(LABELS, lambda v, path: Image.fromarray(v * 100).save(path, quality=30), ".jpg"), "refused"),
    "one of another size": (encoded(LABELS, smaller, share=ONE), "refused"),
    "names with an end": (named("_mask"), "same"),
    "one is missing": (missing, "refused"),
}
