"""The words and flags of a command: separate its own options from the config's keys."""

from collections.abc import Sequence

from utils.config.cli import Flag
from utils.errors import ConfigError

__all__ = ["checkpoint_and_keys", "one_word", "split"]

SWITCHES = ("quiet", "json", "print", "data", "debug")
CHECKPOINTS = ("load_path", "model_path", "model_ckpt")  # names of the book's
NETWORKS = ("netg_path", "netd_path")


def split(flags: Sequence[Flag], known: Sequence[str]) -> tuple[dict[str, str], list[Flag]]:
    """Return the command's own options, which are `known`, and the flags that are keys of the config.

    Raises ConfigError for an option with a value that it does not take.
    """
    options = {flag.key: flag for flag in flags if flag.key in known}
    for flag in options.values():
        if flag.key in SWITCHES and flag.text not in ("true", "false"):
            raise ConfigError(f"{flag.typed}: expected true or false; write --{flag.key} or leave it out")
        if flag.key in ("config", "run") and (flag.typed == f"--{flag.key}" or not flag.text):
            raise ConfigError(f"{flag.typed}: needs a value: --{flag.key}=…")
    return {key: flag.text for key, flag in options.items()}, [flag for flag in flags if flag.key not in options]


def one_word(command: str, words: Sequence[str], *more: str | None) -> str:
    """Return the only typed word, or "" if there is none.

    Raises ConfigError for several.
    """
    given = [*words, *filter(None, more)]
    if len(given) > 1:
        raise ConfigError(f"{command} takes one word, got {', '.join(given)}; flags are written --key=value")
    return given[0] if given else ""


def checkpoint_and_keys(command: str, words: Sequence[str], flags: Sequence[Flag]) -> tuple[str, list[Flag]]:
    """Return the checkpoint of the command, which --load-model-path may name, and the other flags.

    Raises ConfigError when no checkpoint is named.
    """
    path = [flag for flag in flags if flag.key in ("load_model_path", "train.load_model_path")]
    checkpoint = one_word(command, words, *(flag.text for flag in path))
    if not checkpoint:
        named = next((flag for flag in flags if flag.key in CHECKPOINTS), None)
        asked = named.text if named and "=" in named.typed else "checkpoints/NAME"
        both = any(flag.key in NETWORKS for flag in flags) and "; a run holds both networks"
        raise ConfigError(f"{command}: which checkpoint? e.g. python main.py {command} {asked}{both or ''}")
    return checkpoint, [flag for flag in flags if flag not in path]
