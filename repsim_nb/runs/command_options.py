"""Options of commands, read from where they are declared, and written back as words of a command line.

Those of `compare` are the fields of the objects that carry them, those of `population` and `stitch` the arguments of
`compare_models` and `stitching_table`.
An option added there is an option here, with the same name and default.
"""

import argparse
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any, get_type_hints

from repsim_nb.activations import Sampling
from repsim_nb.comparison import compare, compare_models
from repsim_nb.comparison.controls import Controls
from repsim_nb.errors import InputError
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.constraints import check_names
from repsim_nb.models import Packing
from repsim_nb.runs.notebook_parameters import Parameter, ParameterError
from repsim_nb.stitching import stitching_table
from repsim_nb.system.resources import Resources
from repsim_nb.uncertainty import Uncertainty

OBJECTS = (Sampling, Uncertainty, Controls, Resources)
NOT_WRITTEN = ("corpus", "groups")  # the corpus is loaded first; groups is one value per row of an array
WRITTEN = {
    "packing": Packing,
    "store": bool | str | None,
    "executor": str | None,
}  # what words can express where Python accepts more
HELP = {
    "site": "resid_post, attn_out, mlp_out, pre_residual, mlp_act, head_out, ov, or of one head such as ov.3",
    "rows": "tokens, last, mean, cls or padded",
    "n_rows": "most rows to compare",
    "rows_per_document": "tokens to take from each document",
    "seed": "seed of everything that is random",
    "packing": "documents or packed, optionally with the length of windows and bos or no-bos: packed:128:bos",
    "null": "permutation, moments, or a number of permutations",
    "interval": "a level such as 0.95",
    "between_documents": "leave out pairs of rows of one document",
    "leave_out_first": "leave out this many first tokens of every sequence",
    "leave_out_norms": "leave out rows whose norm exceeds this many times the median",
    "standardize": "divide every feature by its standard deviation",
    "remove_components": "remove this many first principal components",
    "store": "a folder to store activations in; true is the user's cache",
    "memory_limit": "bytes that activations and work on them may take, such as 4e9",
    "batch_tokens": "tokens run through a model at once",
    "executor": "where units of work run: dask for a cluster of this machine, dask:FILE for that of a scheduler file",
    "map": "identity, orthogonal, affine, affine_norm or low_rank",
    "fit": "gradient or least_squares",
    "rank": "rank of a low_rank map",
    "steps": "most steps of the gradient fit",
    "warmup": "steps over which the learning rate rises",
    "n_fit": "windows of text that the map is fitted on",
    "n_report": "windows of text that the loss is reported on",
    "shuffle": "shuffle the sender's rows, as a control",
    "race": "with --into: nats above the best entry of its cut at which a gradient fit stops",
}


@dataclass(frozen=True)
class Option:
    """One option as it is declared: its name in Python, its type and its default."""

    name: str
    kind: Any
    default: Any

    @property
    def word(self) -> str:
        """Its spelling on a command line."""
        return f"--{self.name.replace('_', '-')}"

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add it to a parser."""
        if self.kind is bool:
            parser.add_argument(self.word, action="store_true", help=HELP[self.name])
            return
        default = "" if self.default is None else f" (default: {self.default})"
        parser.add_argument(
            self.word, default=self.default, type=self._parsed, metavar=self._sign, help=HELP[self.name] + default
        )

    @property
    def _sign(self) -> str:
        return "N" if self.kind in (int, int | None, float | None) else "VALUE"

    def _parsed(self, text: str) -> Any:
        """Parse a text; an integer may be written as 4e9."""
        try:
            if self.kind is Packing:
                return _packing(text)
            parameter = Parameter(self.name, _named(self.kind), self.default, kind=self.kind)
            return parameter.parse(_whole(text) if self.kind in (int, int | None) else text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    def words(self, value: Any) -> list[str]:
        """The words that set it to this value."""
        return [self.word] if self.kind is bool else [self.word, written(value)]


def _declared() -> dict[str, Option]:
    """Options declared by the objects that carry them."""
    found: dict[str, Option] = {}
    for of in OBJECTS:
        hints = get_type_hints(of) | WRITTEN
        own = [field for field in fields(of) if field.name not in NOT_WRITTEN]
        found |= {field.name: Option(field.name, hints[field.name], field.default) for field in own}
    return found


def _arguments(function: Callable[..., Any], *apart: str) -> dict[str, Option]:
    """Options declared by a function, except those that a command handles itself."""
    bare = inspect.unwrap(function)
    known = {name: p for name, p in inspect.signature(bare).parameters.items() if name not in apart}
    hints = get_type_hints(
        SimpleNamespace(__annotations__={n: p.annotation for n, p in known.items()}), vars(_of(bare))
    )
    hints |= WRITTEN
    return {name: Option(name, hints[name], p.default) for name, p in known.items()}


def _of(function: Callable[..., Any]) -> Any:
    module = inspect.getmodule(function)
    assert module is not None
    return module


COMPARISON = _declared()
DEFAULTS = {name: parameter.default for name, parameter in inspect.signature(compare).parameters.items()}
POPULATION = _arguments(compare_models, "models", "measures", "corpora", "layers", "groups")
STITCHES = _arguments(
    stitching_table, "senders", "receivers", "layers", "corpus", "out", "into", "controls", "measures"
)


def given(options: argparse.Namespace, declared: Mapping[str, Option]) -> dict[str, Any]:
    """The values of options, by their Python names."""
    return {name: getattr(options, name) for name in declared}


def configured(name: str, parameters: list[tuple[str, str]]) -> Measure:
    """Return the measure of this name, with parameters parsed from texts as the measure declares them.

    Raises
    ------
    InputError
        An unknown measure or parameter, or a value that does not fit.
    """
    measure, texts = get_measure(name), dict(parameters)
    if len(texts) < len(parameters):
        raise InputError("A parameter is given twice; give each -p NAME once.")
    check_names(name, type(measure), texts)
    hints = get_type_hints(type(measure))
    values = {}
    for parameter, text in texts.items():
        kind = hints[parameter]
        if kind is Any:
            raise InputError(f"{parameter} of {name} is one value per row, which can only be given in Python.")
        try:
            values[parameter] = Parameter(parameter, _named(kind), measure.params[parameter], kind=kind).parse(text)
        except ParameterError as error:
            raise InputError(f"{name}: {error}") from None
    return measure.configured(**values)


def written(value: Any) -> str:
    """Write a value as a word that is read back as the same value."""
    if isinstance(value, Packing):
        bos = {None: [], True: ["bos"], False: ["no-bos"]}[value.bos]
        return ":".join([value.kind, *([] if value.length is None else [str(value.length)]), *bos])
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _named(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _packing(text: str) -> Packing:
    """Parse a kind and, after colons, the length of windows and whether they start with a beginning-of-text token."""
    kind, *more = text.split(":")
    how: dict[str, Any] = {}
    for part in more:
        name = "length" if part.isdigit() else "bos"
        if name in how or (name == "bos" and part not in ("bos", "no-bos")):
            raise InputError(f"packing {text!r}: expected a kind, a length, and bos or no-bos, such as packed:128:bos.")
        how[name] = int(part) if name == "length" else part == "bos"
    return Packing(kind, **how)


def _whole(text: str) -> str:
    """Write a number such as 4e9 in digits; return any other text as it is."""
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else text
