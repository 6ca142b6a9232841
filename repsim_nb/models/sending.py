"""Which models other processes can have: those with names that they can load themselves."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Executor
from typing import Any

from repsim_nb.errors import InputError


def sendable(models: Iterable[Any]) -> bool:
    """Whether all models are given by name or folder."""
    return all(isinstance(model, str | os.PathLike) for model in models)


def check_sendable(models: Iterable[Any], executor: Executor | None) -> None:
    """Raise if an executor is to run a model in memory.

    Raises
    ------
    InputError
        One of the models is in memory, so it cannot be sent.

    Examples
    --------
    >>> check_sendable(["tiny-neox-w32-d2"], None)
    """
    if executor is None:
        return
    for model in models:
        if not sendable([model]):
            raise InputError(
                f"{getattr(model, 'name', type(model).__name__)} is a model in memory, which cannot be sent to other "
                "processes. Give its name or folder, which they load themselves, or leave out executor."
            )
