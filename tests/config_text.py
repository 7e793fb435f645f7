"""What the tests of configs share: a config from its text."""

from pathlib import Path

from configs import Config, load
from utils.config.cli import Flag, as_flag
from utils.errors import ConfigError

__all__ = ["as_flags", "at"]


def at(text: str | bytes = "", *flags: str, name: str = "a.yaml") -> Config | list[str]:
    """Load a config of that text, written to this folder, with flags: the Config, or its mistakes as lines."""
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        return load(f"./{name}", as_flags(*flags))
    except ConfigError as error:
        return str(error).split("\n")


def as_flags(*typed: str) -> list[Flag]:
    """Flags as the command line has them."""
    return [flag for argument in typed if isinstance(flag := as_flag(argument), Flag)]
