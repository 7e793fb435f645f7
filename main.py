"""Train, validate and test what the files in configs/ describe. Start with `python main.py help`."""

import io
import os
import sys
from collections.abc import Callable
from typing import Literal

from commands import found
from configs import load
from utils.config.cli import Flag, as_count, call, nobody_reads, to_flags
from utils.errors import ConfigError, UserError
from utils.words import suggest

OPTIONS = {  # of the command itself, not of the config
    "train": ("config", "run", "resume", "quiet", "json", "debug"),
    "check": ("config", "run", "quiet", "json", "print", "debug"),  # train's as well: one checks it first
    "selftest": ("config", "only", "trials", "steps", "debug"),
}
SWITCHES = ("quiet", "json", "print", "debug")
QUICK = ("check", "completion", "diff", "help", "runs")  # done before fire would be imported


def train(*words: str, **flags: Flag) -> None:
    """Train a config, or continue a run with --resume."""
    options, keys = _split("train", flags)
    config = _one_word("train", words, options.get("config"))
    output = _output(options)
    if "resume" in options:
        if config or "run" in options:
            raise ConfigError(
                f"--resume: a run continues with its stored config and name; leave out {config or '--run'}"
            )
        from trainer.run import session

        return session.resume("" if options["resume"] == "true" else options["resume"], keys, output)
    cfg = load(config or "default", keys, OPTIONS["train"])
    from trainer.run import session

    return session.train(cfg, config or "default", options.get("run"), output)


def val(*words: str, **flags: Flag) -> None:
    """Print the validation metrics of a checkpoint."""
    _measure("val", words, flags)


def test(*words: str, **flags: Flag) -> None:
    """Write the predictions of a checkpoint for the test split."""
    _measure("test", words, flags)


def generate(*words: str, **flags: Flag) -> None:
    """Make what a generative task makes, from a checkpoint."""
    _measure("generate", words, flags)


def check(*words: str, **flags: Flag) -> None:
    """Tell every mistake in a config and its flags, and start nothing."""
    options, keys = _split("check", flags)
    from commands.check import run

    config = _one_word("check", words, options.get("config")) or "default"
    run(config, keys, OPTIONS["check"], options.get("print") == "true")


def selftest(*words: str, **flags: Flag) -> None:
    """Kill short trainings of a config, resume them, and compare every bit."""
    options, keys = _split("selftest", flags)
    numbers = {name: as_count(name, options[name]) for name in ("trials", "steps") if name in options}
    config = _one_word("selftest", words, options.get("config")) or "default"
    from commands.selftest import run

    run(config, keys, OPTIONS["selftest"], options.get("only", "resume"), **numbers)


def help(*words: str, **flags: Flag) -> None:
    """Explain a command, a key or a component; list models, data, configs, …"""
    _, keys = _split("help", flags)
    if keys:
        raise ConfigError(f"{keys[0].typed}: help takes a topic: python main.py help {keys[0].key}")
    from commands.help import run

    run(_one_word("help", words), COMMANDS)


COMMANDS: dict[str, Callable[..., None]] = {c.__name__: c for c in (train, val, test, generate, check, selftest, help)}
COMMANDS |= found(taken=COMMANDS)


def __getattr__(name: str) -> Callable[..., None]:
    """A command of the folder, as a notebook calls it: main.plot("run1")."""
    if name in COMMANDS:
        return COMMANDS[name]
    raise AttributeError(name)


def _measure(command: str, words: tuple[str, ...], flags: dict[str, Flag]) -> None:
    _, keys = _split(command, flags)
    path = [flag for flag in keys if flag.key in ("load_model_path", "train.load_model_path")]
    checkpoint = _one_word(command, words, *(flag.text for flag in path))
    if not checkpoint:
        raise ConfigError(f"{command}: which checkpoint? e.g. python main.py {command} checkpoints/NAME")
    keys = [flag for flag in keys if flag not in path]
    if command == "generate":
        from commands import generate

        return generate.run(checkpoint, keys)
    from trainer.inference import trained

    return getattr(trained, command)(checkpoint, keys)


def _split(command: str, flags: dict[str, Flag]) -> tuple[dict[str, str], list[Flag]]:
    """The command's own options, and the flags that are keys of the config."""
    given = to_flags(flags)
    options = {flag.key: flag for flag in given if flag.key in OPTIONS.get(command, ("debug",))}
    for flag in options.values():
        if flag.key in SWITCHES and flag.text not in ("true", "false"):
            raise ConfigError(f"{flag.typed}: expected true or false; write --{flag.key} or leave it out")
        if flag.key in ("config", "run") and (flag.typed == f"--{flag.key}" or not flag.text):
            raise ConfigError(f"{flag.typed}: needs a value: --{flag.key}=…")
    return {key: flag.text for key, flag in options.items()}, [flag for flag in given if flag.key not in options]


def _output(options: dict[str, str]) -> Literal["text", "quiet", "json"]:
    """How train tells of its progress."""
    quiet, json = (options.get(name) == "true" for name in ("quiet", "json"))
    if quiet and json:
        raise ConfigError("--quiet --json: one prints nothing, the other all; leave one out")
    return "quiet" if quiet else "json" if json else "text"


def _one_word(command: str, words: tuple[str, ...], *more: str | None) -> str:
    given = [*words, *filter(None, more)]
    if len(given) > 1:
        raise ConfigError(f"{command} takes one word, got {', '.join(given)}; flags are written --key=value")
    return given[0] if given else ""


def main(arguments: list[str]) -> int:
    """Run the command; give the exit code. Mistakes of the user are told in a line each."""
    asks_help = not arguments or arguments[0] in ("--help", "-h") or {"--help", "-h"} & set(arguments[1:])
    if asks_help:
        arguments = ["help", *(arguments[:1] if arguments and arguments[0] in COMMANDS else [])]
    try:
        if arguments[0] not in COMMANDS:
            raise ConfigError(f"no command '{arguments[0]}'{suggest(arguments[0], COMMANDS)}")
        call(COMMANDS[arguments[0]], arguments[1:], quick=arguments[0] in QUICK)
        print(end="", flush=True)  # to nobody, where stdout is closed
    except UserError as error:
        if {"--debug", "--debug=true", "debug=true"} & set(arguments):
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        elif not isinstance(error, ConfigError) or "WORLD_SIZE" not in os.environ or os.environ["RANK"] == "0":
            print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130  # before the training began, or after it ended: there is nothing to save
    except BrokenPipeError:
        if not nobody_reads():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # as in `help | head`: nobody is there to be told
    return 0


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without "…" gets \u2026, not a traceback
    sys.exit(main(sys.argv[1:]))
