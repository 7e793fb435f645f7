"""The commands, one file each, imported when it is called.

In: the typed words and flags. Out: the command's output and files. Read train.py first.
"""

import importlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from utils.config.cli import Flag, to_flags
from utils.words import suggest

__all__ = ["QUICK", "as_named", "found", "no_command", "told", "version"]

FOLDER = os.path.dirname(__file__)

FIRST = ("train", "val", "test", "generate", "check", "selftest", "help")  # in the help's order; the others follow
QUICK = ("check", "completion", "ctl", "diff", "help", "runs")  # these end before fire would be imported


def found() -> dict[str, Callable[..., None]]:
    """Return the commands by name; each is a file of this folder.

    A file's docstring is the command's help: `name: one sentence.`, the usage, and further paragraphs. Its function
    `run` gets the words and the flags, without --debug.
    """
    files = sorted(file.removesuffix(".py") for file in os.listdir(FOLDER) if file.endswith(".py") and file[0] != "_")
    return {name: _command(name) for name in [*FIRST, *(name for name in files if name not in FIRST)]}


def as_named(words: list[str], commands: Iterable[str]) -> list[str]:
    """Return the words of a command line with lr_find for lr-find, where a command or its help is meant."""
    meant = {name.replace("_", "-"): name for name in commands}
    named = 2 if words[:1] == ["help"] else 1
    return [meant.get(word, word) for word in words[:named]] + words[named:]


def told(name: str) -> str:
    """Return the help of a command, which is its file's docstring."""
    return Path(FOLDER, f"{name}.py").read_text(encoding="utf-8").split('"""')[1]


def no_command(word: str, commands: Iterable[str]) -> str:
    """Return the end of the message about a word that is no command."""
    from configs.hints.words import ELSEWHERE, absent
    from configs.layers import config_files

    if word.startswith("-"):
        return "; the first word is a command, such as train, val or test: python main.py help"
    name = word.replace("-", "_")
    if sentence := absent(name, commands):
        return f": {sentence}"
    meant = f"train {word}" if word in config_files() else ELSEWHERE.get(name, "")
    return f"; did you mean '{meant}'?" if meant else suggest(word, commands)


def version() -> str:
    """Return the versions of the program, of torch and of Python, none of which is imported for it."""
    import platform
    import tomllib
    from importlib import metadata

    own = Path(FOLDER, "..", "pyproject.toml")  # of a checkout, which may not be installed
    number = tomllib.loads(own.read_text("utf-8"))["project"]["version"] if own.is_file() else ""
    parts = {"deeptrain": number or metadata.version("deeptrain"), "torch": "", "Python": platform.python_version()}
    try:
        parts["torch"] = metadata.version("torch")
    except metadata.PackageNotFoundError:
        parts["torch"] = "not installed"
    return ", ".join(f"{name} {number}" for name, number in parts.items())


def _command(name: str) -> Callable[..., None]:
    """Return the command of that name, which takes words and flags unparsed."""

    def call(*words: str, **flags: Flag) -> None:
        from commands._arguments import split

        _, given = split(to_flags({**flags}), ("debug",))
        importlib.import_module(f"commands.{name}").run(words, given)

    call.__name__, call.__doc__ = name, f"python main.py help {name} explains this command."
    return call
