"""Find fonts that can show a text: matplotlib's own has no Chinese, so an installed one is searched."""

import functools
from collections.abc import Iterable, Sequence
from contextlib import suppress

__all__ = ["ADVICE", "fonts_for", "printable", "unprintable"]

OWN = "DejaVu Sans"  # comes with matplotlib
CJK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK TC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Noto Serif CJK SC",
    "Noto Serif CJK JP",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Microsoft YaHei",
    "SimHei",
    "SimSun",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti TC",
    "STHeiti",
    "Arial Unicode MS",
)
ADVICE = "install one, as by apt-get install fonts-noto-cjk"
MAX_LENGTH = 18  # characters of a name


def fonts_for(text: Iterable[str]) -> tuple[list[str], set[str]]:
    """Return the font families that show the most of a text, matplotlib's own first, and the characters that
    none has.
    """
    from matplotlib.font_manager import findfont, get_font

    missing = set(text) - _characters_of(get_font(findfont(OWN)))
    if not missing:
        return [OWN], missing
    best, left = _best_font(missing)
    if not best and _add_new_fonts():
        best, left = _best_font(missing)
    return [OWN, *best], left


def _best_font(missing: set[str]) -> tuple[list[str], set[str]]:
    """Return the font that has the most of the characters, none if no font has any, and the characters left."""
    from matplotlib.font_manager import fontManager, get_font

    installed = {entry.name: entry.fname for entry in fontManager.ttflist if entry.name in CJK_FONTS}
    left = {name: missing - _characters_of(get_font(installed[name])) for name in CJK_FONTS if name in installed}
    best = min(left, key=lambda name: len(left[name]), default=OWN)
    return ([best], left[best]) if len(left.get(best, missing)) < len(missing) else ([], missing)


@functools.cache
def _add_new_fonts() -> bool:
    """Add the fonts that were installed after matplotlib wrote its list of fonts. Returns whether there is any."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {entry.fname for entry in fontManager.ttflist}
    new = [file for file in findSystemFonts() if file not in known]
    for file in new:
        with suppress(Exception):  # a file that is no font, or one that matplotlib cannot read
            fontManager.addfont(file)
    return bool(new)


def _characters_of(font: object) -> set[str]:
    return set(map(chr, font.get_charmap()))  # type: ignore[attr-defined]


def printable(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return names cut to a length, and fonts for them; a name that no font here can show becomes its number."""
    family, missing = fonts_for("".join(names))
    short = [name if len(name) <= MAX_LENGTH else name[: MAX_LENGTH - 1] + "…" for name in names]
    return [f"#{number}" if missing & set(name) else name for number, name in enumerate(short)], family


def unprintable(names: Sequence[str]) -> str:
    """Return a sentence about the names that `printable` replaces by numbers; empty if there is none."""
    shown, _ = printable(names)
    replaced = [f"{new} is {old}" for new, old in zip(shown, names, strict=True) if new.startswith("#") and new != old]
    return f"{', '.join(replaced)}: no font here has these characters; {ADVICE}" if replaced else ""
