"""Words in messages: what a mistyped one was meant to be, and how much of a long one is shown."""

from collections.abc import Iterable

__all__ = ["is_slip", "nearest", "shortened", "suggest"]

LIKENESS = 0.6  # share of letters in common, in order, from which two words count as alike
LISTED = 12  # as many words are told in full when none is near


def is_slip(typed: str, word: str) -> bool:
    """Whether one letter too many, too few or wrong, or two neighbours swapped, is all that parts them."""
    start = next((i for i, (a, b) in enumerate(zip(typed, word, strict=False)) if a != b), min(len(typed), len(word)))
    typed, word = typed[start:], word[start:]
    swapped = typed[:2] == word[:2][::-1] and typed[2:] == word[2:]
    return swapped or typed[1:] == word or typed == word[1:] or typed[1:] == word[1:]


def nearest(typed: str, known: Iterable[str]) -> str:
    """The known word that is most alike, letter case aside; empty when none is near."""
    found = [(_likeness(typed.lower(), word.lower()), word) for word in sorted(set(known))]
    score, word = max(found, key=lambda pair: pair[0], default=(0.0, ""))
    return word if score >= LIKENESS else ""


def _likeness(typed: str, word: str) -> float:
    """From 0 to 1; more for a slip of the finger, and for a word that was cut short."""
    import difflib  # most commands are typed right

    ratio = difflib.SequenceMatcher(None, typed, word).ratio()
    slip = len(typed) > 1 and is_slip(typed, word)
    short = len(typed) > 2 and word.startswith(typed)
    return ratio + slip + 1.2 * short


def suggest(typed: str, known: Iterable[str], before: str = "") -> str:
    """The end of an error message: the nearest known word, else all of them where they are few.

    `before` goes in front of the nearest, to make a dotted key of a last name.
    """
    words = sorted(set(known))
    if near := nearest(typed, words):
        return f"; did you mean '{before}{near}'?"
    return f"; there is {', '.join(words)}" if 0 < len(words) <= LISTED else ""


def shortened(text: str, most: int = 100) -> str:
    """Text for a message: one line, and not a page of it, whatever the user typed."""
    text = text.replace("\n", "\\n").replace("\r", "\\r")
    return text if len(text) <= most else f"{text[: most - 1]}…"
