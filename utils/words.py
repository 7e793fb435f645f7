"""Words in messages: guess the word that was meant, and shorten long text."""

from collections.abc import Iterable

__all__ = ["count_of", "is_slip", "like", "nearest", "reason_of", "shortened", "suggest"]

LIKENESS = 0.6  # the part of the letters in common, in order, from which two words count as alike
LISTED = 16  # if none is near, up to this many words are listed


def is_slip(typed: str, word: str) -> bool:
    """Return whether a single slip parts them: one letter too many, too few or wrong, or two neighbours swapped."""
    start = next((i for i, (a, b) in enumerate(zip(typed, word, strict=False)) if a != b), min(len(typed), len(word)))
    typed, word = typed[start:], word[start:]
    swapped = typed[:2] == word[:2][::-1] and typed[2:] == word[2:]
    return swapped or typed[1:] == word or typed == word[1:] or typed[1:] == word[1:]


def nearest(typed: str, known: Iterable[str]) -> str:
    """Return the known word that is most alike, ignoring case; empty if none is near."""
    found = [(_likeness(typed.lower(), word.lower()), word) for word in sorted(set(known))]
    score, word = max(found, key=lambda pair: pair[0], default=(0.0, ""))
    return word if score >= LIKENESS else ""


def _likeness(typed: str, word: str) -> float:
    """Return the likeness from 0 to 1, 0 if a bound is below LIKENESS; more for a slip and for a word cut short."""
    import difflib  # imported here, because most commands are typed correctly

    slip = len(typed) > 1 and is_slip(typed, word)
    short = len(typed) > 2 and word.startswith(typed)
    matcher = difflib.SequenceMatcher(None, typed, word)
    bounds = (matcher.real_quick_ratio, matcher.quick_ratio)  # long words would take seconds
    far = not slip and not short and any(bound() < LIKENESS for bound in bounds)
    return 0.0 if far else matcher.ratio() + slip + 1.2 * short


def like(typed: str, word: str) -> bool:
    """Return whether a key's parts are those of another, each perhaps misspelled: data_rot of data_root.

    val_data_root and train_data_root are alike by their letters, and are two things.
    """
    if typed.replace("_", "") == word.replace("_", "") or is_slip(typed, word):
        return True
    parts, others = typed.lower().split("_"), word.lower().split("_")
    return all(nearest(part, others) for part in parts) and (len(parts) == 1 or len(parts) == len(others))


def suggest(typed: str, known: Iterable[str], before: str = "") -> str:
    """Return the end of an error message: the nearest known word, otherwise all of them if they are few.

    `before` goes in front of the nearest word, to make a dotted key of its last name.
    """
    words = sorted(set(known))
    if near := nearest(typed, words):
        return f"; did you mean '{before}{near}'?"
    return f"; there is {', '.join(words)}" if 0 < len(words) <= LISTED else ""


def count_of(number: int, thing: str) -> str:
    """Return the number with the word for so many things: 1 sample, 1,258 samples."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def reason_of(error: BaseException) -> str:
    """Return an error's text in one line, without the frames of C++ that torch may append to it."""
    return shortened(" ".join(str(error).partition("\nException raised from")[0].split()), 400)


def shortened(text: str, most: int = 100) -> str:
    """Return text for a message: one line of at most `most` characters."""
    text = text.replace("\n", "\\n").replace("\r", "\\r")
    return text if len(text) <= most else f"{text[: most - 1]}…"
