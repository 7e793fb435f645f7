"""The one way from a message to the terminal: text from files, names and configs must not steer it."""

import io
import sys

from utils.language.choice import is_chinese

__all__ = ["columns", "escape_unprintable", "filled", "head", "in_language", "padded", "printable", "show"]

KEPT = "\n\t"
# control characters, those that turn the direction of writing, and halves of characters
STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")
JOINERS = "\u200c\u200d\ufe0f"  # within words of some scripts, and in emoji


def printable(text: str) -> str:
    """Return the text with each character that could steer a terminal written as its code, such as \\x1b for ESC."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(c if _is_plain(c) else _code(c) for c in text)


def show(text: object = "", error: bool = False, end: str = "\n", flush: bool = False) -> None:
    """Print a text for people in their language, on stderr if it is an error."""
    print(printable(in_language(str(text), error)), file=sys.stderr if error else sys.stdout, end=end, flush=flush)


def escape_unprintable() -> None:
    """Have stdout and stderr print \\u2026, and raise nothing, for a "…" that the terminal's encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def in_language(text: str, error: bool = False) -> str:
    """Return a text in the language of the terminal; English runs load no catalogue."""
    if not is_chinese(error):
        return text
    from utils.language.translate import translated

    return translated(text)


def filled(text: str, width: int, first: str = "", others: str = "", whole: bool = False) -> str:
    """Return a text in the language of the terminal, wrapped; lines begin with `first` and `others`.

    `whole`: no word is divided, neither a long one nor at its hyphens.
    """
    if not is_chinese():
        import textwrap  # not with every command

        lines = textwrap.TextWrapper(width, first, others, break_long_words=not whole, break_on_hyphens=not whole)
        return lines.fill(text)
    from utils.language.translate import translated, wrapped

    return wrapped(translated(text), width, first, others, columns)


def head(name: str) -> str:
    """Return the head of a column in the language of the terminal; the catalogue marks it, as a word may be a name."""
    return in_language(f"{name} (column)").removesuffix(" (column)")


def padded(text: str, width: int, left: bool = False) -> str:
    """Return a text at the right, or left, of `width` columns; a Chinese character takes two of them."""
    space = " " * (width - columns(text))
    return text + space if left else space + text


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _is_plain(character: str) -> bool:
    import unicodedata  # seldom needed

    return character in KEPT or character in JOINERS or unicodedata.category(character) not in STEERING


def _code(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
