"""What a constructor takes, read from source text without importing it."""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Union

__all__ = ["Parameter", "Signature", "UNKNOWN", "read_signature"]

UNKNOWN: Any = object()  # a default that is not a literal

SCALARS = {"int": int, "float": float, "bool": bool, "str": str, "None": None}
LISTS = {"list", "tuple", "List", "Tuple", "Sequence", "Iterable"}
# Library types that a config file names by a word, as in `interpolation: bicubic`, `dtype: float32`.
WORDS = {"InterpolationMode", "dtype"}


@dataclass(frozen=True)
class Parameter:
    """One argument: the type its value must have (Any where the source does not say), and its default."""

    type: Any = Any
    required: bool = True
    default: Any = UNKNOWN


@dataclass(frozen=True)
class Signature:
    """The arguments of a class or a function; `open` when it also takes others (**kwargs)."""

    parameters: dict[str, Parameter]
    open: bool = False


def read_signature(node: ast.AST, find: Callable[[str], ast.AST | None]) -> Signature:
    """The signature of a class or function definition; `find` gives the definition of a base class by name."""
    if isinstance(node, ast.FunctionDef):
        return _of_function(node)
    if not isinstance(node, ast.ClassDef):
        return Signature({}, open=True)
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _of_function(item, method=True)
    bases = [ast.unparse(base).split(".")[-1] for base in node.bases]
    for base in bases:
        if (definition := find(base)) is not None:
            return read_signature(definition, find)
    return Signature({}, open=not set(bases) <= {"Module", "Dataset", "ABC", "Transform", "Task", "BasicModule"})


def _of_function(node: ast.FunctionDef, method: bool = False) -> Signature:
    spec = node.args
    positional = [*spec.posonlyargs, *spec.args]
    defaults: list[ast.expr | None] = [*[None] * (len(positional) - len(spec.defaults)), *spec.defaults]
    pairs = [*zip(positional, defaults, strict=True), *zip(spec.kwonlyargs, spec.kw_defaults, strict=True)]
    parameters = {arg.arg: _parameter(arg, default) for arg, default in pairs[1 if method else 0 :]}
    return Signature(parameters, open=spec.kwarg is not None)


def _parameter(arg: ast.arg, default: ast.expr | None) -> Parameter:
    kind = _type(arg.annotation)
    if default is None:
        return Parameter(kind)
    try:
        return Parameter(kind, required=False, default=ast.literal_eval(default))
    except ValueError:
        return Parameter(kind, required=False)


def _type(node: ast.expr | None) -> Any:
    """The type of an annotation as far as a YAML value can have it; Any for the rest."""
    if isinstance(node, ast.Constant):
        return None if node.value is None else _type(_parsed(node.value))
    if isinstance(node, ast.Name | ast.Attribute):
        name = ast.unparse(node).split(".")[-1]
        return str if name in WORDS else SCALARS.get(name, list[Any] if name in LISTS else Any)
    if isinstance(node, ast.BinOp):
        return _union([_type(node.left), _type(node.right)])
    if isinstance(node, ast.Subscript):
        return _generic(ast.unparse(node.value).split(".")[-1], node.slice)
    return Any


def _parsed(text: Any) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, TypeError):
        return None


def _generic(name: str, inner: ast.expr) -> Any:
    """`Union[...]`, `Optional[...]`, `Literal[...]` and the list-like types."""
    items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if name == "Literal":
        return Literal[tuple(ast.literal_eval(item) for item in items)]  # type: ignore[misc]
    if name == "Union":
        return _union([_type(item) for item in items])
    if name == "Optional":
        return _union([_type(inner), None])
    return list[_type(items[0])] if name in LISTS else Any  # type: ignore[misc]


def _union(options: list[Any]) -> Any:
    """A union without what no YAML value can be (a Tensor, a module); Any if nothing else is left."""
    known = [option for option in options if option is not Any]
    if not known or known == [None]:
        return Any
    return Union[tuple(known)]  # noqa: UP007 - built from a list
