"""Models of a family by their size: how alike two sizes are beside seeds of one, and how far apart all are."""

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
    """How alike models of a size are to those of every other size, beside how alike they are among each other.

    Like is held against like: the size that comes in several seeds is compared with each other size at the relative
    depths that both have, and with itself at the same ones. That other pairs of sizes are more alike, or less, says
    nothing of how much size matters: there are no seeds to hold them against.

    Parameters
    ----------
    maps
        (model, other model) -> their map, as `compare_all` returns; maps of a model with itself are passed over.
    sizes
        Model -> (width, depth). Models of one size are taken for independent seeds.

    Returns
    -------
    pandas.DataFrame
        DataFrame by (seeds, other): the size with several models, and another size. Columns: kind ("same depth", "same
        width" or "both differ"), similarity (mean over pairs of models, of the mean over depths), ceiling (the same
        among the seeds), difference (similarity - ceiling; negative where size costs likeness).

    Raises
    ------
    InputError
        A model without a size, or no size with two models and another size beside it.
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
        raise InputError("by_size needs a size that two models have, and a model of another size.")
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
    """How far apart models are, as one number for each pair: the root of summed squared arccos of CKA.

        d(f, g)^2 = sum over relative depths of arccos(CKA(f at that depth, g at that depth))^2

    The depths are those that all models share, so that every pair sums over the same ones; of models of equal depth,
    as in the paper, these are all layers. With CKA that is not debiased this is a metric; debiased values below 0 count
    as 0 (a right angle), those above 1 by rounding as 1.

    Parameters
    ----------
    maps
        All pairs of models, as `compare_all` returns; whether those of a model with itself are there is the same.

    Returns
    -------
    pandas.DataFrame
        DataFrame model x model in radians, 0 on the diagonal; `figures.model_map` draws it.

    Raises
    ------
    InputError
        A pair without a map, or a measure that is no similarity with an upper bound of 1.

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
