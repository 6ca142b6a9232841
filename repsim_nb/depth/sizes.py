"""Models of a family by their size: how alike two sizes are beside two seeds of one, and how far apart all are."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.depth.distance import Maps, equal_depth
from repsim_nb.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("same size", "same depth", "same width", "both differ")


def by_size(maps: Maps, sizes: Mapping[str, tuple[Hashable, Hashable]]) -> pd.Series:
    """Mean similarity of two models at equal relative depth, by what they differ in.

    Args:
        maps: (model, other model) -> their map, as `compare_all` returns; maps of a model with itself are passed over.
        sizes: model -> (width, depth).

    Returns:
        Series by "same size" (independent seeds: the ceiling that any two sizes are measured against), "same depth"
        (widths differ), "same width" (depths differ), "both differ"; each the mean over its pairs of models of the mean
        over relative depths. Kinds without a pair are absent.

    Raises:
        InputError: a model without a size, or no pair of models.
    """
    import pandas as pd

    lines = []
    for (a, b), result in maps.items():
        if a != b:
            lines.append((KINDS[_kind(_size(sizes, a), _size(sizes, b))], equal_depth(result).mean()))
    if not lines:
        raise InputError("by_size needs at least one map between two different models.")
    means = pd.DataFrame(lines, columns=["kind", "similarity"]).groupby("kind").similarity.mean()
    return means.reindex([kind for kind in KINDS if kind in means.index])


def _size(sizes: Mapping[str, tuple[Hashable, Hashable]], model: str) -> tuple[Hashable, Hashable]:
    if model not in sizes:
        raise InputError(f"sizes has no entry for {model}; it has {', '.join(sizes) or 'none'}.")
    return sizes[model]


def _kind(a: tuple[Hashable, Hashable], b: tuple[Hashable, Hashable]) -> int:
    return (a[0] != b[0]) + 2 * (a[1] != b[1])


def model_distances(maps: Maps) -> pd.DataFrame:
    """How far apart models are, as one number for each pair: the root of summed squared arccos of CKA.

        d(f, g)^2 = sum over relative depths of arccos(CKA(f at that depth, g at that depth))^2

    The depths are those that all models share, so that every pair sums over the same ones; of models of equal depth,
    as in the paper, these are all layers. With CKA that is not debiased this is a metric; debiased values below 0 count
    as 0 (a right angle), those above 1 by rounding as 1.

    Args:
        maps: all pairs of models, as `compare_all` returns; whether those of a model with itself are there is the same.

    Returns:
        DataFrame model x model in radians, 0 on the diagonal; `figures.model_map` draws it.

    Raises:
        InputError: a pair without a map, or a measure that is no similarity with an upper bound of 1.

    Reference: Brown et al. 2023, eq. 2; Williams et al. 2021 on the angle.
    """
    import pandas as pd

    names = list(dict.fromkeys(name for pair in maps for name in pair))
    found: dict[tuple[str, str], pd.Series] = {}
    for a, b in combinations(names, 2):
        result = maps.get((a, b), maps.get((b, a)))
        if result is None:
            raise InputError(f"model_distances needs a map of every pair; there is none of {a} and {b}.")
        if result.attrs.get("direction") != "similarity" or result.attrs.get("upper_bound") != 1:
            raise InputError(f"model_distances takes the arccos of a similarity of at most 1, got {result.name}.")
        found[a, b] = equal_depth(result)
    shared = set.intersection(*(set(np.round(s.index, 9)) for s in found.values())) if found else set()
    distances = pd.DataFrame(0.0, index=names, columns=names)
    for (a, b), series in found.items():
        values = series[[d in shared for d in np.round(series.index, 9)]].to_numpy()
        distances.loc[a, b] = distances.loc[b, a] = np.linalg.norm(np.arccos(np.clip(values, 0, 1)))
    return distances
