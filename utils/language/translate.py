"""Find the template that a finished English text was made from, and fill its translation with the same parts.

The code says f"no such file: {path}"; the catalogue holds it as "no such file: {0}". So no message needs a mark in the
code, and only texts that are shown to a Chinese reader cost anything.
"""

import functools
import gettext
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["Translator", "translated", "wrapped"]

FOLDER = Path(__file__).parent
PLACEHOLDER = re.compile(r"\{(\d+)\}")
WORD = re.compile(r"[A-Za-z]{2,}")
PROSE = re.compile(r"(?<![^ (\n])[a-z]{2,}(?=[ ,.;:)\n]|$)")  # an English word, not a part of a path or of a flag
WEAK = 12  # letters; a template with fewer fits many lines, and must explain nearly all of one
# Where parts of a line meet, and how they meet in Chinese.
JOINTS = {" [": " [", "; ": "；", ". ": "。", ": ": "：", ", ": "，", " (": " ("}
LONGEST = 2000  # characters; longer texts are data, such as a poem
Told = tuple[str, int]  # a translation, and the number of English words that are left in it


class Catalogue(gettext.GNUTranslations):
    """The translations of one language."""

    def messages(self) -> Mapping[str, str]:
        """Return the translation of each template."""
        return {text: told for text, told in self._catalog.items() if text}  # type: ignore[attr-defined]


class Template:
    """A template and its translation."""

    def __init__(self, text: str, told: str):
        self.text, self.told = text, told
        pieces = PLACEHOLDER.split(text)
        self.literals, self.numbers = pieces[::2], pieces[1::2]
        self.letters = sum(c.isalpha() for literal in self.literals for c in literal)
        self.weak = self.letters < WEAK

    def values(self, text: str) -> dict[str, str] | None:
        """Return the placeholders' values if the text was made from this template."""
        if not text.startswith(self.literals[0]) or not text.endswith(self.literals[-1]):
            return None
        found = self.pattern.fullmatch(text)
        return dict(zip(self.numbers, found.groups(), strict=True)) if found else None

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """Return the expression that fits its texts."""
        return re.compile("(.*?)".join(re.escape(literal) for literal in self.literals), re.DOTALL)

    def words(self) -> list[str]:
        """Return its longest word, by which it is found; none if each of its words may go on in a placeholder."""
        known = [match[0] for literal in self.literals for match in WORD.finditer(literal) if _is_whole(match)]
        return [max(known, key=len)] if known else []


def _is_whole(match: re.Match[str]) -> bool:
    """Return whether a word of a literal cannot go on in the placeholder beside it."""
    return match.start() > 0 and match.end() < len(match.string)


class Translator:
    """Translates finished texts with the templates of a catalogue."""

    def __init__(self, messages: Mapping[str, str]):
        self.plain = {text: told for text, told in messages.items() if not PLACEHOLDER.search(text)}
        self.by_word: dict[str, list[Template]] = {"": []}
        for text, told in messages.items():
            if text not in self.plain and (text != told or not text.startswith("{")):
                template = Template(text, told)
                for word in template.words() or [""]:
                    self.by_word.setdefault(word, []).append(template)
        self.known: dict[str, Told] = {}

    def translate(self, text: str) -> str:
        """Return the text in the language of the catalogue; parts without a template stay as they are."""
        return self._told(text)[0]

    def _told(self, text: str) -> Told:
        """Return the translation with the fewest English words."""
        inner = text.strip()
        if not inner or len(inner) > LONGEST or not WORD.search(inner):
            return text, 0
        if inner not in self.known:
            self.known[inner] = inner, _english(inner)  # while it is looked for: of itself it is no part
            self.known[inner] = self._best(inner)
        told, left = self.known[inner]
        start = text.index(inner)
        return text[:start] + told + text[start + len(inner) :], left

    def _best(self, text: str) -> Told:
        if text in self.plain:
            return self.plain[text], 0
        for joint in ("\n\n", "\n"):
            if joint in text:
                told = [self._told(part) for part in text.split(joint)]
                return joint.join(part for part, _ in told), sum(left for _, left in told)
        best = text, _english(text)
        for made in itertools.chain(self._filled(text), self._cut(text)):
            best = min(best, made, key=lambda told: told[1])
            if not best[1]:
                break
        return best

    def _filled(self, text: str) -> Iterator[Told]:
        """Yield the translations by each template that the text may be made from, the most specific first."""
        words = {"", *WORD.findall(text)}
        for template in sorted((t for word in words for t in self.by_word.get(word, ())), key=lambda t: -t.letters):
            values = template.values(text)
            if values is None or text in values.values():
                continue
            if template.told == template.text:  # a command to type, say
                yield text, 0
                continue
            told = {number: self._told(value) for number, value in values.items()}
            if not template.weak or all(not left or " " not in value for value, left in told.values()):
                made = PLACEHOLDER.sub(lambda match, told=told: told[match[1]][0], template.told)
                yield made, sum(left for _, left in told.values())

    def _cut(self, text: str) -> Iterator[Told]:
        """Yield the translations of both sides of each place where parts meet, the last place first."""
        for joint, theirs in JOINTS.items():
            at = text.rfind(joint)
            while at > 0:
                left, right = text[:at], text[at + len(joint) :]
                first, second = self._told(left), self._told(right)
                both = first[0] != left and second[0] != right
                yield first[0] + (theirs if both else joint) + second[0], first[1] + second[1]
                at = text.rfind(joint, 0, at)


def _english(text: str) -> int:
    """Return the number of English words in a text."""
    return len(PROSE.findall(text))


@functools.cache
def _translator() -> Translator:
    with open(FOLDER / "zh" / "LC_MESSAGES" / "deeptrain.mo", "rb") as stream:
        return Translator(Catalogue(stream).messages())


def translated(text: str) -> str:
    """Return a text in Chinese."""
    return _translator().translate(text)


def wrapped(text: str, width: int, first: str = "", others: str = "") -> str:
    """Return Chinese text in lines of at most `width` columns, of which a Chinese character takes two.

    Words of other scripts stay whole, and no line begins with a mark that ends something.
    """
    lines, line = [], first
    for word in re.findall(r" *(?:[\x21-\u2e7f]+|[^\x00-\u2e7f])[，。；：、）？！”]*", " ".join(text.split())):
        if line not in (first, others) and columns(line + word) > width:
            lines.append(line)
            line, word = others, word.lstrip()
        line += word
    return "\n".join([*lines, line])


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    import unicodedata

    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)
