"""What a command beyond train, val and test does, one file each, imported when it is called."""

import importlib
from collections.abc import Callable

from fire.decorators import SetParseFn

from utils.cli import Flag, as_flag, to_flags

__all__ = ["command"]


def command(name: str, doc: str) -> Callable[..., None]:
    """The command of that file, which takes words and flags as they are; `doc` is what the help says of it."""

    @SetParseFn(as_flag)
    def call(*words: str, **flags: Flag) -> None:
        given = [flag for flag in to_flags({**flags}) if flag.key != "debug"]
        importlib.import_module(f"commands.{name}").run(words, given)

    call.__name__, call.__doc__ = name, doc
    return call
