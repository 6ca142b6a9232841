"""The one way this package says that an input is wrong."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Something given by the user is wrong; the message says what, what was expected and what to do."""


def unknown(kind: str, name: object, choices: Iterable[str], hint: str = "") -> InputError:
    """The error for a name that is not among `choices`, with the nearest valid name if one is near.

    >>> print(unknown("measure", "ckaa", ["cka", "procrustes"]))
    Unknown measure 'ckaa'. Did you mean 'cka'?
    """
    choices = list(choices)
    near = nearest(str(name), choices)
    advice = f"Did you mean {near!r}?" if near else f"Choose one of: {', '.join(sorted(choices))}."
    return InputError(f"Unknown {kind} {name!r}. {advice}{' ' + hint if hint else ''}")


def nearest(name: str, choices: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The choice that is most like `name`, whatever the case of its letters; None where none is like it.

    >>> nearest("PROCRUSTE", ["cka", "procrustes"])
    'procrustes'
    """
    by_lower = {choice.lower(): choice for choice in choices}
    near = get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[near[0]] if near else None
