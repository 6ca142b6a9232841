"""What a computation may use of this machine. None of it changes values beyond rounding."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from repsim_nb.errors import InputError
from repsim_nb.system.executor import checked


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
    executor
        Where units of work run: any `concurrent.futures.Executor`. It is not shut down. Models given by name are loaded
        there. Models in memory cannot be sent: calls whose only units are models refuse them, the others run them here.
        None runs everything here, in order. Sums in float32 may differ in the last digit; everything else is equal.

    Raises
    ------
    InputError
        If a number is out of range, or `executor` is not an Executor.

    Examples
    --------
    >>> Resources(memory_limit=10**9).batch_tokens is None
    True
    """

    store: Any = None
    memory_limit: int | None = None
    batch_tokens: int | None = None
    executor: Executor | None = None

    def __post_init__(self) -> None:
        for name in ("memory_limit", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 1):
                what = "bytes, such as 4e9" if name == "memory_limit" else "tokens"
                raise InputError(f"{name}={value!r}; expected a positive number of {what}.")
        checked(self.executor)

    @property
    def alone(self) -> Resources:
        """The same without the executor, as a unit of work has them, which may run in another folder."""
        named = isinstance(self.store, str | os.PathLike)
        return replace(self, executor=None, store=os.path.abspath(self.store) if named else self.store)
