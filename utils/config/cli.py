"""Read the command line as people type it, and make it unambiguous for fire."""

import os
import re
import select
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any

from utils.config.convert import to_plain
from utils.config.tree import Node, to_node
from utils.errors import ConfigError
from utils.optional import installed
from utils.words import shortened

__all__ = [
    "Flag",
    "as_count",
    "as_flag",
    "as_typed",
    "call",
    "flag_node",
    "output_is_closed",
    "python_flag",
    "read_arguments",
    "to_flags",
]

KEY = re.compile(r"[A-Za-z_][\w.-]*$")


@dataclass(frozen=True, repr=False)
class Flag:
    """A flag `--a-b=value`: its key (a_b), its value as text, and its full text; or a key and value from Python."""

    key: str
    text: str
    typed: str
    node: Node | None = field(default=None, compare=False)  # the value from Python
    wrong: str = ""  # the fault of the value from Python, if it has one

    @property
    def dashes(self) -> str:
        """The dashes before a typed key; empty for a key from Python."""
        return "" if self.node else "--"


def as_flag(argument: str) -> "Flag | str":
    """Return a typed flag as a Flag, and any other word unchanged. fire parses each value with this."""
    if not argument.startswith("--"):
        return argument
    key, equals, text = argument[2:].partition("=")
    return Flag(key.replace("-", "_"), text if equals else "true", argument)


def to_flags(options: Mapping[str, object]) -> list[Flag]:
    """Return the flags in a command's keyword arguments; a notebook may pass plain values: train("dogcat", lr=0.1)."""
    plain = {True: "true", False: "false", None: "null"}
    flags = []
    for key, value in options.items():
        if not isinstance(value, Flag):
            text = plain[value] if value is None or isinstance(value, bool) else str(value)
            value = Flag(key.replace("-", "_"), text, f"--{key}={text}")
        flags.append(value)
    return flags


def python_flag(key: str, value: object, typed: str) -> Flag:
    """Return the flag for a key and a value of Python code; messages quote it as `typed`."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    try:
        node, wrong = to_node(_plain(value), typed, loose=True), ""
    except TypeError as error:
        node, wrong = Node("null", typed), str(error)
    return Flag(key.replace("-", "_"), text, typed, node, wrong)


def _plain(value: Any) -> Any:
    """Return a value as a config file would hold it: converts components, sections, paths and numpy's numbers.

    Raises TypeError for a value that no config file can hold.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return to_plain(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    import numbers  # from Python only: no command pays for it

    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    named = f": give its name, '{value.__name__}'" if isinstance(value, type) else ""
    got = "a class" if named else f"a value of type {type(value).__name__}"
    raise TypeError(f"expected a number, text, True, False, None, a list or a dict, got {got}{named}")


def as_count(name: str, text: str) -> int:
    """Return the whole number that was passed to a command's option.

    Raises ConfigError for other text.
    """
    if not text.isdecimal():
        raise ConfigError(f"--{name}={text}: expected a whole number")
    return int(text)


def as_typed(key: str, flags: Sequence[Flag]) -> str:
    """Return the flag that set a dotted key, as it was typed."""
    last = key.rpartition(".")[2]
    found = [flag.typed for flag in flags if flag.key == key]
    found += [flag.typed for flag in flags if flag.key.rpartition(".")[2].removeprefix("no_") == last]
    return found[0] if found else f"--{key}"


def read_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments for fire: words, then `--key=<the flag as typed>`, so that fire need not guess.

    Otherwise fire would run a command that was asked for `--help`, read `--a b` as a=b, take `-- --x` as its own flags,
    and take a one-letter flag as any parameter that begins with that letter.

    Raises ConfigError with a line for each argument that cannot be understood.
    """
    words: list[str] = []
    flags: dict[str, str] = {}
    wrong: list[str] = []
    bare = ""  # the previous flag, if it had no value
    for argument in arguments:
        typed = f"--{argument}" if _is_assignment(argument) else argument
        if bare and not typed.startswith("--"):
            value = shortened(argument)
            wrong.append(f"{bare} {value}: write {bare}={value} (or put '{value}' before the flags)")
        elif not typed.startswith(("-", "–", "—")):
            words.append(argument)
        elif message := _add(flags, typed):
            wrong.append(f"{shortened(argument)}: {message}")
        bare = typed if typed.startswith("--") and "=" not in typed else ""
    if wrong:
        raise ConfigError("\n".join(wrong))
    return words + [f"--{key}={typed}" for key, typed in flags.items()]


def call(command: Callable[..., None], arguments: Sequence[str], quick: bool) -> None:
    """Call a command with the arguments typed after its name: through fire, or directly if it is `quick`.

    Without fire every command is called directly.

    Importing fire, which imports asyncio, takes longer than a quick command does. Raises ConfigError for arguments that
    cannot be understood.
    """
    given = read_arguments(arguments)
    if quick or not installed("fire"):
        words = [argument for argument in given if not argument.startswith("--")]
        flags = [argument[2:].partition("=") for argument in given if argument.startswith("--")]
        command(*words, **{key: as_flag(typed) for key, _, typed in flags})
        return
    import fire
    from fire.decorators import SetParseFn

    fire.Fire(SetParseFn(as_flag)(command), command=given, name="main.py")


def output_is_closed() -> bool:
    """Return whether the broken pipe is the program's own output; a dataset may have a pipe of its own."""
    if not hasattr(select, "poll"):  # Windows, which reports a closed pipe in another way
        return True
    watch = select.poll()
    watch.register(1, 0)
    return bool(watch.poll(0))


def _add(flags: dict[str, str], typed: str) -> str:
    """Add a flag to `flags` and return its fault; empty if it is good."""
    flag = as_flag(typed)
    if not isinstance(flag, Flag) or not KEY.match(typed[2:].partition("=")[0]):
        meant = typed.lstrip("-–—")
        if re.match(r"[\w.-]+\[\d+\]", meant):
            return "a list is given whole, as '--data.transform.train=[{name: Resize, size: 64}]', or in a file"
        example = f"--{meant}" if _is_assignment(meant) else "--key=value"
        return f"a flag is written {shortened(example)}, with two plain hyphens in front"
    if flag.key in flags:
        return f"is given twice ({flags[flag.key]} before); leave one out"
    flags[flag.key] = typed
    return ""


def _is_assignment(argument: str) -> bool:
    """Return whether the argument is `key=value` without dashes, which is a flag too."""
    key, equals, _ = argument.partition("=")
    return bool(equals) and not argument.startswith("-") and bool(KEY.match(key))


def flag_node(text: str, where: str) -> Node:
    """Return the node of a flag's text, which may be a list or a mapping in brackets."""
    if text[:1] in ("[", "{"):
        from utils.config.yaml_text import parse_text  # PyYAML takes as long to import as the rest of `help`

        try:
            return Node(_with_place(parse_text(text, where), where).value, where, text=text)
        except ConfigError:
            pass  # text that begins with a bracket
    return Node(text, where)


def _with_place(node: Node, where: str) -> Node:
    """Return the same tree with one place for all nodes: a command line has no lines."""
    if isinstance(node.value, dict):
        return Node({key: _with_place(item, where) for key, item in node.value.items()}, where)
    if isinstance(node.value, list):
        return Node([_with_place(item, where) for item in node.value], where)
    return Node(node.value, where, node.quoted)
