"""A folder is a registry: names are read from its source, and only the file asked for is imported."""

import ast
import functools
import importlib
import importlib.util
import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utils.config import Component, convert
from utils.errors import ConfigError
from utils.signature import Signature, read_signature
from utils.tree import Node, Problems, plain_value, suggest

__all__ = ["Library", "Registry"]


@dataclass(frozen=True)
class Library:
    """Classes or functions of an installed package, read from its source where pip put it."""

    package: str  # what is imported: "torch.optim"
    files: str  # a folder or a file below the top package: "optim"
    pattern: str = r"^class ([A-Z]\w+)\("  # finds the names; these files are too long to parse them all
    without: frozenset[str] = frozenset()  # what is not meant for a config file

    def path(self) -> Path | None:
        """Where the source lies; None when the package is not installed."""
        spec = importlib.util.find_spec(self.package.split(".")[0])  # a top package is found without being imported
        return (
            Path(spec.submodule_search_locations[0]) / self.files if spec and spec.submodule_search_locations else None
        )

    def names(self) -> list[str]:
        """The names that a config file may use."""
        return [name for name in _found(self.path(), self.pattern) if name not in self.without]

    def file(self, name: str) -> Path | None:
        """The file that defines a name, be it public or not."""
        return _found(self.path(), rf"^(?:class|def) ({re.escape(name)})\b").get(name)


