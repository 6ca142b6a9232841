"""Models of a family by size: similarity of two sizes relative to seeds of one size, and distances between models."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.depth.distance import Maps, equal_depth
from repsim_nb.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("same depth", "same width", "both differ")


def by_size(maps: Maps, sizes: Mapping[str, tuple[Hashable, Hashable]]) -> pd.DataFrame:
    """Compare the similarity between two sizes with the similarity between seeds of one size.

    Parameters
    ----------
    maps
        (model, other model) -> map, as `compare_all` returns; maps of a model with itself are ignored.
    sizes
        Model -> (width, depth). Models of the same size count as independent seeds.

    Returns
    -------
    pandas.DataFrame
        Indexed by (seeds, other): the size with several models, and another size. Columns: kind ("same depth", "same
        width" or "both differ"), similarity (mean over relative depths and pairs of models), ceiling (the same between
        seeds, at the same depths) and difference (similarity - ceiling; negative if size reduces similarity).

    Raises
    ------
    InputError
        If a model has no size, or no size has two models next to another size.

    Notes
    -----
    Only sizes with several seeds have a ceiling. For other pairs a high or low similarity says nothing about the effect
    of size. With two seeds the ceiling is a single pair, so its own variation is unknown.
    """
    import pandas as pd

    alike: dict[tuple[Any, Any], list[pd.Series]] = {}
    for (a, b), result in maps.items():
        if a != b:
            pair = _size(sizes, a), _size(sizes, b)
            for one, other in dict.fromkeys((pair, pair[::-1])):
                alike.setdefault((one, other), []).append(equal_depth(result))
    lines = []
    for (one, other), found in alike.items():
        if one != other and (one, one) in alike:
            depths = found[0].index
            similarity, ceiling = (
                np.mean([_at(s, depths).mean() for s in group]) for group in (found, alike[one, one])
            )
            kind = KINDS[(one[0] != other[0]) + 2 * (one[1] != other[1]) - 1]
            lines.append((str(one), str(other), kind, similarity, ceiling, similarity - ceiling))
    if not lines:
        raise InputError("by_size needs two models of one size and at least one of another size.")
    columns = ["seeds", "other", "kind", "similarity", "ceiling", "difference"]
    return pd.DataFrame(lines, columns=columns).set_index(columns[:2])


def _at(series: pd.Series, depths: pd.Index) -> np.ndarray:
    there = np.isclose(np.subtract.outer(series.index.to_numpy(), depths.to_numpy()), 0).any(1)
    return series.to_numpy()[there]


def _size(sizes: Mapping[str, tuple[Hashable, Hashable]], model: str) -> tuple[Hashable, Hashable]:
    if model not in sizes:
        raise InputError(f"sizes has no entry for {model}; it has {', '.join(sizes) or 'none'}.")
    return sizes[model]


def model_distances(maps: Maps) -> pd.DataFrame:
    """Distance between every pair of models: the root of the summed squared arccos of CKA.

        d(f, g)^2 = sum over relative depths of arccos(CKA(f at that depth, g at that depth))^2

    Parameters
    ----------
    maps
        Maps of all pairs of models, as `compare_all` returns; maps of a model with itself are ignored.

    Returns
    -------
    pandas.DataFrame
        Distances in radians, model x model, 0 on the diagonal; `figures.model_map` draws it.

    Raises
    ------
    InputError
        If a pair has no map, or the measure is not a similarity with upper bound 1.

    Notes
    -----
    The sum runs over the relative depths that all models share: for models of equal depth these are all layers, as in
    the paper. Adding a model of another depth can therefore change all distances. With biased CKA this is a metric;
    debiased values below 0 count as 0 (a right angle), and values above 1 by rounding as 1.

    Examples
    --------
    >>> import xarray as xr
    >>> about = {"direction": "similarity", "upper_bound": 1.0}
    >>> half = xr.DataArray(np.full((2, 2), 0.5), dims=("layer_a", "layer_b"), attrs=about)
    >>> model_distances({("a", "b"): half}).round(3).loc["a", "b"].item()
    1.481

    References
    ----------
    Brown et al. 2023, eq. 2; Williams et al. 2021 on the angle.
    """
    import pandas as pd

    names = list(dict.fromkeys(name for pair in maps for name in pair))
    found: dict[tuple[str, str], pd.Series] = {}
    for a, b in combinations(names, 2):
        result = maps.get((a, b), maps.get((b, a)))
        if result is None:
            raise InputError(f"model_distances needs a map for every pair; there is none for {a} and {b}.")
        if result.attrs.get("direction") != "similarity" or result.attrs.get("upper_bound") != 1:
            raise InputError(f"model_distances needs a similarity with upper bound 1, got {result.name}.")
        found[a, b] = equal_depth(result)
    shared = set.intersection(*(set(np.round(s.index, 9)) for s in found.values())) if found else set()
    distances = pd.DataFrame(0.0, index=names, columns=names)
    for (a, b), series in found.items():
        values = series[[d in shared for d in np.round(series.index, 9)]].to_numpy()
        distances.loc[a, b] = distances.loc[b, a] = np.linalg.norm(np.arccos(np.clip(values, 0, 1)))
    return distances
