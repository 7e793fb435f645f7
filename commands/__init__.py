"""What a command beyond train, val and test does, one file each, imported when it is called."""

import importlib
from collections.abc import Callable, Container
from pathlib import Path

from utils.config.cli import Flag, to_flags

__all__ = ["found"]


def found(taken: Container[str]) -> dict[str, Callable[..., None]]:
    """The commands that are a file of this folder, but for those taken: name, and what to call.

    A file's docstring is what the help says: `name: one sentence.`, the usage, and more in further paragraphs.
    """
    files = sorted(Path(__file__).parent.glob("[!_]*.py"))
    return {path.stem: _command(path) for path in files if path.stem not in taken}


def _command(path: Path) -> Callable[..., None]:
    """The command of a file, which takes words and flags as they are."""

    def call(*words: str, **flags: Flag) -> None:
        given = [flag for flag in to_flags({**flags}) if flag.key != "debug"]
        importlib.import_module(f"commands.{path.stem}").run(words, given)

    call.__name__, call.__doc__ = path.stem, path.read_text(encoding="utf-8").split('"""')[1]
    return call
