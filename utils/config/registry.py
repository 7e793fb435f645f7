"""A folder is a registry: names are read from its source, and only the needed file is imported."""

import ast
import functools
import importlib
import inspect
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Never

from utils.blame import refuses
from utils.config import source
from utils.config.convert import Component, convert
from utils.config.library import Definition, Library
from utils.config.places import Place, users_place
from utils.config.ranges import Range
from utils.config.signature import PLAIN, Parameter, Signature, base_name, read_signature
from utils.config.tree import Node, Problems, plain_value
from utils.errors import ConfigError, is_memory_shortage
from utils.words import is_slip, nearest, reason_of, suggest

__all__ = ["Registry", "connect"]


@dataclass(eq=False, repr=False)
class Registry:
    """Classes by name, from the `__all__` of a folder's files and from libraries.

    With `here`, a folder of that name in the current folder is searched first, and its names override ours.

    A name `family:variant` is the component `family` with `variant` as its first argument.
    """

    package: str
    folder: Path | None  # with our own files; or one file that holds them all
    libraries: Sequence[Library] = ()
    # arguments that the trainer passes if the config does not; None: not known yet
    available: frozenset[str] | None = None
    from_trainer: frozenset[str] = frozenset()  # arguments that only the trainer can pass
    here: bool = False  # whether the current folder may add files
    variants: dict[str, Library] = field(default_factory=dict)  # by family: its variants
    renamed: dict[str, str] = field(default_factory=dict)  # by old name: the new name, for a suggestion
    ranges: Mapping[str, Range] = field(default_factory=dict)  # of arguments whose types tell none, by name
    # of a library's arguments whose annotation tells no type of a YAML value, by name; None: not for a config
    types: Mapping[str, Any] = field(default_factory=dict)
    # other names: a name, and the arguments that it stands for
    aliases: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    # by kind: the registries of arguments that are components themselves
    catalogues: Mapping[str, "Registry"] = field(default_factory=dict, repr=False, compare=False)

    def names(self) -> dict[str, str]:
        """Return each public name with its module, read from our files; a file that does not parse is skipped."""
        return {name: place.module(path) for name, (place, path) in self._public().items()}

    def all_names(self) -> list[str]:
        """Return our names and the libraries', sorted."""
        return sorted({*self.names(), *(name for lib in self.libraries for name in lib.names())})

    def summary(self, name: str) -> str:
        """Return the first line of a component's docstring."""
        node = next(self._lineage(name.partition(":")[0]))
        return (ast.get_docstring(node) or "" if node else "").strip().split("\n")[0]

    def origin(self, name: str) -> str:
        """Return the file of a component of the current folder, and whether it replaces one of ours; empty for ours."""
        place, path = self._public().get(name, (None, None))
        if not place or not path or place.ours:
            return ""
        hides = any(name in other.public() for other in self._places() if other.ours)
        return f"{place.shown(path)} in this folder" + (", instead of the one that is shipped" if hides else "")

    def literal(self, name: str, attribute: str) -> Any:
        """Return a class attribute that is a literal in the source, own or inherited; None if there is none."""
        found = (source.literal_in(node, attribute) for node in self._lineage(name) if node)
        return next((values[0] for values in found if values), None)

    def signature(self, name: str) -> Signature:
        """Return the constructor's signature; that of a variant has no first argument, that of another name none."""
        if name in self.aliases:
            return Signature({})
        family, _, variant = name.partition(":")
        read = read_signature(self._lineage(family), kinds=self.catalogues)
        hidden = list(read.parameters)[:1] if variant else []
        if name not in self.names():
            read = read.typed(self.types)
        return Signature({k: v for k, v in read.parameters.items() if k not in hidden}, read.open)

    def networks(self, name: str) -> dict[str, bool] | None:
        """Return the arguments that only code can pass, such as networks, with whether they are required; None: any."""
        read = self.signature(name)
        return None if read.open else {k: v.required for k, v in read.parameters.items() if v.only_code}

    def attributes(self, name: str) -> set[str] | None:
        """Return the attributes that a class and its bases set on self (`self.net = …`); None if a base is not
        found.
        """
        found: set[str] = set()
        for definition in self._lineage(name):
            if definition is None:
                return None
            found |= source.attributes_set(definition)
        return found

    def arguments(self, name: str) -> dict[str, Parameter]:
        """Return the arguments that a config may set: those of the constructor that do not come only from the
        trainer.
        """
        found = self.signature(name).parameters
        return {k: v for k, v in found.items() if k not in self.from_trainer and not v.only_code}

    def method(self, name: str, method: str) -> dict[str, Parameter]:
        """Return the arguments of a method; empty if there is no such method."""
        return read_signature(self._lineage(name), method).parameters

    def check(self, name: Node, args: dict[str, Node], key: str, problems: Problems) -> dict[str, Any]:
        """Convert a component's arguments; mistakes in its name or in them go to `problems`."""
        known = str(name.value)
        if message := self._unknown(known):
            problems.add(name.where, f"{key}: {message}")
            return {k: plain_value(v) for k, v in args.items()}
        signature, takes = self.signature(known), self.arguments(known)
        for k in [k for k in args if k not in takes]:
            if k in signature.parameters:
                problems.add(args[k].where, f"'{key}.{k}' comes from the trainer; no config can set it")
            elif not signature.open:
                near = suggest(k, [*takes, "name"], f"{key}.") or f"; python main.py help {known} lists its arguments"
                problems.add(args[k].where, f"{known} takes no '{key}.{k}'{near}")
        for k in self._missing(takes, args):
            problems.add(name.where, f"{known} needs '{key}.{k}'")
        ranges = {k: self.ranges.get(f"{known}.{k}", self.ranges.get(k)) for k in args}
        return {
            k: self._argument(v, takes.get(k, Parameter()).within(ranges[k]), f"{key}.{k}", problems)
            for k, v in args.items()
        }

    def get(self, name: str, key: str = "") -> Any:
        """Return the class or function of that name, imported from its file, and again if the file was edited.

        Raises ConfigError for an unknown name.
        """
        if message := self._unknown(name):
            raise ConfigError(f"{key}: {message}" if key else message)
        if name in self.aliases:
            meant, args = self.aliases[name]
            return functools.partial(self.get(meant), **args)
        family, _, variant = name.partition(":")
        place, path = self._public().get(family, (None, None))
        if place and path:
            module = place.load(path)
        else:
            module = importlib.import_module(next(lib.package for lib in self.libraries if name in lib.names()))
        if not hasattr(module, family):
            raise ConfigError(f"{module.__file__}: __all__ names '{family}', but the file does not define it")
        built = getattr(module, family)
        return functools.partial(built, variant) if variant else built

    def attribute(self, name: str) -> Any:
        """Return what `from PACKAGE import NAME` takes. Raises AttributeError for a name that is not public."""
        if name.startswith("_") or name not in self.names():
            raise AttributeError(f"module '{self.package}' has no attribute '{name}'")
        return self.get(name)

    def build(self, spec: Component, key: str, *args: Any, **available: Any) -> Any:
        """Call the class with the config's arguments, and with those of `available` that its signature names.

        An argument that is a component is built first, with the same `available`. Raises ConfigError when the arguments
        do not fit, or when the constructor refuses them.
        """
        target = self.get(spec.name, key)
        signature = inspect.signature(target)
        given = {k: v for k, v in available.items() if k in signature.parameters}
        given |= {k: self._build_argument(spec.name, k, v, f"{key}.{k}", available) for k, v in spec.args.items()}
        try:
            bound = signature.bind(*args, **given)
        except TypeError as error:
            raise ConfigError(f"{key}: {spec.name}: {error}{self._source_of(str(error), spec, key)}") from error
        try:
            return target(*bound.args, **bound.kwargs)
        except (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError) as error:
            if is_memory_shortage(error) or not refuses(error):
                raise
            raise ConfigError(f"{key}: {spec.name}: {reason_of(error)}") from error

    def _build_argument(self, name: str, argument: str, value: Any, key: str, available: dict[str, Any]) -> Any:
        """Return an argument's value, with the components in it built."""
        if isinstance(value, tuple) and any(isinstance(item, Component) for item in value):
            return tuple(self._build_argument(name, argument, v, f"{key}[{i}]", available) for i, v in enumerate(value))
        if not isinstance(value, Component):
            return value
        kind = typing.get_args(self.signature(name).parameters[argument].type)[1]
        return self.catalogues[kind].build(value, key, **available)

    def _source_of(self, error: str, spec: Component, key: str) -> str:
        """Return a hint at the source of the argument that an error names."""
        name = error.partition("'")[2].partition("'")[0]
        if "missing" not in error:
            return ""
        if name in self.arguments(spec.name):
            return f"; set it with --{key}.{name}=…"
        return f"; it is a network, as the config's model.{name}, or comes from the data"

    def _places(self) -> list[Place]:
        """Return the places of our files; an earlier place overrides a later one."""
        own = [Place(self.package, self.folder)] if self.folder else []
        return [place for one in own if self.here and (place := users_place(one.folder))] + own

    def _public(self) -> dict[str, tuple[Place, Path]]:
        found: dict[str, tuple[Place, Path]] = {}
        for place in reversed(self._places()):
            found |= {name: (place, path) for name, path in place.public().items()}
        return found

    def _unknown(self, name: str) -> str:
        """Return the reason why a name cannot be used; empty if it can."""
        family, _, variant = name.partition(":")
        if name in self.aliases:
            return ""
        if family in self.variants:
            return self.variants[family].fault(family, variant)
        if name in (own := self._public()):
            place, path = own[name]
            if clash := place.clash(name):
                return clash
            fault = source.fault(path)
            return f"{place.shown(path)}, which defines '{name}', is no Python: {fault}" if fault else ""
        if any(name in lib.names() for lib in self.libraries):
            return ""
        for library in self.libraries:
            library.require()  # an absent one has no names
        known = self.libraries[0].package if self.libraries else self.package.replace(".", "/")
        return f"no '{name}' in {known}{self._hint(name)}"

    def _hint(self, name: str) -> str:
        """Return a hint for an unknown name."""
        if name in self.renamed:
            return f"; it is now called '{self.renamed[name]}'"
        if name.lower() in ("none", "no", "off", "false"):
            return "; for none write null"
        files = [(place.shown(path), path) for place in self._places() for path in place.files()]
        for shown, path in files:
            if source.defined(path, name):
                return f"; {shown} defines it, but its __all__ does not name it: add it there"
        broken = "".join(f" ({shown} was left out: {fault})" for shown, path in files if (fault := source.fault(path)))
        words = {
            variant: f"{family}:{variant}" for family, lib in reversed(self.variants.items()) for variant in lib.names()
        }
        words |= {own: own for own in self.all_names()}
        near = nearest(name.rpartition(":")[2], words)
        if broken and near and not is_slip(name.lower(), near.lower()):
            return broken  # which is likelier to hold it than a name that is little alike
        return broken + (f"; did you mean '{words[near]}'?" if near else suggest(name, self.all_names()))

    def _missing(self, takes: dict[str, Parameter], args: dict[str, Node]) -> list[str]:
        if self.available is None:
            return []
        return [k for k, p in takes.items() if p.required and k not in args and k not in self.available]

    def _argument(self, node: Node, parameter: Parameter, key: str, problems: Problems) -> Any:
        if parameter.type != list[Never]:
            return convert(node, parameter.type, key, problems, self.catalogues)
        # A list of functions is a list of components of the same kind, as in RandomApply(transforms=[…]).
        convert(node, Annotated[tuple[Component, ...], "same"], key, problems, {"same": self})
        return plain_value(node)

    def _lineage(self, name: str) -> Iterator[Definition | None]:
        """Yield the definition of a name and those of its bases; None for each whose source is not found."""
        todo: list[tuple[Path | None, str]] = [(self._public().get(name, (None, None))[1], name)]
        seen = set(todo)
        while todo:
            path, name = todo.pop(0)
            found = source.defined(path, name) if path else self._in_library(name)
            yield found
            bases = [self._base(path, base) for base in getattr(found, "bases", []) if base_name(base) not in PLAIN]
            todo = [base for base in bases if base not in seen] + todo
            seen |= set(bases)

    def _in_library(self, name: str) -> Definition | None:
        return next((node for lib in self.libraries if (node := lib.definition(name))), None)

    def _base(self, path: Path | None, base: ast.expr) -> tuple[Path | None, str]:
        """Return the file (None: a library's) and the name of a base of a class in `path`."""
        name = base_name(base)
        if path is None or self.folder is None or isinstance(base, ast.Attribute):
            return None, name
        if imported := source.import_of(path, name):
            module = imported[0].lstrip(".")
            level = len(imported[0]) - len(module)  # 1 for `from ._helper import x`
            root = path.parents[level - 1] if level else self.folder.parents[self.package.count(".")]
            file = root / (module.replace(".", "/") + ".py")
            return (file if file.is_file() else None), imported[1]
        return path, name


def connect(registries: dict[str, Registry]) -> dict[str, Registry]:
    """Let each registry find arguments that are components in the others; returns the same registries by kind."""
    for registry in registries.values():
        registry.catalogues = registries
    return registries
