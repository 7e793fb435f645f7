"""Config files and command lines that are wrong in every way: each mistake is a line, nothing is started or written."""

import contextlib
import functools
import io
import os
import re
import signal
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from tests.faults import campaign
from tests.faults.campaign import Family, Trial, Violation, require
from tests.faults.children import warm
from tests.faults.damages import DAMAGES, VALUES

FOLDER = Path(__file__).parent.parent.parent / "configs"
CONFIGS, LINES = 1000, 200
HANG = 60  # s, of a check that takes a fraction of one

WORDS = [
    "train",
    "check",
    "help",
    "val",
    "test",
    "generate",
    "dogcat",
    "default",
    "poetry",
    "nowhere",
    "../x",
    "",
    "-",
    "--",
]
KEYS = ["lr", "model", "optim.lr", "batch-size", "data.dataset", "train.max_steps", "seed", "model.hidden", "schedule"]
KEYS += [
    "log.visdom",
    "nothere",
    "optim.model.lr",
    "data",
    "no-shuffle",
    "shuffle",
    "trian",
    "x" * 200,
    "",
    ".",
    "a..b",
    "é",
]


def trial(t: Trial) -> str:
    with BROKEN[t.broken]() if t.broken else contextlib.nullcontext():
        return config(t) if t.seed % (CONFIGS + LINES) < CONFIGS else command_line(t)


def config(t: Trial) -> str:
    """A shipped config, damaged: it is checked, and if it is wrong, training with it starts nothing."""
    name = t.rng.choice([path.name for path in shipped()])
    kind = t.rng.choice(list(DAMAGES))
    content = DAMAGES[kind]((FOLDER / name).read_text(encoding="utf-8"), t.rng)
    (t.folder / "a.yaml").write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    code, words = call(t.folder, ["check", "a.yaml"])
    require(code in (0, 2), f"{kind} of {name}: check ends with {code}: {words[-300:]}")
    require(code == 2 or kind not in WRONG, f"{kind} of {name}: check finds no mistake")
    if code == 2:
        again, other = call(t.folder, ["train", "a.yaml"])
        require(again == 2, f"{kind} of {name}: check ends with 2, but train with {again}: {other[-300:]}")
    return f"{kind}: {code}"


def command_line(t: Trial) -> str:
    """Words and flags at random; a flag that is wrong for certain keeps `train` from beginning."""
    command = t.rng.choice(["train", "train", "check", "check", "help", "val", "test", "generate", "trian", ""])
    arguments = [command]
    for _ in range(t.rng.randint(0, 5)):
        dashes = t.rng.choice(["--", "--", "--", "-", "", "—", "---"])
        value = t.rng.choice(
            ["", "=", "=" + t.rng.choice(VALUES), "=" + t.rng.choice(VALUES), " " + t.rng.choice(VALUES)]
        )
        arguments.append(t.rng.choice(WORDS) if t.rng.random() < 0.2 else dashes + t.rng.choice(KEYS) + value)
    arguments = [argument.replace("\0", "") for argument in arguments]
    if command == "train":
        arguments.insert(t.rng.randint(1, len(arguments)), "--model.nothere=1")
    code, words = call(t.folder, arguments)
    absent = code == 4 and command in ("val", "test", "generate") and "no such run folder or checkpoint" in words
    require(code in (0, 2) or absent, f"{arguments} ends with {code}: {words[-300:]}")
    require(code == 2 or command != "train", f"{arguments} began a training")
    return f"{command}: {code}"


def call(folder: Path, arguments: list[str]) -> tuple[int, str]:
    """The exit code and what was said. Raises Violation for an exception, a hang, or anything that was written."""
    import main

    out, err, before, held = io.StringIO(), io.StringIO(), os.getcwd(), listing(folder)
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), in_time():
            code = main.main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    except Exception as error:
        raise Violation(f"{arguments}: {type(error).__name__}: {error}") from error
    finally:
        os.chdir(before)
    require(listing(folder) == held, f"{arguments} wrote {listing(folder).keys() - held.keys()}")
    check_words(arguments, code, out.getvalue(), err.getvalue())
    return code, err.getvalue() or out.getvalue()


def check_words(arguments: list[str], code: int, out: str, err: str) -> None:
    """Raises Violation unless mistakes are told on stderr, a line each, and nothing is told of none."""
    require("Traceback" not in out + err, f"{arguments}: a traceback: {err[-300:]}")
    require(bool(err) == (code != 0), f"{arguments}: code {code}, but says {err!r}")
    for line in err.splitlines():
        require(re.match(r"\S", line), f"{arguments}: no sentence: {line[:200]!r} in {err[:400]!r}")
    marks = [mark for mark in err if unicodedata.category(mark) == "Cc" and mark not in "\n\t"]
    require(not marks, f"{arguments}: says what steers a terminal: {err[:300]!r}")


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    """Raises Violation in the code within when it takes far too long."""

    def late(*_: object) -> None:
        raise Violation(f"it takes more than {HANG} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(HANG)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Names, sizes and times of all that lies below a folder."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


@functools.cache
def shipped() -> list[Path]:
    return sorted(FOLDER.glob("*.yaml"))


WRONG = ("unknown key", "nested deeply", "alias bomb")  # for certain


def prepare() -> None:
    import torch  # noqa: F401 - what `val` reads, so that no trial pays for it

    warm(campaign.SCRATCH, "check", "default")


# Broken on purpose


@contextlib.contextmanager
def patched(where: object, name: str, new: object) -> Iterator[None]:
    old = getattr(where, name)
    setattr(where, name, new)
    try:
        yield
    finally:
        setattr(where, name, old)


def raw_errors() -> contextlib.AbstractContextManager:
    """YAML's own exceptions come through."""
    import yaml

    from utils.config import yaml_text
    from utils.config.tree import to_node

    return patched(yaml_text, "read_yaml", lambda path, shown: to_node(yaml.safe_load(path.read_text()), shown))


def starts() -> contextlib.AbstractContextManager:
    """A run folder is made before the config is checked."""
    import configs

    own = configs._check

    def check(*arguments: object) -> object:
        Path("checkpoints").mkdir(exist_ok=True)
        return own(*arguments)

    return patched(configs, "_check", check)


def forgiving() -> contextlib.AbstractContextManager:
    """Mistakes are dropped where the trainer reads a config."""
    from utils.config.tree import Problems

    return patched(Problems, "raise_any", lambda self: None)


BROKEN = {"errors of the YAML reader come through": raw_errors, "a folder made at once": starts, "forgiving": forgiving}

FAMILY = Family(
    "fuzz",
    f"{CONFIGS:,} damaged configs (keys deleted, doubled, misspelt; wrong types, bad YAML, deep nesting, binary) "
    f"through check and train, {LINES} command lines at random",
    "exit 0 or 2 (4 for a checkpoint that is not there), one line each mistake, no traceback, nothing started or "
    "written",
    CONFIGS + LINES,
    trial,
    tuple(BROKEN),
    prepare,
)
