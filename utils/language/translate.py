"""Find the template that a finished English text was made from, and fill its translation with the same parts.

The code says f"no such file: {path}"; the catalogue holds it as "no such file: {0}". So no message needs a mark in the
code, and only texts that are shown to a Chinese reader cost anything.
"""

import functools
import gettext
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

__all__ = ["Translator", "translated", "wrapped"]

FOLDER = Path(__file__).parent
PLACEHOLDER = re.compile(r"\{(\d+)\}")
WORD = re.compile(r"[A-Za-z]{2,}")
PROSE = re.compile(
    r"(?<![^ (\n])[a-z]{2,}(?=[ ,;:)\n]|\.?(?: |$))"
)  # an English word, not a part of a path or of a flag
# Words of keys, splits and metrics, which are the same in Chinese.
SAME = {
    "accuracy",
    "auto",
    "cpu",
    "cuda",
    "data",
    "false",
    "int",
    "log",
    "loss",
    "model",
    "null",
    "optim",
    "schedule",
    "task",
    "test",
}
SAME |= {"train", "true", "val"}
WEAK = 12  # letters; a template with fewer fits many lines
DOUBT = 1.5  # words; so much worse is a weak template that leaves English words
COMMANDS = ("python main.py ", "python -c ", "kaggle ")  # stay as they are
# Where parts of a line meet, and how they meet in Chinese.
JOINTS = {" [": " [", "; ": "；", ". ": "。", ": ": "：", ", ": "，", " (": " (", " or ": " 或 "}
JOINED = ("; ", ": ", ", ")
MARKS = (":", ";", ",")  # no part of a message ends in one
COLUMNS = re.compile(r"\S {2,}\S")
NAMES = re.compile(r"[\w.:/-]+(, [\w.:/-]+)+")
MOST_LEFT = 0.6  # of the English words; a text of which more is left is not of ours
LONGEST = 2000  # characters; longer texts are data, such as a poem
# The system's own words about files, which stand behind a message.
SYSTEM = {
    "No such file or directory": "没有这个文件或文件夹",
    "Permission denied": "没有权限",
    "No space left on device": "磁盘已满",
    "Disk quota exceeded": "超出磁盘配额",
    "Read-only file system": "文件系统只读",
    "Is a directory": "是一个文件夹",
    "Not a directory": "不是文件夹",
    "File exists": "文件已存在",
    "File name too long": "文件名太长",
    "Input/output error": "读写出错",
    "Stale file handle": "网络磁盘上的文件已失效",
    "Too many open files": "打开的文件太多",
    "Too many levels of symbolic links": "符号链接层数太多",
}
Told = tuple[str, float]  # a translation, and how bad it is: the number of English words in it, or more


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
        around = zip(self.numbers, self.literals, self.literals[1:], strict=False)
        self.quoted = {number for number, before, behind in around if before[-1:] == behind[:1] == "'"}  # names
        ends = (self.numbers[0], text.startswith, told.startswith), (self.numbers[-1], text.endswith, told.endswith)
        # Placeholders that leave the start or end: what stands before or behind the message must not go with them.
        self.moved = {number for number, ours, theirs in ends if ours(f"{{{number}}}") and not theirs(f"{{{number}}}")}

    def values(self, text: str) -> dict[str, str] | None:
        """Return the placeholders' values if the text was made from this template."""
        if not text.startswith(self.literals[0]) or not text.endswith(self.literals[-1]):
            return None
        found = next(filter(None, (pattern.fullmatch(text) for pattern in self.patterns)), None)
        return dict(zip(self.numbers, found.groups(), strict=True)) if found else None

    @functools.cached_property
    def patterns(self) -> list[re.Pattern[str]]:
        """Return the expressions that fit its texts; the first one knows where a placeholder behind another begins."""
        loose = "(.*?)".join(re.escape(literal) for literal in self.literals)
        strict = loose.replace("(.*?)(.*?)", "(.*?)((?:(?:[;:,] |\\. | \\(| and | or ).*?)?)")
        return [re.compile(one, re.DOTALL) for one in dict.fromkeys((strict, loose))]

    def words(self) -> list[str]:
        """Return its longest word, by which it is found; none if each of its words may go on in a placeholder."""
        known = [match[0] for literal in self.literals for match in WORD.finditer(literal) if _is_whole(match)]
        return [max(known, key=len)] if known else []


def _merged(text: str, told: str) -> tuple[str, str]:
    """Return a template whose placeholders without anything between them are one, if they are so in both languages."""
    for first, second in re.findall(r"(\{\d+\})(?=(\{\d+\}))", text)[::-1]:
        if first + second in told:
            text, told = (one.replace(first + second, first) for one in (text, told))
    return text, told


