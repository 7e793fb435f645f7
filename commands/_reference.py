"""The config reference in docs/config.md, read from the schema: `python -m commands._reference` writes it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs import COMPONENTS, schema
from configs.comments import key_comments
from configs.keys import schema_keys
from utils.config.convert import describe, flatten, to_plain
from utils.config.registry import Registry
from utils.config.signature import UNKNOWN, Parameter
from utils.config.yaml_text import dump_line

__all__ = ["PAGE", "reference"]

PAGE = Path(__file__).parent.parent / "docs" / "config.md"
INTRO = """\
# Every key of a config

Written by `python -m commands._reference` from `configs/schema.py` and the sources of the components; a test fails when
this page is old. The same stands in `python main.py help`, `help KEY` and `help NAME`.

A key is set in a YAML file, or on the command line as `--key=value`; by its last name alone where that is unique
(`--lr=0.01`, `--batch-size=64`). A component is set by its name (`--model=ResNet34`), its arguments by dots
(`--model.stem=small`). Default < `base:` of a YAML < YAML < command line. `null` means that nothing is set.
"""
TITLES = {
    "": ("What is learned, by what, how", "Components: a class by its name, and its arguments."),
    "data": ("data", schema.Data.__doc__),
    "train": ("train", schema.Train.__doc__),
    "log": ("log", schema.Log.__doc__),
    "test": ("test", schema.Test.__doc__),
}
LISTED = {
    "task": ("Tasks", "`task:`, a class in `trainer/tasks/`."),
    "model": (
        "Models",
        "`model:`, a class in `models/`; besides these `torchvision:NAME`, its classifiers, and `timm:NAME`.",
    ),
    "data": ("Datasets", "`data.dataset:`, a class in `data/`."),
    "schedule": ("Schedules", "`schedule:`, besides these any of torch's: `python main.py help schedules`."),
}
TORCH = """
## Optimizers and transforms

`optim:` takes torch's optimizers, `data.transform` the transforms of torchvision's v2, by their names and with their
arguments: `python main.py help optimizers`, `python main.py help transforms`, `python main.py help AdamW`.
"""


def reference() -> str:
    """Return the page, as Markdown."""
    sections = [_section(name, *title) for name, title in TITLES.items()]
    lists = [_components(COMPONENTS[kind], *title) for kind, title in LISTED.items()]
    return "\n".join([INTRO, *sections, *lists]) + TORCH


def _section(section: str, title: str, text: str | None) -> str:
    values, comments = flatten(to_plain(schema.Config())), key_comments()
    rows = [
        f"| `{key}` | {describe(kind)} | `{dump_line(values[key])}` | {comments[key]} |"
        for key, kind in schema_keys().items()
        if (key.partition(".")[0] if "." in key else "") == section
    ]
    return "\n".join([f"## {title}\n\n{text}\n", "| key | takes | default | meaning |", "|---|---|---|---|", *rows, ""])


def _components(registry: Registry, title: str, text: str) -> str:
    names = [name for name in registry.names() if name not in registry.variants]
    return "\n".join([f"## {title}\n\n{text}\n", *(line for name in names for line in _one(registry, name)), ""])


def _one(registry: Registry, name: str) -> Iterator[str]:
    """Yield a component's sentence and its arguments."""
    yield f"- **{name}**: {registry.summary(name)}"
    if arguments := registry.arguments(name):
        yield "  " + "; ".join(f"`{key}` {_argument(parameter)}" for key, parameter in arguments.items())


def _argument(parameter: Parameter) -> str:
    known = not parameter.required and parameter.default not in (UNKNOWN, None)
    return describe(parameter.type) + (f" [{_plain(parameter.default)}]" if known else "")


def _plain(value: Any) -> str:
    return dump_line(list(value) if isinstance(value, tuple) else value)


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
