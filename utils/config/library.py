"""Components of an installed package: read their names and definitions from its source, without importing it."""

import ast
import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from utils.config import source
from utils.words import suggest

__all__ = ["Definition", "Library"]

MOST = 200  # names that are listed
Definition = ast.ClassDef | ast.FunctionDef


@dataclass(eq=False, repr=False)
class Library:
    """Classes or functions of an installed package, read from its installed source."""

    package: str  # the module to import: "torch.optim"
    files: str  # a folder or a file below the top package: "optim"
    pattern: str = r"^class ([A-Z]\w+)\("  # finds the names; these files are too long to be parsed whole
    without: frozenset[str] = frozenset()  # names that are not for a config file
    extra: str = ""  # of pyproject.toml, which installs the package
    tags: bool = False  # whether a tag may follow a name, as resnet50.a1_in1k

    def names(self) -> list[str]:
        """Return the names that a config file may use."""
        return [name for name in source.matches(self._path(), self.pattern) if name not in self.without]

    def listed(self) -> str:
        """Return the names in words; of very many, some."""
        if not (names := self.names()) and self.extra:
            return f"its networks, once it is installed: pip install 'deeptrain[{self.extra}]'"
        return ", ".join(names) if len(names) <= MOST else f"{len(names):,}, as {', '.join(names[:: len(names) // 12])}"

    def require(self) -> None:
        """Raise ModuleNotFoundError unless the package is installed."""
        if self._path() is None:
            name = self.package.partition(".")[0]
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    def fault(self, family: str, variant: str) -> str:
        """Return the reason why a variant of a family of this library cannot be used; empty if it can."""
        if self.extra and self._path() is None:
            return f"{self.package} is not installed; pip install 'deeptrain[{self.extra}]' installs it"
        self.require()
        choices = self.names()
        if not variant:
            return f"{family} needs a variant, as {family}:{choices[0]}"
        known = variant in choices or (self.tags and variant.partition(".")[0] in choices)
        return "" if known else f"no '{variant}' in {family}{suggest(variant, choices, f'{family}:')}"

    @functools.cache  # noqa: B019 - a few libraries, whose files do not change
    def definition(self, name: str) -> Definition | None:
        """Return the class or function of a name, which need not be public."""
        path = source.matches(self._path(), r"^(?:class|def) (\w+)").get(name)
        return source.defined_in_library(path, name) if path else None

    @functools.cache  # noqa: B019
    def _path(self) -> Path | None:
        """Return the path of the source; None if the package is not installed."""
        spec = importlib.util.find_spec(self.package.split(".")[0])  # find_spec does not import a top package
        places = spec.submodule_search_locations if spec else None
        return Path(places[0]) / self.files if places else None
