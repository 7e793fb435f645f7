"""help: explain a command, a key or a component; list models, data, configs and more.

python main.py help [TOPIC]

TOPIC is a command; models, data, tasks, losses, metrics, optimizers,
schedules, transforms, samplers or configs; one of these, as ResNet34; or a
key, as optim.lr or lr.
"""

import itertools
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from commands import found, told
from commands._arguments import one_word
from configs import COMPONENTS, resolve, schema
from configs.comments import key_comments
from configs.hints.words import ELSEWHERE, SYNONYMS, absent, meaning
from configs.keys import schema_keys, type_of
from configs.layers import config_files
from utils.config.cli import Flag
from utils.config.convert import Component, Roles, describe, to_plain
from utils.config.registry import Registry
from utils.config.signature import UNKNOWN, Parameter
from utils.config.tree import plain_value, scalar
from utils.errors import ConfigError
from utils.terminal import filled, in_language, show
from utils.words import suggest

__all__ = ["run", "texts"]

COMMON = {"SGD", "Adam", "AdamW", "OneCycleLR", "CosineAnnealingLR", "StepLR"}  # these are shown first
LISTS = {
    "models": "model",
    "data": "data",
    "tasks": "task",
    "losses": "loss",
    "metrics": "metric",
    "optimizers": "optim",
    "schedules": "schedule",
    "transforms": "transform",
    "samplers": "sampler",
    "watchers": "watcher",
}


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Print the help of a topic; without a topic an overview.

    Raises ConfigError for an unknown topic.
    """
    if flags:
        raise ConfigError(f"{flags[0].typed}: help takes a topic: python main.py help {flags[0].key}")
    topic, commands = one_word("help", words), found()
    key = topic.lstrip("-").replace("-", "_")
    if not topic:
        _print_overview(commands)
    elif topic in commands and topic not in LISTS:
        _print_command(topic)
    elif topic == "configs":
        _print_configs()
    elif topic in (files := config_files()):
        _print_config(files[topic])
    elif topic in LISTS:
        if topic in commands:  # data is both
            _print_command(topic)
            show(f"\nThe components, as {_prefix(LISTS[topic])}:")
        _print_list(COMPONENTS[LISTS[topic]])
    elif (registry := _registry_of(topic)) is not None:
        _print_component(registry, topic)
    elif not (_print_keys(key) or _print_arguments(key)):
        known = [*commands, *LISTS, "configs", *schema_keys(), *_components()]
        near = _elsewhere(key, known) or suggest(topic, known) or "; python main.py help lists all topics"
        raise ConfigError(f"no help on '{topic}'{near}")


def _print_command(name: str) -> None:
    usage, summary, more = texts(name)
    show(f"python main.py {usage}\n\n{filled(summary, 80)}\n\n{more}".strip())


def _elsewhere(topic: str, known: Sequence[str]) -> str:
    """Return the end of the message about a word of the field that is no topic; empty for other words."""
    if sentence := absent(topic, known):
        return f": {sentence}"
    meant = SYNONYMS.get(topic, ELSEWHERE.get(topic, ""))
    return f"; did you mean '{meant}'?" if meant else ""


def _rows(rows: Mapping[str, str], column: int = 25) -> None:
    """Print two columns, the second one wrapped to the width of the terminal; long names make room for themselves."""
    column = max([column, *(len(name) + 3 for name in rows)])
    for name, text in rows.items():
        _row(name, text, column)


def _row(name: str, text: str, column: int = 25) -> None:
    """Print one row of two columns."""
    width = min(shutil.get_terminal_size((80, 24)).columns, 110)
    gap = max(column - len(name) - 2, 1) * " "
    hanging = column * " "
    show(filled(text, max(width, 60), f"  {name}{gap}", hanging))


def _print_overview(commands: Mapping[str, Callable]) -> None:
    show("Usage:")
    for name in commands:
        usage, summary, _ = texts(name)
        for line in usage.splitlines():
            show(f"  python main.py {line.removeprefix('python main.py ')}")
        show(filled(summary, 80, "      ", "      "))
    show("\nConfigs (python main.py train NAME):")
    _print_configs()
    show("\nKeys, each set with --key=value [its default]:")
    comments = key_comments()
    _rows({key: _with_default(comments[key], _default(key)) for key in schema_keys()})
    show("\nMore: python main.py help TOPIC")
    show(filled(in_language(texts("help")[2]).replace("\n", " "), 78, "  ", "  "))


def texts(name: str) -> tuple[str, str, str]:
    """Return usage, summary and the rest of a command's help; for a file in commands/ it is the docstring."""
    first, *rest = told(name).strip().split("\n\n")
    summary = first.partition(": ")[2].replace("\n", " ")
    usage = rest.pop(0).strip().removeprefix("python main.py ") if rest else name
    return usage, summary[:1].upper() + summary[1:], "\n\n".join(rest)


def _with_default(comment: str, default: Any) -> str:
    return comment if default in (None, [], {}) else f"{comment} [{_format(default)}]"


def _format(value: Any) -> str:
    """Return a value as it is written after a flag."""
    if isinstance(value, str) and scalar(value) == value:
        return value
    if isinstance(value, bool | int):
        return str(value).lower()
    from utils.config.yaml_text import dump_line  # PyYAML takes as long to import as the rest of an overview

    return dump_line(value)


def _print_configs() -> None:
    rows = {}
    for name, path in sorted(config_files().items()):
        own = "" if path.is_absolute() else f" ({path} in this folder)"
        rows[name] = next(iter(_heading(path)), "") + own
    _rows(rows, 18)


def _print_config(path: Path) -> None:
    show("\n".join([*_heading(path), "", f"python main.py check {path.stem} --print shows every key."]))


