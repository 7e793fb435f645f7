"""The values of a swept key: a,b,c is a list, 0..2 whole numbers, log(a,b) and uniform(a,b) are drawn from."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from utils.config.cli import Flag
from utils.errors import ConfigError

__all__ = ["Draw", "choices", "combinations", "drawn", "short"]

RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
DRAW = re.compile(r"(log|uniform)\((.*)\)")
PAIRS = {"[": "]", "{": "}", "(": ")"}
MOST = 10_000  # values of a range


@dataclass(frozen=True)
class Draw:
    """A range from which a number is drawn: uniformly, or uniformly in its logarithm."""

    low: float
    high: float
    log: bool


def choices(flag: Flag) -> list[str]:
    """Return the values that a flag lists: commas count outside of brackets and quotation marks only.

    Raises ConfigError for a range that is empty or endless.
    """
    values: list[str] = []
    for part in _parts(flag.text):
        if found := RANGE.fullmatch(part.strip()):
            low, high = map(int, found.groups())
            if not 0 <= high - low < MOST:
                raise ConfigError(f"{flag.typed}: {part} holds no numbers, or too many; write the lower one first")
            values += map(str, range(low, high + 1))
        else:
            values.append(part)
    same = [_number(value) for value in values]
    if len(values) > 1 and (twice := [value for i, value in enumerate(values) if same[i] in same[:i]]):
        raise ConfigError(f"{flag.typed}: {twice[0]} is listed twice; leave one out")
    if len(values) > 1 and "" in values:
        raise ConfigError(f"{flag.typed}: a value between commas is empty; for text with commas add quotation marks")
    return values


def drawn(flag: Flag) -> Draw | None:
    """Return the range that a flag's value is drawn from; None for a value or a list of values.

    Raises ConfigError for a range that is none.
    """
    found = DRAW.fullmatch(flag.text.strip())
    if found is None:
        return None
    try:
        low, high = map(float, found[2].split(","))
    except ValueError:
        low, high = 1.0, 0.0
    log = found[1] == "log"
    if not low < high < float("inf") or (log and low <= 0) or low == -float("inf"):
        above = ", above 0," if log else ""
        raise ConfigError(f"{flag.typed}: write {found[1]}(a,b) with two numbers{above} of which a is the lower one")
    return Draw(low, high, log)


def short(text: str) -> str:
    """Return a value as it stands in the name of a run: 1e-2 is 0.01, other signs than letters are left out."""
    try:
        return f"{float(text):.3g}".replace("+", "") if not text.lstrip("-").isdecimal() else text
    except ValueError:
        return re.sub(r"[^A-Za-z0-9._]+", "_", text).strip("_") or "none"


def _number(text: str) -> float | str:
    """Return the number that a value is, otherwise the value."""
    try:
        return float(text)
    except ValueError:
        return text


def _parts(text: str) -> Iterator[str]:
    """Yield what lies between the commas at the top level of a text."""
    closing: list[str] = []
    quote, part = "", ""
    for sign in text:
        if sign == "," and not closing and not quote:
            yield part
            part = ""
            continue
        part += sign
        if quote or sign in "\"'":
            quote = "" if sign == quote else quote or sign
        elif sign in PAIRS:
            closing.append(PAIRS[sign])
        elif closing and sign == closing[-1]:
            closing.pop()
    yield part


def combinations(swept: Sequence[tuple[Flag, Sequence[str]]]) -> Iterator[dict[str, str]]:
    """Yield every combination of the values, by key; the last key changes fastest."""
    if not swept:
        yield {}
        return
    (flag, values), *others = swept
    for value in values:
        yield from ({flag.key: value, **rest} for rest in combinations(others))
