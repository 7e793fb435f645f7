"""Choose the language: --lang of a command, otherwise the environment, as every program of a system does."""

import os
import sys
from collections.abc import Sequence

from utils.errors import ConfigError

__all__ = ["choose", "is_chinese"]

OWN = "DEEPTRAIN_LANG"  # holds --lang, so that processes which a command starts speak the same language
VARIABLES = (OWN, "LC_ALL", "LC_MESSAGES", "LANGUAGE", "LANG")
LANGUAGES = ("zh", "en")


def choose(arguments: Sequence[str]) -> list[str]:
    """Take --lang out of the typed arguments, for it is an option of every command. Returns the other arguments.

    Raises ConfigError for a language that is not there.
    """
    others = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name not in ("--lang", "lang") or argument == "lang":
            others.append(argument)
        elif (language := _language(value)) in LANGUAGES:
            os.environ[OWN] = language
        else:
            raise ConfigError(f"{argument}: write --lang=zh (中文) or --lang=en (English)")
    return others


def is_chinese(error: bool = False) -> bool:
    """Return whether texts are shown in Chinese: it is asked for, and stdout (or stderr) can show it."""
    values = [os.environ.get(name, "") for name in VARIABLES]
    asked = next((value for value in values if value and not value.upper().startswith("C.")), "")  # C.UTF-8: any
    return _language(asked) == "zh" and _can_show(sys.stderr if error else sys.stdout)


def _language(value: str) -> str:
    """Return the language of zh_CN.UTF-8, zh-CN or zh_CN:zh."""
    return value.partition(":")[0].partition(".")[0].replace("-", "_").partition("_")[0].lower()


def _can_show(stream: object) -> bool:
    try:
        "中文".encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
