"""The commands, one file each, imported when it is called.

In: the typed words and flags. Out: the command's output and files. Read train.py first.
"""

import importlib
from collections.abc import Callable
from pathlib import Path

from utils.config.cli import Flag, to_flags

__all__ = ["QUICK", "found"]

FIRST = ("train", "val", "test", "generate", "check", "selftest", "help")  # in the help's order; the others follow
QUICK = ("check", "completion", "diff", "help", "runs")  # these end before fire would be imported


def found() -> dict[str, Callable[..., None]]:
    """Return the commands by name; each is a file of this folder.

    A file's docstring is the command's help: `name: one sentence.`, the usage, and further paragraphs. Its function
    `run` gets the words and the flags, without --debug.
    """
    files = {path.stem: path for path in sorted(Path(__file__).parent.glob("[!_]*.py"))}
    return {name: _command(files[name]) for name in [*FIRST, *(n for n in files if n not in FIRST)]}


def _command(path: Path) -> Callable[..., None]:
    """Return the command of a file, which takes words and flags unparsed."""

    def call(*words: str, **flags: Flag) -> None:
        from commands._arguments import split

        _, given = split(to_flags({**flags}), ("debug",))
        importlib.import_module(f"commands.{path.stem}").run(words, given)

    call.__name__, call.__doc__ = path.stem, path.read_text(encoding="utf-8").split('"""')[1]
    return call
