"""Validated dissimilarities of model pairs, and groups of these models, in a common order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from repsim_nb.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


class Pairs(NamedTuple):
    """Dissimilarities of some models.

    Attributes
    ----------
    layers
        Labels of the layers.
    models
        Names of the models, sorted, so that random draws do not depend on their order in the input.
    values
        Dissimilarities (layers, models, models), symmetric unless requested otherwise, with zero diagonal.
    """

    layers: list[Any]
    models: list[Any]
    values: np.ndarray


class TwoGroups(NamedTuple):
    """Two groups of `models`.

    Attributes
    ----------
    names
        Names of the groups, in order of first appearance.
    first
        Mask of the models in the first group, bool (models,).
    """

    names: tuple[str, str]
    first: np.ndarray


def read_pairs(dissimilarity: xr.DataArray, models: Iterable[Any] | None = None, symmetric: bool = True) -> Pairs:
    """Read the dissimilarities of some or all models, averaged over both directions if `symmetric`.

    Raises
    ------
    InputError
        If the array does not have layers and the same models twice, lacks a model, or has a non-finite value.
    """
    dissimilarity = with_layers(dissimilarity)
    sides = [d for d in dissimilarity.dims if d != "layer"]
    if len(sides) != 2 or dissimilarity.ndim != 3 or any(d not in dissimilarity.coords for d in sides):
        raise InputError(
            'Expected a dissimilarity with a dimension "layer" and two of models, both with coordinates; its '
            f"dimensions are {', '.join(map(str, dissimilarity.dims))}."
        )
    held = [dissimilarity[d].values.tolist() for d in sides]
    if held[0] != held[1] or len(set(held[0])) < len(held[0]):
        raise InputError(f"Expected {sides[0]} and {sides[1]} to list the same models, each once, in the same order.")
    chosen = sorted(held[0] if models is None else models, key=str)
    absent = [str(m) for m in chosen if m not in held[0]]
    if absent:
        raise InputError(f"The dissimilarity has no values for {', '.join(absent)}.")
    place = [held[0].index(m) for m in chosen]
    values = dissimilarity.transpose("layer", *sides).values[:, place][:, :, place].astype(np.float64)
    values[:, range(len(place)), range(len(place))] = 0
    if not np.isfinite(values).all():
        layer, a, b = np.argwhere(~np.isfinite(values))[0]
        where = f"between {chosen[a]} and {chosen[b]} at layer {dissimilarity.layer.values[layer]}"
        raise InputError(f"The dissimilarity {where} is {values[layer, a, b]}; every pair needs a finite value.")
    if symmetric:
        values = (values + values.swapaxes(1, 2)) / 2
    return Pairs(dissimilarity.layer.values.tolist(), chosen, values)


def with_layers(dissimilarity: xr.DataArray) -> xr.DataArray:
    """The same with a dimension "layer": relative depths are layers, and a single table is the only one."""
    if "depth" in dissimilarity.dims and "layer" not in dissimilarity.dims:
        return dissimilarity.rename(depth="layer")
    return dissimilarity.expand_dims(layer=["only"]) if dissimilarity.ndim == 2 else dissimilarity


def read_groups(
    dissimilarity: xr.DataArray, groups: Mapping[str, str] | pd.Series, least: int, symmetric: bool = True
) -> tuple[Pairs, TwoGroups]:
    """Read the dissimilarities of the models that have a group, and the two groups.

    Raises
    ------
    InputError
        As for `read_pairs`, or if there are not exactly two groups with at least `least` models each.
    """
    group = dict(groups.items())
    if len(group) < len(groups):
        raise InputError("groups lists a model twice; each model belongs to one group.")
    names = list(dict.fromkeys(group.values()))
    if len(names) != 2:
        raise InputError(f"Expected two groups, got {len(names)}: {', '.join(map(str, names))}.")
    for name in names:
        size = list(group.values()).count(name)
        if size < least:
            raise InputError(f"Group {name!r} has {size} models; need at least {least}.")
    pairs = read_pairs(dissimilarity, group, symmetric)
    return pairs, TwoGroups((names[0], names[1]), np.array([group[m] == names[0] for m in pairs.models]))
