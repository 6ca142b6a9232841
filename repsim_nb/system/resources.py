"""What a computation may use of this machine. None of it changes values beyond rounding."""

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
        Disk cache for activations: a folder, a `Store`, True for the user's cache folder, or None for no cache.
    memory_limit
        Maximum bytes for activations and the work on them. None means half of the available memory.
    batch_tokens
        Tokens per forward pass; a longer window is a batch of its own. None picks a size from the model's width and
        the device. Changes values within rounding only.

    Raises
    ------
    InputError
        If a number is out of range.

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
