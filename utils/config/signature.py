"""Read a constructor's arguments from source text, without importing it."""

import ast
import typing
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Never, Union

from utils.config.convert import Component
from utils.config.ranges import Count, Depth, Fraction, NonNegative, Positive, Range, Seed

__all__ = ["PLAIN", "Parameter", "Signature", "UNKNOWN", "base_name", "read_signature"]

UNKNOWN: Any = object()  # a default that is not a literal

# The YAML values that a name in an annotation allows; other names allow any value.
NAMES: dict[str, Any] = {"int": int, "float": float, "bool": bool, "str": str, "None": None, "Number": int | float}
NAMES |= dict.fromkeys(["list", "tuple", "List", "Tuple", "Sequence", "Iterable"], list[Any])
NAMES |= dict.fromkeys(["dict", "Dict", "Mapping"], dict)
# A config file names these by a word: `root: data/photos`, `interpolation: bicubic`, `dtype: float32`.
NAMES |= dict.fromkeys(["Path", "PathLike", "InterpolationMode", "dtype"], str)
# No YAML value is one of these: only code can pass them.
CODE = ["Tensor", "Parameter", "ParamsT", "Module", "ModuleList", "Optimizer", "LRScheduler", "Generator", "Callable"]
NAMES |= dict.fromkeys(CODE, Never)

NAMES |= {
    "Count": Count,
    "Fraction": Fraction,
    "Depth": Depth,
    "NonNegative": NonNegative,
    "Positive": Positive,
    "Seed": Seed,
}

# Bases whose constructor takes no arguments.
PLAIN = {"object", "ABC", "Protocol", "Generic", "Module", "Dataset", "IterableDataset"}


@dataclass(frozen=True, repr=False)
class Parameter:
    """One argument: the type of its value (Any if the source does not say), and its default."""

    type: Any = Any
    required: bool = True
    default: Any = UNKNOWN

    @property
    def only_code(self) -> bool:
        """Whether only code can pass it, for example a network or a function."""
        return self.type is Never

    def within(self, known: Range | None) -> "Parameter":
        """Return the same argument with a range that is known of it, unless its own type has one."""
        if known is None or typing.get_origin(self.type) is Annotated:
            return self
        return replace(self, type=Annotated[self.type, known])


@dataclass(frozen=True, repr=False)
class Signature:
    """The arguments of a class or a function; `open` if it also takes others (**kwargs)."""

    parameters: dict[str, Parameter]
    open: bool = False

    def typed(self, types: Mapping[str, Any]) -> "Signature":
        """Return the signature with these types of arguments, by name; it lacks those whose type is None."""
        known = {k: replace(v, type=types[k]) if types.get(k) else v for k, v in self.parameters.items()}
        return Signature({k: v for k, v in known.items() if types.get(k, v) is not None}, self.open)


def read_signature(
    lineage: Iterable[ast.AST | None], method: str = "__init__", kinds: Container[str] = ()
) -> Signature:
    """Return the signature of a function, or of a class's method.

    `lineage` is its definition and those of its bases, with None for an unknown one. An argument annotated
    `Annotated[nn.Module, "loss"]` is itself a component, if "loss" is one of the `kinds`.
    """
    for node in lineage:
        if isinstance(node, ast.FunctionDef):
            return _of_function(node, kinds)
        if not isinstance(node, ast.ClassDef) or node.decorator_list:
            return Signature({}, open=True)  # not found, or a dataclass, whose constructor does not exist in the source
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name == method:
                return _of_function(item, kinds, method=True)
    return Signature({})


def base_name(base: ast.expr) -> str:
    """Return the last name of a base class: Module for `nn.Module`, Dataset for `Dataset[int]`."""
    return ast.unparse(base.value if isinstance(base, ast.Subscript) else base).split(".")[-1]


