"""Whether models of different groups are less alike than models of the same group, and from which layer on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.groups.leaving_out import leaving_out_interval
from repsim_nb.groups.pairs import read_groups
from repsim_nb.groups.permutations import ROUNDING, assignments, p_values, standardised

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def group_test(
    dissimilarity: xr.DataArray,
    groups: Mapping[str, str] | pd.Series,
    n_permutations: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean dissimilarity between two groups of models less that within them, layer by layer.

    A group that is more spread out than the other raises the effect too, wherever the two lie: `dispersion_test` tells
    the two cases apart.

    The interval is of models: a delete-one-model jackknife with Student's t. In simulations of Euclidean distances,
    groups of 5 and of 10, apart or not and equally spread or not, 95% intervals of it covered 0.91 to 0.99, those of a
    bootstrap of models (percentiles, no model paired with its own copy) 0.89 to 1.00, the lowest where groups are far
    apart; both cover too much where groups do not differ at all.

    Parameters
    ----------
    dissimilarity
        Layer x model x model, see `repsim_nb.groups`.
    groups
        Model -> group, two groups of at least two models each; other models are left out.
    n_permutations
        Arrangements of the groups' labels to try; all are where there are no more than that. Groups of three have 20,
        so that no p-value is below 0.1.
    level
        Coverage of the interval of each layer by itself.
    seed
        Seed of the permutations.

    Returns
    -------
    pandas.DataFrame
        DataFrame by layer, in units of the dissimilarity: between, within (the mean of the mean within one group and
        the mean within the other, whatever their sizes), effect = between - within, low, high (missing if a group has
        two models); p_value in (0, 1] one-sided, of the layer alone; p_adjusted, family-wise over layers by the largest
        standardised effect. Where all pairs are equally dissimilar the effect is 0 and p is 1.

    Raises
    ------
    InputError
        An array that is not of layers and twice the same models, or lacks a value or a model of `groups`; not two
        groups; fewer than two models in one; fewer than 19 permutations.

    References
    ----------
    Westfall and Young 1993, "Resampling-based multiple testing"; Arvesen 1969, "Jackknifing U-statistics".
    """
    import pandas as pd

    pairs, two = read_groups(dissimilarity, groups, least=2)
    size = np.abs(pairs.values).max((1, 2))
    between, within = _means(pairs.values, two.first[None], ~two.first[None])
    effect = (between - within)[0]
    effect[np.abs(effect) <= ROUNDING * size] = 0
    ways = assignments(two.first, n_permutations, np.random.default_rng(seed))
    p_value, p_adjusted = p_values(standardised(np.subtract(*_means(pairs.values, ways, ~ways)), size))
    low, high = leaving_out_interval(effect, _without_each(pairs.values, two.first), level)
    return pd.DataFrame(
        {
            "between": between[0],
            "within": within[0],
            "effect": effect,
            "low": low,
            "high": high,
            "p_value": p_value,
            "p_adjusted": p_adjusted,
        },
        index=pd.Index(pairs.layers, name="layer"),
    )


def first_layer(table: pd.DataFrame, level: float = 0.05) -> Any:
    """The first layer at which the groups of a `group_test` differ: p_adjusted <= level and effect > 0; None if none.

    Layers before it may differ too, only less than these models can show.
    """
    found = table.index[(table.p_adjusted <= level) & (table.effect > 0)].tolist()
    return found[0] if found else None


def _means(values: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean between and mean within groups, (ways, layers) each, of groups (ways, models) of bool.

    NaN within where a group has one model.
    """
    members = np.concatenate([first, second]).astype(np.float64)
    a, b = np.split(members, 2)
    sizes_a, sizes_b = a.sum(1), b.sum(1)
    between, within = np.empty((2, len(a), len(values)))
    for layer, value in enumerate(values):
        to_a, to_b = np.split(members @ value, 2)
        between[:, layer] = (to_a * b).sum(1) / (sizes_a * sizes_b)
        with np.errstate(invalid="ignore"):  # no pair within
            within_a = (to_a * a).sum(1) / (sizes_a * (sizes_a - 1))
            within_b = (to_b * b).sum(1) / (sizes_b * (sizes_b - 1))
        within[:, layer] = (within_a + within_b) / 2
    return between, within


def _without_each(values: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The effect without each model of the first group and without each of the second, (models, layers)."""
    kept = ~np.eye(len(first), dtype=bool)
    effect = np.subtract(*_means(values, first & kept, ~first & kept))
    return effect[first], effect[~first]
