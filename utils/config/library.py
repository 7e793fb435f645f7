"""Components of an installed package: read their names and definitions from its source, without importing it."""

import ast
import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from utils.config import source

__all__ = ["Definition", "Library"]

Definition = ast.ClassDef | ast.FunctionDef


@dataclass(eq=False, repr=False)
class Library:
    """Classes or functions of an installed package, read from its installed source."""

    package: str  # the module to import: "torch.optim"
    files: str  # a folder or a file below the top package: "optim"
    pattern: str = r"^class ([A-Z]\w+)\("  # finds the names; these files are too long to be parsed whole
    without: frozenset[str] = frozenset()  # names that are not for a config file

    def names(self) -> list[str]:
        """Return the names that a config file may use."""
        return [name for name in source.matches(self._path(), self.pattern) if name not in self.without]

    def require(self) -> None:
        """Raise ModuleNotFoundError unless the package is installed."""
        if self._path() is None:
            name = self.package.partition(".")[0]
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

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