def _of_function(node: ast.FunctionDef, kinds: Container[str], method: bool = False) -> Signature:
    spec = node.args
    positional = [*spec.posonlyargs, *spec.args]
    defaults: list[ast.expr | None] = [*[None] * (len(positional) - len(spec.defaults)), *spec.defaults]
    pairs = [*zip(positional, defaults, strict=True), *zip(spec.kwonlyargs, spec.kw_defaults, strict=True)]
    parameters = {arg.arg: _parameter(arg, default, kinds) for arg, default in pairs[1 if method else 0 :]}
    return Signature(parameters, open=spec.kwarg is not None)


def _parameter(arg: ast.arg, default: ast.expr | None, kinds: Container[str]) -> Parameter:
    kind = _type(arg.annotation, kinds)
    if default is None:
        return Parameter(kind)
    try:
        return Parameter(kind, required=False, default=ast.literal_eval(default))
    except (ValueError, TypeError):
        return Parameter(kind, required=False)


def _type(node: ast.expr | None, kinds: Container[str]) -> Any:
    """Return the part of an annotation's type that a YAML value can have; Any if it is unknown."""
    if isinstance(node, ast.Constant):
        return None if node.value is None else _type(_parsed(node.value), kinds)
    if isinstance(node, ast.Name | ast.Attribute):
        return NAMES.get(ast.unparse(node).split(".")[-1], Any)
    if isinstance(node, ast.BinOp):
        return _union([_type(node.left, kinds), _type(node.right, kinds)])
    if isinstance(node, ast.Subscript):
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return _generic(ast.unparse(node.value).split(".")[-1], items, kinds)
    return Any


def _parsed(text: Any) -> ast.expr | None:
    """Return the annotation in quotes, parsed."""
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, TypeError):
        return None


def _generic(name: str, items: list[ast.expr], kinds: Container[str]) -> Any:
    """Return the type of `Union[...]`, `Optional[...]`, `Literal[...]`, `Annotated[...]` and the list-like types."""
    if name == "Literal":
        values = [item.value for item in items if isinstance(item, ast.Constant)]
        return Literal[tuple(values)] if len(values) == len(items) else Any  # type: ignore[misc]
    if name in ("Union", "Optional"):
        return _union([*(_type(item, kinds) for item in items), *([None] if name == "Optional" else [])])
    if name == "Annotated":
        return _annotated(_type(items[0], kinds), items[-1], kinds)
    if name in ("tuple", "Tuple") and len(items) > 1 and ast.unparse(items[-1]) != "...":
        return tuple[tuple(_type(item, kinds) for item in items)]  # type: ignore[misc]
    kind = NAMES.get(name, Any)
    if kind != list[Any]:
        return kind
    inner = _type(items[0], kinds)
    mark = _mark(inner)
    return Annotated[tuple[Component, ...], mark] if mark else list[inner]  # type: ignore[valid-type]


def _annotated(inner: Any, mark: ast.expr, kinds: Container[str]) -> Any:
    """Return a component's type, if no YAML value fits the type itself and the mark names a kind of component.

    A mark `Range(least, largest)` is kept.
    """
    if isinstance(mark, ast.Call) and base_name(mark.func) == "Range":
        bounds = {word.arg or "": ast.literal_eval(word.value) for word in mark.keywords}
        return Annotated[inner, Range(*map(ast.literal_eval, mark.args), **bounds)]
    kind = getattr(mark, "value", None)
    return Annotated[Component, kind] if inner in (Any, Never) and isinstance(kind, str) and kind in kinds else inner


def _mark(to: Any) -> str:
    """Return the kind of component that a type is; empty for other types."""
    mark = typing.get_args(to)[1] if typing.get_origin(to) is Annotated else ""
    return mark if isinstance(mark, str) else ""


def _union(options: list[Any]) -> Any:
    """Return the union without the options that only code can pass; Never if none is left, or only null."""
    for option in options:
        if mark := _mark(option):  # a config writes it as a component only
            inner = typing.get_args(option)[0]
            return Annotated[inner | None, mark] if None in options else option
    known = [option for option in options if option is not Never]
    if Any in known:
        return Any
    if not known or (known == [None] and len(options) > 1):
        return Never
    return Union[tuple(known)]  # noqa: UP007 - built from a list
