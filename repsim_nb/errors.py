"""The exceptions for wrong input and missing packages, and the helpers that word their messages."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import wraps
from importlib.util import find_spec
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class InputError(ValueError):
    """An argument is wrong. The message says what was received, what is expected and what to do."""


class MissingExtraError(ImportError, InputError):
    """A package that only an extra of repsim-nb installs is missing. The message gives the line that installs it."""


class UnreachableError(InputError):
    """Something that has to be downloaded cannot be had on this machine. A notebook that raises it is skipped."""


def needs(what: str, *packages: str, extra: str = "lab") -> None:
    """Raise if a package that the base install leaves out is missing; nothing is imported.

    Parameters
    ----------
    what
        What needs the packages, in the user's words.
    packages
        Import names.
    extra
        The extra of repsim-nb that installs them.

    Raises
    ------
    MissingExtraError
        One of them is not installed.

    Examples
    --------
    >>> needs("rs.figures", "numpy")
    >>> needs("rs.figures", "numpy", "absent")
    Traceback (most recent call last):
        ...
    repsim_nb.errors.MissingExtraError: rs.figures needs absent, which is not installed: pip install "repsim-nb[lab]"
    """
    missing = next((package for package in packages if find_spec(package) is None), None)
    if missing:
        raise MissingExtraError(
            f'{what} needs {missing}, which is not installed: pip install "repsim-nb[{extra}]"', name=missing
        )


def unknown(kind: str, name: object, choices: Iterable[str], hint: str = "") -> InputError:
    """Build the error for a name that is not in `choices`, suggesting the closest valid name.

    >>> print(unknown("measure", "ckaa", ["cka", "procrustes"]))
    Unknown measure 'ckaa'. Did you mean 'cka'?
    """
    choices = list(choices)
    near = nearest(str(name), choices)
    advice = f"Did you mean {near!r}?" if near else f"Choose one of: {', '.join(sorted(choices))}."
    return InputError(f"Unknown {kind} {name!r}. {advice}{' ' + hint if hint else ''}")


def check_effect(function: Callable[..., Any], given: Mapping[str, Any], why: str) -> None:
    """Raise if an argument that has no effect here differs from its default.

    Parameters
    ----------
    function
        The function whose signature holds the defaults.
    given
        Arguments that have no effect in this call, by name.
    why
        The reason they have no effect, and what to do instead.

    Raises
    ------
    InputError
        If any of them differs from its default.

    Examples
    --------
    >>> def draw(x, width=1): ...
    >>> check_effect(draw, {"width": 3}, "x has no lines: leave it out.")
    Traceback (most recent call last):
        ...
    repsim_nb.errors.InputError: width would have no effect: x has no lines: leave it out.
    """
    defaults = inspect.signature(function).parameters
    idle = [name for name, value in given.items() if not _same(value, defaults[name].default)]
    if idle:
        raise InputError(f"{', '.join(idle)} would have no effect: {why}")


def named_arguments(
    explain: Callable[[str, Mapping[str, Any]], str | None] = lambda name, given: None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a public function so that an unknown keyword argument raises InputError.

    Parameters
    ----------
    explain
        Called with the unknown name and all given arguments; returns advice, or None to suggest the closest name.

    Examples
    --------
    >>> @named_arguments()
    ... def draw(x, n_rows=1): ...
    >>> draw(3, nrows=2)
    Traceback (most recent call last):
        ...
    repsim_nb.errors.InputError: draw has no argument 'nrows'. Did you mean 'n_rows'?
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        known = inspect.signature(function).parameters

        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs:
                if name not in known:
                    given = dict(zip(known, args, strict=False)) | kwargs
                    near = nearest(name, known)
                    advice = f"Did you mean {near!r}?" if near else f"It takes {', '.join(known)}."
                    called = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
                    raise InputError(f"{called} has no argument {name!r}. {explain(name, given) or advice}")
            return function(*args, **kwargs)

        return checked

    return decorate


def _same(value: Any, default: Any) -> bool:
    return value is default or (isinstance(value, str | int | float) and bool(value == default))


def nearest(name: str, choices: Iterable[str], cutoff: float = 0.5) -> str | None:
    """Return the choice most similar to `name`, ignoring case, or None if none is similar.

    >>> nearest("PROCRUSTE", ["cka", "procrustes"])
    'procrustes'
    """
    by_lower = {choice.lower(): choice for choice in choices}
    near = get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[near[0]] if near else None
