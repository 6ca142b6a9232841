"""What a computation may use of this machine; it never changes a value beyond rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from repsim_nb.errors import InputError


@dataclass(frozen=True)
class Resources:
    """What a computation may use.

    Parameters
    ----------
    store
        Where activations are kept on disk and looked for first: a folder, a `Store`, or True for the user's cache.
        None keeps none.
    memory_limit
        Bytes that activations, and the work on them, may take. None is half of what is available.
    batch_tokens
        Tokens that are run through a model at once; a longer window is a batch of its own. None is chosen by the
        model's width and the device. It moves values within rounding.

    Raises
    ------
    InputError
        A number out of range.

    Examples
    --------
    >>> Resources(memory_limit=10**9).batch_tokens is None
    True
    """

    store: Any = None
    memory_limit: int | None = None
    batch_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("memory_limit", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 1):
                what = "bytes, such as 4e9" if name == "memory_limit" else "tokens"
                raise InputError(f"{name}={value!r}; expected a positive number of {what}.")
