"""The catalogue of messages: `python -m commands._messages` reads them out of the code, and compiles the translations.

utils/language/zh/LC_MESSAGES/deeptrain.po is edited by hand; deeptrain.mo is made of it, for gettext.
"""

import ast
import itertools
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from commands import found, told
from configs import COMPONENTS
from configs.comments import key_comments
from configs.keys import schema_keys
from configs.layers import config_files
from utils.config.convert import describe
from utils.terminal import show

__all__ = ["CATALOGUE", "compiled", "messages", "page", "read"]

HOUSE = Path(__file__).parent.parent
CATALOGUE = HOUSE / "utils/language/zh/LC_MESSAGES/deeptrain.po"
ROOMS = ("main.py", "commands", "configs", "data", "models", "trainer", "utils")
# No words to a reader: scripts, cells and pages that are written, and the labels in pictures, which are English.
SILENT = (
    "commands/_messages.py",
    "data/looking/sheets.py",
    "trainer/deploy/drawn.py",
    "trainer/deploy/notebook.py",
    "utils/figures/curves.py",
    "utils/figures/compare.py",
    "utils/figures/study.py",
    "utils/torch_private.py",
    "utils/language/translate.py",
)
WORDS = re.compile(
    r"[a-z]+[,;:]? [a-z]{2}|[a-z\d})'\]…%] [a-z]{2,}|[a-z]{2,}[;:,] |[a-z]{2,} '|[;:] [a-z{]"
    r"|^[A-Za-z]{3,} \{| [a-z]{2,} $"
)
HEADER = "Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\nLanguage: zh_CN\n"
# Texts that are put together in several steps, or of words that are data in the code.
MADE = (
    "a list of {0} whole numbers",
    "a list of {0} numbers",
    "a number",
    "text or null",
    "takes text",
    "text (type)",
    "text [{0}]",
    "text; needed",
    "text; needed, unless the data provides it",
    "one of {0} or null or a list of numbers",
    "| key | takes | default | meaning |",
    "Tasks",
    "Models",
    "Datasets",
    "Schedules",
    "{0}: expected text, got {1}",
    "{0} from {1} to {2}",
    "{0}: number, {1}",
    "{0}: date, {1}",
    "{0} to {1}",
    "{0} unknown text",
    "{0} unknown texts",
    "{0} steps, {1} epochs",
    "{0} steps, {1} epoch",
    "{0} step, {1} epoch",
    "{0}: finished{1} in {2} s",
    "{0}: finished",
    "{0}: failed",
    *(
        f"{head} (column)"
        for head in (
            *("epoch", "time", "best", "run", "config", "task", "data", "model", "metric", "epochs", "steps", "state"),
            *("mean {0}", "of", "layer", "output", "spread", "dead", "gradient", "output shape", "parameters"),
            *("buffers", "gradients", "optimizer state", "activations kept for backward", "together"),
            *("{0} {1}, best", "{0} {1}, last"),
        )
    ),
    "a state that was saved and read back differs in nothing; its metrics by {0}",
    "{0} % of {1} files in {2}",
    "learning rate {0} first, {1} highest, {2}",
    "{0} (half of each network: train.freeze is not set); they and their statistics differ by {1} after {2} steps",
    "({0})",
    "input: [batch, {0}], pictures in [0, 1]; Normalize is inside of the file",
    "--format= takes {0}",
    "pictures: {0} of {1}",
    "masks: {0} of {1}",
    "{0}, leak: {1}",
    "{0}, duplicates: {1}",
    "{0}, odd: {1}",
    "train, balance: {0}",
    "{0}, drift: {1}",
    "{0}, refused: {1}",
    "{0}, unreadable: empty: {1}",
    "{0}, unreadable: unreadable: {1}",
    "{0}, unreadable: {1}: {2}",
    "{0} file of {1}{2}",
    "{0} files of {1}{2}",
    "{0} picture of {1}, {2}",
    "{0} pictures of {1}, {2}",
    "{0} line of {1}",
    "{0} lines of {1}",
    "{0} of {1} looking the same as another one",
    "{0} of {1} equal to another one in every bit",
    "{0} ({1}) looking the same as one with another label",
    "{0} ({1}) equal to one with another label",
    "{0}: {1} row from {2}{3}",
    "{0} (its content is none of {1})",
    "fire (flags are read without it)",
    "torchnet (means and matrices are counted without it)",
    "tqdm (no progress bar)",
    "matplotlib (no drawn curves and pictures)",
    "tensorboardX (no event files for TensorBoard)",
    "visdom (no live curves in the browser)",
    "{0}: {1} rows from {2}{3}",
)
MOST_LINES = 3  # of a message; a longer text is a script
MOST = 8  # variants of a message


def messages() -> dict[str, str]:
    """Return each text of the program for a reader, with the file that it is in."""
    texts: dict[str, str] = {}
    made = (("(made)", text) for text in MADE)
    for file, text in itertools.chain(_of_help(), _of_code(), made):
        texts.setdefault(text.strip(), file)
    return texts


def _of_code() -> Iterator[tuple[str, str]]:
    """Yield the texts in the code that are sentences, or parts of them."""
    for path in sorted(path for room in ROOMS for path in _files(HOUSE / room)):
        file = path.relative_to(HOUSE).as_posix()
        if not file.startswith(SILENT):
            for text in _texts(ast.parse(path.read_text(encoding="utf-8"))):
                if text.count("\n") <= MOST_LINES and (
                    WORDS.search(re.sub(r"\{\d+\}", "{}", text.lstrip())) or text.endswith(":")
                ):
                    yield file, text


def _files(place: Path) -> Iterable[Path]:
    return [place] if place.is_file() else place.rglob("*.py")


