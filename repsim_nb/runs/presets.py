"""Presets: one word that sets every parameter of a notebook which is not given explicitly."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from repsim_nb.errors import unknown


def settle(preset: str, presets: Mapping[str, Mapping[str, Any]], **given: Any) -> SimpleNamespace:
    """The settings of `preset`, with those of `given` that are not None in their place.

    Raises
    ------
    InputError
        A preset or a parameter that does not exist.

    Examples
    --------
    >>> settle("quick", {"quick": {"n_rows": 512}, "default": {"n_rows": 4096}}, n_rows=None).n_rows
    512
    """
    if preset not in presets:
        raise unknown("preset", preset, presets)
    settings = dict(presets[preset])
    for name, value in given.items():
        if name not in settings:
            raise unknown("parameter", name, settings)
        if value is not None:
            settings[name] = value
    return SimpleNamespace(preset=preset, **settings)
