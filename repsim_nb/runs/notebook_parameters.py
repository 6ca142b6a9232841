"""Read the parameters of a notebook from its cell tagged `parameters`, and check values given for them.

papermill's own inspection drops lines such as `x: int | None = None`, splits strings that contain a `#`, and accepts
any name and value. So this module reads the cell with Python's parser, and checks values before anything runs.
"""

import ast
import io
import json
import re
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from repsim_nb.errors import InputError, unknown

_SCALARS: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str, "dict": dict, "list": list}
_WORDS = ("none", "null", "true", "false")
_CHOICES = re.compile(r"(?P<choices>[\w.@/-]+(?: \| [\w.@/-]+)+)(?=$|[;:,]| \()")


class ParameterError(InputError):
    """A value does not fit a parameter of a notebook, or its declaration cannot be read."""


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell, such as `preset: str = "default"  # quick | default | paper`."""

    name: str
    annotation: str  #: as written, or the type of the default
    default: Any
    help: str = ""
    kind: Any = object  #: annotation as a type; object accepts anything
    choices: tuple[str, ...] = ()

    def parse(self, text: str) -> Any:
        """Convert a text from the command line to a value."""
        try:
            return self._check_choices(_parse(text, self.kind))
        except ValueError as error:
            raise self._mismatch(repr(text), error) from None

    def check(self, value: Any) -> Any:
        """Convert `value` to plain Python of the declared type."""
        try:
            return self._check_choices(_accept(value, self.kind))
        except ValueError as error:
            raise self._mismatch(f"{value!r} ({type(value).__name__})", error) from None

    def _check_choices(self, value: Any) -> Any:
        for item in value if isinstance(value, list) else [value]:
            if self.choices and isinstance(item, str) and item not in self.choices:
                raise unknown("value", item, self.choices)
        return value

    def _mismatch(self, received: str, error: ValueError) -> ParameterError:
        if isinstance(error, InputError):
            return ParameterError(f"Parameter {self.name!r}: {error}")
        return ParameterError(
            f"Parameter {self.name!r} expects {self.annotation}, received {received}. Its default is {self.default!r}."
        )


def read_parameters(cells: list[Mapping[str, Any]], notebook: str) -> tuple[Parameter, ...]:
    """The parameters of a notebook in order; empty if no cell is tagged `parameters`."""
    for cell in cells:
        if cell["cell_type"] == "code" and "parameters" in cell.get("metadata", {}).get("tags", []):
            return _read_cell("".join(cell["source"]), notebook)
    return ()


def match(parameters: tuple[Parameter, ...], names: Mapping[str, object], notebook: str) -> None:
    """Raise for the first name that is not a parameter."""
    known = [parameter.name for parameter in parameters]
    for name in names:
        if not known:
            raise ParameterError(f"Notebook {notebook!r} has no parameters, received {name!r}.")
        if name not in known:
            raise unknown("parameter", name, known, hint=f"Notebook {notebook!r} has no such parameter.")


def check(parameters: tuple[Parameter, ...], values: Mapping[str, Any], notebook: str) -> dict[str, Any]:
    """Convert `values` to plain Python of the declared types."""
    match(parameters, values, notebook)
    return {
        parameter.name: parameter.check(values[parameter.name]) for parameter in parameters if parameter.name in values
    }


def takes_lists(kind: Any) -> bool:
    """Whether a value of that type can contain commas: lists, dicts and undeclared types."""
    if get_origin(kind) in (Union, UnionType):
        return any(takes_lists(member) for member in get_args(kind))
    return kind in (object, list, dict) or get_origin(kind) in (list, dict)


def _read_cell(source: str, notebook: str) -> tuple[Parameter, ...]:
    try:
        lines = ast.parse(source).body
    except SyntaxError as error:
        raise ParameterError(
            f"The parameters cell of notebook {notebook!r} is not plain Python (line {error.lineno}: {error.msg})."
        ) from None
    comments = _comments(source)
    return tuple(_read_line(line, comments.get(line.end_lineno or 0, ""), notebook) for line in lines if _assigns(line))


def _assigns(line: ast.stmt) -> bool:
    target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
    return isinstance(target, ast.Name) and getattr(line, "value", None) is not None


def _read_line(line: Any, comment: str, notebook: str) -> Parameter:
    annotation = getattr(line, "annotation", None)
    name = (line.target if annotation else line.targets[0]).id
    try:
        default = ast.literal_eval(line.value)
    except ValueError:
        raise ParameterError(
            f"Parameter {name!r} of notebook {notebook!r} has the default {ast.unparse(line.value)!r}; "
            "expected a plain value such as 3, 'text' or [1, 2]."
        ) from None
    kind = _kind(annotation) if annotation else object if default is None else type(default)
    written = ast.unparse(annotation) if annotation else getattr(kind, "__name__", "any value")
    found = _CHOICES.match(comment) if "str" in written else None
    choices = tuple(found["choices"].split(" | ")) if found else ()
    parameter = Parameter(name, "any value" if kind is object else written, default, comment, kind, choices)
    try:
        parameter.check(default)
    except ParameterError as error:
        raise ParameterError(f"A default in notebook {notebook!r} does not fit its declaration. {error}") from None
    return parameter


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ").strip() for token in tokens if token.type == tokenize.COMMENT}


def _kind(node: ast.expr) -> Any:
    """The type named by an annotation; object for types that are not checked here."""
    match node:
        case ast.Name(id=name):
            return _SCALARS.get(name, object)
        case ast.Constant(value=None):
            return NoneType
        case ast.Constant(value=str() as quoted):
            return _kind(ast.parse(quoted, mode="eval").body)
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return Union[_kind(left), _kind(right)]  # noqa: UP007
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return list[_kind(item)]  # type: ignore[misc]
        case ast.Subscript(value=ast.Name(id="Optional"), slice=item):
            return _kind(item) | None
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=members)):
            return Union[tuple(map(_kind, members))]  # noqa: UP007
        case ast.Subscript(value=ast.Name(id="Literal"), slice=items):
            return Literal[ast.literal_eval(items)]
    return object


def _members(text: str, kind: Any) -> list[Any]:
    """The members of a union in the order in which to try a text: those that accept any text last.

    A list of strings comes after a single string, unless the text looks like a list.
    """
    order = [list[str], str, object] if "," in text or text.strip().startswith("[") else [str, list[str], object]
    return sorted(get_args(kind), key=lambda member: order.index(member) if member in order else -1)


def _parse(text: str, kind: Any) -> Any:
    """Convert `text` to `kind`; ValueError if that fails."""
    if get_origin(kind) in (Union, UnionType):
        return _first(_parse, text, _members(text, kind))
    if get_origin(kind) is Literal:
        return _accept({str(value): value for value in get_args(kind)}.get(text, text), kind)
    if get_origin(kind) is list and not text.strip().startswith("["):
        return [_parse(item.strip(), get_args(kind)[0]) for item in text.split(",") if item.strip()]
    if kind is str:
        return text
    if kind in (int, float):
        return kind(text)
    word = text.strip().lower()
    if kind is NoneType and word in ("none", "null"):
        return None
    if kind is bool and word in ("true", "false"):
        return word == "true"
    if kind is object:
        return _first(_parse, text, [NoneType, bool]) if word in _WORDS else _json(text, otherwise=text)
    if kind in (list, dict) or get_origin(kind) is list:
        return _accept(_json(text, otherwise=None), kind)
    raise ValueError(text)


def _json(text: str, otherwise: Any) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return otherwise


def _accept(value: Any, kind: Any) -> Any:
    """Return `value` as plain Python if it is a `kind`, else raise ValueError. A bool does not count as a number."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return _first(_accept, value, get_args(kind))
    if origin is Literal and any(value == known and type(value) is type(known) for known in get_args(kind)):
        return value
    if origin is list and isinstance(value, list | tuple):
        return [_accept(item, get_args(kind)[0]) for item in value]
    if kind is object:
        return _plain(value)
    if kind in (str, bool, NoneType) and isinstance(value, kind):
        return value
    if (kind is dict and isinstance(value, dict)) or (kind is list and isinstance(value, list | tuple)):
        return _plain(value)
    if kind is int and isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if kind is float and isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    raise ValueError(value)


def _plain(value: Any) -> Any:
    """Return `value` as plain Python, the only form a notebook can take, else raise ValueError."""
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return _first(_accept, value, [NoneType, bool, int, float, str])


def _first(convert: Any, value: Any, members: Sequence[Any]) -> Any:
    for member in members:
        try:
            return convert(value, member)
        except ValueError:
            continue
    raise ValueError(value)