@dataclass
class Registry:
    """Classes by name, from the `__all__` of a folder's files and from libraries.

    A name `family:variant` is the component `family` with `variant` as its first argument.
    """

    package: str
    folder: Path | None  # of our own files; a file instead of a folder holds them all
    libraries: Sequence[Library] = ()
    offered: frozenset[str] | None = None  # arguments the trainer brings; None: known only when it runs
    variants: dict[str, Library] = field(default_factory=dict)  # by family: what a variant may be
    renamed: dict[str, str] = field(default_factory=dict)  # names of old, to suggest the new one

    def names(self) -> dict[str, str]:
        """Every public name and its module, from reading our files; one that does not parse is left out.

        Raises ConfigError when two files give the same name.
        """
        found: dict[str, str] = {}
        for path in self._files():
            module = self.package if self.folder == path else f"{self.package}.{path.stem}"
            for name in _public(path):
                if name in found:
                    raise ConfigError(f"{path}: '{name}' is also in {found[name]}; a name may stand in one file only")
                found[name] = module
        return found

    def all_names(self) -> list[str]:
        """Our names and the libraries', sorted."""
        return sorted({*self.names(), *(name for lib in self.libraries for name in lib.names())})

    def summary(self, name: str) -> str:
        """The first line of the docstring."""
        node = self._definition(name)
        text = ast.get_docstring(node) if isinstance(node, ast.ClassDef | ast.FunctionDef) else None
        return (text or "").strip().split("\n")[0]

    def literal(self, name: str, attribute: str) -> Any:
        """The value of a class attribute that is a literal in the source; None where there is none."""
        for item in getattr(self._definition(name), "body", []):
            if isinstance(item, ast.Assign | ast.AnnAssign) and item.value is not None:
                targets = item.targets if isinstance(item, ast.Assign) else [item.target]
                if any(getattr(t, "id", "") == attribute for t in targets):
                    return ast.literal_eval(item.value)
        return None

    def signature(self, name: str) -> Signature:
        """What the constructor takes; for a variant, without the first argument."""
        family, _, variant = name.partition(":")
        node = self._definition(family)
        if node is None:
            return Signature({}, open=True)
        read = read_signature(node, self._definition)
        hidden = list(read.parameters)[:1] if variant else []
        return Signature({k: v for k, v in read.parameters.items() if k not in hidden}, read.open)

    def check(self, name: Node, args: dict[str, Node], key: str, problems: Problems) -> dict[str, Any]:
        """Convert a component's arguments; mistakes in its name or in them go to `problems`."""
        known = str(name.value)
        message = self._unknown(known)
        if message:
            problems.add(name.where, f"{key}: {message}")
            return {k: plain_value(v) for k, v in args.items()}
        signature = self.signature(known)
        for k in args.keys() - signature.parameters.keys() if not signature.open else ():
            problems.add(args[k].where, f"{known} takes no '{key}.{k}'{suggest(k, signature.parameters)}")
        for k in self._missing(signature, args):
            problems.add(name.where, f"{known} needs '{key}.{k}'")
        types = {k: p.type for k, p in signature.parameters.items()}
        return {k: convert(v, types.get(k, Any), f"{key}.{k}", problems, {}) for k, v in args.items()}

    def get(self, name: str, key: str = "") -> Any:
        """The class or function of that name; imports the one file that holds it.

        Raises ConfigError for a name that is not there.
        """
        if message := self._unknown(name):
            raise ConfigError(f"{key}: {message}" if key else message)
        family, _, variant = name.partition(":")
        if family in (own := self.names()):
            built = getattr(importlib.import_module(own[family]), family)
            return functools.partial(built, variant) if variant else built
        package = next(lib.package for lib in self.libraries if name in lib.names())
        return getattr(importlib.import_module(package), name)

    def build(self, spec: Component, key: str, *args: Any, **offered: Any) -> Any:
        """Call the class with the config's arguments; of what is offered it gets what it takes.

        Raises ConfigError when the arguments do not fit, or when the constructor refuses them with a ValueError.
        """
        target = self.get(spec.name, key)
        takes = inspect.signature(target).parameters
        given = {k: v for k, v in offered.items() if k in takes} | dict(spec.args)
        try:
            bound = inspect.signature(target).bind(*args, **given)
        except TypeError as error:
            raise ConfigError(f"{key}: {spec.name}: {error}; set it with --{key}.<argument>=…") from error
        try:
            return target(*bound.args, **bound.kwargs)
        except ValueError as error:
            raise ConfigError(f"{key}: {spec.name}: {error}") from error

    def _files(self) -> list[Path]:
        if self.folder is None:
            return []
        return [self.folder] if self.folder.is_file() else sorted(self.folder.glob("[!_]*.py"))

    def _unknown(self, name: str) -> str:
        """Why the name cannot be used; empty when it can."""
        family, _, variant = name.partition(":")
        if variant and family in self.variants:
            choices = self.variants[family].names()
            return "" if variant in choices else f"no '{variant}' in {family}{suggest(variant, choices)}"
        if name in self.names() and name not in self.variants:
            return ""
        if any(name in lib.names() for lib in self.libraries):
            return ""
        place = self.package.replace(".", "/") if self.folder else self.libraries[0].package
        broken = "".join(f" ({p.name} was left out: {_fault(p)})" for p in self._files() if _fault(p))
        hint = f"; it is now called '{self.renamed[name]}'" if name in self.renamed else suggest(name, self.all_names())
        return f"no '{name}' in {place}{broken}{hint}"

    def _missing(self, signature: Signature, args: dict[str, Node]) -> list[str]:
        if self.offered is None:
            return []
        return [k for k, p in signature.parameters.items() if p.required and k not in args and k not in self.offered]

    def _definition(self, name: str) -> ast.AST | None:
        """The class or function definition of that name, in our files or the libraries' files."""
        family = name.partition(":")[0]
        own = self._files()
        for path in [*own, *(p for lib in self.libraries if (p := lib.file(family)))]:
            if path in own and not re.search(rf"^(class|def) {re.escape(family)}\b", _text(path), re.MULTILINE):
                continue
            for node in getattr(_parse(path), "body", []):
                if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == family:
                    return node
        return None


@functools.cache
def _read(path: Path, changed: int) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _text(path: Path) -> str:
    return _read(path, path.stat().st_mtime_ns)  # a notebook's user edits files between two calls


@functools.cache
def _parse_text(text: str) -> ast.Module | str:
    try:
        return ast.parse(text)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"


def _parse(path: Path) -> ast.Module | str:
    return _parse_text(_text(path))


def _fault(path: Path) -> str:
    tree = _parse(path)
    return tree if isinstance(tree, str) else ""


def _public(path: Path) -> list[str]:
    """The literal `__all__` of a file."""
    for node in getattr(_parse(path), "body", []):
        if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in node.targets):
            try:
                return list(ast.literal_eval(node.value))
            except ValueError:
                return []
    return []


@functools.cache
def _found(folder: Path | None, pattern: str) -> dict[str, Path]:
    """What a pattern finds in the source of a library: name and file."""
    if folder is None:
        return {}
    files = [folder] if folder.is_file() else sorted(folder.glob("*.py"))
    return {name: path for path in files for name in re.findall(pattern, _text(path), re.MULTILINE)}
