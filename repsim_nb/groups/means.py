"""Means over pairs of models by their groups, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.groups.pairs import read_groups
from repsim_nb.uncertainty.leaving_out import jackknife_interval

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def means_by_group(
    values: xr.DataArray, groups: Mapping[str, str] | pd.Series, directed: bool = False, level: float = 0.95
) -> pd.DataFrame:
    """Average a value of model pairs by layer and by the groups of the two models, with intervals over models.

    Parameters
    ----------
    values
        Layer x model x model: a dissimilarity (see `repsim_nb.groups`) or, for example, the accuracy of stitches.
    groups
        Model -> group, with two groups of at least two models each. Other models are left out.
    directed
        Keep a -> b and b -> a separate, with a from the first of the two model dimensions.
    level
        Coverage of each interval by itself, a delete-one-model jackknife with Student's t as in `group_test`.

    Returns
    -------
    pandas.DataFrame
        DataFrame(layer, first, second, pairs, value, low, high). low and high are missing within a group of two
        models, which has only one pair. attrs["directed"] says whether first and second are ordered.

    Raises
    ------
    InputError
        As for `group_test`.

    Notes
    -----
    Pairs share models, so the effective sample size is the number of models, not of pairs. Overlapping intervals do
    not show that two means are equal; test differences with `group_test`.

    Examples
    --------
    >>> import xarray as xr
    >>> place = np.array([0.0, 1.0, 5.0, 7.0])
    >>> coords = {"layer": [0], "model_a": list("abcd"), "model_b": list("abcd")}
    >>> distance = xr.DataArray(np.abs(np.subtract.outer(place, place))[None], coords, ("layer", "model_a", "model_b"))
    >>> table = means_by_group(distance, dict(a="near", b="near", c="far", d="far"))
    >>> table[["first", "second", "value"]].values.tolist()
    [['near', 'near', 1.0], ['near', 'far', 5.5], ['far', 'far', 2.0]]
    """
    import pandas as pd

    pairs, two = read_groups(values, groups, least=2, symmetric=not directed)
    of = {name: np.flatnonzero(two.first == first) for name, first in zip(two.names, (True, False), strict=True)}
    lines = []
    for a in two.names:
        for b in two.names:
            if not directed and two.names.index(a) > two.names.index(b):
                continue
            members = [of[name] for name in dict.fromkeys((a, b))]
            without = [np.array([_mean(pairs.values, of[a], of[b], left_out=m) for m in group]) for group in members]
            value = _mean(pairs.values, of[a], of[b])
            low, high = jackknife_interval(value, without, level)
            count = len(of[a]) * (len(of[b]) - (a == b)) // (1 if directed or a != b else 2)
            lines += [(layer, a, b, count, *line) for layer, *line in zip(pairs.layers, value, low, high, strict=True)]
    table = pd.DataFrame(lines, columns=["layer", "first", "second", "pairs", "value", "low", "high"])
    table.attrs["directed"] = directed
    return table


def _mean(values: np.ndarray, first: np.ndarray, second: np.ndarray, left_out: int | np.integer = -1) -> np.ndarray:
    """Mean by layer over pairs of different models; NaN if leaving one out leaves no pair."""
    first, second = first[first != left_out], second[second != left_out]
    different = first[:, None] != second
    chosen = values[:, first[:, None], second][:, different]
    return chosen.mean(1) if chosen.shape[1] else np.full(len(values), np.nan)
