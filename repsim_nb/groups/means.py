"""Means over pairs of models by the groups that the two are of, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.groups.leaving_out import leaving_out_interval
from repsim_nb.groups.pairs import read_groups

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def means_by_group(
    values: xr.DataArray, groups: Mapping[str, str] | pd.Series, directed: bool = False, level: float = 0.95
) -> pd.DataFrame:
    """Mean of anything that pairs of models have, by layer and by the groups of the two, with intervals over models.

    Parameters
    ----------
    values
        Layer x model x model, a dissimilarity (see `repsim_nb.groups`) or the accuracy of stitched models.
    groups
        Model -> group, two groups of at least two models each; other models are left out.
    directed
        Keep a into b and b into a apart, a being of the first of the two model dimensions.
    level
        Coverage of each interval by itself, a delete-one-model jackknife with Student's t as in `group_test`.

    Returns
    -------
    pandas.DataFrame
        DataFrame(layer, first, second, pairs, value, low, high); low and high are missing within a group of two models,
        which leaves one pair. attrs["directed"] says whether first and second are in order.

    Raises
    ------
    InputError
        As `group_test`.
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
            low, high = leaving_out_interval(value, without, level)
            count = len(of[a]) * (len(of[b]) - (a == b)) // (1 if directed or a != b else 2)
            lines += [(layer, a, b, count, *line) for layer, *line in zip(pairs.layers, value, low, high, strict=True)]
    table = pd.DataFrame(lines, columns=["layer", "first", "second", "pairs", "value", "low", "high"])
    table.attrs["directed"] = directed
    return table


def _mean(values: np.ndarray, first: np.ndarray, second: np.ndarray, left_out: int | np.integer = -1) -> np.ndarray:
    """Mean by layer over pairs of different models; NaN where leaving one out leaves none."""
    first, second = first[first != left_out], second[second != left_out]
    different = first[:, None] != second
    chosen = values[:, first[:, None], second][:, different]
    return chosen.mean(1) if chosen.shape[1] else np.full(len(values), np.nan)
