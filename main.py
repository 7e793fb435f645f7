"""Read the command line, call the command, print its mistakes. Start with `python main.py help`."""

import os
import sys
from collections.abc import Callable

from commands import QUICK, as_named, found, no_command, version
from utils.blame import DEBUG, answer, exit_error
from utils.config.cli import call, output_is_closed
from utils.errors import ConfigError
from utils.language.choice import choose
from utils.runs.group import end_with
from utils.terminal import escape_unprintable, show

COMMANDS = found()


def __getattr__(name: str) -> Callable[..., None]:
    """Return a command, as a notebook calls it: main.plot("run1")."""
    if name in COMMANDS:
        return COMMANDS[name]
    raise AttributeError(name)


def main(arguments: list[str]) -> int:
    """Run the command and return the exit code. Prints a line for each mistake of the user."""
    DEBUG.set(bool({"--debug", "--debug=true", "debug=true"} & set(arguments)))
    try:
        arguments = as_named(choose(arguments), COMMANDS)
        if not arguments or arguments[0] in ("--help", "-h") or {"--help", "-h"} & set(arguments[1:]):
            arguments = ["help", *(arguments[:1] if arguments and arguments[0] in COMMANDS else [])]
        if arguments == ["--version"]:
            return show(version()) or 0
        if arguments[0] not in COMMANDS:
            raise ConfigError(f"no command '{arguments[0]}'{no_command(arguments[0], COMMANDS)}")
        call(COMMANDS[arguments[0]], arguments[1:], quick=arguments[0] in QUICK)
        print(end="", flush=True)  # raises now if stdout is closed
    except KeyboardInterrupt:  # before the training began, or after it ended: there is nothing to save
        return 130
    except SystemExit as error:  # exit() in the user's code: the run would end as if all were done
        if (told := exit_error(error)) is None:
            raise
        return answer(told.with_traceback(error.__traceback__))
    except Exception as error:
        if not isinstance(error, BrokenPipeError) or not output_is_closed():
            return answer(error)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads the rest, as in `help | head`
    return 0


def console() -> int:
    """Run the typed command on any terminal."""
    escape_unprintable()
    return main(sys.argv[1:])


if __name__ == "__main__":
    end_with(console)
