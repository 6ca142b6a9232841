"""Presets: one word that sets all parameters of a notebook that are not given explicitly."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from repsim_nb.errors import unknown


def settle(preset: str, presets: Mapping[str, Mapping[str, Any]], **given: Any) -> SimpleNamespace:
    """Look up the settings of a preset, overridden by given values that are not None.

    Parameters
    ----------
    preset
        Name of the preset.
    presets
        Preset -> its settings.
    **given
        Values for single settings; None keeps that of the preset.

    Returns
    -------
    types.SimpleNamespace
        All settings as attributes, and `preset`.

    Raises
    ------
    InputError
        If the preset or a parameter does not exist.

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
