"""help: what can be typed, read from the schema and the source files themselves."""

import ast
import inspect
import textwrap
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from configs import COMPONENTS, schema
from configs.flags import schema_keys
from utils.config import describe, to_plain
from utils.errors import ConfigError
from utils.tree import suggest

__all__ = ["key_comments", "run"]

USAGE = {
    "train": "train [CONFIG] [--key=value …]   or   train --resume[=checkpoints/NAME]",
    "val": "val CHECKPOINT [--key=value …]",
    "test": "test CHECKPOINT [--key=value …]",
    "check": "check [CONFIG] [--key=value …] [--print]",
    "help": "help [TOPIC]",
}
MORE = {
    "train": """CONFIG is a YAML file or a name in configs/ (left out: default). Any key may be set: --optim.lr=0.01,
or by its last name where that is unique: --lr=0.01. A component is set by its name: --model=AlexNet.

  --run=NAME      the run's folder, checkpoints/NAME (else config, model and time)
  --resume        continue the newest unfinished run; --resume=checkpoints/NAME that one
  --seed=N        same seed, same run
  --quiet         print nothing but mistakes
  --debug         print a traceback with a mistake

Ctrl-C saves and stops; --resume goes on at the very step.""",
    "val": "CHECKPOINT is a run folder (its best, else its last) or a .pth file. Keys of data may be set.",
    "test": """CHECKPOINT is a run folder (its best, else its last) or a .pth file. Writes submission.csv there.

  --test-data-root=FOLDER    the test files
  --test.sample=FILE         Kaggle's sample_submission.csv: gives header, ids and order
  --result-file=FILE         where to write
  --test.output=label        probability (the default), label or class""",
    "check": "--print shows every key, its value and where the value was written.",
    "help": "TOPIC: a command, models, data, tasks, optimizers, schedules, transforms, configs, or a key as optim.lr",
}
LISTS = {
    "models": "model",
    "data": "data",
    "tasks": "task",
    "optimizers": "optim",
    "schedules": "schedule",
    "transforms": "transform",
}


def run(topic: str, commands: Mapping[str, Callable]) -> None:
    """Print the help of a topic; all of it in short without one.

    Raises ConfigError for a topic there is not.
    """
    if not topic:
        _print_overview(commands)
    elif topic in commands:
        print(f"python main.py {USAGE[topic]}\n\n{commands[topic].__doc__}\n\n{MORE[topic]}")
    elif topic == "configs":
        _print_configs()
    elif topic in LISTS:
        _print_components(LISTS[topic])
    else:
        _print_key(topic, commands)


def _print_overview(commands: Mapping[str, Callable]) -> None:
    print("Usage:")
    for name, command in commands.items():
        print(f"  python main.py {USAGE[name]}\n      {command.__doc__}")
    print("\nConfigs (python main.py train NAME):")
    _print_configs()
    print("\nKeys (--key=value; help KEY tells more):")
    comments = key_comments()
    for key in schema_keys():
        print(f"  {key:<22} {_default(key):<16} {comments[key]}")
    print("\nMore: help " + ", help ".join([*LISTS, "configs"]))


def _print_configs() -> None:
    for path in sorted((Path(schema.__file__).parent).glob("*.yaml")):
        with path.open(encoding="utf-8") as stream:
            print(f"  {path.stem:<16} {stream.readline().lstrip('# ').strip()}")


def _print_components(kind: str) -> None:
    registry = COMPONENTS[kind]
    for name in registry.all_names():
        arguments = ", ".join(registry.signature(name).parameters)
        if name in registry.variants:
            print(f"  {name + ':NAME':<20} {registry.summary(name)}")
            names = ", ".join(registry.variants[name].names())
            print(textwrap.fill(names, 110, initial_indent=" " * 23, subsequent_indent=" " * 23))
        elif registry.folder is None:
            print(f"  {name:<20} ({arguments})")
        else:
            print(f"  {name:<20} {registry.summary(name) or f'({arguments})'}")


def _print_key(topic: str, commands: Mapping[str, Callable]) -> None:
    """A key of the schema by its dotted or its last name, or an argument of a default component."""
    keys = schema_keys()
    found = [key for key in keys if key == topic or key.split(".")[-1] == topic.replace("-", "_")]
    for key in found:
        print(f"{key}: {key_comments()[key]}\n  takes {describe(keys[key])}; default {_default(key)}")
    for kind in ("model", "data", "task", "optim", "schedule") if not found else ():
        found += _print_argument(kind, topic.removeprefix(f"{kind}.").removeprefix("dataset."))
    if not found:
        raise ConfigError(f"no help on '{topic}'{suggest(topic, [*commands, *LISTS, 'configs', *keys])}")


def _print_argument(kind: str, name: str) -> list[str]:
    """Which components of a kind take an argument, with type and default."""
    registry = COMPONENTS[kind]
    taking = {c: p for c in registry.all_names() if (p := registry.signature(c).parameters.get(name))}
    for component, parameter in taking.items():
        default = "needed" if parameter.required else f"default {parameter.default}"
        print(f"{kind}.{name} of {component}: takes {describe(parameter.type)}; {default}")
    return list(taking)


def _default(key: str) -> str:
    value: Any = schema.Config()
    for part in key.split("."):
        value = getattr(value, part)
    plain = to_plain(value)
    return "null" if plain is None else str(plain).lower() if isinstance(plain, bool) else str(plain)


def key_comments() -> dict[str, str]:
    """The comment behind each key in the schema's source."""
    source = inspect.getsource(schema)
    lines = source.split("\n")
    own = {}
    for node in ast.parse(source).body:
        for item in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(item, ast.AnnAssign) and isinstance(node, ast.ClassDef):
                own[node.name, ast.unparse(item.target)] = (
                    lines[(item.end_lineno or 1) - 1].partition("  # ")[2].strip()
                )
    return _by_key(schema.Config, "", own)


def _by_key(section: type, prefix: str, own: dict[tuple[str, str], str]) -> dict[str, str]:
    comments = {}
    hints = typing.get_type_hints(section)
    for field in fields(section):
        nested = hints[field.name]
        if is_dataclass(nested) and not nested.__module__.startswith("utils"):
            comments |= _by_key(typing.cast(type, nested), f"{prefix}{field.name}.", own)
        else:
            comments[prefix + field.name] = own[section.__name__, field.name]
    return comments
