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
    near = get_close_matches(str(name).lower(), choices, n=1, cutoff=0.5)
    advice = f"Did you mean {near[0]!r}?" if near else f"Choose one of: {', '.join(sorted(choices))}."
    return InputError(f"Unknown {kind} {name!r}. {advice}{' ' + hint if hint else ''}")
