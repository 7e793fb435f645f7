"""Counts what makes comments and docstrings hard to read: python -m tests.prose shows the places."""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("utils", "configs", "models", "data", "trainer", "commands")
# A docstring of a function begins with a verb: with none of these.
NO_VERB = (
    "A|After|All|An|And|Any|As|At|Before|Below|Both|By|Each|Every|For|From|Here|How|If|In|Into|It|Its|No|None|Not|Of|On|"
    "One|Only|Other|Out|Over|So|Such|That|The|Their|These|They|This|Those|To|Two|Until|Up|What|Whatever|When|Where|"
    "Whether|Which|Who|Whose|Why|With|Within|Without"
)
PATTERNS = {
    "else for otherwise": re.compile(r"(?<!if )\belse\b(?! if)(?!:)"),
    "but for, for except": re.compile(r"\bbut for\b"),
    "what or who as a noun": re.compile(
        r"\b(?:of|to|by|with|from|in|on|than|as|is|and|or|that) (?:what|who)\b|^(?:What|Who)\b", re.I
    ),
    "say for for example": re.compile(r", say\b|\bsay,"),
    "be it": re.compile(r"\bbe it\b"),
}
FIRST = re.compile(rf"(?:{NO_VERB})\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[Path]:
    """The files of the product."""
    return sorted([ROOT / "main.py", *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))])


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each docstring and comment."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function | ast.ClassDef | ast.Module) and (told := ast.get_docstring(node)):
            yield node.body[0].lineno, re.sub(r"`[^`]*`|\"[^\"]*\"", "", told)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], re.sub(r"`[^`]*`|\"[^\"]*\"", "", token.string.lstrip("# "))


def without_verb(path: Path) -> Iterator[tuple[int, str]]:
    """The functions, properties apart, whose docstring begins with no verb."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Function) and not any("property" in ast.unparse(d) for d in node.decorator_list):
            told = ast.get_docstring(node) or ""
            if FIRST.match(told):
                yield node.lineno, told.partition("\n")[0]


def found() -> dict[str, list[str]]:
    """The places of each pattern, as file:line and the text around it."""
    places: dict[str, list[str]] = {name: [] for name in ("no verb", *PATTERNS)}
    for path in sources():
        name = path.relative_to(ROOT)
        places["no verb"] += [f"{name}:{line} {told}" for line, told in without_verb(path)]
        for line, told in texts(path):
            for kind, pattern in PATTERNS.items():
                for hit in pattern.finditer(told):
                    around = " ".join(told[max(0, hit.start() - 40) : hit.end() + 40].split())
                    places[kind].append(f"{name}:{line} …{around}…")
    return places


if __name__ == "__main__":
    for kind, places in found().items():
        print(f"{kind}: {len(places)}", *(places if kind in sys.argv[1:] or "all" in sys.argv else ()), sep="\n  ")