def _is_whole(match: re.Match[str]) -> bool:
    """Return whether a word of a literal cannot go on in the placeholder beside it."""
    return match.start() > 0 and match.end() < len(match.string)


class Translator:
    """Translates finished texts with the templates of a catalogue."""

    def __init__(self, messages: Mapping[str, str]):
        self.plain = SYSTEM | {text: told for text, told in messages.items() if not PLACEHOLDER.search(text)}
        for text, told in [*self.plain.items()]:
            if text.startswith(JOINED):  # a hint behind a message, from which it may be cut
                self.plain.setdefault(text[2:], told[1:])
        self.by_word: dict[str, list[Template]] = {"": []}
        for text, told in messages.items():
            if text not in self.plain and (text != told or text.startswith(COMMANDS)):
                self._add(*_merged(text, told))
                if text.startswith(JOINED):  # a hint behind a message, from which it may be cut
                    self._add(*_merged(text[2:], told[1:]))
        self.known: dict[str, Told] = {}

    def _add(self, text: str, told: str) -> None:
        template = Template(text, told)
        for word in template.words() or [""]:
            self.by_word.setdefault(word, []).append(template)

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
        best = text, _english(text) + 0.5  # a translation is better than none
        for made in itertools.chain(self._filled(text), self._cut(text)):
            best = min(best, made, key=lambda told: told[1])
            if not best[1]:
                break
        return best if best[1] <= _english(text) * MOST_LEFT else (text, _english(text))

    def _filled(self, text: str) -> Iterator[Told]:
        """Yield the translations by each template that the text may be made from, the most specific first."""
        words = {"", *WORD.findall(text)}
        for template in sorted((t for word in words for t in self.by_word.get(word, ())), key=_exactness):
            values = template.values(text)
            if values is None or text in values.values() or any(value.endswith(MARKS) for value in values.values()):
                continue
            if COLUMNS.search(text) and not any("  " in literal for literal in template.literals):
                continue  # a row of a table
            if template.told == template.text:
                yield text, 0
                continue
            told = {n: (value, 0.0) if n in template.quoted else self._told(value) for n, value in values.items()}
            if not template.letters and all(made == values[number] for number, (made, _) in told.items()):
                continue
            left = sum(left for _, left in told.values())
            made = PLACEHOLDER.sub(functools.partial(_value, told), template.told)
            doubt = DOUBT * (template.letters < WEAK and left > 0)
            yield made, left + doubt + sum(_joints(values[number]) for number in template.moved)

    def _cut(self, text: str) -> Iterator[Told]:
        """Yield the translations of both sides of each place where parts meet, the last place first."""
        for joint, theirs in () if COLUMNS.search(text) else JOINTS.items():
            at = text.rfind(joint)
            while at > 0:
                left, right = text[:at], text[at + len(joint) :]
                first, second = self._told(left), self._told(right)
                numbered = joint == ". " and left.isdigit()  # 1. in a list
                changed = joint == " or " or first[0] != left or second[0] != right
                joined = theirs if changed and not numbered else joint
                yield _met(first[0], joined, second[0]), first[1] + second[1]
                at = text.rfind(joint, 0, at)


def _value(told: Mapping[str, Told], placeholder: re.Match[str]) -> str:
    return told[placeholder[1]][0]


def _exactness(template: Template) -> tuple[int, int]:
    return -template.letters, -len(template.text)


def _english(text: str) -> int:
    """Return the number of English words in a text."""
    if NAMES.fullmatch(text):
        return 0
    return sum(word not in SAME for word in PROSE.findall(text))


def _joints(text: str) -> int:
    """Return how many parts meet in a text."""
    return sum(text.count(joint) for joint in (": ", "; ", ". ", ", "))


def _met(left: str, joint: str, right: str) -> str:
    """Return two parts with the joint between them; Chinese characters have no space between them."""
    if joint == JOINTS[" or "]:
        joint = joint.strip().join((" " * left[-1:].isascii(), " " * right[:1].isascii()))
    return left + joint + right


@functools.cache
def _translator() -> Translator:
    with open(FOLDER / "zh" / "LC_MESSAGES" / "deeptrain.mo", "rb") as stream:
        return Translator(Catalogue(stream).messages())


def translated(text: str) -> str:
    """Return a text in Chinese."""
    return _translator().translate(text)


def wrapped(text: str, width: int, first: str, others: str, columns: Callable[[str], int]) -> str:
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