def _of_help() -> Iterator[tuple[str, str]]:
    """Yield the texts of `help`: of commands, keys, components and configs."""
    for name in found():
        first, _, *rest = told(name).strip().split("\n\n")
        summary = first.partition(": ")[2].replace("\n", " ")
        yield from ((f"commands/{name}.py", text) for text in (summary[:1].upper() + summary[1:], *rest))
    yield from (("configs/schema.py", text) for text in key_comments().values())
    yield from (("configs/schema.py", text) for kind in schema_keys().values() if _is_phrase(text := describe(kind)))
    for kind, registry in COMPONENTS.items():
        for name in registry.names():
            types = (describe(parameter.type) for parameter in registry.arguments(name).values())
            texts = (registry.summary(name), *filter(_is_phrase, types))
            yield from ((f"help of {kind}", text) for text in texts if text)
    for path in config_files().values():
        if path.is_absolute():
            lines = path.read_text(encoding="utf-8").split("\n")
            heading = itertools.takewhile(lambda line: line.startswith("#"), lines)
            yield from ((f"configs/{path.name}", line[1:].strip()) for line in heading if line[1:].strip())


def _is_phrase(kind: str) -> bool:
    """Return whether the words for a type are translated as a whole: not one word, which may be a name, and no list."""
    return " " in kind and not kind.startswith("one of ")


def _texts(node: ast.AST) -> Iterator[str]:
    """Yield the texts below a node, as templates; docstrings are none."""
    if _is_text(node):
        for parts in itertools.islice(itertools.product(*_parts(node)), MOST):
            count = itertools.count()
            yield "".join(f"{{{next(count)}}}" if part is None else part for part in parts)
        for inner in _inner(node):
            yield from _texts(inner)
        return
    if isinstance(node, ast.Call):
        yield from _counted(node)
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    for child in () if docstring else ast.iter_child_nodes(node):
        yield from _texts(child)


def _counted(call: ast.Call) -> Iterator[str]:
    """Yield what count_of makes of a word, and a single word that is shown."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    for word in (arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)):
        if name == "count_of":
            yield from (f"{{0}} {word}", f"{{0}} {word}s")
        elif name == "show" and re.fullmatch(r"[A-Za-z]+:?", word):
            yield word


def _is_text(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _is_text(node.left) or _is_text(node.right)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _parts(node: ast.AST) -> Iterator[tuple[str | None, ...]]:
    """Yield what can stand at each place of a text: its letters, one of two words, or None for a placeholder."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield (node.value,)
    elif isinstance(node, ast.JoinedStr):
        for value in node.values:
            yield from _parts(value)
    elif isinstance(node, ast.BinOp) and _is_text(node):
        yield from _parts(node.left)
        yield from _parts(node.right)
    else:
        inner = node.value if isinstance(node, ast.FormattedValue) else node
        words = (inner.body, inner.orelse) if isinstance(inner, ast.IfExp) else ()
        plain = tuple(word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str))
        yield plain if len(plain) == 2 else (None,)


def _inner(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the expressions in a text's placeholders."""
    if isinstance(node, ast.JoinedStr):
        yield from (value.value for value in node.values if isinstance(value, ast.FormattedValue))
    elif isinstance(node, ast.BinOp):
        for side in (node.left, node.right):
            yield from _inner(side) if _is_text(side) else (side,)


def read(text: str) -> dict[str, str]:
    """Return the translations in a .po file; an empty one is not made yet."""
    entries: dict[str, str] = {}
    for block in text.split("\n\n"):
        parts = {"msgid": "", "msgstr": ""}
        part = ""
        for line in block.split("\n"):
            word, _, rest = line.partition(" ")
            part, quoted = (word, rest) if word in parts else (part, line)
            if part and quoted.startswith('"'):
                parts[part] += ast.literal_eval(quoted)
        if parts["msgid"]:
            entries[parts["msgid"]] = parts["msgstr"]
    return entries


def page(translations: Mapping[str, str]) -> str:
    """Return the .po file: every message of today, with its translation if there is one."""
    blocks = [f'msgid ""\nmsgstr ""\n{_quoted(HEADER)}']
    for text, file in sorted(messages().items(), key=lambda item: (item[1], item[0])):
        blocks.append(f"#: {file}\nmsgid {_quoted(text)}\nmsgstr {_quoted(translations.get(text, ''))}")
    return "\n\n".join(blocks) + "\n"


def _quoted(text: str) -> str:
    """Return a text as a .po file holds it: a line of its own for each line."""
    lines = text.splitlines(keepends=True) or [""]
    quoted = ['"' + line.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"' for line in lines]
    return quoted[0] if len(quoted) == 1 else "\n".join(['""', *quoted])


def compiled(translations: Mapping[str, str]) -> bytes:
    """Return the .mo file, as gettext's docs describe it: tables of the texts' lengths and places, then the texts."""
    pairs = sorted((text.encode(), made.encode()) for text, made in {"": HEADER, **translations}.items() if made)
    start = 28 + 16 * len(pairs)
    tables, texts = [b"", b""], b""
    for side in (0, 1):
        for pair in pairs:
            tables[side] += struct.pack("<2I", len(pair[side]), start + len(texts))
            texts += pair[side] + b"\0"
    return struct.pack("<7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0) + b"".join(tables) + texts


if __name__ == "__main__":
    made = read(CATALOGUE.read_text(encoding="utf-8"))
    CATALOGUE.write_text(page(made), encoding="utf-8")
    CATALOGUE.with_suffix(".mo").write_bytes(compiled({text: made[text] for text in messages() if made.get(text)}))
    for text, file in messages().items():
        if not made.get(text):
            show(f"{file}: {text}")
