"""Check the parameters of measures against their annotations and defaults, where they are declared."""

import inspect
import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from repsim_nb.errors import InputError, unknown


@dataclass(frozen=True)
class Between:
    """The closed range of a number, as in `Annotated[float, Between(0, 1)]`."""

    low: float
    high: float = math.inf

    def __str__(self) -> str:
        if self.high < math.inf:
            return f"from {self.low:g} to {self.high:g}"
        return "greater than 0" if 0 < self.low < 1 else f"at least {self.low:g}"


Count = Annotated[int, Between(1)]
Share = Annotated[float, Between(0, 1)]
Positive = Annotated[float, Between(math.ulp(0.0))]


def check_names(owner: str, target: Callable[..., Any], names: Mapping[str, Any]) -> None:
    """Check that `target` has all these parameters.

    Raises
    ------
    InputError
        A name that is no parameter of `target`.
    """
    known = list(inspect.signature(target).parameters)
    for name in names:
        if not known:
            raise InputError(f"{owner} has no parameters, got {name!r}.")
        if name not in known:
            raise unknown(f"parameter of {owner}", name, known)


def check_values(owner: str, target: Any, values: Mapping[str, Any]) -> None:
    """Check values against the annotations of the parameters of `target`, a class or a function.

    Raises
    ------
    InputError
        A value that does not fit its annotation.
    """
    hints = get_type_hints(target, include_extras=True)
    for name, value in values.items():
        problem = _mismatch(value, hints.get(name, Any))
        if problem:
            raise InputError(f"{owner}: {name} must be {problem}, got {value!r}.")


def _mismatch(value: Any, hint: Any) -> str | None:
    """What `value` should have been; None if it fits."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        problems = [_mismatch(value, option) for option in get_args(hint)]
        return None if None in problems else " or ".join(filter(None, problems))
    if origin is Annotated:
        kind, limits = get_args(hint)
        problem = _mismatch(value, kind)
        if problem or not limits.low <= value <= limits.high:
            return f"{'an integer' if kind is int else 'a number'} {limits}"
        return None
    if origin is Literal:
        choices = get_args(hint)
        return None if isinstance(value, str) and value in choices else "one of " + ", ".join(map(repr, choices))
    if hint is NoneType:
        return None if value is None else "None"
    if hint is bool:
        return None if isinstance(value, bool) else "True or False"
    if hint is int:
        return None if isinstance(value, numbers.Integral) and not isinstance(value, bool) else "an integer"
    if hint is float:
        fits = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
        return None if fits else "a finite number"
    return None