def _heading(path: Path) -> list[str]:
    """Return the comment at the start of a config."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return [line[1:].strip() for line in itertools.takewhile(lambda line: line.startswith("#"), lines)]


def _print_list(registry: Registry) -> None:
    """Print the components of a kind: a line of the docstring, or a library's arguments, and the file of a user's."""
    column = max(23, *(len(name) + 3 for name in registry.all_names()))
    for name in registry.all_names():
        takes = ", ".join(registry.arguments(name)) or "no arguments"
        text = registry.summary(name) if name in registry.names() else takes
        text += f" ({origin})" if (origin := registry.origin(name)) else ""
        _row(name + (":NAME" if name in registry.variants else ""), text, column)
        if name in registry.variants:
            _row("", f"NAME is one of {registry.variants[name].listed()}", column)


def _components() -> dict[str, Registry]:
    return {name: registry for registry in COMPONENTS.values() for name in registry.all_names()}


def _registry_of(topic: str) -> Registry | None:
    """Return the registry of a component, also for `torchvision:resnet18`; None if there is none."""
    for registry in COMPONENTS.values():
        family, _, variant = topic.partition(":")
        if topic in registry.all_names() or (family in registry.variants and variant):
            return registry
    return None


def _print_component(registry: Registry, name: str) -> None:
    kind = next(kind for kind, one in COMPONENTS.items() if one is registry)
    show(f"{name}: {registry.summary(name)}".rstrip(": ") + "\n")
    if origin := registry.origin(name):
        show(f"From {origin}.")
    show(f"As {_prefix(kind)}, with these arguments:")
    _rows({one: _parameter(registry, one, parameter) for one, parameter in registry.arguments(name).items()})
    if kind == "task" and (flags := registry.method(name, "generate")):
        show("\nAs flags of python main.py generate CHECKPOINT:")
        _rows({f"--{flag.replace('_', '-')}": _of_generate(registry, flag, taken) for flag, taken in flags.items()})


def _of_generate(registry: Registry, flag: str, parameter: Parameter) -> str:
    """Return type and default of a flag of generate."""
    return f"{describe(parameter.type)}; needed" if parameter.required else _parameter(registry, flag, parameter)


def _parameter(registry: Registry, name: str, parameter: Parameter) -> str:
    """Return an argument's type, the list of its components, and its default."""
    kind = type_of(parameter.type)[1]
    takes = describe(parameter.type) + (f", see help {_listing(kind)}" if kind else "")
    if not parameter.required:
        known = parameter.default is not UNKNOWN and parameter.default is not None
        return takes + (f" [{_format(parameter.default)}]" if known else "")
    if registry.available is None:
        return f"{takes}; needed, unless the data provides it"
    return f"{takes}; {'the trainer provides it' if name in registry.available else 'needed'}"


def _listing(kind: str) -> str:
    """Return the topic that lists the components of a kind."""
    return next((listing for listing, listed in LISTS.items() if listed == kind), kind)


def _prefix(kind: str) -> str:
    places = {
        "data": "data.dataset",
        "loss": "task.loss",
        "metric": "task.metrics_too[…]",
        "transform": "data.transform.train[…]",
        "watcher": "log.watchers[…]",
        "sampler": "data.sampler",
    }
    return places.get(kind, kind)


def _print_keys(topic: str) -> bool:
    """Print the keys of the schema with that dotted or last name, or in that section. Returns whether there was one."""
    keys = schema_keys()
    found = [key for key in keys if topic in (key, key.rpartition(".")[2]) or key.startswith(f"{topic}.")]
    for key in found:
        show(_with_default(f"{key}: {key_comments()[key]}", _default(key)))
        _print_set(key)
        inner, catalogue = type_of(keys[key])
        show(f"  takes {describe(keys[key])}")
        for listing in [name for name, kind in LISTS.items() if kind == catalogue]:
            one = inner in (Component, Roles)
            show(f"  python main.py help {listing} lists {'them' if one else 'the items of the list'}")
    return bool(found)


def _print_arguments(topic: str) -> bool:
    """Print the components that take an argument of that name, equal ones in one line.

    Returns whether there was one.
    """
    section, _, name = topic.rpartition(".")
    kinds = [kind for kind in COMPONENTS if section in ("", kind, _prefix(kind))]
    known = False
    for kind in kinds:
        takes: dict[str, list[str]] = {}
        for component in sorted(COMPONENTS[kind].all_names(), key=lambda one: one not in COMMON):
            if parameter := COMPONENTS[kind].arguments(component).get(name):
                takes.setdefault(_parameter(COMPONENTS[kind], name, parameter), []).append(component)
        if takes:
            known, place = True, f"{_prefix(kind)}.{name}"
            show(f"{place}: {said}" if (said := meaning(name)) else place)
            _print_set(place)
        for text, components in takes.items():  # those of the common ones are first
            line = f"{text}: of {', '.join(components)}"
            show(filled(line, 78, "  ", "    "))
    return known


def _print_set(key: str) -> None:
    """Print what a key is set to in the default config, where, and the flag that sets it."""
    try:
        tree = resolve().tree
    except ConfigError:
        return  # a config of this folder with mistakes, of which check tells
    first, _, rest = key.partition(".")
    node = tree.at(key) or tree.at(f"{first}.model.{rest}")
    if node is not None and node.where != "default" and not node.entries:
        show(f"  {_format(plain_value(node))} in {node.where}; set it with --{key}=…")


def _default(key: str) -> Any:
    value: Any = schema.Config()
    for part in key.split("."):
        value = getattr(value, part)
    return to_plain(value)
