"""The config reference, in English and Chinese: `python -m commands._reference` writes it from the schema."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from configs import COMPONENTS, schema
from configs.comments import key_comments
from configs.keys import schema_keys
from utils.config.convert import describe, flatten, to_plain
from utils.config.registry import Registry
from utils.config.signature import UNKNOWN, Parameter
from utils.config.yaml_text import dump_line
from utils.language.translate import translated

__all__ = ["PAGES", "reference"]

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {"en": DOCS / "config.md", "zh": DOCS / "zh" / "config.md"}
OTHER = {"en": "[中文](zh/config.md)", "zh": "[English](../config.md)"}
Say = Callable[[str], str]  # from English to the language of the page
HEADING = "Every key of a config"
ORIGIN = """\
Written by `python -m commands._reference` from `configs/schema.py` and the sources of the components; a test fails when
this page is old. The same stands in `python main.py help`, `help KEY` and `help NAME`."""
USE = """\
A key is set in a YAML file, or on the command line as `--key=value`; by its last name alone where that is unique
(`--lr=0.01`, `--batch-size=64`). A component is set by its name (`--model=ResNet34`), its arguments by dots
(`--model.stem=small`). Default < `base:` of a YAML < YAML < command line. `null` means that nothing is set."""
TITLES = {
    "": ("What is learned, by what, how", "Components: a class by its name, and its arguments."),
    "data": ("data", "The dataset, and how its batches are made."),
    "train": ("train", "The loop: its length, its device and its precision."),
    "log": ("log", "The outputs of numbers and pictures, besides the run folder's journal log.jsonl."),
    "test": ("test", "The file with the test split's predictions."),
}
HEADS = "| key | takes | default | meaning |"
LISTED = {
    "task": ("Tasks", "`task:`, a class in `trainer/tasks/`."),
    "model": (
        "Models",
        "`model:`, a class in `models/`; besides these `torchvision:NAME`, its classifiers, and `timm:NAME`.",
    ),
    "data": ("Datasets", "`data.dataset:`, a class in `data/`."),
    "schedule": ("Schedules", "`schedule:`, besides these any of torch's: `python main.py help schedules`."),
}
TORCH = """\
`optim:` takes torch's optimizers, `data.transform` the transforms of torchvision's v2, by their names and with their
arguments: `python main.py help optimizers`, `python main.py help transforms`, `python main.py help AdamW`."""


def reference(language: str) -> str:
    """Return the page, as Markdown."""
    say: Say = translated if language == "zh" else str
    intro = [f"# {say(HEADING)}", OTHER[language], say(ORIGIN), say(USE)]
    sections = [_section(say, name, *title) for name, title in TITLES.items()]
    lists = [_components(say, COMPONENTS[kind], *title) for kind, title in LISTED.items()]
    return "\n\n".join([*intro, *sections, *lists, f"## {say('Optimizers and transforms')}", say(TORCH)]) + "\n"


def _section(say: Say, section: str, title: str, text: str) -> str:
    values, comments = flatten(to_plain(schema.Config())), key_comments()
    rows = [
        f"| `{key}` | {_type(say, kind)} | `{dump_line(values[key])}` | {say(comments[key])} |"
        for key, kind in schema_keys().items()
        if (key.partition(".")[0] if "." in key else "") == section
    ]
    return "\n".join([f"## {say(title)}\n\n{say(text)}\n", say(HEADS), "|---|---|---|---|", *rows])


def _components(say: Say, registry: Registry, title: str, text: str) -> str:
    names = [name for name in registry.names() if name not in registry.variants]
    return "\n".join(
        [f"## {say(title)}\n\n{say(text)}\n", *(line for name in names for line in _one(say, registry, name))]
    )


def _one(say: Say, registry: Registry, name: str) -> Iterator[str]:
    """Yield a component's sentence and its arguments."""
    yield say(f"- **{name}**: {registry.summary(name)}")
    if arguments := registry.arguments(name):
        yield "  " + "; ".join(f"`{key}` {_argument(say, parameter)}" for key, parameter in arguments.items())


def _argument(say: Say, parameter: Parameter) -> str:
    known = not parameter.required and parameter.default not in (UNKNOWN, None)
    return _type(say, parameter.type) + (f" [{_plain(parameter.default)}]" if known else "")


def _type(say: Say, kind: Any) -> str:
    """Return a type in words; a single word may be a name elsewhere, so that the catalogue has it with a mark."""
    words = describe(kind)
    return say(words) if " " in words else say(f"{words} (type)").removesuffix(" (type)")


def _plain(value: Any) -> str:
    return dump_line(list(value) if isinstance(value, tuple) else value)


if __name__ == "__main__":
    for language, page in PAGES.items():
        page.write_text(reference(language), encoding="utf-8")
