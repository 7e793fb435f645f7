"""What may be wrong with a config file."""

import re
from collections.abc import Callable
from random import Random

VALUES = [
    "1",
    "0",
    "-3",
    "1e-3",
    "1e999",
    ".nan",
    ".inf",
    "true",
    "no",
    "null",
    "~",
    "''",
    '"x"',
    "1_0",
    "深度",
    "\ufeff",
]
VALUES += ["9" * 5000, "-1e400", "0x7fffffffffffffffff", "2001-01-01", "12:30:45", "x" * 3000, "[]", "{}", "[[[[1]]]]"]
VALUES += [
    "{a: {b: [c]}}",
    "!!python/object/apply:os.system [touch owned]",
    "!!binary aGk=",
    "!!set {a, b}",
    "*nowhere",
]
VALUES += [
    "ResNet34",
    "Adam",
    "torchvision:",
    "torchvision:resnet18",
    ":",
    "name",
    "../../etc/passwd",
    "/dev/stdin",
    "<<",
]
MARKS = [":", ": ", ", ", "[", "]", "{", "}", "- ", "\n", "\n  ", "#", "&a ", "*a", "|\n", ">\n", "? ", "\t", "'", '"']
MARKS += ["---\n", "%", "@", "\0", "=", "<<", ".", "\r", "\x85", "\u2028", "\x1b[31m"]


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def delete(text: str, rng: Random) -> str:
    lines = lines_of(text)
    del lines[rng.randrange(len(lines))]
    return "\n".join(lines)


def duplicate(text: str, rng: Random) -> str:
    lines = lines_of(text)
    lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    return "\n".join(lines)


def misspell(text: str, rng: Random) -> str:
    found = list(re.finditer(r"\b[a-z_]{2,}(?=:)", text))
    match = rng.choice(found)
    word = match[0]
    i = rng.randrange(len(word))
    wrong = rng.choice(
        [word[:i] + word[i + 1 :], word[:i] + rng.choice("aeiouxyz_") + word[i:], word.upper(), word[::-1]]
    )
    return text[: match.start()] + wrong + text[match.end() :]


def wrong_value(text: str, rng: Random) -> str:
    found = list(re.finditer(r"(?<=: )[^,{}\[\]\n#]+", text))
    match = rng.choice(found)
    return text[: match.start()] + rng.choice(VALUES) + text[match.end() :]


def bad_marks(text: str, rng: Random) -> str:
    for _ in range(rng.randint(1, 4)):
        i = rng.randrange(len(text))
        text = text[:i] + rng.choice(MARKS + VALUES) + text[i + rng.randrange(3) :]
    return text


def nested(text: str, rng: Random) -> str:
    depth = rng.choice([5, 50, 500, 5000])
    key = rng.choice(["model", "train", "data", "extra", "schedule"])
    opening, closing = rng.choice([("{a: ", "}"), ("[", "]")])
    return f"{key}: {opening * depth}1{closing * depth}\n"


def junk(text: str, rng: Random) -> bytes:
    content = bytearray(text.encode())
    for _ in range(rng.randint(1, 30)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return rng.choice([bytes(content), rng.randbytes(300), b"", text.encode("utf-16"), text.encode() + b"\0" * 100])


def bomb(text: str, rng: Random) -> str:
    """Aliases of aliases: a few lines that stand for billions of values."""
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return "\n".join(rows if rng.random() < 0.5 else [*rows, "model: *a9"])


def based(text: str, rng: Random) -> str:
    bases = ["a.yaml", "a", ".", "/dev/null", "nowhere", "[a]", "1", "dogcat", "x" * 300, "~"]
    return f"base: {rng.choice(bases)}\n{text}"


def unknown_key(text: str, rng: Random) -> str:
    section = rng.choice(["", "train", "data", "log"])
    key = f"nothere{rng.randrange(100)}: {rng.choice(['1', 'x', '[]', '{}', 'null'])}"
    if section:
        text = re.sub(rf"^{section}:(?:[^\n]*\n)(?:[ \t]+[^\n]*\n)*", "", f"{text}\n", flags=re.MULTILINE)
    return f"{text}\n{section}: {{{key}}}\n" if section else f"{text}\n{key}\n"


DAMAGES: dict[str, Callable[[str, Random], str | bytes]] = {
    "line deleted": delete,
    "line twice": duplicate,
    "misspelt": misspell,
    "unknown key": unknown_key,
    "wrong value": wrong_value,
    "bad YAML": bad_marks,
    "nested deeply": nested,
    "binary": junk,
    "alias bomb": bomb,
    "odd base": based,
}
