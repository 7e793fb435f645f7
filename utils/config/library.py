"""Components of an installed package: their names and definitions, read from its source without importing it."""

import ast
import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from utils.config import source

__all__ = ["Definition", "Library"]

Definition = ast.ClassDef | ast.FunctionDef


@dataclass(frozen=True)
class Library:
    """Classes or functions of an installed package, read from its source where pip put it."""

    package: str  # what is imported: "torch.optim"
    files: str  # a folder or a file below the top package: "optim"
    pattern: str = r"^class ([A-Z]\w+)\("  # finds the names; these files are too long to parse them all
    without: frozenset[str] = frozenset()  # what is not meant for a config file

    def names(self) -> list[str]:
        """The names that a config file may use."""
        return [name for name in source.matches(self._path(), self.pattern) if name not in self.without]

    @functools.cache  # noqa: B019 - a handful of libraries, which stay as they were installed
    def definition(self, name: str) -> Definition | None:
        """The class or function of a name, be it public or not."""
        path = source.matches(self._path(), r"^(?:class|def) (\w+)").get(name)
        return source.defined_in_library(path, name) if path else None

    @functools.cache  # noqa: B019
    def _path(self) -> Path | None:
        """Where the source lies; None when the package is not installed."""
        spec = importlib.util.find_spec(self.package.split(".")[0])  # a top package is found without being imported
        places = spec.submodule_search_locations if spec else None
        return Path(places[0]) / self.files if places else None
